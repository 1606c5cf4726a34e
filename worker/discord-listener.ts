/**
 * Listens to Discord's gateway, in one worker process at a time, and stores its events about boosts and votes by role.
 * Raw dispatches, because the high-level client swallows changes of `premium_since` alone.
 *
 * A lock in PostgreSQL chooses the listener, not Temporal: an event is safe once it is stored, which needs only
 * PostgreSQL, so no boost is lost while Temporal is away. Two listeners would do no harm: events are stored once. What
 * is said while nobody listens is found by `reconcileBoosts`, which every new session asks for.
 */
import type { Client } from '@temporalio/client';
import { GatewayDispatchEvents, GatewayIntentBits, type GatewayDispatchPayload } from 'discord-api-types/v10';
import { WebSocketManager, WebSocketShardEvents, WebSocketShardStatus } from '@discordjs/ws';
import type pg from 'pg';
import type { Logger } from 'pino';
import { setTimeout as delay } from 'node:timers/promises';
import { noteMember, takeGatewayLease } from '../db/rewards/discord.ts';
import { storeEvent } from '../db/payments/provider-events.ts';
import { createDiscordBot } from '../providers/discord/settings.ts';
import type { RewardSettings } from '../providers/reward-settings.ts';
import {
  RECONCILE_BOOSTS_SCHEDULE_ID,
  rewardEventSignal,
  rewardStart,
  type EventRef,
  type RewardRoute,
} from '../contract/index.ts';
import { boostEventOf, routeOfMember } from '../activities/rewards/discord.ts';

export interface DiscordGateway {
  stop(): Promise<void>;
}

/** How often a process without the lease asks for it, and one with it makes sure that it still has it. */
const LEASE_MS = 2000;
/** Discord bans a bot that identifies more than a thousand times a day. */
const FAILURE_PAUSE_MAX_MS = 300_000;
/** Between two attempts of its own a connection may look idle for a moment. */
const IDLE_LOOKS_MAX = 5;
const RETRY_MS = [100, 300, 1000, 3000];
const INTENTS =
  GatewayIntentBits.Guilds |
  GatewayIntentBits.GuildMembers |
  GatewayIntentBits.GuildMessages |
  GatewayIntentBits.MessageContent;

/** Begins to listen, or to wait for its turn; null where no bot is configured. */
export function startDiscordGateway({
  pool,
  logger,
  rewards,
  client,
  taskQueue,
}: {
  pool: pg.Pool;
  logger: Logger;
  rewards: RewardSettings;
  client: Client;
  taskQueue: string;
}): DiscordGateway | null {
  const bot = createDiscordBot(rewards.discord);
  const { bot: settings, voteRoles } = rewards.discord;
  if (bot === null || settings === null) return null;
  const stopping = new AbortController();
  const pause = (ms: number): Promise<unknown> =>
    delay(ms, undefined, { signal: stopping.signal }).catch(() => undefined);
  const running = run();
  return {
    async stop() {
      stopping.abort();
      await running;
    },
  };

  async function run(): Promise<void> {
    let failures = 0;
    while (!stopping.signal.aborted) {
      const startedAt = performance.now();
      try {
        await listenWhileLeased();
        failures = 0;
      } catch (error) {
        // A connection that worked for a while says nothing about the next.
        failures = performance.now() - startedAt > FAILURE_PAUSE_MAX_MS ? 1 : failures + 1;
        logger.warn({ error: String(error), failures }, 'discord gateway cannot be listened to now');
      }
      await pause(Math.min(LEASE_MS * 2 ** failures, FAILURE_PAUSE_MAX_MS));
    }
  }

  async function listenWhileLeased(): Promise<void> {
    const lease = await takeGatewayLease(pool);
    if (lease === null) return;
    const manager = new WebSocketManager({ token: settings!.token, intents: INTENTS, rest: bot!.rest, shardCount: 1 });
    manager.on(WebSocketShardEvents.Dispatch, (payload) => void onDispatch(payload));
    manager.on(WebSocketShardEvents.Error, (error) => logger.warn({ error: String(error) }, 'discord gateway'));
    try {
      await manager.connect();
      logger.info('listening to the discord gateway');
      let idleLooks = 0;
      while (!stopping.signal.aborted && (await lease.isHeld())) {
        // The package reconnects on its own, but not after a refusal (a revoked token, an intent that is switched off).
        const statuses = await manager.fetchStatus();
        idleLooks = statuses.every((status) => status === WebSocketShardStatus.Idle) ? idleLooks + 1 : 0;
        if (idleLooks >= IDLE_LOOKS_MAX) throw new Error('the connection has ended for good');
        await pause(LEASE_MS);
      }
    } finally {
      await Promise.resolve(manager.destroy()).catch(() => undefined);
      await lease.release();
    }
  }

  /**
   * Stores what a dispatch tells, however long PostgreSQL takes to come back within a few seconds, then passes it on.
   */
  async function onDispatch(payload: GatewayDispatchPayload): Promise<void> {
    for (const waitMs of [...RETRY_MS, null]) {
      try {
        const routes = await storeDispatch(payload);
        for (const route of routes) await passOn(route);
        return;
      } catch (error) {
        if (waitMs === null || stopping.signal.aborted) {
          logger.error(
            { error: String(error), dispatch: payload.t },
            'dispatch not stored; the reconciliation will find it',
          );
          return;
        }
        await pause(waitMs);
      }
    }
  }

  async function storeDispatch(payload: GatewayDispatchPayload): Promise<RewardRoute[]> {
    switch (payload.t) {
      case GatewayDispatchEvents.Ready:
        // A new session: whatever happened before it was told to nobody.
        await reconcileNow();
        return [];
      case GatewayDispatchEvents.MessageCreate: {
        const event = payload.d.guild_id === settings!.guildId ? boostEventOf(payload.d) : null;
        if (event === null) return [];
        await storeEvent(pool, event);
        const { provider, eventId } = event;
        return [{ process: 'boost', discordUserId: payload.d.author.id, event: { provider, eventId } }];
      }
      case GatewayDispatchEvents.GuildMemberAdd:
      case GatewayDispatchEvents.GuildMemberUpdate: {
        const { guild_id: guildId, user, roles, premium_since: premium } = payload.d;
        if (guildId !== settings!.guildId) return [];
        if (premium == null && Object.keys(voteRoles).length === 0) return [];
        const news = await noteMember(pool, {
          discordUserId: user.id,
          roles,
          premiumSince: premium == null ? null : new Date(premium),
          voteRoles,
          at: new Date(),
        });
        return news.map((event) => routeOfMember(user.id, event));
      }
      default:
        return [];
    }
  }

  async function passOn(route: RewardRoute): Promise<void> {
    if (route.event === null) return;
    const { workflowType, start } = rewardStart(route, taskQueue);
    try {
      const signal = { signal: rewardEventSignal, signalArgs: [route.event] as [EventRef] };
      await client.workflow.signalWithStart(workflowType, { ...start, ...signal });
    } catch (error) {
      logger.warn({ error: String(error), ...route.event }, 'event stored, not passed on; the sweep will');
    }
  }

  async function reconcileNow(): Promise<void> {
    try {
      await client.schedule.getHandle(RECONCILE_BOOSTS_SCHEDULE_ID).trigger();
    } catch (error) {
      logger.warn({ error: String(error) }, 'boosts are reconciled at the next scheduled time only');
    }
  }
}
