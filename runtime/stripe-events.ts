/** What a Stripe event is about, read from its payload alone. Used where events arrive and where they are swept up. */
import type { EventSubject } from '../domain/top-up.ts';

/** The fields of an event that say what it is about; everything else is read from Stripe's API. */
interface EventPayload {
  readonly type?: string;
  readonly data?: { readonly object?: EventObject };
}

interface EventObject {
  readonly object?: string;
  readonly id?: string;
  readonly client_reference_id?: string | null;
  readonly metadata?: Readonly<Record<string, string>> | null;
  readonly payment_intent?: string | { readonly id: string } | null;
}

/** The metadata key that carries our id. */
export const STRIPE_TOP_UP_KEY = 'topup_id';

export function subjectOfStripeEvent(payload: unknown): EventSubject {
  const { type, data } = payload as EventPayload;
  const object = data?.object ?? {};
  const intent = object.payment_intent;
  return {
    reversalId: object.object === 'refund' || object.object === 'dispute' ? (object.id ?? null) : null,
    topUpId: object.metadata?.[STRIPE_TOP_UP_KEY] ?? object.client_reference_id ?? null,
    paymentId:
      object.object === 'payment_intent'
        ? (object.id ?? null)
        : typeof intent === 'string'
          ? intent
          : (intent?.id ?? null),
    // Neither can be undone at Stripe, so these events say all there is to know.
    ...(type === 'payment_method.detached' && { gone: { paymentMethod: object.id ?? null, customerId: null } }),
    ...(type === 'customer.deleted' && { gone: { paymentMethod: null, customerId: object.id ?? null } }),
  };
}
