/**
 * Faults on request: what Discord, a vote directory, or the network in between, has been seen to do wrong.
 *
 * A rule is for calls of the REST API (`rest`), for gateway dispatches (`dispatch`) or for webhooks (`delivery`), says
 * which and how many (default 1, null until cleared). Each call, dispatch and attempt takes the first rule that matches
 * and has times left, and only that one; a rule with several faults combines them.
 */
import type { DeliveryFault } from '../kit/deliveries.ts';
import { FaultQueue } from '../kit/fault-rules.ts';
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
} from '../kit/input.ts';

export interface RestFault {
  /** Waits before anything is done. */
  readonly hang_ms?: number;
  /** Answers 429 with this time to wait. Fractions are allowed, so that a test does not have to wait for long. */
  readonly retry_after?: number;
  /** Answers this status without any effect … */
  readonly fail_status?: number;
  /** … unless this is true: the effect is there, its answer is not. */
  readonly after_commit?: boolean;
  /** The effect is there, but the socket is destroyed instead of answering. */
  readonly drop_response_after_commit?: boolean;
}

export interface DispatchFault {
  /** No session ever gets it, not even by a resume. */
  readonly drop?: boolean;
  /** Every session gets it this many times. */
  readonly duplicate?: number;
}

interface FaultKinds {
  readonly rest: { readonly match: { readonly method?: string; readonly path?: string }; readonly fault: RestFault };
  readonly dispatch: { readonly match: { readonly event?: string }; readonly fault: DispatchFault };
  readonly delivery: {
    /** `channel`: `discord` or a directory's name. */
    readonly match: { readonly channel?: string };
    readonly fault: DeliveryFault;
  };
}

type FaultKind = keyof FaultKinds;

type RuleFor<K extends FaultKind> = {
  readonly on: K;
  readonly match?: FaultKinds[K]['match'];
  readonly count?: number | null;
  readonly fault: FaultKinds[K]['fault'];
};

export type DiscordFaultRule = { [K in FaultKind]: RuleFor<K> }[FaultKind];

export class DiscordFaults extends FaultQueue<DiscordFaultRule> {
  /** `path` is without the API's version; a rule names its beginning. */
  takeForCall(method: string, path: string): RestFault {
    const rule = this.take(
      ({ on, match = {} }) =>
        on === 'rest' &&
        (!('method' in match) || match.method === method) &&
        (!('path' in match) || path.startsWith(match.path ?? '')),
    );
    return rule?.on === 'rest' ? rule.fault : {};
  }

  takeForDispatch(event: string): DispatchFault {
    const rule = this.take(({ on, match = {} }) => on === 'dispatch' && (!('event' in match) || match.event === event));
    return rule?.on === 'dispatch' ? rule.fault : {};
  }

  takeForDelivery(channel: string): DeliveryFault {
    const rule = this.take(
      ({ on, match = {} }) => on === 'delivery' && (!('channel' in match) || match.channel === channel),
    );
    return rule?.on === 'delivery' ? rule.fault : {};
  }
}

type Reader = (value: unknown, field: string) => unknown;

const readCopies: Reader = (value, field) => readCount(value, field, 2, 100);
const readSeconds: Reader = (value, field) => readCount(value, field, 1);
const RETRY_AFTER_MAX = 3_600;

const FIELDS: Readonly<
  Record<FaultKind, { readonly match: Record<string, Reader>; readonly fault: Record<string, Reader> }>
> = {
  rest: {
    match: { method: (value, field) => readString(value, field).toUpperCase(), path: readString },
    fault: {
      hang_ms: readMilliseconds,
      retry_after: (value, field) => {
        if (typeof value !== 'number' || !(value >= 0 && value <= RETRY_AFTER_MAX)) {
          throw new BadInput(`'${field}' must be between 0 and ${RETRY_AFTER_MAX} seconds.`, field);
        }
        return value;
      },
      fail_status: (value, field) => readCount(value, field, 400, 599),
      after_commit: readBoolean,
      drop_response_after_commit: readBoolean,
    } satisfies Record<keyof RestFault, Reader>,
  },
  dispatch: {
    match: { event: readString },
    fault: { drop: readBoolean, duplicate: readCopies } satisfies Record<keyof DispatchFault, Reader>,
  },
  delivery: {
    match: { channel: readString },
    fault: {
      drop: readBoolean,
      duplicate: readCopies,
      delay_ms: readMilliseconds,
      wrong_secret: readBoolean,
      stale_seconds: readSeconds,
      future_seconds: readSeconds,
      altered_byte: readBoolean,
      lose_answer: readBoolean,
    } satisfies Record<Exclude<keyof DeliveryFault, 'reorder'>, Reader>,
  },
};

/** Reads a rule from JSON (`POST /_twin/faults`); anything unknown throws `BadInput`. */
export function readDiscordFaultRule(value: unknown): DiscordFaultRule {
  const source = readObject(value, 'rule');
  refuseOtherFields(source, ['on', 'match', 'count', 'fault'], 'rule');
  const { on, match = {}, count, fault } = source;
  if (on !== 'rest' && on !== 'dispatch' && on !== 'delivery') {
    throw new BadInput("'on' must be 'rest', 'dispatch' or 'delivery'.", 'on');
  }
  if (!isObject(fault) || Object.keys(fault).length === 0) {
    throw new BadInput("'fault' must be an object with at least one fault.", 'fault');
  }
  const times = count === undefined ? {} : { count: count === null ? null : readCount(count, 'count', 1) };
  const fields = FIELDS[on];
  return {
    on,
    match: readFields(match, 'match', fields.match),
    ...times,
    fault: readFields(fault, 'fault', fields.fault),
  };
}

function readFields(value: unknown, where: string, fields: Readonly<Record<string, Reader>>): JsonObject {
  const source = readObject(value, where);
  refuseOtherFields(source, Object.keys(fields), where);
  return Object.fromEntries(
    Object.entries(source).map(([field, given]) => [field, fields[field]!(given, `${where}.${field}`)]),
  );
}
