/**
 * `POST /v1/chat/completions`: authenticate → check → hold → proxy → finish, in the order that docs/api.md fixes. Every
 * request that was held is finished exactly once on every path, also when its client leaves, its upstream breaks or the
 * process is told to stop.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refusal } from '../../../domain/errors.ts';
import { uuidTime, type RequestUuid } from '../../../domain/ids.ts';
import { priceRowFor, tiersAt } from '../../../domain/requests/prices.ts';
import { isFreeModel } from '../../../domain/requests/request.ts';
import { versionAt, type Model, type PublishedVersion } from '../../../db/requests/catalogue.ts';
import type { ReceivedBody } from './bodies/body-intake.ts';
import { modelNotFound } from './catalogue.ts';
import { holdChat } from './holds/take-hold.ts';
import { checkBodySize, checkPricedFields } from './holds/reach.ts';
import { refuseUnsupported, type ChatRequest } from '../dialects/openai-chat/request.ts';
import { endUnserved, serveChat } from './serve.ts';
import { platformPrices, requireWithinBounds } from './holds/free-models.ts';
import type { Gateway } from './gateway.ts';
import { checkCaller, type Caller } from './keys/keys.ts';

/** Serves one request. Throws the Refusal to send when nothing has been held; afterwards it answers itself. */
export async function handleChatCompletion(
  gateway: Gateway,
  incoming: IncomingMessage,
  response: ServerResponse,
  call: { uuid: RequestUuid; caller: Caller; arrivedAt: number },
): Promise<void> {
  const { uuid, caller, arrivedAt } = call;
  const refused = { model: '', stream: false };
  let body: ReceivedBody | null = null;
  try {
    checkCaller(caller, gateway.clientAddress(incoming), new Date());
    body = await gateway.bodies.receive(incoming, response, caller);
    const { request } = body;
    refused.model = request.model;
    refused.stream = request.stream;
    const model = findModel(gateway, caller, request);
    const free = isFreeModel(model.id);
    // Before the price is looked at: one that is too old must refuse nothing either.
    gateway.requireLedger(!free);
    const at = uuidTime(uuid);
    const version = free ? null : findPrice(model, at);
    const prices = version?.prices ?? platformPrices(gateway.catalogue, model, at);
    if (free) requireWithinBounds(request, gateway.settings.freeBounds);
    checkPricedFields(request, prices === null ? {} : priceRowFor(tiersAt(prices, at), 0));
    gateway.concurrency.enter(caller);
    try {
      const exchange = await holdChat(gateway, { uuid, caller, arrivedAt, request, model, version, prices });
      if (response.destroyed) await endUnserved(gateway, exchange);
      else await serveChat(gateway, exchange, response);
    } finally {
      gateway.concurrency.leave(caller);
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    // What was refused before it was read has cost next to nothing.
    if (body !== null) gateway.bodies.noteRefusal(caller, error.code);
    gateway.logRefusal({ uuid, caller, ...refused, code: error.code, arrivedAt });
    throw error;
  } finally {
    body?.release();
  }
}

/** The model that was asked for. Throws when there is none, the key may not use it, or it must not be asked this. */
function findModel({ catalogue }: Gateway, caller: Caller, request: ChatRequest): Model {
  const model = catalogue.find(request.model);
  if (model !== undefined) checkBodySize(request, model);
  refuseUnsupported(request, model?.passthroughFields ?? []);
  if (model === undefined || model.dialect !== 'openai') throw modelNotFound(request.model);
  if (caller.models !== null && !caller.models.includes(model.id)) {
    throw new Refusal('model_not_allowed', {
      param: 'model',
      message: `This API key may not use the model "${model.id}".`,
    });
  }
  return model;
}

/** The price that counts for a request held at `at`. Throws when there is none. */
function findPrice(model: Model, at: Date): PublishedVersion {
  const version = versionAt(model, at);
  if (version === null)
    throw new Refusal('model_not_priced', { param: 'model', message: `The model "${model.id}" has no price yet.` });
  return version;
}
