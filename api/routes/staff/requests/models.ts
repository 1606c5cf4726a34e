/**
 * The catalogue: models, their upstreams, their prices. A published price version never changes; a model can be retired
 * and taken back, not deleted, because requests name it.
 */
import type pg from 'pg';
import { z } from 'zod';
import {
  createModel,
  findModel,
  listModels,
  lockedModel,
  publishPrices,
  setModelRetired,
  updateModel,
} from '../../../../db/requests/catalogue.ts';
import type { Session } from '../../../../db/shared/client.ts';
import { Refusal } from '../../../../domain/errors.ts';
import type { PriceVersionText } from '../../../../domain/requests/prices.ts';
import { isFreeModel } from '../../../../domain/requests/request.ts';
import { READERS_AND_SUPPORT, type StaffRole } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { listOf, modelId, pageByText, pageOfQuery, renderPage, renderTime } from '../../../http/fields.ts';
import { accepted, created, ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../../../http/route.ts';
import { recordWrite, type Recorded } from '../../../http/writes.ts';
import { askForChange, changeView, type ChangeView } from '../accounts/changes.ts';
import { modelChange, modelView, newModel, newVersion, renderModel, type ModelView } from './model-fields.ts';
import { causeOfReview, causeOfUpstreams, offerOf, priceTextOf } from './model-reviews.ts';
import { givesAway, requireUpstreams } from './upstream-rules.ts';

const modelParams = z.strictObject({ model_id: modelId() });
const WRITERS: readonly StaffRole[] = ['operator'];

export function modelRoutes({ management, settings }: ManagementDeps): Route[] {
  const show = async (session: Session, model: string): Promise<z.output<typeof modelView>> => {
    const record = await findModel(session, model);
    if (record === null) throw new Refusal('not_found');
    return renderModel(record);
  };

  const askForPrices = (
    client: pg.PoolClient,
    call: Pick<StaffCall<unknown, unknown, unknown>, 'actor'>,
    wanted: { model: string; prices: PriceVersionText; validFrom: Date | null; cause: string },
  ) =>
    askForChange(client, call, {
      kind: 'price_version',
      subject: wanted.model,
      change: { prices: wanted.prices, valid_from: renderTime(wanted.validFrom) },
      cause: `A paid dimension would become free: ${wanted.cause}.`,
      reason: null,
    });

  const setRetired = async (
    client: pg.PoolClient,
    model: string,
    retired: boolean,
  ): Promise<Recorded<JsonReply<ModelView>>> => {
    const changed = await setModelRetired(client, model, retired);
    const result = await show(client, model);
    if (!changed)
      throw new Refusal('conflict', { message: `The model is ${retired ? 'already retired' : 'not retired'}.` });
    const action = { action: retired ? 'model.retire' : 'model.unretire', subject: model, details: {} };
    return { result: ok(result), action };
  };

  return [
    staffRoute({
      method: 'get',
      path: '/admin/models',
      summary: 'List all models by id, with retired ones',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject(pageByText),
      response: listOf(modelView),
      async handle({ query }) {
        return ok(renderPage(await listModels(management, pageOfQuery(query)), renderModel));
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/models',
      summary:
        'Add a model; its first prices apply at once. A zero price, or a `:free` model with a key, needs a second person',
      statuses: [201, 202],
      roles: WRITERS,
      body: newModel,
      response: modelView,
      async handle(call) {
        const { body } = call;
        requireUpstreams(settings.upstreams, body.upstreams);
        const priceText = priceTextOf(body);
        const priced = Object.keys(priceText.prices).length > 0;
        return recordWrite<JsonReply<ModelView>>(management, call, async (client) => {
          if (!(await createModel(client, body))) {
            throw new Refusal('conflict', { param: 'id', message: 'A model with this id already exists.' });
          }
          const made = await findModel(client, body.id);
          // One without prices is not paid for, and not answered either.
          const cause = made === null || !priced ? null : causeOfReview(made, priceText, settings.priceCutPpm);
          if (cause !== null)
            await askForPrices(client, call, { model: body.id, prices: priceText, validFrom: null, cause });
          else if (priced) {
            await publishPrices(client, {
              modelId: body.id,
              validFrom: null,
              prices: priceText,
              leadSeconds: 0,
              by: call.actor,
            });
          }
          const { upstreams } = body;
          const isGift = givesAway(body.id, upstreams);
          if (isGift) {
            await setModelRetired(client, body.id, true);
            await askForChange(client, call, offerOf(body.id));
          }
          const details = { upstreams: upstreams.map(({ base_url }) => base_url), prices: priceText };
          const view = await show(client, body.id);
          // Until its prices are approved it has none, so paid requests are refused; a free model is not offered until then.
          const result = cause === null && !isGift ? created(view) : accepted(view);
          return { result, action: { action: 'model.create', subject: body.id, details } };
        });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/models/{+model_id}/price-versions',
      summary: 'Publish the next prices of a model; a zero or much lower price needs a second person',
      statuses: [201, 202],
      roles: WRITERS,
      params: modelParams,
      body: newVersion,
      response: z.union([modelView, changeView]),
      async handle(call) {
        const { params, body } = call;
        const priceText = priceTextOf(body);
        if (Object.keys(priceText.prices).length === 0 && !isFreeModel(params.model_id)) {
          throw invalidField('prices', 'must name at least one price');
        }
        return recordWrite<JsonReply<ModelView | ChangeView>>(management, call, async (client) => {
          const model = await lockedModel(client, params.model_id);
          if (model === null) throw new Refusal('not_found');
          const cause = causeOfReview(model, priceText, settings.priceCutPpm);
          if (cause !== null) {
            const validFrom = body.valid_from ?? null;
            return askForPrices(client, call, { model: model.id, prices: priceText, validFrom, cause });
          }
          const { version, validFrom } = await publishPrices(client, {
            modelId: params.model_id,
            validFrom: body.valid_from ?? null,
            prices: priceText,
            leadSeconds: settings.priceLeadSeconds,
            by: call.actor,
          });
          const details = { version, valid_from: validFrom.toISOString(), prices: priceText };
          return {
            result: created(await show(client, params.model_id)),
            action: { action: 'model.price', subject: params.model_id, details },
          };
        });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/models/{+model_id}/retire',
      summary: 'Stop offering a model',
      roles: WRITERS,
      params: modelParams,
      response: modelView,
      handle: (call) => recordWrite(management, call, (client) => setRetired(client, call.params.model_id, true)),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/models/{+model_id}/unretire',
      summary: 'Offer a retired model again; a `:free` model with a key needs a second person',
      statuses: [200, 202],
      roles: WRITERS,
      params: modelParams,
      response: z.union([modelView, changeView]),
      handle: (call) =>
        recordWrite<JsonReply<ModelView | ChangeView>>(management, call, async (client) => {
          const { model_id: id } = call.params;
          const before = await lockedModel(client, id);
          const isGift = before !== null && before.retiredAt !== null && givesAway(id, before.upstreams);
          return isGift ? askForChange(client, call, offerOf(id)) : setRetired(client, id, false);
        }),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/models/{+model_id}',
      summary: 'Get a model with all its prices',
      roles: READERS_AND_SUPPORT,
      params: modelParams,
      response: modelView,
      handle: async ({ params }) => ok(await show(management, params.model_id)),
    }),
    staffRoute({
      method: 'patch',
      path: '/admin/models/{+model_id}',
      summary: 'Change a model except its prices; a new address for its prompts needs a second person',
      statuses: [200, 202],
      roles: WRITERS,
      params: modelParams,
      body: modelChange,
      response: z.union([modelView, changeView]),
      async handle(call) {
        const { params, body } = call;
        requireUpstreams(settings.upstreams, body.upstreams ?? []);
        return recordWrite<JsonReply<ModelView | ChangeView>>(management, call, async (client) => {
          const before = await lockedModel(client, params.model_id);
          if (before === null) throw new Refusal('not_found');
          const cause = body.upstreams === undefined ? null : causeOfUpstreams(before, body.upstreams);
          if (cause !== null) {
            const wanted = {
              kind: 'model',
              subject: before.id,
              change: { settings: body },
              cause,
              reason: null,
            } as const;
            return askForChange(client, call, wanted);
          }
          await updateModel(client, params.model_id, body);
          const details = { ...body };
          return {
            result: ok(await show(client, params.model_id)),
            action: { action: 'model.change', subject: params.model_id, details },
          };
        });
      },
    }),
  ];
}
