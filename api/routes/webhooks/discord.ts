/**
 * Events that Discord signs (Ed25519): stored, acknowledged with 204, passed on. Bad signatures get 401, which Discord tries
 * on purpose when an endpoint is registered.
 */
import { createHash } from 'node:crypto';
import type { Express, Response } from 'express';
import { storeEvent } from '../../../db/provider-events.ts';
import { isFault } from '../../../db/client.ts';
import { isSignedByDiscord } from '../../../runtime/discord.ts';
import { DISCORD_PROVIDER, subjectOfRewardEvent } from '../../../runtime/reward-events.ts';
import type { ManagementDeps } from '../deps.ts';
import { pokeForReward } from '../rewards/reward-runs.ts';
import type { WebhookBodies } from './bodies.ts';
import { storableJson } from './storable-json.ts';

const BODY_LIMIT_BYTES = 64 * 1024;
/** How far the time of a signature may lie from ours, in either direction. */
const TOLERANCE_SECONDS = 300;
/** Discord's type of the call that only asks whether somebody is there. */
const PING = 0;

export function registerDiscordWebhook(app: Express, deps: ManagementDeps, bodies: WebhookBodies): void {
  const { publicKey } = deps.settings.rewards.discord;
  const path = '/webhooks/discord';
  if (publicKey === null) {
    app.post(path, (_request, response) => void response.status(404).json({ error: 'not configured' }));
    return;
  }
  const refuse = (response: Response): void => void response.status(401).json({ error: 'the signature is not valid' });
  const signatureHeaders = ['x-signature-ed25519'];
  app.post(path, bodies.read({ limitBytes: BODY_LIMIT_BYTES, signatureHeaders, refuse }), async (request, response) => {
    const body: unknown = request.body;
    const signature = request.headers['x-signature-ed25519'];
    const timestamp = request.headers['x-signature-timestamp'];
    const isGenuine =
      Buffer.isBuffer(body) &&
      typeof signature === 'string' &&
      typeof timestamp === 'string' &&
      Math.abs(Date.now() / 1000 - Number(timestamp)) <= TOLERANCE_SECONDS &&
      isSignedByDiscord(publicKey, { timestamp, body, signature });
    if (!isGenuine) {
      bodies.noteForged(request);
      return refuse(response);
    }
    const payload = webhookBodyOf(body);
    if (payload === null) return void response.status(400).json({ error: 'the body is not a JSON object' });
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
    pokeForReward(deps, { ...subject, event: { provider: DISCORD_PROVIDER, eventId } }).catch((error: unknown) => {
      deps.logger.warn({ error: String(error), event: eventId }, 'event stored, not passed on; the sweep will');
    });
  });
}

interface WebhookBody {
  readonly type?: unknown;
  readonly event?: { readonly type?: string };
}

function webhookBodyOf(body: Buffer): WebhookBody | null {
  const value = storableJson(body);
  return typeof value === 'object' && value !== null ? value : null;
}
