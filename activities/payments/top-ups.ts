/**
 * Top-ups: opens the provider's checkout, reads its truth and has it booked. Each activity can be repeated and can
 * begin from the row alone; what must happen once is keyed in PostgreSQL by the provider's own ids.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId, type Uuid } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { isOpenTopUp, type CheckoutFacts, type ForeignReason } from '../../domain/payments/top-up.ts';
import { ledgerRefusal } from '../../db/shared/client.ts';
import { askManualCredit, manualCreditsOf } from '../../db/payments/manual-credits.ts';
import {
  closeForeignEvent,
  findUnhandledEvents,
  handleEvent,
  type ProviderEvent,
} from '../../db/payments/provider-events.ts';
import { findPayment } from '../../db/payments/known-payments.ts';
import { findQuietReversals, topUpOfPayment } from '../../db/payments/payments.ts';
import {
  beginCheckout,
  findQuietTopUps,
  moveTopUp,
  noteTopUpLook,
  noteTopUpStuck,
  topUpById,
  type QuietTopUps,
  type TopUp,
} from '../../db/payments/top-ups.ts';
import type {
  EventRoute,
  ManualCreditInput,
  ManualCreditView,
  QuietReversal,
  TopUpSnapshot,
} from '../../contract/index.ts';
import { createSavedCards } from './saved-cards.ts';
import { NotAtProvider, RailRefusal, type PaymentRail } from '../../providers/rail.ts';
import { createTopUpBooking } from './top-up-booking.ts';
import { createUnreadParts } from './top-up-unread.ts';
import { snapshotOf, viewOf } from './top-up-snapshot.ts';
import { beating } from '../shared/heartbeat.ts';

export interface TopUpActivities {
  /** Opens the provider's checkout unless it exists, and writes it down. The snapshot has no manual credits. */
  openTopUpCheckout(topUpId: string): Promise<TopUpSnapshot>;
  /**
   * Reads the provider's truth, credits, takes back, moves the state; then marks `events` as handled. `isRecheck`: a
   * person asked.
   */
  reconcileTopUp(input: { topUpId: string; events: readonly string[]; isRecheck?: boolean }): Promise<TopUpSnapshot>;
  /** Writes down that a manual credit is asked for in Temporal; it waits for two persons of the interface. */
  requestManualCredit(input: ManualCreditInput): Promise<ManualCreditView>;
  /** Events that nobody handled for `ageSeconds`, and where each belongs; those that belong nowhere are closed. */
  findLostEvents(input: { ageSeconds: number; limit: number }): Promise<EventRoute[]>;
  /** Open orders whose run may be gone. */
  findQuietTopUps(input: QuietTopUps): Promise<string[]>;
  /** Refunds and disputes that can still change and whose run may be gone. */
  findQuietReversals(input: QuietTopUps): Promise<QuietReversal[]>;
}

