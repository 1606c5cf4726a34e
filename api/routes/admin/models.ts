/**
 * The catalogue: models, their upstreams, their prices. A published price version never changes; a model can be retired
 * and taken back, not deleted, because requests name it.
 */
import type pg from 'pg';
import { z } from 'zod';
import {
  createModel,
  DIALECTS,
  findModel,
  LIMIT_FIELDS,
  listModels,
  lockedModel,
  publishPrices,
  setModelRetired,
  updateModel,
  USAGE_REQUESTS,
  type ModelRecord,
} from '../../../db/catalogue.ts';
import type { Session } from '../../../db/client.ts';
import { Refusal } from '../../../domain/errors.ts';
import { formatId } from '../../../domain/ids.ts';
import { IMAGE_FORMULAS } from '../../../domain/image-tokens.ts';
import {
  compilePrices,
  isPriceProblem,
  TOKEN_DIMENSIONS,
  UNIT_DIMENSIONS,
  type Dimension,
  type PriceText,
  type PriceVersion,
  type PriceVersionText,
} from '../../../domain/prices.ts';
import { causeOfPriceReview, STANDING_DAYS } from '../../../domain/price-cut.ts';
import { isFreeModel } from '../../../domain/request.ts';
import { isKeyVariable } from '../../../domain/upstream-address.ts';
import { isVouchable } from '../../gateway/chat-fields.ts';
import { textBytesMax } from '../../gateway/chat-reach.ts';
import { READERS_AND_SUPPORT, type StaffRole } from '../authenticate.ts';
import type { ManagementDeps } from '../deps.ts';
import { invalidField } from '../errors.ts';
import {
  idText,
  listOf,
  modelId,
  pageByText,
  pageOfQuery,
  renderPage,
  renderTime,
  text,
  time,
  timeText,
} from '../fields.ts';
import { accepted, created, ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../route.ts';
import { recordWrite, type Recorded } from '../writes.ts';
import { askForChange, changeView, type ChangeView } from './changes.ts';
import { givesAway, movesPrompts, requireUpstreams } from './upstream-rules.ts';

const MAX_TOKENS = 1_000_000_000;
const REQUEST_TIMEOUT_MAX_SECONDS = 24 * 3600;
const UPSTREAMS_MAX = 20;
const TIERS_MAX = 20;
const WINDOWS_MAX = 50;
const PASSTHROUGH_FIELDS_MAX = 64;
const AUDIO_TOKENS_MAX = 10_000;

const httpUrl = () => text(1, 2000).pipe(z.url({ protocol: /^https?$/, error: 'must be an http or https URL' }));

const upstream = z.strictObject({
  base_url: httpUrl().meta({ description: 'Up to and including `/v1`.' }),
  // Only names of provider keys: any other variable's value must not be sent to whom an upstream names.
  api_key_env: z
    .string()
    .refine(isKeyVariable, 'must be the name of a variable like UPSTREAM_PROVIDER_KEY')
    .nullable()
    .default(null)
    .meta({
      description:
        'Environment variable that holds the provider’s key, set and bound to the host by `<name>_HOSTS`; null: none is sent.',
    }),
  model: text(1, 200).meta({ description: 'The model’s name at the upstream.' }),
  lookup: httpUrl()
    .refine((url) => url.includes('{request_id}'), 'must contain {request_id}')
    .nullable()
    .default(null)
    .meta({ description: 'Tells what a request consumed; null: the upstream has no look-up.' }),
  limit_field: z
    .enum(LIMIT_FIELDS)
    .optional()
    .meta({
      description:
        'The one field that limits the output here: a client’s limit in another field is sent in this one. `none`: it takes no ' +
        'limit, so the whole context is held. Absent: the client’s own field goes on, `max_completion_tokens` is what we add.',
    }),
  usage_request: z.enum(USAGE_REQUESTS).optional().meta({
    description: 'How a stream is asked for its usage: `stream_options` (the default), or not at all.',
  }),
});

const positive = (max: number) => z.number().int('must be a whole number').min(1).max(max);

const imageTokens = z.strictObject({
  formula: z.enum(IMAGE_FORMULAS).optional().meta({ description: 'Absent: the dearest of all.' }),
  max: positive(MAX_TOKENS).optional().meta({ description: 'No image of this model costs more tokens.' }),
});

const passthroughField = z
  .string()
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be the name of a field')
  .refine(isVouchable, 'is a field that the gateway itself reads or writes');

const settingFields = {
  dialect: z.enum(DIALECTS),
  context_length: positive(MAX_TOKENS),
  default_output_tokens: positive(MAX_TOKENS),
  request_timeout_seconds: z.number().positive().max(REQUEST_TIMEOUT_MAX_SECONDS),
  upstreams: z.array(upstream).min(1, 'must name at least one').max(UPSTREAMS_MAX),
};

const traitFields = {
  hidden_output: z.boolean().meta({
    description:
      'Whether it may produce output that no chunk shows (reasoning, sound, images). Its streams are then held for and ' +
      'limited like whole answers. Default: true.',
  }),
  image_tokens: imageTokens.nullable().meta({
    description:
      'How many input tokens an image is held for. null, the default: the dearest formula that is published.',
  }),
  audio_tokens_per_second: positive(AUDIO_TOKENS_MAX).nullable().meta({
    description:
      'Input tokens of a second of sound (WAV, MP3). null, the default: not known, so the whole context is held.',
  }),
  web_search_input_tokens: positive(MAX_TOKENS).nullable().meta({
    description:
      'Most input tokens that one web search adds. null, the default: not known, so the whole context is held.',
  }),
  passthrough_fields: z.array(passthroughField).max(PASSTHROUGH_FIELDS_MAX).meta({
    description: 'Fields that the gateway does not know and you vouch for: they go on and do not change the price.',
  }),
};

const priceText = z.string().regex(/^\d{1,20}(\.\d{1,12})?$/, 'must be a decimal USD string, not negative');
const PER_MILLION = 'USD per million tokens, at most 6 decimals.';
const PER_UNIT = 'USD per unit, at most 12 decimals.';
const prices = z.strictObject({
  ...(Object.fromEntries([
    ...TOKEN_DIMENSIONS.map((dimension) => [dimension, priceText.meta({ description: PER_MILLION }).optional()]),
    ...UNIT_DIMENSIONS.map((dimension) => [dimension, priceText.meta({ description: PER_UNIT }).optional()]),
  ]) as Record<Dimension, z.ZodOptional<z.ZodString>>),
});

const tiers = z.array(z.strictObject({ min_input_tokens: positive(Number.MAX_SAFE_INTEGER), prices })).max(TIERS_MAX);

const windowSchema = z.strictObject({
  days: z.array(z.number()).max(7).optional().meta({ description: 'ISO weekdays, 1 = Monday; all when absent.' }),
  from: z.string().meta({ description: 'UTC, HH:MM, inclusive.' }),
  to: z.string().meta({ description: 'UTC, HH:MM, exclusive.' }),
  prices,
  tiers: tiers.optional(),
});

const priceFields = {
  prices,
  tiers: tiers.optional(),
  windows: z.array(windowSchema).max(WINDOWS_MAX).optional(),
  reasoning_in_output: z
    .boolean()
    .optional()
    .meta({ description: 'False where the provider reports reasoning tokens beside its output total.' }),
};

const newModel = z.strictObject({
  id: modelId(),
  ...settingFields,
  request_timeout_seconds: settingFields.request_timeout_seconds.default(600),
  ...z.strictObject(traitFields).partial().shape,
  ...priceFields,
});

const modelChange = z.strictObject({ ...settingFields, ...traitFields }).partial();

const newVersion = z.strictObject({
  ...priceFields,
  valid_from: time().optional().meta({ description: 'Default: as soon as the notice for gateways allows.' }),
});

const versionView = z.object({
  version: z.number(),
  valid_from: timeText(),
  created_at: timeText(),
  created_by: z.string(),
  prices: z.record(z.string(), z.string()),
  tiers: z.array(z.unknown()).optional(),
  windows: z.array(z.unknown()).optional(),
  reasoning_in_output: z.boolean().optional(),
});

const findingView = z.object({
  upstream: z.string(),
  finding: z.string().meta({
    description:
      '`output_above_limit`: it does not keep the limit that is sent (see `limit_field`). `usage_missing`, `usage_unusable`: ' +
      'answers are billed by our own count. Others: the contradiction in its usage, each resolved by a stated rule.',
  }),
  requests: z.number(),
  first_at: timeText(),
  last_at: timeText(),
  last_request_id: idText('request'),
});

const modelView = z.object({
  id: z.string(),
  ...settingFields,
  ...traitFields,
  max_body_bytes: z
    .number()
    .meta({ description: 'Most bytes of a body beside the base64 of images, sounds and files.' }),
  created_at: timeText(),
  retired_at: timeText().nullable(),
  version_in_force: z.number().nullable().meta({ description: 'null: not priced, so paid requests are refused.' }),
  versions: z.array(versionView).meta({ description: 'Every price version, newest first.' }),
  findings: z
    .array(findingView)
    .meta({ description: 'How its upstreams count, as gateways have seen it; newest first.' }),
});

function renderModel(model: ModelRecord): z.output<typeof modelView> {
  return {
    id: model.id,
    dialect: model.dialect,
    context_length: model.context_length,
    default_output_tokens: model.default_output_tokens,
    request_timeout_seconds: model.request_timeout_seconds,
    upstreams: model.upstreams.map((upstream) => ({ ...upstream })),
    ...model.traits,
    passthrough_fields: [...model.traits.passthrough_fields],
    max_body_bytes: textBytesMax({ contextLength: model.context_length }),
    created_at: model.createdAt.toISOString(),
    retired_at: renderTime(model.retiredAt),
    version_in_force: model.versionInForce,
    versions: model.versions.map(({ version, validFrom, prices: text, createdAt, createdBy }) => ({
      version,
      valid_from: validFrom.toISOString(),
      created_at: createdAt.toISOString(),
      created_by: createdBy,
      ...given({ ...text, prices: given(text.prices), tiers: text.tiers?.slice(), windows: text.windows?.slice() }),
    })),
    findings: model.findings.map(({ upstream, finding, requests, firstAt, lastAt, lastRequestId }) => ({
      upstream,
      finding,
      requests,
      first_at: firstAt.toISOString(),
      last_at: lastAt.toISOString(),
      last_request_id: formatId('request', lastRequestId),
    })),
  };
}

type Given<T> = { [Field in keyof T]: Exclude<T[Field], undefined> };

/** An object without its undefined fields. */
function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;
}

