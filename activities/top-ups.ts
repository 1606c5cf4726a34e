/**
 * Top-ups: opens the provider's checkout, reads its truth and books what follows. Each activity can be repeated and can
 * begin from the row alone; what must happen once is keyed in PostgreSQL by the provider's own ids.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../domain/assert.ts';
import { formatId, parseId, type Uuid } from '../domain/ids.ts';
import { addUsd, formatUsd, picoUsd, usd, ZERO_USD } from '../domain/money.ts';
import {
  decideTopUp,
  isOpenTopUp,
  planReversals,
  type CheckoutFacts,
  type PaymentFacts,
  type TopUpDecision,
} from '../domain/top-up.ts';
import { openCase } from '../db/cases.ts';
import { ledgerRefusal } from '../db/client.ts';
import { handCreditsOf, requestHandCredit } from '../db/hand-credits.ts';
import { findUnhandledEvents, handleEvent, type ProviderEvent } from '../db/provider-events.ts';
import {
  beginCheckout,
  creditPayment,
  finalizePayment,
  findQuietReversals,
  findQuietTopUps,
  keepOpenReversals,
  moveTopUp,
  noteShownPayments,
  noteTopUpLook,
  paymentsOf,
  reversePayment,
  topUpById,
  topUpOfPayment,
  type CreditedPayment,
  type QuietTopUps,
  type TopUp,
} from '../db/top-ups.ts';
import type {
  EventRoute,
  HandCreditInput,
  HandCreditView,
  QuietReversal,
  TopUpSnapshot,
} from '../workflows/contract.ts';
import { createKeptCards } from './kept-cards.ts';
import { RailRefusal, type PaymentRail } from './rails/rail.ts';
import { snapshotOf, viewOf } from './top-up-snapshot.ts';
import { beating } from './heartbeat.ts';

export interface TopUpActivities {
  /** Makes sure that the provider's checkout exists and is written down. */
  openTopUpCheckout(topUpId: string): Promise<TopUpSnapshot>;
  /** Reads the provider's truth, credits, takes back, moves the state; then marks `events` as handled. */
  reconcileTopUp(input: { topUpId: string; events: readonly string[] }): Promise<TopUpSnapshot>;
  /** Gives an order up, unless it is paid, and closes its checkout. */
  abandonTopUp(topUpId: string): Promise<TopUpSnapshot>;
  /** Writes down that a person vouches for a payment; its credit waits for a second person. */
  creditByHand(input: HandCreditInput): Promise<HandCreditView>;
  /** Events that nobody handled for `ageSeconds`, and where each belongs; those that belong nowhere are closed. */
  findLostEvents(input: { ageSeconds: number; limit: number }): Promise<EventRoute[]>;
  /** Open orders whose run may be gone. */
  findQuietTopUps(input: QuietTopUps): Promise<string[]>;
  /** Refunds and disputes that can still change and whose run may be gone. */
  findQuietReversals(input: QuietTopUps): Promise<QuietReversal[]>;
}

