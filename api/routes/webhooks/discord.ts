/**
 * Events that Discord signs (Ed25519): stored, acknowledged with 204, passed on. Bad signatures get 401, which Discord
 * tries on purpose when an endpoint is registered.
 */
import { createHash, type KeyObject } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Express } from 'express';
import { storeEvent } from '../../../db/payments/provider-events.ts';
import { isFault } from '../../../db/shared/client.ts';
import { isSignedByDiscord } from '../../../providers/discord/settings.ts';
import { DISCORD_PROVIDER, subjectOfRewardEvent } from '../../../providers/reward-events.ts';
import { clockRefusal, type WebhookRefusal } from '../../../providers/webhook-refusals.ts';
import type { ManagementDeps } from '../../http/deps.ts';
import { wakeForReward } from '../../processes/rewards.ts';
import type { WebhookBodies } from './bodies.ts';
import { storableJson } from './storable-json.ts';

const BODY_LIMIT_BYTES = 64 * 1024;
const SIGNATURE_HEADER = 'x-signature-ed25519';
/** Discord's type of the call that only asks whether somebody is there. */
const PING = 0;

export function registerDiscordWebhook(app: Express, deps: ManagementDeps, bodies: WebhookBodies): void {
  const { publicKey } = deps.settings.rewards.discord;
  const path = '/webhooks/discord';
  if (publicKey === null) {
    app.post(path, bodies.notConfigured(DISCORD_PROVIDER));
    return;
  }
  const endpoint = {
    provider: DISCORD_PROVIDER,
    limitBytes: BODY_LIMIT_BYTES,
    signatureHeaders: [SIGNATURE_HEADER],
    refusedStatus: 401,
  };
  app.post(path, bodies.read(endpoint), async (request, response) => {
    const given: unknown = request.body;
    const body = Buffer.isBuffer(given) ? given : Buffer.alloc(0);
    const refusal = refusalOf(publicKey, body, request.headers);
    if (refusal !== null) return bodies.refuse(endpoint, request, response, refusal);
    const payload = webhookBodyOf(body);
    if (payload === null) return bodies.refuse(endpoint, request, response, { reason: 'unreadable' });
    if (payload.type === PING) return void response.status(204).end();

    // Discord gives its webhook events no id; a retry has the same bytes.
    const eventId = `webhook/${createHash('sha256').update(body).digest('hex')}`;
    const event = { provider: DISCORD_PROVIDER, eventId, type: payload.event?.type ?? 'unknown', payload };
    try {
      await storeEvent(deps.webhooks, event);
      response.status(204).end();
    } catch (error) {
      deps.logger.error({ error: String(error), event: eventId, fault: isFault(error) }, 'event not stored');
      response.status(503).json({ error: 'not stored; send it again' });
      return;
    }
    const subject = subjectOfRewardEvent(deps.settings.rewards, event);
    if (subject === null) return;
    wakeForReward(deps, { ...subject, event: { provider: DISCORD_PROVIDER, eventId } }).catch((error: unknown) => {
      deps.logger.warn(
        { error: String(error), event: eventId },
        'event stored but not passed on; the sweep passes it on',
      );
    });
  });
}

/** Why Discord has not signed exactly these bytes just now; null where it has. */
function refusalOf(publicKey: KeyObject, body: Buffer, headers: IncomingHttpHeaders): WebhookRefusal | null {
  const signature = headers[SIGNATURE_HEADER];
  const timestamp = headers['x-signature-timestamp'];
  if (typeof signature !== 'string') return { reason: 'no_signature' };
  if (typeof timestamp !== 'string' || !/^\d{1,12}$/.test(timestamp) || !/^[0-9a-f]{128}$/i.test(signature)) {
    return { reason: 'malformed_signature' };
  }
  if (!isSignedByDiscord(publicKey, { timestamp, body, signature })) return { reason: 'wrong_secret' };
  return clockRefusal(Number(timestamp));
}

interface WebhookBody {
  readonly type?: unknown;
  readonly event?: { readonly type?: string };
}

function webhookBodyOf(body: Buffer): WebhookBody | null {
  const value = storableJson(body);
  return typeof value === 'object' && value !== null ? value : null;
}
