/** The models of the configuration, as OpenAI lists them. */
import type { IncomingMessage, ServerResponse } from 'node:http';

import { sendJson, sendJsonText } from '../kit/http.ts';
import type { UpstreamTwinConfig } from './config.ts';
import { errorText } from './error-shapes.ts';
import { openAiDialect } from './openai.ts';

export const MODEL_LIST_ROUTE = /^\/(?:v1\/)?models(?:\/(.+))?$/;

/** Lists all, or shows the one with the id; `createdAt` in seconds. */
export function answerModels(
  config: UpstreamTwinConfig,
  createdAt: number,
  request: IncomingMessage,
  response: ServerResponse,
  encodedId: string | undefined,
): void {
  const refuse = (status: number, message: string, param: string | null): void =>
    sendJsonText(response, status, errorText(config.error_shape, { status, message, param, code: null }));
  const key = openAiDialect.presentedKey(request.headers);
  if (key === undefined || (config.api_key !== null && key !== config.api_key)) {
    return refuse(401, 'Incorrect API key provided.', null);
  }
  const modelOf = (id: string): object => ({ id, object: 'model', created: createdAt, owned_by: 'twin' });
  const ids = Object.keys(config.models);
  if (encodedId === undefined) return sendJson(response, 200, { object: 'list', data: ids.map(modelOf) });
  const id = ids.find((known) => encodeURIComponent(known) === encodedId || known === encodedId);
  if (id === undefined) return refuse(404, 'The model does not exist', 'model');
  sendJson(response, 200, modelOf(id));
}