type PriceInput = z.output<z.ZodObject<typeof priceFields>>;

/** The catalogue's own text form of prices. Refuses what does not compile, naming the field. */
function priceTextOf(input: PriceInput): PriceVersionText {
  const rowOf = (row: z.output<typeof prices>): PriceText => given(row);
  const tiersOf = (list: z.output<typeof tiers>) => list.map((tier) => ({ ...tier, prices: rowOf(tier.prices) }));
  const text: PriceVersionText = {
    prices: rowOf(input.prices),
    ...(input.tiers === undefined ? {} : { tiers: tiersOf(input.tiers) }),
    ...(input.windows === undefined
      ? {}
      : {
          windows: input.windows.map(({ days, from, to, prices: row, tiers: list }) => ({
            ...(days === undefined ? {} : { days }),
            from,
            to,
            prices: rowOf(row),
            ...(list === undefined ? {} : { tiers: tiersOf(list) }),
          })),
        }),
    ...(input.reasoning_in_output === undefined ? {} : { reasoning_in_output: input.reasoning_in_output }),
  };
  const compiled = compilePrices(text);
  if (isPriceProblem(compiled)) throw invalidField(compiled.field, compiled.message);
  return text;
}

/** Why prices take a second person; null when one may publish them. Of a free model nothing was ever paid. */
function causeOfReview(model: ModelRecord, text: PriceVersionText, cutPpm: number): string | null {
  if (isFreeModel(model.id)) return null;
  const since = Date.now() - STANDING_DAYS * 86_400_000;
  // Newest first: a version was in force until the one after it.
  const standing = model.versions.filter(
    (_, index) => index === 0 || model.versions[index - 1]!.validFrom.getTime() > since,
  );
  return causeOfPriceReview(
    compiled(text),
    standing.map(({ prices: stored }) => compiled(stored)),
    cutPpm,
  );
}

