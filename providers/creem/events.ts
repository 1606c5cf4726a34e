/**
 * The subject of an event of Creem, read from its payload alone. Used where events arrive and where they are swept up.
 */
import type { EventSubject } from '../../domain/payments/top-up.ts';

/** The metadata key that carries our id, beside `request_id`. */
export const CREEM_TOP_UP_KEY = 'topup_id';

type Fields = Readonly<Record<string, unknown>>;

/**
 * Never throws, whatever the payload is: a store sells other products as well. A payment is named by its order, which
 * is what credits are keyed by; by its checkout where an event knows no order.
 */
export function subjectOfCreemEvent(payload: unknown): EventSubject {
  const subject = subjectOf(payload);
  if (subject === null) return { reversalId: null, topUpId: null, paymentId: null, foreign: 'unreadable' };
  const kind = subject['object'];
  const { checkout, transaction } = subject;
  return {
    reversalId: kind === 'refund' || kind === 'dispute' ? textOf(subject['id']) : null,
    topUpId: topUpNamedBy(subject) ?? topUpNamedBy(fieldsOf(checkout) ?? {}),
    paymentId: idOf(subject['order']) ?? textOf(fieldsOf(transaction)?.['order']) ?? idOf(checkout),
  };
}

/** `test`, `prod`, `sandbox` …; null where an event does not say. */
export function modeOfCreemEvent(payload: unknown): string | null {
  return textOf(subjectOf(payload)?.['mode']);
}

/** In Creem's own form the subject is `object`, in that of its Standard Webhooks `data`. */
function subjectOf(payload: unknown): Fields | null {
  const event = fieldsOf(payload);
  return fieldsOf(event?.['object']) ?? fieldsOf(event?.['data']);
}

function topUpNamedBy(subject: Fields): string | null {
  return textOf(subject['request_id']) ?? textOf(fieldsOf(subject['metadata'])?.[CREEM_TOP_UP_KEY]);
}

/** Objects inside objects may be ids alone. */
function idOf(reference: unknown): string | null {
  return textOf(reference) ?? textOf(fieldsOf(reference)?.['id']);
}

function fieldsOf(value: unknown): Fields | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : null;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}
