/**
 * The twin's knobs: what every answer looks like unless a request or a fault rule says otherwise.
 *
 * Four layers, the later one wins: the twin's defaults, the model's own settings, `metadata.twin` in the
 * request body, a fault rule (`faults.ts`). All times are milliseconds, all counts are per choice.
 */
import {
  BadInput,
  type JsonObject,
  isObject,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../input.ts';

/** How one answer is produced. */
export interface Steering {
  /** From the whole request read to the response's headers. */
  readonly latency_ms: number;
  /** From the headers to the first token. */
  readonly first_token_ms: number;
  /** Between two tokens, in streams and, invisibly, in whole answers. */
  readonly chunk_interval_ms: number;
  /** From the whole request read to the end of the answer; replaces the pace between tokens. Null: not fixed. */
  readonly total_ms: number | null;
  /** Tokens a choice produces unless the request's maximum is smaller; includes `reasoning_tokens`. */
  readonly output_tokens: number;
  /** The part of the output that is produced before the first visible token and never shown. */
  readonly reasoning_tokens: number;
  /** The part of the prompt reported as read from the cache. */
  readonly cached_tokens: number;
}

export interface UpstreamTwinConfig extends Steering {
  /** The only bearer token that is accepted; null accepts any. */
  readonly api_key: string | null;
  /** The models of `GET /v1/models` with their own steering. Any other model id is answered as well. */
  readonly models: Readonly<Record<string, Partial<Steering>>>;
}

export const DEFAULT_CONFIG: UpstreamTwinConfig = {
  latency_ms: 0,
  first_token_ms: 0,
  chunk_interval_ms: 0,
  total_ms: null,
  output_tokens: 16,
  reasoning_tokens: 0,
  cached_tokens: 0,
  api_key: null,
  models: { 'twin-chat': {} },
};

/** A million tokens per choice: beyond it a test would fill memory, not prove anything. */
export const MAX_OUTPUT_TOKENS = 1_000_000;

const STEERING_FIELDS = {
  latency_ms: readMilliseconds,
  first_token_ms: readMilliseconds,
  chunk_interval_ms: readMilliseconds,
  total_ms: (value: unknown, field: string) => (value === null ? null : readMilliseconds(value, field)),
  output_tokens: (value: unknown, field: string) => readCount(value, field, 0, MAX_OUTPUT_TOKENS),
  reasoning_tokens: (value: unknown, field: string) => readCount(value, field, 0, MAX_OUTPUT_TOKENS),
  cached_tokens: (value: unknown, field: string) => readCount(value, field),
} as const satisfies { [F in keyof Steering]: (value: unknown, field: string) => Steering[F] };

const STEERING_NAMES = Object.keys(STEERING_FIELDS) as (keyof Steering)[];

function readKnownSteering(source: JsonObject): Partial<Steering> {
  const steering: Record<string, unknown> = {};
  for (const name of STEERING_NAMES) {
    if (source[name] !== undefined) steering[name] = STEERING_FIELDS[name](source[name], name);
  }
  return steering;
}

/** Reads steering from JSON; unknown fields throw `BadInput`. */
export function readSteering(value: unknown, where: string): Partial<Steering> {
  const source = readObject(value, where);
  refuseOtherFields(source, STEERING_NAMES, where);
  return readKnownSteering(source);
}

/** Reads a partial configuration from JSON (`POST /_twin/config`); unknown fields throw `BadInput`. */
export function readConfig(value: unknown): Partial<UpstreamTwinConfig> {
  const source = readObject(value, 'config');
  refuseOtherFields(source, [...STEERING_NAMES, 'api_key', 'models'], 'config');
  const { api_key, models } = source;
  return {
    ...readKnownSteering(source),
    ...(api_key !== undefined && { api_key: api_key === null ? null : readString(api_key, 'api_key') }),
    ...(models !== undefined && { models: readModels(models) }),
  };
}

function readModels(value: unknown): Record<string, Partial<Steering>> {
  const source = readObject(value, 'models');
  return Object.fromEntries(
    Object.entries(source).map(([id, steering]) => [id, readSteering(steering, `models.${id}`)]),
  );
}

/**
 * Reads `metadata.twin` of a request body. OpenAI allows only strings as metadata values, so the object may
 * also come as JSON text. Absent is no steering; anything unreadable throws `BadInput`.
 */
export function readMetadataSteering(metadata: unknown): Partial<Steering> {
  if (!isObject(metadata) || metadata['twin'] === undefined) return {};
  const given = metadata['twin'];
  if (typeof given !== 'string') return readSteering(given, 'metadata.twin');
  let parsed: unknown;
  try {
    parsed = JSON.parse(given);
  } catch {
    throw new BadInput("'metadata.twin' is not valid JSON.", 'metadata.twin');
  }
  return readSteering(parsed, 'metadata.twin');
}

/** What the twin's process is started with. */
export interface UpstreamTwinSettings {
  readonly host: string;
  readonly port: number;
  readonly dataFile: string | null;
  readonly maxRecords: number | null;
  readonly config: Partial<UpstreamTwinConfig>;
}

/** Parses the process environment; throws one `BadInput` that lists every bad variable. */
export function settingsFromEnvironment(
  environment: Readonly<Record<string, string | undefined>>,
): UpstreamTwinSettings {
  const problems: string[] = [];
  const given = (name: string): string | undefined => {
    const value = environment[name]?.trim();
    return value === '' ? undefined : value;
  };
  const number = <T>(name: string, read: (value: unknown, field: string) => T): T | undefined => {
    const text = given(name);
    if (text === undefined) return undefined;
    try {
      return read(Number(text), name);
    } catch (error) {
      if (!(error instanceof BadInput)) throw error;
      problems.push(error.message);
      return undefined;
    }
  };

  const port = number('TWIN_PORT', (value, field) => readCount(value, field, 0, 65_535));
  const maxRecords = number('TWIN_MAX_RECORDS', (value, field) => readCount(value, field, 1));
  const latency = number('TWIN_LATENCY_MS', readMilliseconds);
  const interval = number('TWIN_CHUNK_INTERVAL_MS', readMilliseconds);
  const tokens = number('TWIN_OUTPUT_TOKENS', (value, field) => readCount(value, field, 0, MAX_OUTPUT_TOKENS));
  const apiKey = given('TWIN_API_KEY');
  const models = given('TWIN_MODELS')
    ?.split(',')
    .map((id) => id.trim())
    .filter((id) => id !== '');
  if (problems.length > 0) throw new BadInput(`Bad environment. ${problems.join(' ')}`);

  return {
    host: given('TWIN_HOST') ?? '127.0.0.1',
    port: port ?? 0,
    dataFile: given('TWIN_DATA_FILE') ?? null,
    maxRecords: maxRecords ?? null,
    config: {
      ...(latency !== undefined && { latency_ms: latency }),
      ...(interval !== undefined && { chunk_interval_ms: interval }),
      ...(tokens !== undefined && { output_tokens: tokens }),
      ...(apiKey !== undefined && { api_key: apiKey }),
      ...(models !== undefined && { models: Object.fromEntries(models.map((id) => [id, {}])) }),
    },
  };
}
