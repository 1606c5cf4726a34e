/** Discord's webhook events: Ed25519-signed calls that tell what happened to the application outside of the guild. */
import { ApplicationWebhookEventType, ApplicationWebhookType } from 'discord-api-types/v10';

import type { DeliveryRow } from '../kit/deliveries.ts';
import type { Channel, Deliveries } from './deliveries.ts';
import { eventHeaders, signingKeyOf } from './keys.ts';
import { forgetTokens } from './oauth.ts';
import { userObject } from './objects.ts';
import type { DiscordWorld } from './world.ts';
import type { DiscordApplication } from './application.ts';

export const EVENTS_CHANNEL = 'discord';

const FORGED_KEY = signingKeyOf('not the key');
const TIMEOUT_SECONDS = 3;
/** Discord promises to try for up to ten minutes. */
const RETRIES_SECONDS = [1, 2, 4, 8, 16, 32, 64, 128, 256];

export function eventsChannel({ signingKey }: DiscordApplication): Channel {
  return {
    name: EVENTS_CHANNEL,
    path: 'discord',
    headers: (body, timestamp, isForged) => eventHeaders(isForged ? FORGED_KEY : signingKey, String(timestamp), body),
    retriesSeconds: RETRIES_SECONDS,
    retriesOn: 'any_failure',
    timeoutSeconds: TIMEOUT_SECONDS,
  };
}

/**
 * A person takes back what the application was allowed: its tokens die, and it is told. The event has no id of its own.
 */
export function deauthorize(world: DiscordWorld, deliveries: Deliveries, userId: string): DeliveryRow {
  const user = userObject(world.user(userId));
  forgetTokens(world, userId);
  const type = ApplicationWebhookEventType.ApplicationDeauthorized;
  const timestamp = new Date(world.clock.nowMs()).toISOString();
  return deliveries.enqueue(EVENTS_CHANNEL, world.newId(), type, {
    version: 1,
    application_id: world.application.clientId,
    type: ApplicationWebhookType.Event,
    event: { type, timestamp, data: { user } },
  });
}

/** Discord's check when the endpoint is entered: a PING, and one with a signature that must be refused. */
export async function checkEndpoint(
  world: DiscordWorld,
  deliveries: Deliveries,
): Promise<{ ping: number | string; forged_ping: number | string }> {
  const ping = { version: 1, application_id: world.application.clientId, type: ApplicationWebhookType.Ping };
  return {
    ping: await deliveries.probe(EVENTS_CHANNEL, ping, {}),
    forged_ping: await deliveries.probe(EVENTS_CHANNEL, ping, { wrong_secret: true }),
  };
}
