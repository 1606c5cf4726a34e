/** Events of Stripe: signed with a time, by one of several secrets while one is being replaced. */
import Stripe from 'stripe';
import { subjectOfStripeEvent } from '../../../runtime/stripe-events.ts';
import type { StripeSettings } from '../../../runtime/stripe.ts';
import { storableJson } from './storable-json.ts';
import type { WebhookSource } from './webhooks.ts';

/** How far the time of a signature may lie from ours, in either direction (the SDK only looks back). */
const TOLERANCE_SECONDS = 300;

export function stripeWebhooks(settings: StripeSettings): WebhookSource {
  return {
    provider: 'stripe',
    signatureHeaders: ['stripe-signature'],
    verify(body, headers) {
      const signature = headers['stripe-signature'];
      if (typeof signature !== 'string') return null;
      const timestamp = Number(/(?:^|,)t=(\d+)/.exec(signature)?.[1]);
      if (!(timestamp <= Date.now() / 1000 + TOLERANCE_SECONDS)) return null;
      for (const secret of settings.webhookSecrets) {
        try {
          Stripe.webhooks.constructEvent(body, signature, secret, TOLERANCE_SECONDS);
          const event = storableJson(body) as Stripe.Event;
          return event.livemode === settings.live ? { eventId: event.id, type: event.type, payload: event } : null;
        } catch {
          // Another secret may have signed it.
        }
      }
      return null;
    },
    subjectOf: subjectOfStripeEvent,
  };
}
