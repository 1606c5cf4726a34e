/**
 * The subject of a Stripe event, read from its payload alone. Used where events arrive and where they are swept up. An
 * account also serves other products, other environments and, on Connect, other people's accounts, so nothing is taken
 * for granted about the object in an event: what has not the form that Stripe documents for ours is foreign, never an
 * error.
 */
import type { EventSubject, FraudWarning } from '../../domain/payments/top-up.ts';

/** The metadata key that carries our id. */
export const STRIPE_TOP_UP_KEY = 'topup_id';

/** Ids are this short and have no other characters; whatever else stands in their place is not asked for. */
const STRIPE_ID = /^[a-z]+_\w{1,250}$/;
const NOTHING = { reversalId: null, topUpId: null, paymentId: null } as const;

type Fields = Readonly<Record<string, unknown>>;

/** Never throws, whatever the payload is. */
export function subjectOfStripeEvent(payload: unknown): EventSubject {
  const event = fieldsOf(payload);
  const object = fieldsOf(fieldsOf(event?.['data'])?.['object']);
  // Only events of connected accounts name one; our own account is never named so.
  if (event !== null && event['account'] !== undefined && event['account'] !== null) {
    return { ...NOTHING, foreign: 'other_account' };
  }
  if (event === null || object === null) return { ...NOTHING, foreign: 'unreadable' };
  const { type } = event;
  const kind = object['object'];
  const id = idOf(object['id']);
  const warning = kind === 'radar.early_fraud_warning' ? warningOf(object) : null;
  return {
    reversalId: kind === 'refund' || kind === 'dispute' ? id : null,
    topUpId: textOf(fieldsOf(object['metadata'])?.[STRIPE_TOP_UP_KEY]) ?? textOf(object['client_reference_id']),
    paymentId: kind === 'payment_intent' ? id : idOf(object['payment_intent']),
    ...(warning !== null && { warning }),
    // Neither can be undone at Stripe, so these events say all there is to know.
    ...(type === 'payment_method.detached' && id !== null && { gone: { paymentMethod: id, customerId: null } }),
    ...(type === 'customer.deleted' && id !== null && { gone: { paymentMethod: null, customerId: id } }),
  };
}

function warningOf(object: Fields): FraudWarning | null {
  const objectId = idOf(object['id']);
  return objectId === null ? null : { objectId, fraudType: textOf(object['fraud_type']) ?? 'unknown' };
}

function fieldsOf(value: unknown): Fields | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : null;
}

/** The id in a reference that may be expanded; null where there is none that Stripe could have given. */
function idOf(reference: unknown): string | null {
  const id = textOf(reference) ?? textOf(fieldsOf(reference)?.['id']);
  return id !== null && STRIPE_ID.test(id) ? id : null;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}
