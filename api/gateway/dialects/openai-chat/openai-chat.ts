/** OpenAI's chat completions, `POST /v1/chat/completions`, as most providers speak them. */
import { openAiErrorBody } from '../../../../domain/errors.ts';
import type { Dialect } from '../../core/dialect.ts';
import { reachOf } from '../../core/holds/reach.ts';
import { errorReader } from '../provider-error.ts';
import { saidIn } from '../request-words.ts';
import { readChatAnswer } from './answer.ts';
import { checkPricedFields, freeAsks } from './priced-fields.ts';
import { parseChatRequest, type ChatRequest } from './request.ts';
import { ChatStream } from './stream.ts';
import { upstreamBody } from './upstream-body.ts';

export const openAiChat = {
  name: 'openai-chat',
  endpoint: '/v1/chat/completions',
  upstreamDialect: 'openai',
  ...errorReader('choices'),
  parse: parseChatRequest,
  checkPriced: checkPricedFields,
  freeAsks,
  reach: reachOf,
  upstream: (request, target) => ({ path: '/chat/completions', body: upstreamBody(request, target) }),
  said: ({ raw }) => saidIn(raw),
  readAnswer: readChatAnswer,
  openStream: (request, model, meter) => new ChatStream(request, model, meter),
  error: openAiErrorBody,
} as const satisfies Dialect<ChatRequest>;