function compiled(text: PriceVersionText): PriceVersion {
  const result = compilePrices(text);
  if (isPriceProblem(result)) throw invalidField(result.field, result.message);
  return result;
}

/** Why other upstreams of a model take a second person; null when they do not. */
function causeOfUpstreams({ id, upstreams: before }: ModelRecord, after: ModelRecord['upstreams']): string | null {
  if (movesPrompts(before, after)) return 'Prompts would go to another address.';
  return givesAway(id, after) && !givesAway(id, before) ? GIVEN_AWAY : null;
}

type ModelView = z.output<typeof modelView>;

const GIVEN_AWAY = 'A provider would be paid for requests that cost nothing.';

/** To offer a `:free` model that is retired until a second person approves. */
const offerOf = (model: string) =>
  ({
    kind: 'model',
    subject: model,
    change: { settings: {}, offered: true },
    cause: GIVEN_AWAY,
    reason: null,
  }) as const;

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
      cause: `Something paid for would be given away: ${wanted.cause}.`,
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
      throw new Refusal('conflict', { message: `The model is ${retired ? 'retired already' : 'not retired'}.` });
    const action = { action: retired ? 'model.retire' : 'model.unretire', subject: model, details: {} };
    return { result: ok(result), action };
  };

  return [
    staffRoute({
      method: 'get',
      path: '/admin/models',
      summary: 'All models by id, retired ones too',
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
        'Add a model; its first prices are in force at once, a price of nothing when a second person approves, and so is a `:free` model with a key offered',
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
            throw new Refusal('conflict', { param: 'id', message: 'There is a model of this id.' });
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
          // Until its prices are approved it has none, so paid requests are refused; a gift is not offered until then.
          const result = cause === null && !isGift ? created(view) : accepted(view);
          return { result, action: { action: 'model.create', subject: body.id, details } };
        });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/models/{+model_id}/price-versions',
      summary: 'Publish the next prices of a model; a price of nothing, or of much less, takes a second person',
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
      summary: 'Offer a retired model again; a `:free` one with a key takes a second person',
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
      summary: 'One model with all its prices',
      roles: READERS_AND_SUPPORT,
      params: modelParams,
      response: modelView,
      handle: async ({ params }) => ok(await show(management, params.model_id)),
    }),
    staffRoute({
      method: 'patch',
      path: '/admin/models/{+model_id}',
      summary: 'Change anything of a model but its prices; another address for its prompts takes a second person',
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
