/** Events of Stripe: signed with a time, by one of several secrets while one is being replaced. */
import Stripe from 'stripe';
import { subjectOfStripeEvent } from '../../../providers/stripe/events.ts';
import type { StripeSettings } from '../../../providers/stripe/settings.ts';
import { clockRefusal, type WebhookRefusal } from '../../../providers/webhook-refusals.ts';
import { storableJson } from './storable-json.ts';
import type { VerifiedEvent, WebhookSource } from './source.ts';

const HEADER = 'stripe-signature';
/** Longer than any id or type of Stripe's: what is longer is not kept. */
const NAME_LENGTH_MAX = 255;

export function stripeWebhooks(settings: StripeSettings): WebhookSource {
  return {
    provider: 'stripe',
    signatureHeaders: [HEADER],
    verify(body, headers) {
      const signature = headers[HEADER];
      if (typeof signature !== 'string') return { reason: 'no_signature' };
      const signedSeconds = timeIn(signature);
      if (signedSeconds === null || !/(?:^|,)\s*v1=/.test(signature)) return { reason: 'malformed_signature' };
      // The signature before its time: a clock that is wrong is another fault than a wrong secret.
      if (!settings.webhookSecrets.some((secret) => isSigned(body, signature, secret))) {
        return { reason: 'wrong_secret' };
      }
      return clockRefusal(signedSeconds) ?? eventOf(body, settings.live);
    },
    subjectOf: subjectOfStripeEvent,
  };
}

/**
 * The time in a signature's header, in seconds; null where there is none, or more than one: the SDK would verify one of
 * them, and the clock be held against the other, so that an old delivery could be sent again as a new one.
 */
function timeIn(signature: string): number | null {
  const times = new Set([...signature.matchAll(/(?:^|,)\s*t=([^,]*)/g)].map((match) => match[1]?.trim() ?? ''));
  const [time = '', ...others] = times;
  return others.length === 0 && /^\d{1,12}$/.test(time) ? Number(time) : null;
}

function isSigned(body: Buffer, signature: string, secret: string): boolean {
  try {
    // Without a tolerance of its own, which only looks back.
    return Stripe.webhooks.signature?.verifyHeader(body, signature, secret, 0) ?? false;
  } catch {
    return false;
  }
}

/**
 * An event of the other mode is a mistake of our own account; a connected account sends both modes to one endpoint, so
 * that one is taken and closed as foreign: refused, Stripe would send it for days and then switch the endpoint off.
 */
function eventOf(body: Buffer, live: boolean): VerifiedEvent | WebhookRefusal {
  const payload = storableJson(body);
  if (typeof payload !== 'object' || payload === null) return { reason: 'unreadable', detail: 'not a JSON object' };
  const { id: eventId, type, object, livemode, account } = payload as Readonly<Record<string, unknown>>;
  if (object === 'v2.core.event') {
    return { reason: 'thin_event', ...(isName(type) && { detail: `type ${type.slice(0, 100)}` }) };
  }
  if (!isName(eventId) || !isName(type)) return { reason: 'unreadable', detail: 'an event without id or type' };
  const isOwn = account === undefined || account === null;
  if (isOwn && typeof livemode !== 'boolean') return { reason: 'unreadable', detail: 'no livemode' };
  if (isOwn && livemode !== live) {
    const modes = livemode === true ? 'a live event, and a test key' : 'a test event, and a live key';
    return { reason: 'other_mode', detail: modes };
  }
  return { eventId, type, payload };
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= NAME_LENGTH_MAX;
}
