/**
 * Faults on request: what Stripe, or the network in between, has been seen to do wrong.
 *
 * A rule is for API calls or for deliveries, says which and how many (default 1, null until cleared). Each call and
 * each attempt of a delivery takes the first rule that matches and has times left, and only that one; a rule with
 * several faults combines them.
 */
import type { DeliveryFault } from './deliveries.ts';
import { FaultQueue } from './fault-rules.ts';
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
} from './input.ts';

export interface ApiFault {
  /** Waits before anything is done; the idempotency key is in use meanwhile. */
  readonly hang_ms?: number;
  /** Answers 429 without doing anything. */
  readonly rate_limit?: boolean;
  /** Answers this status; stored under the idempotency key as any answer. The call has no effect … */
  readonly fail_status?: number;
  /** … unless this is true: the effect is there, its answer is not. */
  readonly after_commit?: boolean;
  /** The effect is there and the answer stored, but the socket is destroyed instead of answering. */
  readonly drop_response_after_commit?: boolean;
}

export interface ApiMatch {
  readonly method?: string;
  /** The beginning of the path. */
  readonly path?: string;
}

export interface DeliveryMatch {
  readonly event_type?: string;
}

export type FaultRule =
  | { readonly on: 'api'; readonly match?: ApiMatch; readonly count?: number | null; readonly fault: ApiFault }
  | {
      readonly on: 'delivery';
      readonly match?: DeliveryMatch;
      readonly count?: number | null;
      readonly fault: DeliveryFault;
    };

export class FaultRules extends FaultQueue<FaultRule> {
  /** An answer that is repeated from the idempotency store can be late or lost, but not be another one. */
  takeForCall(method: string, path: string, isReplay: boolean): ApiFault {
    const rule = this.take(
      (candidate) =>
        candidate.on === 'api' &&
        !(isReplay && (candidate.fault.fail_status !== undefined || candidate.fault.rate_limit === true)) &&
        path.startsWith(candidate.match?.path ?? '') &&
        (candidate.match?.method ?? method) === method,
    );
    return rule?.on === 'api' ? rule.fault : {};
  }

  takeForDelivery(eventType: string): DeliveryFault {
    const rule = this.take(
      (candidate) => candidate.on === 'delivery' && (candidate.match?.event_type ?? eventType) === eventType,
    );
    return rule?.on === 'delivery' ? rule.fault : {};
  }
}

type Reader = (value: unknown, field: string) => unknown;

const readSeconds: Reader = (value, field) => readCount(value, field, 1);

const API_FIELDS: Readonly<Record<keyof ApiFault, Reader>> = {
  hang_ms: readMilliseconds,
  rate_limit: readBoolean,
  fail_status: (value, field) => readCount(value, field, 400, 599),
  after_commit: readBoolean,
  drop_response_after_commit: readBoolean,
};

const DELIVERY_FIELDS: Readonly<Record<Exclude<keyof DeliveryFault, 'lose_answer'>, Reader>> = {
  drop: readBoolean,
  duplicate: (value, field) => readCount(value, field, 2, 100),
  delay_ms: readMilliseconds,
  reorder: readBoolean,
  wrong_secret: readBoolean,
  stale_seconds: readSeconds,
  future_seconds: readSeconds,
  altered_byte: readBoolean,
};

/** Reads a rule from JSON (`POST /_twin/faults`); anything unknown throws `BadInput`. */
export function readFaultRule(value: unknown): FaultRule {
  const source = readObject(value, 'rule');
  refuseOtherFields(source, ['on', 'match', 'count', 'fault'], 'rule');
  const { on, match = {}, count } = source;
  if (on !== 'api' && on !== 'delivery') throw new BadInput("'on' must be 'api' or 'delivery'.", 'on');
  const times = count === undefined ? {} : { count: count === null ? null : readCount(count, 'count', 1) };
  if (!isObject(source['fault']) || Object.keys(source['fault']).length === 0) {
    throw new BadInput("'fault' must be an object with at least one fault.", 'fault');
  }
  if (on === 'api') {
    const readMethod: Reader = (method, field) => readString(method, field).toUpperCase();
    const matched = readFields(match, 'match', { method: readMethod, path: readString }) as ApiMatch;
    return { on, match: matched, ...times, fault: readFields(source['fault'], 'fault', API_FIELDS) };
  }
  const matched = readFields(match, 'match', { event_type: readString }) as DeliveryMatch;
  const fault = readFields(source['fault'], 'fault', DELIVERY_FIELDS) as DeliveryFault;
  return { on, match: matched, ...times, fault };
}

function readFields(value: unknown, where: string, fields: Readonly<Record<string, Reader>>): JsonObject {
  const source = readObject(value, where);
  refuseOtherFields(source, Object.keys(fields), where);
  return Object.fromEntries(
    Object.entries(source).map(([field, given]) => [field, fields[field]!(given, `${where}.${field}`)]),
  );
}
