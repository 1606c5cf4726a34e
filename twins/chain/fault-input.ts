/** A vendor's fault on the wire: the fields of `ChainFault` in snake_case. */
import type { ChainFault } from './faults.ts';
import { REFUSAL_FORMS, REFUSED_TAGS, type Refusal } from './refusals.ts';
import {
  BadInput,
  isObject,
  type JsonObject,
  readBoolean,
  readChoice,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../kit/input.ts';

type Reader = (value: unknown, field: string) => unknown;

const READERS = {
  lagBlocks: readCount,
  freezeAt: readCount,
  emptyLogs: readBoolean,
  dropLogs: readHashes,
  inventLog: (value, field) => {
    const log = readObject(value, field);
    refuseOtherFields(log, ['to', 'amount'], field);
    return { to: readString(log['to'], 'to'), amount: readString(log['amount'], 'amount') };
  },
  maxRange: (value, field) => readCount(value, field, 1),
  maxLogs: readCount,
  cutLogs: readCount,
  lagLogsBlocks: readCount,
  blurBlooms: readBoolean,
  maxBatch: (value, field) => readCount(value, field, 1),
  refusals: readRefusals,
  status: (value, field) => readCount(value, field, 400, 599),
  hang: readBoolean,
  delayMs: readMilliseconds,
  duplicateLogs: readBoolean,
  shuffleLogs: readBoolean,
  nullReceipts: readBoolean,
  chainId: (value, field) => readCount(value, field, 1),
  answersFor: (value, field) => readCount(value, field, 1),
} satisfies Readonly<Record<keyof ChainFault, Reader>>;

/** Longer words than any vendor has. */
const TEXT_MAX = 100_000;
/** More than any client should take in. */
const PAD_BYTES_MAX = 256 * 1024 * 1024;

const REFUSAL_READERS = {
  method: readMethod,
  overBlocks: readCount,
  overTopics: readCount,
  tag: (value, field) => readChoice(value, field, REFUSED_TAGS),
  status: (value, field) => readCount(value, field, 200, 599),
  retryAfterSeconds: (value, field) => readCount(value, field, 0, 3600),
  delayMs: readMilliseconds,
  error: (value, field) => {
    const error = readObject(value, field);
    refuseOtherFields(error, ['code', 'message', 'data'], field);
    const data = error['data'];
    const code = readCount(error['code'], 'code', Number.MIN_SAFE_INTEGER);
    return { code, message: readText(error['message'], 'message'), ...(data !== undefined && { data }) };
  },
  text: readText,
  nullResult: readBoolean,
  truncated: readBoolean,
  padBytes: (value, field) => readCount(value, field, 1, PAD_BYTES_MAX),
  reset: readBoolean,
  hang: readBoolean,
} satisfies Readonly<Record<keyof Refusal, Reader>>;

const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Throws `BadInput` with the field's name. */
export function readFault(value: unknown): ChainFault {
  return readFields(value, 'fault', READERS);
}

function readRefusals(value: unknown, field: string): Refusal[] {
  if (!Array.isArray(value)) throw new BadInput(`'${field}' must be a list.`, field);
  return value.map((entry: unknown): Refusal => {
    const rule: Refusal = readFields(entry, field, REFUSAL_READERS);
    const forms = REFUSAL_FORMS.filter((form) => rule[form] !== undefined);
    if (forms.length > 1) throw new BadInput(`'${field}' may have one of ${forms.map(snake).join(', ')}.`, field);
    return rule;
  });
}

function readFields(value: unknown, where: string, readers: Readonly<Record<string, Reader>>): JsonObject {
  const given = readObject(value, where);
  refuseOtherFields(given, Object.keys(readers).map(snake), where);
  const read = Object.entries(readers).flatMap(([name, reader]) => {
    const field = snake(name);
    return given[field] === undefined ? [] : [[name, reader(given[field], field)] as const];
  });
  return Object.fromEntries(read);
}

export function faultShown(fault: ChainFault | null): JsonObject | null {
  return fault === null ? null : shown(fault);
}

function shown(fields: object): JsonObject {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]: [string, unknown]) => [
      snake(name),
      name === 'refusals' && Array.isArray(value)
        ? value.map((rule: unknown) => (isObject(rule) ? shown(rule) : rule))
        : value,
    ]),
  );
}

/** May be empty, as the body of an answer may. */
function readText(value: unknown, field: string): string {
  if (typeof value === 'string' && value.length <= TEXT_MAX) return value;
  throw new BadInput(`'${field}' must be a text of at most ${TEXT_MAX} characters.`, field);
}

function readMethod(value: unknown, field: string): string {
  const method = readString(value, field);
  if (!/^[a-zA-Z0-9]+_[a-zA-Z0-9]+$/.test(method)) {
    throw new BadInput(`'${field}' must be a method of JSON-RPC, like eth_getLogs.`, field);
  }
  return method;
}

function readHashes(value: unknown, field: string): string[] {
  const isHash = (hash: unknown): hash is string => typeof hash === 'string' && /^0x[0-9a-fA-F]{64}$/.test(hash);
  if (!Array.isArray(value) || !value.every(isHash)) {
    throw new BadInput(`'${field}' must be a list of transaction hashes.`, field);
  }
  return value;
}
