/** The fields of a model for staff: settings, traits and prices, and their limits. */
import { z } from 'zod';
import { DIALECTS, LIMIT_FIELDS, USAGE_REQUESTS, type ModelRecord } from '../../../../db/requests/catalogue.ts';
import { formatId } from '../../../../domain/ids.ts';
import { IMAGE_FORMULAS } from '../../../../domain/requests/image-tokens.ts';
import { TOKEN_DIMENSIONS, UNIT_DIMENSIONS, type Dimension } from '../../../../domain/requests/prices.ts';
import { isKeyVariable } from '../../../../domain/requests/upstream-address.ts';
import { isVouchable } from '../../../gateway/dialects/openai-chat/fields.ts';
import { textBytesMax } from '../../../gateway/core/holds/reach.ts';
import { idText, modelId, renderTime, text, time, timeText } from '../../../http/fields.ts';

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
    .meta({ description: 'Returns the usage of a request; null: the upstream has no such look-up.' }),
  limit_field: z
    .enum(LIMIT_FIELDS)
    .optional()
    .meta({
      description:
        'The one field that limits the output here: a client’s limit in another field is sent in this one. `none`: it takes no ' +
        'limit, so the whole context is held. Absent: the client’s own field is passed on, and the gateway adds `max_completion_tokens`.',
    }),
  usage_request: z.enum(USAGE_REQUESTS).optional().meta({
    description: 'How a stream is asked for its usage: `stream_options` (the default), or not at all.',
  }),
});

const positive = (max: number) => z.number().int('must be a whole number').min(1).max(max);

const imageTokens = z.strictObject({
  formula: z.enum(IMAGE_FORMULAS).optional().meta({ description: 'Absent: the most expensive.' }),
  max: positive(MAX_TOKENS).optional().meta({ description: 'No image of this model costs more tokens.' }),
});

const passthroughField = z
  .string()
  .regex(/^[A-Za-z0-9_.-]{1,64}$/, 'must be the name of a field')
  .refine(isVouchable, 'is a field that the gateway reads or writes itself');

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
    description: 'Input tokens held for an image. null, the default: the most expensive published formula.',
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
    description: 'Fields unknown to the gateway that are passed on; you confirm that they do not change the price.',
  }),
};

const priceText = z.string().regex(/^\d{1,20}(\.\d{1,12})?$/, 'must be a decimal USD string, not negative');
const PER_MILLION = 'USD per million tokens, at most 6 decimals.';
const PER_UNIT = 'USD per unit, at most 12 decimals.';
export const prices = z.strictObject({
  ...(Object.fromEntries([
    ...TOKEN_DIMENSIONS.map((dimension) => [dimension, priceText.meta({ description: PER_MILLION }).optional()]),
    ...UNIT_DIMENSIONS.map((dimension) => [dimension, priceText.meta({ description: PER_UNIT }).optional()]),
  ]) as Record<Dimension, z.ZodOptional<z.ZodString>>),
});

export const tiers = z
  .array(z.strictObject({ min_input_tokens: positive(Number.MAX_SAFE_INTEGER), prices }))
  .max(TIERS_MAX);

const windowSchema = z.strictObject({
  days: z.array(z.number()).max(7).optional().meta({ description: 'ISO weekdays, 1 = Monday; all when absent.' }),
  from: z.string().meta({ description: 'UTC, HH:MM, inclusive.' }),
  to: z.string().meta({ description: 'UTC, HH:MM, exclusive.' }),
  prices,
  tiers: tiers.optional(),
});

export const priceFields = {
  prices,
  tiers: tiers.optional(),
  windows: z.array(windowSchema).max(WINDOWS_MAX).optional(),
  reasoning_in_output: z
    .boolean()
    .optional()
    .meta({ description: 'False where the provider’s output total excludes reasoning tokens.' }),
};

export const newModel = z.strictObject({
  id: modelId(),
  ...settingFields,
  request_timeout_seconds: settingFields.request_timeout_seconds.default(600),
  ...z.strictObject(traitFields).partial().shape,
  ...priceFields,
});

export const modelChange = z.strictObject({ ...settingFields, ...traitFields }).partial();

export const newVersion = z.strictObject({
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
      '`output_above_limit`: it exceeds the limit that is sent (see `limit_field`). `usage_missing`, `usage_unusable`: ' +
      'responses are billed by our own count. Others: a contradiction in its usage, resolved by a stated rule.',
  }),
  requests: z.number(),
  first_at: timeText(),
  last_at: timeText(),
  last_request_id: idText('request'),
});

export const modelView = z.object({
  id: z.string(),
  ...settingFields,
  ...traitFields,
  max_body_bytes: z
    .number()
    .meta({ description: 'Maximum bytes of a body without the base64 of images, sounds and files.' }),
  created_at: timeText(),
  retired_at: timeText().nullable(),
  version_in_force: z.number().nullable().meta({ description: 'null: no price, so paid requests are refused.' }),
  versions: z.array(versionView).meta({ description: 'Every price version, newest first.' }),
  findings: z.array(findingView).meta({ description: 'Observed counting of its upstreams, newest first.' }),
});

/** A model with all its prices and findings, as staff see it. */
export function renderModel(model: ModelRecord): z.output<typeof modelView> {
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
export function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;
}

export type ModelView = z.output<typeof modelView>;
