/**
 * Webhooks of payment providers. An event is verified on its raw bytes, stored, acknowledged, and only then passed on;
 * what cannot be stored is answered with 5xx, so the provider sends it again; characters that no text of PostgreSQL can
 * hold are left out (storable-json.ts), because sending those again would never help, and the event still tells where
 * to look. An event about an order that is not there yet is stored as well: the sweep finds where it belongs. How a
 * provider signs is in a file of its own.
 */
import type { Express } from 'express';
import { storeEvent } from '../../../db/payments/provider-events.ts';
import { findTopUp, paidTopUp, type TopUp } from '../../../db/payments/top-ups.ts';
import { isFault } from '../../../db/shared/client.ts';
import { parseId } from '../../../domain/ids.ts';
import type { ManagementDeps } from '../../http/deps.ts';
import { wakeForEvent } from '../../processes/top-ups.ts';
import type { WebhookBodies } from './bodies.ts';
import { creemWebhooks } from './creem.ts';
import type { VerifiedEvent, WebhookSource } from './source.ts';
import { stripeWebhooks } from './stripe.ts';

/** Events are small; a larger body is none of theirs. */
const BODY_LIMIT_BYTES = 1024 * 1024;

export function registerWebhooks(app: Express, deps: ManagementDeps, bodies: WebhookBodies): void {
  const { stripe, creem } = deps.settings.payments;
  registerSource(app, deps, bodies, 'stripe', stripe === null ? null : stripeWebhooks(stripe));
  registerSource(app, deps, bodies, 'creem', creem === null ? null : creemWebhooks(creem));
}

function registerSource(
  app: Express,
  deps: ManagementDeps,
  bodies: WebhookBodies,
  provider: string,
  source: WebhookSource | null,
): void {
  const path = `/webhooks/${provider}`;
  if (source === null) {
    app.post(path, bodies.notConfigured(provider));
    return;
  }
  const { signatureHeaders } = source;
  const endpoint = { provider, limitBytes: BODY_LIMIT_BYTES, signatureHeaders, refusedStatus: 400 };
  app.post(path, bodies.read(endpoint), async (request, response) => {
    const body: unknown = request.body;
    // A call without a body has none that was read.
    const event = await source.verify(Buffer.isBuffer(body) ? body : Buffer.alloc(0), request.headers);
    if ('reason' in event) return bodies.refuse(endpoint, request, response, event);
    try {
      const isNew = await storeEvent(deps.webhooks, { provider, ...event });
      response.status(200).json({ received: true, duplicate: !isNew });
    } catch (error) {
      deps.logger.error({ error: String(error), event: event.eventId, fault: isFault(error) }, 'event not stored');
      response.status(503).json({ error: 'not stored; send it again' });
      return;
    }
    passOn(deps, source, event).catch((error: unknown) => {
      deps.logger.warn(
        { error: String(error), event: event.eventId },
        'event stored but not passed on; the sweep passes it on',
      );
    });
  });
}

async function passOn(deps: ManagementDeps, source: WebhookSource, { eventId, payload }: VerifiedEvent): Promise<void> {
  const { reversalId, topUpId, paymentId } = source.subjectOf(payload);
  const id = topUpId === null ? null : parseId('topUp', topUpId);
  let order: TopUp | null = null;
  if (id !== null) order = await findTopUp(deps.webhooks, id, null);
  else if (paymentId !== null) order = await paidTopUp(deps.webhooks, source.provider, paymentId);
  if (order !== null) await wakeForEvent(deps, order, { eventId, reversalId });
}
