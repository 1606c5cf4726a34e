/**
 * Votes from directories: verified on the raw bytes, stored with the moment of their arrival, acknowledged, passed on
 * to the process of that user on that site. How each directory signs and what it says is a table in
 * providers/votes/settings.ts.
 */
import { randomUUID } from 'node:crypto';
import type { Express } from 'express';
import { storeEvent } from '../../../db/payments/provider-events.ts';
import { isFault } from '../../../db/shared/client.ts';
import { voteProvider } from '../../../providers/reward-events.ts';
import type { VoteSite } from '../../../providers/votes/settings.ts';
import type { ManagementDeps } from '../../http/deps.ts';
import { wakeForReward } from '../../processes/rewards.ts';
import type { WebhookBodies } from './bodies.ts';
import { storableJson } from './storable-json.ts';

const BODY_LIMIT_BYTES = 64 * 1024;

export function registerVoteWebhooks(app: Express, deps: ManagementDeps, bodies: WebhookBodies): void {
  for (const site of deps.settings.rewards.votes.sites) registerSite(app, deps, bodies, site);
  // One provider in counts, for any site that a stranger names.
  app.post('/webhooks/votes/:site', bodies.notConfigured('votes'));
}

function registerSite(app: Express, deps: ManagementDeps, bodies: WebhookBodies, site: VoteSite): void {
  const path = `/webhooks/votes/${site.name}`;
  const endpoint = {
    provider: voteProvider(site.name),
    limitBytes: BODY_LIMIT_BYTES,
    signatureHeaders: ['authorization', 'x-topgg-signature'],
    refusedStatus: 401,
  };
  app.post(path, bodies.read(endpoint), async (request, response) => {
    const given: unknown = request.body;
    const bytes = Buffer.isBuffer(given) ? given : Buffer.alloc(0);
    const arrivedAt = new Date();
    const refusal = site.refusalOf(bytes, request.headers, arrivedAt);
    if (refusal !== null) return bodies.refuse(endpoint, request, response, refusal);
    const body = storableJson(bytes);
    const vote = site.read(body);
    // Without an id of its own a delivery is an event of its own; whether it is another delivery of one vote is decided
    // later.
    const eventId = vote?.voteId ?? `${arrivedAt.toISOString()}/${randomUUID()}`;
    const { provider } = endpoint;
    const payload = { arrived_at: arrivedAt.toISOString(), body };
    try {
      const isNew = await storeEvent(deps.webhooks, { provider, eventId, type: 'vote', payload });
      response.status(200).json({ received: true, duplicate: !isNew });
    } catch (error) {
      deps.logger.error({ error: String(error), provider, event: eventId, fault: isFault(error) }, 'event not stored');
      response.status(503).json({ error: 'not stored; send it again' });
      return;
    }
    if (vote === null) {
      deps.logger.warn({ provider, event: eventId }, 'an authentic event that is not a vote in a known format');
      return;
    }
    const { site: siteOfVote, discordUserId } = vote;
    const route = { process: 'vote', site: siteOfVote, discordUserId, event: { provider, eventId } } as const;
    wakeForReward(deps, route).catch((error: unknown) => {
      deps.logger.warn(
        { error: String(error), event: eventId },
        'event stored but not passed on; the sweep passes it on',
      );
    });
  });
}
