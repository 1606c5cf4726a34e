FROM node:24-slim
WORKDIR /app
ENV NODE_ENV=production
COPY package.json package-lock.json ./
RUN npm ci --omit=dev
COPY domain domain
COPY runtime runtime
COPY db db
COPY workflows workflows
COPY activities activities
COPY doctor doctor
COPY worker worker
COPY api api
COPY models.json ./
USER node
# The flags bound how long garbage waits; see sandbox/node-part.ts for what they are worth.
CMD ["node", "--max-semi-space-size=16", "--heap-growing-percent=30", "api/main.ts"]
