/** Events of Creem: signed in one of two forms, by one of several secrets while one is being replaced. */
import { isUtf8 } from 'node:buffer';
import type { IncomingHttpHeaders } from 'node:http';
import { verifyWebhookSignature } from 'creem/webhooks.js';
import { modeOfCreemEvent, subjectOfCreemEvent } from '../../../runtime/creem-events.ts';
import { CREEM_LIVE_MODE, type CreemSettings } from '../../../runtime/creem.ts';
import type { ProviderEvent } from '../../../db/provider-events.ts';
import { storableJson } from './storable-json.ts';
import type { WebhookSource } from './webhooks.ts';

/** How far the time of a Standard Webhooks signature may lie from ours, in either direction. */
const TOLERANCE_SECONDS = 300;

const STANDARD_HEADERS = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];
const LEGACY_HEADER = 'creem-signature';
/** Longer than any id of Creem's: what is longer is not kept. */
const ID_LENGTH_MAX = 200;

export function creemWebhooks(settings: CreemSettings): WebhookSource {
  return {
    provider: 'creem',
    signatureHeaders: [LEGACY_HEADER, ...STANDARD_HEADERS],
    async verify(body, headers) {
      // The SDK reads the body as text, which is the same bytes again only where they are UTF-8.
      if (!isUtf8(body)) return null;
      const signed = judgedBy(headers);
      for (const secret of settings.webhookSecrets) {
        try {
          await verifyWebhookSignature(body, signed, { secret, toleranceInSeconds: TOLERANCE_SECONDS });
        } catch {
          // Another secret may have signed it.
          continue;
        }
        return eventOf(body, signed['webhook-id'], settings.live);
      }
      return null;
    },
    subjectOf: subjectOfCreemEvent,
  };
}

/**
 * The headers by which a request is judged. One that has any of the Standard Webhooks headers is judged by them alone: the
 * SDK would fall back to the older header where one of the three is missing, and so let a sender escape the check of the
 * time by leaving it out. The older form has no time at all, and whoever has seen a delivery in both forms can send the
 * older one again for ever; no check here can tell. That is harmless for another reason: its bytes carry the event's id,
 * under which it is stored once, and an event only makes us read Creem's own truth.
 */
function judgedBy(headers: IncomingHttpHeaders): Record<string, string> {
  const isStandard = STANDARD_HEADERS.some((name) => headers[name] !== undefined);
  const names = isStandard ? STANDARD_HEADERS : [LEGACY_HEADER];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = headers[name];
      return typeof value === 'string' ? [[name, value]] : [];
    }),
  );
}

/** Null where the body is no event, or one about money of the other mode. */
function eventOf(body: Buffer, messageId: string | undefined, live: boolean): Omit<ProviderEvent, 'provider'> | null {
  const payload = storableJson(body);
  if (typeof payload !== 'object' || payload === null) return null;
  const { id, eventType, type } = payload as Readonly<Record<string, unknown>>;
  const eventId = id ?? messageId;
  const eventName = eventType ?? type;
  if (typeof eventId !== 'string' || typeof eventName !== 'string') return null;
  if (eventId === '' || eventId.length > ID_LENGTH_MAX || eventName.length > ID_LENGTH_MAX) return null;
  const mode = modeOfCreemEvent(payload);
  if (mode !== null && (mode === CREEM_LIVE_MODE) !== live) return null;
  return { eventId, type: eventName, payload };
}
