/**
 * What payment providers tell. An event is verified on its raw bytes, stored, acknowledged, and only then passed on; what
 * cannot be stored is answered with 5xx, so the provider sends it again. An event about an order that is not there yet is
 * stored as well: the sweep finds where it belongs.
 */
import express, { type Express } from 'express';
import Stripe from 'stripe';
import { storeEvent } from '../../db/provider-events.ts';
import { findTopUp, paidTopUp, type TopUp } from '../../db/top-ups.ts';
import { isFault } from '../../db/client.ts';
import { parseId } from '../../domain/ids.ts';
import { subjectOfStripeEvent } from '../../runtime/stripe-events.ts';
import type { StripeSettings } from '../../runtime/payments.ts';
import type { ManagementDeps } from './deps.ts';
import { pokeForEvent } from './top-up-runs.ts';

/** Events are small; a larger body is none of theirs. */
const BODY_LIMIT_BYTES = 1024 * 1024;
/** How far the time of a signature may lie from ours, in either direction (the SDK only looks back). */
const TOLERANCE_SECONDS = 300;

export function registerWebhooks(app: Express, deps: ManagementDeps): void {
  const { stripe } = deps.settings.payments;
  const raw = express.raw({ limit: BODY_LIMIT_BYTES, type: () => true });
  app.post('/webhooks/stripe', raw, async (request, response) => {
    if (stripe === null) return void response.status(404).json({ error: 'not configured' });
    const event = verifiedEvent(stripe, request.body, request.headers['stripe-signature']);
    if (event === null) return void response.status(400).json({ error: 'the signature is not valid' });
    try {
      const payload: unknown = event;
      const isNew = await storeEvent(deps.management, {
        provider: 'stripe',
        eventId: event.id,
        type: event.type,
        payload,
      });
      response.status(200).json({ received: true, duplicate: !isNew });
    } catch (error) {
      deps.logger.error({ error: String(error), event: event.id, fault: isFault(error) }, 'event not stored');
      response.status(503).json({ error: 'not stored; send it again' });
      return;
    }
    passOn(deps, event).catch((error: unknown) => {
      deps.logger.warn({ error: String(error), event: event.id }, 'event stored, not passed on; the sweep will');
    });
  });
}

/** The event, if one of the secrets signed exactly these bytes within the tolerance; else null. */
function verifiedEvent(settings: StripeSettings, body: unknown, signature: unknown): Stripe.Event | null {
  if (!Buffer.isBuffer(body) || typeof signature !== 'string') return null;
  const timestamp = Number(/(?:^|,)t=(\d+)/.exec(signature)?.[1]);
  if (!(timestamp <= Date.now() / 1000 + TOLERANCE_SECONDS)) return null;
  for (const secret of settings.webhookSecrets) {
    try {
      const event = Stripe.webhooks.constructEvent(body, signature, secret, TOLERANCE_SECONDS);
      return event.livemode === settings.live ? event : null;
    } catch {
      // Another secret may have signed it.
    }
  }
  return null;
}

async function passOn(deps: ManagementDeps, event: Stripe.Event): Promise<void> {
  const { reversalId, topUpId, paymentId } = subjectOfStripeEvent(event);
  const id = topUpId === null ? null : parseId('topUp', topUpId);
  let order: TopUp | null = null;
  if (id !== null) order = await findTopUp(deps.management, id, null);
  else if (paymentId !== null) order = await paidTopUp(deps.management, 'stripe', paymentId);
  if (order !== null) await pokeForEvent(deps, order, { eventId: event.id, reversalId });
}
