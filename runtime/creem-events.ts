/** What an event of Creem is about, read from its payload alone. Used where events arrive and where they are swept up. */
import type { EventSubject } from '../domain/top-up.ts';

/** The metadata key that carries our id, beside `request_id`. */
export const CREEM_TOP_UP_KEY = 'topup_id';

/** The fields of an event that say what it is about; everything else is read from Creem's API. */
interface EventPayload {
  /** Creem's own form … */
  readonly object?: Subject | null;
  /** … and the one of its Standard Webhooks. */
  readonly data?: Subject | null;
}

interface Subject {
  readonly object?: string;
  readonly id?: string;
  readonly mode?: string;
  readonly request_id?: string | null;
  readonly metadata?: Readonly<Record<string, unknown>> | null;
  /** Objects inside objects may be ids alone. */
  readonly checkout?: Subject | string | null;
  readonly order?: Subject | string | null;
  readonly transaction?: { readonly order?: string | null } | null;
}

/**
 * A payment is named by its order, which is what credits are keyed by; by its checkout where an event knows no order.
 */
export function subjectOfCreemEvent(payload: unknown): EventSubject {
  const subject = subjectOf(payload);
  const checkout = typeof subject.checkout === 'object' ? subject.checkout : null;
  const order = typeof subject.order === 'string' ? subject.order : subject.order?.id;
  const checkoutId = typeof subject.checkout === 'string' ? subject.checkout : checkout?.id;
  return {
    reversalId: subject.object === 'refund' || subject.object === 'dispute' ? (subject.id ?? null) : null,
    topUpId: topUpNamedBy(subject) ?? topUpNamedBy(checkout ?? {}),
    paymentId: order ?? subject.transaction?.order ?? checkoutId ?? null,
  };
}

/** `test`, `prod`, `sandbox` …; null where an event does not say. */
export function modeOfCreemEvent(payload: unknown): string | null {
  return subjectOf(payload).mode ?? null;
}

function subjectOf(payload: unknown): Subject {
  const { object, data } = payload as EventPayload;
  return object ?? data ?? {};
}

function topUpNamedBy({ request_id, metadata }: Subject): string | null {
  const named = metadata?.[CREEM_TOP_UP_KEY];
  return request_id ?? (typeof named === 'string' ? named : null);
}
