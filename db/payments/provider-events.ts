/**
 * Webhook events as they came: stored before they are acknowledged, handled once, found again when nobody handled them.
 */
import type pg from 'pg';
import type { ForeignReason } from '../../domain/payments/top-up.ts';
import { query, queryOne } from '../shared/client.ts';

export interface ProviderEvent {
  readonly provider: string;
  /** The provider's own id of the event; the same event may be delivered many times. */
  readonly eventId: string;
  readonly type: string;
  readonly payload: unknown;
}

interface EventRow {
  provider: string;
  event_id: string;
  type: string;
  payload: unknown;
}

const toEvent = (row: EventRow): ProviderEvent => ({
  provider: row.provider,
  eventId: row.event_id,
  type: row.type,
  payload: row.payload,
});

/** Keeps an event; false when it was there before. Durable when this returns. */
export async function storeEvent(pool: pg.Pool, event: ProviderEvent): Promise<boolean> {
  const row = await queryOne<{ isNew: boolean }>(pool, {
    name: 'store_event',
    text: 'select store_event($1, $2, $3, $4) as "isNew"',
    values: [event.provider, event.eventId, event.type, JSON.stringify(event.payload)],
  });
  return row.isNew;
}

/** Null when there is no such event. */
export async function eventOf(pool: pg.Pool, provider: string, eventId: string): Promise<ProviderEvent | null> {
  const [row] = await query<EventRow>(pool, {
    name: 'event_of',
    text: 'select provider, event_id, type, payload from event_of($1, $2)',
    values: [provider, eventId],
  });
  return row === undefined ? null : toEvent(row);
}

/** Which of these events of a provider have come, and when its last one did; null where none ever did. */
export async function arrivedEvents(
  pool: pg.Pool,
  provider: string,
  eventIds: readonly string[],
): Promise<{ readonly known: ReadonlySet<string>; readonly lastAt: Date | null }> {
  const { known, last_at: lastAt } = await queryOne<{ known: string[]; last_at: Date | null }>(pool, {
    name: 'arrived_events',
    text: 'select known, last_at from arrived_events($1, $2)',
    values: [provider, eventIds],
  });
  return { known: new Set(known), lastAt };
}

/** Marks an event as handled, with what became of it. */
export async function handleEvent(pool: pg.Pool, provider: string, eventId: string, result: string): Promise<void> {
  await query(pool, {
    name: 'handle_event',
    text: 'select handle_event($1, $2, $3)',
    values: [provider, eventId, result],
  });
}

/** Closes an event that is about nothing of ours, once, and counts it by its reason (db/payments/webhook-counts.ts). */
export async function closeForeignEvent(
  pool: pg.Pool,
  provider: string,
  eventId: string,
  reason: ForeignReason,
): Promise<void> {
  await query(pool, {
    name: 'close_foreign_event',
    text: 'select close_foreign_event($1, $2, $3)',
    values: [provider, eventId, reason],
  });
}

/**
 * Events about payments that nobody has handled for a while, by turns: each call takes those whose last try is longest
 * ago.
 */
export async function findUnhandledEvents(pool: pg.Pool, ageSeconds: number, limit: number): Promise<ProviderEvent[]> {
  const rows = await query<EventRow>(pool, {
    name: 'find_unhandled_events',
    text: 'select provider, event_id, type, payload from find_unhandled_events($1, $2)',
    values: [ageSeconds, limit],
  });
  return rows.map(toEvent);
}

/** The same for events about rewards. */
export async function findUnhandledRewardEvents(
  pool: pg.Pool,
  ageSeconds: number,
  limit: number,
): Promise<ProviderEvent[]> {
  const rows = await query<EventRow>(pool, {
    name: 'find_unhandled_reward_events',
    text: 'select provider, event_id, type, payload from find_unhandled_events($1, $2, true)',
    values: [ageSeconds, limit],
  });
  return rows.map(toEvent);
}
