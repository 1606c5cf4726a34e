/**
 * Configuration of the twin: the knobs of its answers (`steering.ts`), its models and key, how it treats
 * connections and what its look-up says; and what its process reads from the environment.
 */
import {
  BadInput,
  readChoice,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../kit/input.ts';
import { type ConnectionRules, DEFAULT_CONNECTIONS, readConnectionRules } from './connections.ts';
import { type ErrorShapeName, ERROR_SHAPE_NAMES } from './error-shapes.ts';
import { MAX_OUTPUT_TOKENS } from './limits.ts';
import { DEFAULT_LOOKUP, type LookupRules, readLookupRules } from './lookup.ts';
import {
  DEFAULT_STEERING,
  readKnownSteering,
  readSteering,
  STEERING_NAMES,
  type Steering,
  type SteeringInput,
} from './steering.ts';

export interface UpstreamTwinConfig extends Steering {
  /** The only bearer token that is accepted; null accepts any. */
  readonly api_key: string | null;
  /** The models of `GET /v1/models` with their own steering. Any other model id is answered as well. */
  readonly models: Readonly<Record<string, Partial<Steering>>>;
  /** How the twin's own errors look: a wrong key, a wrong path, a body that it cannot read. */
  readonly error_shape: ErrorShapeName;
  readonly connections: ConnectionRules;
  readonly lookup: LookupRules;
}

/** A configuration as it is given: what is not as usual. */
export type ConfigInput = SteeringInput &
  Partial<Pick<UpstreamTwinConfig, 'api_key' | 'error_shape'>> & {
    readonly models?: Readonly<Record<string, SteeringInput>>;
    readonly connections?: Partial<ConnectionRules>;
    readonly lookup?: Partial<LookupRules>;
  };

export const DEFAULT_CONFIG: UpstreamTwinConfig = {
  ...DEFAULT_STEERING,
  api_key: null,
  models: { 'twin-chat': {} },
  error_shape: 'openai',
  connections: DEFAULT_CONNECTIONS,
  lookup: DEFAULT_LOOKUP,
};

/** Reads a configuration, from JSON or from a test in this process; unknown fields throw `BadInput`. */
export function readConfig(value: unknown): Partial<UpstreamTwinConfig> {
  const source = readObject(value, 'config');
  refuseOtherFields(source, [...STEERING_NAMES, 'api_key', 'models', 'error_shape', 'connections', 'lookup'], 'config');
  const { api_key, models, error_shape, connections, lookup } = source;
  return {
    ...readKnownSteering(source),
    ...(api_key !== undefined && { api_key: api_key === null ? null : readString(api_key, 'api_key') }),
    ...(models !== undefined && { models: readModels(models) }),
    ...(error_shape !== undefined && { error_shape: readChoice(error_shape, 'error_shape', ERROR_SHAPE_NAMES) }),
    ...(connections !== undefined && { connections: readConnectionRules(connections, 'connections') }),
    ...(lookup !== undefined && { lookup: readLookupRules(lookup, 'lookup') }),
  };
}

function readModels(value: unknown): Record<string, Partial<Steering>> {
  const source = readObject(value, 'models');
  return Object.fromEntries(
    Object.entries(source).map(([id, steering]) => [id, readSteering(steering, `models.${id}`)]),
  );
}

/** Settings of the twin's process. */
export interface UpstreamTwinSettings {
  readonly host: string;
  readonly port: number;
  readonly dataFile: string | null;
  readonly maxRecords: number | null;
  readonly config: ConfigInput;
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
