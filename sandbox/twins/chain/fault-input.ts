/** A vendor's fault on the wire: the fields of `ChainFault` in snake_case. */
import type { ChainFault } from './faults.ts';
import {
  BadInput,
  isObject,
  type JsonObject,
  readBoolean,
  readCount,
  readMilliseconds,
  readObject,
  readString,
  refuseOtherFields,
} from '../input.ts';

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
  status: (value, field) => {
    if (value !== 429 && value !== 500) throw new BadInput(`'${field}' must be 429 or 500.`, field);
    return value;
  },
  hang: readBoolean,
  delayMs: readMilliseconds,
  duplicateLogs: readBoolean,
  shuffleLogs: readBoolean,
  nullReceipts: readBoolean,
  chainId: (value, field) => readCount(value, field, 1),
} satisfies Readonly<Record<keyof ChainFault, Reader>>;

const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Throws `BadInput` with the field's name. */
export function readFault(value: unknown): ChainFault {
  const given = readObject(value, 'fault');
  const readers: [string, Reader][] = Object.entries(READERS);
  refuseOtherFields(
    given,
    readers.map(([name]) => snake(name)),
    'fault',
  );
  const read = readers.flatMap(([name, reader]) => {
    const field = snake(name);
    return given[field] === undefined ? [] : [[name, reader(given[field], field)] as const];
  });
  return Object.fromEntries(read);
}

export function faultShown(fault: ChainFault | null): JsonObject | null {
  return isObject(fault)
    ? Object.fromEntries(Object.entries(fault).map(([name, value]) => [snake(name), value]))
    : null;
}

function readHashes(value: unknown, field: string): string[] {
  const isHash = (hash: unknown): hash is string => typeof hash === 'string' && /^0x[0-9a-fA-F]{64}$/.test(hash);
  if (!Array.isArray(value) || !value.every(isHash)) {
    throw new BadInput(`'${field}' must be a list of transaction hashes.`, field);
  }
  return value;
}