export function createTopUpActivities({
  pool,
  logger,
  rails,
  fraudWarningFreezes,
}: {
  pool: pg.Pool;
  logger: Logger;
  rails: readonly PaymentRail[];
  /** Whether a fraud warning on a payment that is not spent yet freezes the account until a person has looked. */
  fraudWarningFreezes: boolean;
}): TopUpActivities {
  const cards = createSavedCards({ pool, logger, fraudWarningFreezes });
  const book = createTopUpBooking({ pool, logger, cards });
  const unread = createUnreadParts({ pool, logger });
  const railOf = (name: string): PaymentRail => {
    const rail = rails.find(({ provider }) => provider === name);
    if (rail === undefined) throw new RailRefusal(name, 'is not configured on this worker');
    return rail;
  };

  return {
    openTopUpCheckout: (topUpId) =>
      asking(topUpId, async () => {
        const order = await givenUp(await required(topUpId));
        if (order.state !== 'created' || order.providerId !== null) return snapshotOf(order, null);
        const checkout = await cards.open(railOf(order.provider), order);
        if (checkout === null) return snapshotOf(await required(topUpId), null);
        logger.info({ top_up_id: topUpId, provider: order.provider, checkout: checkout.providerId }, 'checkout opened');
        return snapshotOf(await beginCheckout(pool, order.id, checkout), null);
      }),

    reconcileTopUp: ({ topUpId, events, isRecheck = false }) =>
      asking(topUpId, async () => {
        const wanted = await required(topUpId);
        await noteTopUpLook(pool, wanted.id);
        const rail = railOf(wanted.provider);
        const first = await givenUp(wanted);
        const order = await cards.withCheckout(rail, first);
        if (order === null) {
          // An order at its end for which nothing was ever made: the event has nothing to tell.
          for (const eventId of first.state === 'created' ? [] : events) {
            await handleEvent(pool, first.provider, eventId, first.state);
          }
          return withManualCredits(first, null);
        }
        if (isRecheck) await rail.lookHarder?.(order);
        const facts = await unread.fromEvents(rail, await rail.inspect(order), events);
        const unexplained = await book(rail, order, facts);
        const { order: booked, isMissing } = await unread.report(await required(topUpId), facts);
        if (booked.state !== order.state) {
          const { state: to, stuck } = booked;
          logger.info({ top_up_id: topUpId, from: order.state, to, stuck }, 'top-up moved');
        }
        const handled = isMissing ? await unread.eventsThatCanEnd(rail, events) : events;
        for (const eventId of handled) await handleEvent(pool, order.provider, eventId, booked.state);
        return withManualCredits(booked, facts, unexplained);
      }),

    async requestManualCredit({ topUpId, paymentId, amountUsd, reason, action }) {
      try {
        const order = await required(topUpId);
        const payment = await findPayment(pool, order, paymentId);
        if (payment.verdict === 'refused') {
          throw ApplicationFailure.nonRetryable(`paymentId: ${payment.words}`, 'invalid_field');
        }
        const wanted = { action, topUpId: order.id, paymentId: payment.paymentId, amount: usd(amountUsd), reason };
        const credit = await askManualCredit(pool, wanted);
        logger.info(
          { top_up_id: topUpId, payment_id: credit.paymentId, amount: amountUsd, state: credit.state },
          'manual credit requested in Temporal',
        );
        return viewOf(credit);
      } catch (error) {
        const refusal = ledgerRefusal(error);
        if (refusal === null) throw error;
        throw ApplicationFailure.nonRetryable(`manual credit refused: ${refusal.code}`, refusal.code);
      }
    },

    async findLostEvents({ ageSeconds, limit }) {
      const routes: EventRoute[] = [];
      for (const event of await findUnhandledEvents(pool, ageSeconds, limit)) {
        try {
          const place = await placeOf(event);
          if (typeof place === 'object') routes.push(place);
          else if ((await cards.removeGone(railOf(event.provider), event)) > 0) {
            await handleEvent(pool, event.provider, event.eventId, 'card removed');
          } else await closeForeignEvent(pool, event.provider, event.eventId, place);
        } catch (error) {
          // It stays unhandled, which `violations` shows after an hour; the events after it must not wait for it.
          const { provider, eventId } = event;
          logger.warn({ provider, event_id: eventId, error: String(error) }, 'event cannot be placed now');
        }
      }
      return routes;
    },

    async findQuietTopUps(input) {
      const ids = await findQuietTopUps(pool, input);
      return ids.map((id) => formatId('topUp', id));
    },

    async findQuietReversals(input) {
      const quiet = await findQuietReversals(pool, input);
      return quiet.map(({ topUpId, ...reversal }) => ({ ...reversal, topUpId: formatId('topUp', topUpId) }));
    },
  };

  async function required(topUpId: string): Promise<TopUp> {
    const order = await topUpById(pool, uuidOfTopUp(topUpId));
    if (order === null) throw ApplicationFailure.nonRetryable(`there is no top-up ${topUpId}`, 'not_found');
    return order;
  }

  /** The order, closed at its provider and ended where a person has given it up and nothing is paid. */
  async function givenUp(order: TopUp): Promise<TopUp> {
    if (!order.isGivenUp || !isOpenTopUp(order.state)) return order;
    await railOf(order.provider).closeCheckout(order);
    const { id, state: from, received } = order;
    return moveTopUp(pool, { id, from, to: 'abandoned', stuck: null, received });
  }

  /** A snapshot with the credits that people have asked for. */
  async function withManualCredits(
    order: TopUp,
    facts: CheckoutFacts | null,
    unexplained = 0n,
  ): Promise<TopUpSnapshot> {
    const credits = await manualCreditsOf(pool, order.id);
    const snapshot = snapshotOf(order, facts, unexplained);
    return credits.length === 0 ? snapshot : { ...snapshot, manualCredits: credits.map(viewOf) };
  }

  /**
   * Where an event belongs, or why it is about nothing of ours. An order that an event names counts only where it is
   * one of ours: other products and environments write into the same fields, and its payment may still be
   * ours.
   */
  async function placeOf(event: ProviderEvent): Promise<EventRoute | ForeignReason> {
    const rail = railOf(event.provider);
    const { reversalId, topUpId, paymentId, foreign } = rail.subjectOf(event.payload);
    if (foreign !== undefined) return foreign;
    let reason: ForeignReason = 'nothing_of_ours';
    const named = [() => Promise.resolve(topUpId), () => (paymentId === null ? null : topUpOf(rail, paymentId))];
    for (const name of named) {
      try {
        const found = await ownOrder(await name());
        if (found !== null) return { provider: event.provider, eventId: event.eventId, topUpId: found, reversalId };
      } catch (error) {
        if (!(error instanceof NotAtProvider)) throw error;
        reason = 'unknown_at_provider';
      }
    }
    return reason;
  }

  /** The same id where it is that of an order of ours. */
  async function ownOrder(topUpId: string | null): Promise<string | null> {
    const id = topUpId === null ? null : parseId('topUp', topUpId);
    return id === null || (await topUpById(pool, id)) === null ? null : topUpId;
  }

  /** Runs an activity that asks an order's provider; what the provider refuses is written on the order. */
  function asking<T>(topUpId: string, work: () => Promise<T>): Promise<T> {
    return askingProvider(async () => {
      try {
        return await work();
      } catch (error) {
        if (error instanceof RailRefusal) await noteTopUpStuck(pool, uuidOfTopUp(topUpId), error.code);
        throw error;
      }
    });
  }

  async function topUpOf(rail: PaymentRail, paymentId: string): Promise<string | null> {
    const known = await topUpOfPayment(pool, rail.provider, paymentId);
    return known === null ? rail.topUpOf(paymentId) : formatId('topUp', known);
  }
}

function uuidOfTopUp(topUpId: string): Uuid<'topUp'> {
  const id = parseId('topUp', topUpId);
  assert(id !== null, `"${topUpId}" is a top-up id`);
  return id;
}

/**
 * Runs an activity that talks to a provider: says that it is alive meanwhile, and what the provider refuses is not
 * retried.
 */
export async function askingProvider<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await beating(work);
  } catch (error) {
    if (error instanceof RailRefusal) throw ApplicationFailure.nonRetryable(error.message, error.code);
    throw error;
  }
}
