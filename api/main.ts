/** The api process: builds everything from the configuration, serves until SIGTERM, ends in order. */
import { setTimeout as delay } from 'node:timers/promises';
import { createPool } from '../db/shared/client.ts';
import { reconciledAges } from '../db/payments/reconciliation.ts';
import { createReporter } from '../db/shared/reporter.ts';
import { requireUsableSchema } from '../db/schema/migration-state.ts';
import { requirePostgres } from '../db/schema/server-version.ts';
import { createLogger } from '../runtime/logger.ts';
import { describePayments } from '../providers/payment-settings.ts';
import { describeRewards } from '../providers/reward-settings.ts';
import { createRegistry } from '../runtime/metrics.ts';
import { createTemporalClients } from '../runtime/temporal.ts';
import { clientAddressReader, trustedProxyTest } from './http/client-address.ts';
import { parseApiConfig } from './config.ts';
import { Connections } from './http/connections.ts';
import { FailedAttempts } from './http/failed-attempts.ts';
import { measureForeignEvents } from './routes/webhooks/foreign-events.ts';
import { Gateway } from './gateway/core/gateway.ts';
import { LookupLimit } from './gateway/core/lookups/lookup-limit.ts';
import { createGatewayRouter } from './gateway/core/http/router.ts';
import { DIALECTS } from './gateway/dialects/dialects.ts';
import { createMetricsServer, protectedMetrics } from './http/metrics-endpoint.ts';
import { registerReconciledAges } from './routes/staff/payments/reconciled-ages.ts';
import { createManagementApp } from './routes/app.ts';
import { createTokenLookup } from './http/authenticate.ts';
import { EXPORT_PLACES } from './http/exports.ts';
import { createHttpServer, listen } from './http/server.ts';
import { WebhookRefusals } from './routes/webhooks/refusals.ts';

/** How long connections may take to close. */
const CLOSE_SECONDS = 3;

const config = parseApiConfig(process.env);
const logger = createLogger('api', config.logLevel);
const registry = createRegistry('api');
const databases = {
  DATABASE_URL_GATEWAY: config.databaseUrls.gateway,
  DATABASE_URL_REPORTER: config.databaseUrls.reporter,
  DATABASE_URL: config.databaseUrls.management,
};
await requirePostgres(databases);
await requireUsableSchema(databases);

const gatewayPool = createPool({ url: config.databaseUrls.gateway, role: 'gateway', max: 8 });
// Connections are kept apart by who waits for them (ManagementDeps, Lookups say why). Idle ones are closed.
const managementConnections = (max: number) =>
  createPool({ url: config.databaseUrls.management, role: 'management', max });
const managementPool = managementConnections(6);
const webhookPool = managementConnections(2);
const strangerPool = managementConnections(3);
const lookupPool = managementConnections(2);
const pools = [gatewayPool, managementPool, webhookPool, strangerPool, lookupPool];
const reporter = createReporter({ url: config.databaseUrls.reporter, max: 5 });
const exportReporter = createReporter({ url: config.databaseUrls.reporter, max: EXPORT_PLACES.sum });
const lookupReporter = createReporter({ url: config.databaseUrls.reporter, max: 2 });
const temporal = createTemporalClients(config.temporalAddress, config.namespaces);
const clientAddress = clientAddressReader(config.trustedProxies);
const failures = new FailedAttempts({ logger, registry });
const tokens = createTokenLookup(strangerPool, failures);

const gateway = new Gateway({
  pool: gatewayPool,
  databaseUrl: config.databaseUrls.gateway,
  temporal: temporal.requests,
  taskQueue: config.namespaces.requests,
  dialects: DIALECTS,
  settings: config.gateway,
  clientAddress,
  environment: process.env,
  failures,
  onTokenCreated: () => tokens.forgetUnknown(),
  logger,
  registry,
});
const connections = new Connections(
  { ...config.connections, isExempt: trustedProxyTest(config.trustedProxies) },
  registry,
);
const server = createHttpServer({
  gateway,
  connections,
  bodySeconds: config.gateway.bodyArrivals.seconds,
  router: createGatewayRouter(gateway, {
    management: lookupPool,
    reporter: lookupReporter,
    catalogue: gateway.catalogue,
    limit: new LookupLimit(config.lookupRates),
  }),
  management: createManagementApp({
    management: managementPool,
    webhooks: webhookPool,
    strangers: strangerPool,
    reporter,
    exportReporter,
    tokens,
    failures,
    webhookRefusals: new WebhookRefusals({ pool: webhookPool, logger, registry }),
    temporal: { ...temporal, namespaces: config.namespaces },
    settings: {
      priceLeadSeconds: config.priceLeadSeconds,
      keysMax: config.keysMax,
      tokensMax: config.tokensMax,
      adjustmentApprovalThreshold: config.adjustmentApprovalThreshold,
      refundApprovalThreshold: config.refundApprovalThreshold,
      manualLimits: config.manualLimits,
      commissions: config.commissions,
      priceCutPpm: config.priceCutPpm,
      upstreams: config.upstreams,
      payments: config.payments,
      referralKey: config.referralKey,
      referralLandingUrl: config.referralLandingUrl,
      rewards: config.rewards,
      receipts: config.receipts,
      temporalUiUrl: config.temporalUiUrl,
      trustedProxies: config.trustedProxies,
    },
    logger,
  }),
  metrics: config.metrics.token === null ? null : protectedMetrics(registry, config.metrics.token),
});
measureForeignEvents({ pool: webhookPool, registry });
const metricsServer = createMetricsServer(registry);
registerReconciledAges({
  registry,
  parts: ['ledger', ...config.payments.methods.map(({ provider }) => provider)],
  read: () => reconciledAges(managementPool),
});

await gateway.start();
if (config.metrics.port !== null) {
  const { host } = config.metrics;
  logger.info({ port: await listen(metricsServer, config.metrics.port, host), host }, 'metrics listen');
}
const port = await listen(server, config.port, config.host);
logger.info(describePayments(config.payments));
logger.info(describeRewards(config.rewards));
logger.info({ port, host: config.host, gateway_id: gateway.gatewayId }, 'api listens');

let stopping = false;
async function stop(signal: string): Promise<void> {
  if (stopping) return;
  stopping = true;
  logger.info({ signal }, 'stopping: open streams may end, new requests are refused');
  // Listening goes on meanwhile: a load balancer must be able to read /readyz, and what it still sends gets its 503.
  await gateway.stop(config.shutdownSeconds);
  server.close();
  server.closeAllConnections();
  metricsServer.close();
  metricsServer.closeAllConnections();
  const closed = Promise.all([
    ...pools.map((pool) => pool.end()),
    ...[reporter, exportReporter, lookupReporter].map((each) => each.end({ timeout: 3 })),
    temporal.close(),
  ]);
  // Everything is recorded or left to the sweep by now: connections that hang are not worth waiting for.
  await Promise.race([closed, delay(CLOSE_SECONDS * 1000)]);
  logger.info('api stopped');
}
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    stop(signal).then(
      () => process.exit(0),
      (error: unknown) => {
        logger.error({ error: String(error) }, 'stop failed');
        process.exit(1);
      },
    );
  });
}
