/** Events of Creem: signed in one of two forms, by one of several secrets while one is being replaced. */
import { isUtf8 } from 'node:buffer';
import type { IncomingHttpHeaders } from 'node:http';
import { verifyWebhookSignature } from 'creem/webhooks.js';
import { modeOfCreemEvent, subjectOfCreemEvent } from '../../../providers/creem/events.ts';
import { CREEM_LIVE_MODE, type CreemSettings } from '../../../providers/creem/settings.ts';
import { clockRefusal, type WebhookRefusal } from '../../../providers/webhook-refusals.ts';
import { storableJson } from './storable-json.ts';
import type { VerifiedEvent, WebhookSource } from './source.ts';

const STANDARD_HEADERS = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];
const LEGACY_HEADER = 'creem-signature';
/** Longer than any id of Creem's: what is longer is not kept. */
const ID_LENGTH_MAX = 200;

export function creemWebhooks(settings: CreemSettings): WebhookSource {
  return {
    provider: 'creem',
    signatureHeaders: [LEGACY_HEADER, ...STANDARD_HEADERS],
    async verify(body, headers) {
      const signed = signatureHeadersOf(headers);
      if (Object.keys(signed).length === 0) return { reason: 'no_signature' };
      const isStandard = LEGACY_HEADER in signed === false;
      if (isStandard && Object.keys(signed).length < STANDARD_HEADERS.length) {
        return { reason: 'malformed_signature', detail: 'one of the Standard Webhooks headers is missing' };
      }
      const signedSeconds = isStandard ? Number(signed['webhook-timestamp']) : null;
      if (Number.isNaN(signedSeconds)) return { reason: 'malformed_signature', detail: 'the time is not a number' };
      // The SDK reads the body as text, which is the same bytes again only where they are UTF-8.
      if (!isUtf8(body)) return { reason: 'unreadable', detail: 'no UTF-8' };
      for (const secret of settings.webhookSecrets) {
        try {
          // The time is checked below: a clock that is wrong is another fault than a wrong secret.
          await verifyWebhookSignature(body, signed, { secret, toleranceInSeconds: Infinity });
        } catch {
          // Another secret may have signed it.
          continue;
        }
        const late = signedSeconds === null ? null : clockRefusal(signedSeconds);
        return late ?? eventOf(body, signed['webhook-id'], settings.live);
      }
      return { reason: 'wrong_secret' };
    },
    subjectOf: subjectOfCreemEvent,
  };
}

/**
 * The headers that verify a request. A request with any of the Standard Webhooks headers is verified by them alone: the
 * SDK would fall back to the older header where one of the three is missing, and so let a sender escape the check of
 * the time by leaving it out. The older form has no time at all, and an attacker who has seen a delivery in both forms
 * can send the older one again forever; no check here can tell. That is harmless for another reason: its bytes carry
 * the event's id, under which it is stored once, and an event only makes us read Creem's own truth.
 */
function signatureHeadersOf(headers: IncomingHttpHeaders): Record<string, string> {
  const isStandard = STANDARD_HEADERS.some((name) => headers[name] !== undefined);
  const names = isStandard ? STANDARD_HEADERS : [LEGACY_HEADER];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
}

function eventOf(body: Buffer, messageId: string | undefined, live: boolean): VerifiedEvent | WebhookRefusal {
  const payload = storableJson(body);
  if (typeof payload !== 'object' || payload === null) return { reason: 'unreadable', detail: 'not a JSON object' };
  const { id, eventType, type } = payload as Readonly<Record<string, unknown>>;
  const eventId = id ?? messageId;
  const eventName = eventType ?? type;
  if (!isName(eventId) || !isName(eventName)) return { reason: 'unreadable', detail: 'an event without id or type' };
  const mode = modeOfCreemEvent(payload);
  if (mode !== null && (mode === CREEM_LIVE_MODE) !== live) {
    const modes = `an event of mode ${mode.slice(0, 20)}, and a ${live ? 'live' : 'test'} key`;
    return { reason: 'other_mode', detail: modes };
  }
  return { eventId, type: eventName, payload };
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && value.length <= ID_LENGTH_MAX;
}