/** How often a plan is made anew because another run moved the same payment meanwhile. */
const PLAN_ATTEMPTS = 10;

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
  const cards = createKeptCards({ pool, logger, fraudWarningFreezes });
  const railOf = (name: string): PaymentRail => {
    const rail = rails.find(({ provider }) => provider === name);
    if (rail === undefined) throw new RailRefusal(name, 'is not configured on this worker');
    return rail;
  };

  return {
    openTopUpCheckout: (topUpId) =>
      askingProvider(async () => {
        const order = await required(topUpId);
        if (order.state !== 'created' || order.providerId !== null) return told(order, null);
        const checkout = await cards.open(railOf(order.provider), order);
        if (checkout === null) return told(await required(topUpId), null);
        logger.info({ top_up_id: topUpId, provider: order.provider, checkout: checkout.providerId }, 'checkout opened');
        return told(await beginCheckout(pool, order.id, checkout), null);
      }),

    reconcileTopUp: ({ topUpId, events }) =>
      askingProvider(async () => {
        const first = await required(topUpId);
        await noteTopUpLook(pool, first.id);
        const rail = railOf(first.provider);
        const order = await cards.withCheckout(rail, first);
        if (order === null) {
          // An order at its end for which nothing was ever made: the event has nothing to tell.
          for (const eventId of first.state === 'created' ? [] : events) {
            await handleEvent(pool, first.provider, eventId, first.state);
          }
          return told(first, null);
        }
        const facts = await rail.inspect(order);
        const snapshot = await book(rail, order, facts);
        for (const eventId of events) await handleEvent(pool, order.provider, eventId, snapshot.state);
        return snapshot;
      }),

    abandonTopUp: (topUpId) =>
      askingProvider(async () => {
        const order = await required(topUpId);
        if (isOpenTopUp(order.state)) {
          await railOf(order.provider).closeCheckout(order);
          const { id, state: from, received } = order;
          await moveTopUp(pool, { id, from, to: 'abandoned', stuck: null, received });
        }
        return told(await required(topUpId), null);
      }),

    async creditByHand({ topUpId, paymentId, amountUsd, reason, by: requestedBy, action }) {
      try {
        const credit = await requestHandCredit(pool, {
          ...{ action, topUpId: uuidOfTopUp(topUpId), paymentId, amount: usd(amountUsd), reason },
          // Anybody can type any name there: somebody whom the interface knows has to decide, whatever the amount.
          ...{ requestedBy, threshold: ZERO_USD },
        });
        logger.info(
          { top_up_id: topUpId, payment_id: paymentId, amount: amountUsd, by: requestedBy, state: credit.state },
          'credit by hand asked for in Temporal',
        );
        return viewOf(credit);
      } catch (error) {
        const refusal = ledgerRefusal(error);
        if (refusal === null) throw error;
        throw ApplicationFailure.nonRetryable(`credit by hand refused: ${refusal.code}`, refusal.code);
      }
    },

    async findLostEvents({ ageSeconds, limit }) {
      const routes: EventRoute[] = [];
      for (const event of await findUnhandledEvents(pool, ageSeconds, limit)) {
        try {
          const route = await routeOf(event);
          if (route !== null) routes.push(route);
          else {
            const result = await cards.forget(railOf(event.provider), event);
            await handleEvent(pool, event.provider, event.eventId, result);
          }
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

  /** A snapshot with what people have decided about the order. */
  async function told(order: TopUp, facts: CheckoutFacts | null, unexplained = 0n): Promise<TopUpSnapshot> {
    const byHand = await handCreditsOf(pool, order.id);
    const snapshot = snapshotOf(order, facts, unexplained);
    return byHand.length === 0 ? snapshot : { ...snapshot, handCredits: byHand.map(viewOf) };
  }

  async function book(rail: PaymentRail, order: TopUp, facts: CheckoutFacts): Promise<TopUpSnapshot> {
    const { accepts, leastReceived } = rail;
    const shown = facts.payments.filter(({ status }) => status === 'paid').map(({ paymentId }) => paymentId);
    await noteShownPayments(pool, order.id, shown);
    const charge = addUsd(order.amount, order.fee);
    const decision = decideTopUp({ ...order, charge, accepts, leastReceived }, facts);
    for (const { payment, amount } of decision.credit) {
      await creditPayment(pool, { ...payment, topUpId: order.id, credit: amount, creditedBy: 'provider' });
    }
    let unexplained = 0n;
    const credited = await paymentsOf(pool, order.id);
    if (decision.state !== 'quarantined') await reportMismatches(order, decision, credited);
    for (const payment of credited) {
      const truth = facts.payments.find(({ paymentId }) => paymentId === payment.paymentId);
      if (truth?.isFinal === true && !payment.isFinal) await finalizePayment(pool, payment.id);
      if (truth === undefined) continue;
      unexplained += await reverse(order, payment, truth);
      await cards.heed(payment, truth);
    }
    await cards.keep(order, facts);
    if (decision.state !== 'credited') {
      const { state: to, received } = decision;
      const stuck = (to === 'quarantined' ? decision.quarantine : null) ?? facts.remark?.stuck ?? null;
      await moveTopUp(pool, { id: order.id, from: order.state, to, stuck, received });
    }
    const booked = await required(formatId('topUp', order.id));
    if (booked.state !== order.state) {
      const id = formatId('topUp', order.id);
      logger.info({ top_up_id: id, from: order.state, to: booked.state, stuck: booked.stuck }, 'top-up moved');
    }
    return told(booked, facts, unexplained);
  }

  /** Makes cases of payments that are neither credited nor given back, and for which the order itself waits for nobody. */
  async function reportMismatches(
    order: TopUp,
    { mismatched }: TopUpDecision,
    credited: readonly CreditedPayment[],
  ): Promise<void> {
    for (const { payment, reason } of mismatched) {
      const { paymentId, received, currency, live } = payment;
      // A person may have credited it by hand.
      if (credited.some((known) => known.paymentId === paymentId)) continue;
      const evidence = {
        top_up: formatId('topUp', order.id),
        account: formatId('account', order.accountId),
        provider: order.provider,
        reason,
        received: formatUsd(received),
        currency,
        live,
        asked: formatUsd(addUsd(order.amount, order.fee)),
      };
      await openCase(pool, { kind: 'top_up_mismatch', subject: paymentId, evidence });
      logger.warn({ payment_id: paymentId, ...evidence }, 'payment is neither credited nor given back; case open');
    }
  }

  /** Brings a credited payment to its reversed share; returns what no step is left to explain. */
  async function reverse(order: TopUp, first: CreditedPayment, truth: PaymentFacts): Promise<bigint> {
    const { reversals, received } = truth;
    if (reversals.length === 0) return 0n;
    // Before anything is moved: from then on somebody has to see to it.
    const open = reversals.filter(({ kind, isOpen }) => isOpen && kind !== 'reorg');
    await keepOpenReversals(
      pool,
      first.id,
      open.map(({ objectId }) => objectId),
    );
    let payment = first;
    for (let attempt = 1; ; attempt++) {
      // The provider's own number: what was credited by hand has on record only what a person said.
      const plan = planReversals({ credited: payment.credited, received, reversals }, payment);
      let reversed = payment.reversed;
      let isCurrent = true;
      for (const step of plan.steps) {
        isCurrent = await reversePayment(pool, payment.id, step, reversed);
        if (!isCurrent) break;
        reversed = picoUsd(step.direction === 'out' ? reversed + step.amount : reversed - step.amount);
        logger.info(
          { payment_id: payment.paymentId, ...step, amount: formatUsd(step.amount) },
          step.direction === 'out' ? 'credit taken back' : 'credit restored',
        );
      }
      if (isCurrent) {
        if (plan.unexplained !== 0n) {
          const evidence = {
            top_up: formatId('topUp', order.id),
            reversed: formatUsd(reversed),
            unexplained: formatUsd(plan.unexplained),
          };
          await openCase(pool, { kind: 'top_up_reversal', subject: payment.paymentId, evidence });
        }
        return plan.unexplained;
      }
      assert(attempt < PLAN_ATTEMPTS, 'a payment does not change under every plan');
      const again = (await paymentsOf(pool, order.id)).find(({ id }) => id === first.id);
      assert(again !== undefined, 'a payment is never deleted');
      payment = again;
    }
  }

  /** Where an event belongs; null when it is about nothing of ours. */
  async function routeOf(event: ProviderEvent): Promise<EventRoute | null> {
    const rail = railOf(event.provider);
    const { reversalId, topUpId, paymentId } = rail.subjectOf(event.payload);
    const named = topUpId ?? (paymentId === null ? null : await topUpOf(rail, paymentId));
    const id = named === null ? null : parseId('topUp', named);
    if (named === null || id === null || (await topUpById(pool, id)) === null) return null;
    return { provider: event.provider, eventId: event.eventId, topUpId: named, reversalId };
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

/** Runs an activity that talks to a provider: says that it is alive meanwhile, and what the provider refuses is not retried. */
export async function askingProvider<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await beating(work);
  } catch (error) {
    if (error instanceof RailRefusal) throw ApplicationFailure.nonRetryable(error.message, 'provider_refused');
    throw error;
  }
}
