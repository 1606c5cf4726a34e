/**
 * Top-ups: opens the provider's checkout, reads its truth and books what follows. Each activity can be repeated and can
 * begin from the row alone; what must happen once is keyed in PostgreSQL by the provider's own ids.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { Context } from '@temporalio/activity';
import { ApplicationFailure } from '@temporalio/common';
import { assert } from '../domain/assert.ts';
import { formatId, parseId, type Uuid } from '../domain/ids.ts';
import { addUsd, formatUsd, picoUsd } from '../domain/money.ts';
import { decideTopUp, isOpenTopUp, planReversals, type CheckoutFacts, type ReversalFacts } from '../domain/top-up.ts';
import { openCase } from '../db/cases.ts';
import { findUnhandledEvents, handleEvent, type ProviderEvent } from '../db/provider-events.ts';
import {
  beginCheckout,
  creditPayment,
  finalizePayment,
  findQuietTopUps,
  moveTopUp,
  noteTopUpLook,
  paymentsOf,
  reversePayment,
  topUpById,
  topUpOfPayment,
  type CreditedPayment,
  type QuietTopUps,
  type TopUp,
} from '../db/top-ups.ts';
import type { EventRoute, TopUpSnapshot } from '../workflows/contract.ts';
import { RailRefusal, type PaymentRail } from './payment-rail.ts';

export interface TopUpActivities {
  /** Makes sure that the provider's checkout exists and is written down. */
  openTopUpCheckout(topUpId: string): Promise<TopUpSnapshot>;
  /** Reads the provider's truth, credits, takes back, moves the state; then marks `events` as handled. */
  reconcileTopUp(input: { topUpId: string; events: readonly string[] }): Promise<TopUpSnapshot>;
  /** Gives an order up, unless it is paid, and closes its checkout. */
  abandonTopUp(topUpId: string): Promise<TopUpSnapshot>;
  /** Events that nobody handled for `ageSeconds`, and where each belongs; those that belong nowhere are closed. */
  findLostEvents(input: { ageSeconds: number; limit: number }): Promise<EventRoute[]>;
  /** Open orders whose run may be gone. */
  findQuietTopUps(input: QuietTopUps): Promise<string[]>;
}

/** How often a plan is made anew because another run moved the same payment meanwhile. */
const PLAN_ATTEMPTS = 10;
/** How often an activity says that it is alive, so that a worker that died is noticed before its time-out. */
const HEARTBEAT_MS = 2000;

export function createTopUpActivities({
  pool,
  logger,
  rails,
}: {
  pool: pg.Pool;
  logger: Logger;
  rails: readonly PaymentRail[];
}): TopUpActivities {
  const railOf = (name: string): PaymentRail => {
    const rail = rails.find(({ provider }) => provider === name);
    if (rail === undefined) throw new RailRefusal(name, 'is not configured on this worker');
    return rail;
  };

  return {
    openTopUpCheckout: (topUpId) =>
      askingProvider(async () => {
        const order = await required(topUpId);
        if (order.state !== 'created' || order.providerId !== null) return snapshotOf(order, null);
        const checkout = await railOf(order.provider).openCheckout(order);
        logger.info({ top_up_id: topUpId, provider: order.provider, checkout: checkout.providerId }, 'checkout opened');
        return snapshotOf(await beginCheckout(pool, order.id, checkout), null);
      }),

    reconcileTopUp: ({ topUpId, events }) =>
      askingProvider(async () => {
        const order = await required(topUpId);
        await noteTopUpLook(pool, order.id);
        if (order.providerId === null) return snapshotOf(order, null);
        const rail = railOf(order.provider);
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
        return snapshotOf(await required(topUpId), null);
      }),

    async findLostEvents({ ageSeconds, limit }) {
      const routes: EventRoute[] = [];
      for (const event of await findUnhandledEvents(pool, ageSeconds, limit)) {
        try {
          const route = await routeOf(event);
          if (route !== null) routes.push(route);
          else await handleEvent(pool, event.provider, event.eventId, 'not ours');
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
  };

  async function required(topUpId: string): Promise<TopUp> {
    const order = await topUpById(pool, uuidOfTopUp(topUpId));
    if (order === null) throw ApplicationFailure.nonRetryable(`there is no top-up ${topUpId}`, 'not_found');
    return order;
  }

  async function book(rail: PaymentRail, order: TopUp, facts: CheckoutFacts): Promise<TopUpSnapshot> {
    const { accepts, leastReceived } = rail;
    const charge = addUsd(order.amount, order.fee);
    const decision = decideTopUp({ ...order, charge, accepts, leastReceived }, facts);
    for (const { payment, amount } of decision.credit) {
      await creditPayment(pool, { ...payment, topUpId: order.id, credit: amount, creditedBy: 'provider' });
    }
    let unexplained = 0n;
    for (const payment of await paymentsOf(pool, order.id)) {
      const truth = facts.payments.find(({ paymentId }) => paymentId === payment.paymentId);
      if (truth?.isFinal === true && !payment.isFinal) await finalizePayment(pool, payment.id);
      unexplained += await reverse(order, payment, truth?.reversals ?? []);
    }
    if (decision.state !== 'credited') {
      const { state: to, quarantine: stuck, received } = decision;
      await moveTopUp(pool, { id: order.id, from: order.state, to, stuck, received });
    }
    const booked = await required(formatId('topUp', order.id));
    if (booked.state !== order.state) {
      const id = formatId('topUp', order.id);
      logger.info({ top_up_id: id, from: order.state, to: booked.state, stuck: booked.stuck }, 'top-up moved');
    }
    return snapshotOf(booked, facts, unexplained);
  }

  /** Brings a credited payment to its reversed share; returns what no step is left to explain. */
  async function reverse(order: TopUp, first: CreditedPayment, reversals: readonly ReversalFacts[]): Promise<bigint> {
    if (reversals.length === 0) return 0n;
    let payment = first;
    for (let attempt = 1; ; attempt++) {
      const plan = planReversals({ ...payment, reversals }, payment);
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

function snapshotOf(order: TopUp, facts: CheckoutFacts | null, unexplained = 0n): TopUpSnapshot {
  const reversals = facts?.payments.flatMap((payment) => payment.reversals) ?? [];
  return {
    topUpId: formatId('topUp', order.id),
    accountId: formatId('account', order.accountId),
    provider: order.provider,
    state: order.state,
    amountUsd: formatUsd(order.amount),
    chargeUsd: formatUsd(addUsd(order.amount, order.fee)),
    receivedUsd: formatUsd(order.received),
    creditedUsd: formatUsd(order.credited),
    stuck: unexplained === 0n ? order.stuck : 'reversal_unexplained',
    checkoutUrl: order.checkoutUrl,
    expiresAt: order.expiresAt.toISOString(),
    reversals: reversals.map(({ objectId, kind, amount, isTaken, isOpen }) => ({
      objectId,
      kind,
      amountUsd: formatUsd(amount),
      isTaken,
      isOpen,
    })),
  };
}

function uuidOfTopUp(topUpId: string): Uuid<'topUp'> {
  const id = parseId('topUp', topUpId);
  assert(id !== null, `"${topUpId}" is a top-up id`);
  return id;
}

/** Runs an activity that talks to a provider: says that it is alive meanwhile, and what the provider refuses is not retried. */
async function askingProvider<T>(work: () => Promise<T>): Promise<T> {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work();
  } catch (error) {
    if (error instanceof RailRefusal) throw ApplicationFailure.nonRetryable(error.message, 'provider_refused');
    throw error;
  } finally {
    clearInterval(beat);
  }
}
