/** Reading fault rules, from JSON or from a test in this process: anything unknown throws `BadInput`. */
import {
  BadInput,
  type JsonObject,
  readBoolean,
  readChoice,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../kit/input.ts';
import { ERROR_SHAPE_NAMES } from './error-shapes.ts';
import { ERROR_CARRIERS, type Fault, type FaultMatch, type Faults, type ReadFault } from './faults.ts';
import { anything, readBase64, readText } from './fields.ts';
import { LATE_POSITIONS } from './framing.ts';
import { MAX_INSERTED_CHARACTERS, MAX_OUTPUT_TOKENS } from './limits.ts';
import { readHeaders, readSteering } from './steering.ts';

/** A rule with everything that was left out of it. */
interface ReadRule {
  readonly match: FaultMatch;
  /** Null: until it is cleared. */
  readonly times: number | null;
  readonly faults: Faults;
}

/** Reads a rule from JSON (`POST /_twin/faults`); anything unknown throws `BadInput`. */
export function readFaultRule(value: unknown): ReadRule {
  const source = readObject(value, 'rule');
  refuseOtherFields(source, ['match', 'times', 'fault'], 'rule');
  const { match, times, fault } = source;
  return {
    match: match === undefined ? {} : readMatch(match),
    times: times === undefined ? 1 : times === null ? null : readCount(times, 'times', 1),
    faults: Array.isArray(fault) ? fault.map(readFault) : [readFault(fault)],
  };
}

function readMatch(value: unknown): FaultMatch {
  const source = readObject(value, 'match');
  refuseOtherFields(source, ['model', 'request_id', 'stream'], 'match');
  return optional(source, { model: readString, request_id: readString, stream: readBoolean });
}

function readFault(value: unknown): ReadFault {
  const source = readObject(value, 'fault');
  const type = readString(source['type'], 'type') as Fault['type'];
  const fields: Record<string, Reader> | undefined = FAULT_FIELDS[type];
  if (fields === undefined) throw new BadInput(`There is no fault '${type}'.`, 'type');
  refuseOtherFields(source, ['type', ...Object.keys(fields)], type);
  const required = REQUIRED_FIELDS[type] ?? [];
  if (required.length > 0 && !required.some((field) => field in source)) {
    throw new BadInput(`Fault '${type}' needs '${required.join("' or '")}'.`, required[0]);
  }
  if (source['after_chunks'] !== undefined && source['at'] !== undefined) {
    throw new BadInput(`Fault '${type}' takes 'after_chunks' or 'at', not both.`, 'at');
  }
  return { type, ...optional(source, fields) } as ReadFault;
}

type Reader = (value: unknown, field: string) => unknown;

const readTokens: Reader = (value, field) => readCount(value, field, 0, MAX_OUTPUT_TOKENS);
const readShape: Reader = (value, field) => readChoice(value, field, ERROR_SHAPE_NAMES);
const readStatus: Reader = (value, field) => readCount(value, field, 300, 599);
const place = {
  after_chunks: readCount as Reader,
  at: ((value, field) => readChoice(value, field, LATE_POSITIONS)) as Reader,
};

const FAULT_FIELDS: Readonly<Record<Fault['type'], Record<string, Reader>>> = {
  refuse: { produced: readTokens, how: (value, field) => readChoice(value, field, ['fin', 'reset'] as const) },
  status: {
    status: readStatus,
    shape: readShape,
    message: readText,
    code: readString,
    param: readString,
    body: anything,
    body_base64: readBase64,
    padding: (value, field) => readCount(value, field, 0, MAX_INSERTED_CHARACTERS),
    content_type: readString,
    retry_after: readCount,
    headers: readHeaders,
    produced: readTokens,
  },
  hang: { ...place, ms: readMilliseconds, produced: readTokens },
  error_chunk: {
    ...place,
    message: readText,
    shape: readShape,
    code: readString,
    status: readStatus,
    body: anything,
    carrier: (value, field) => readChoice(value, field, ERROR_CARRIERS),
    goes_on: readBoolean,
  },
  eof: place,
  reset: place,
  usage: { usage: anything, usage_raw: readString },
  no_usage: {},
  late_usage: { ms: readMilliseconds },
  html: { body: readString },
  empty: {},
  slow: { first_ms: readMilliseconds, chunk_ms: readMilliseconds, total_ms: readMilliseconds },
  steer: { knobs: readSteering },
  output: { output_tokens: readTokens, reasoning_tokens: readTokens, cached_tokens: readCount },
  exceed_max_tokens: { tokens: (value, field) => readCount(value, field, 1, MAX_OUTPUT_TOKENS) },
  model_name: { model: readString },
  garbage_sse: { after_chunks: readCount },
  comments: {},
};

export const FAULT_TYPES = Object.keys(FAULT_FIELDS) as Fault['type'][];

/** Faults that mean nothing without one of these fields. */
const REQUIRED_FIELDS: Readonly<Partial<Record<Fault['type'], readonly string[]>>> = {
  status: ['status'],
  steer: ['knobs'],
  usage: ['usage', 'usage_raw'],
  late_usage: ['ms'],
  exceed_max_tokens: ['tokens'],
  model_name: ['model'],
};

function optional(source: JsonObject, fields: Record<string, Reader>): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [field, read] of Object.entries(fields)) {
    if (source[field] !== undefined) result[field] = read(source[field], field);
  }
  return result;
}
