/**
 * Books the provider's facts of an order: each payment credited once, each reversal taken back or given back once, the
 * order's state after them. Whatever cannot be decided here becomes a case for a person.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { assert } from '../../domain/assert.ts';
import { formatId } from '../../domain/ids.ts';
import { formatAmount } from '../../domain/currency.ts';
import { addUsd, formatUsd, picoUsd, type PicoUsd } from '../../domain/money.ts';
import {
  decideTopUp,
  planReversals,
  usdReceived,
  type CheckoutFacts,
  type PaymentFacts,
  type TopUpDecision,
} from '../../domain/payments/top-up.ts';
import { noteAccountMark } from '../../db/accounts/account-marks.ts';
import { openCase } from '../../db/accounts/cases.ts';
import { notePayments } from '../../db/payments/known-payments.ts';
import {
  creditPayment,
  finalizePayment,
  keepOpenReversals,
  noteDisputes,
  paymentsOf,
  reversePayment,
  topUpOfPayment,
  type CreditedPayment,
} from '../../db/payments/payments.ts';
import { moveTopUp, type TopUp } from '../../db/payments/top-ups.ts';
import type { SavedCards } from './saved-cards.ts';
import type { PaymentRail } from '../../providers/rail.ts';

/** How often a plan is made again because another run moved the same payment meanwhile. */
const PLAN_ATTEMPTS = 10;

/**
 * Books the facts of an order, any number of times with the same result. Returns what of the provider's reversals no
 * posting explains, in pico-USD; zero when all of it is posted.
 */
export type BookTopUp = (rail: PaymentRail, order: TopUp, facts: CheckoutFacts) => Promise<bigint>;

export function createTopUpBooking({
  pool,
  logger,
  cards,
}: {
  pool: pg.Pool;
  logger: Logger;
  cards: SavedCards;
}): BookTopUp {
  return book;

  async function book(rail: PaymentRail, order: TopUp, facts: CheckoutFacts): Promise<bigint> {
    const { accepts, leastReceived } = rail;
    // First: until then a person can credit none of them by hand under another id.
    await notePayments(pool, order.id, facts.payments);
    const charge = addUsd(order.amount, order.fee);
    const decision = decideTopUp({ ...order, charge, accepts, leastReceived }, facts);
    // Before the credit: the commission that it earns asks whether payer and affiliate are one person.
    const marks = facts.payments.filter(({ status }) => status !== 'failed').flatMap((payment) => payment.marks ?? []);
    for (const mark of marks) await noteAccountMark(pool, order.accountId, mark);
    for (const { payment, amount } of decision.credit) {
      const { paymentId, isFinal } = payment;
      const received = usdReceived(order, payment);
      assert(received !== null, 'only a payment in the currency of its order is credited automatically');
      const credit = { topUpId: order.id, paymentId, received, credit: amount, isFinal, creditedBy: 'provider' };
      if (!(await creditPayment(pool, credit))) await reportElsewhere(order, paymentId, received);
    }
    await warnOfDisputes(order, facts.payments);
    let unexplained = 0n;
    const credited = await paymentsOf(pool, order.id);
    if (decision.state !== 'quarantined') await reportMismatches(order, decision, credited);
    for (const payment of credited) {
      const truth = facts.payments.find(({ paymentId }) => paymentId === payment.paymentId);
      if (truth?.isFinal === true && !payment.isFinal) await finalizePayment(pool, payment.id);
      if (truth === undefined) continue;
      // A list that is not whole would give back what the missing part has taken.
      if (truth.unread?.some(({ isEssential }) => isEssential) !== true) {
        unexplained += await reverse(order, payment, truth);
      }
      await cards.warn(payment, truth);
    }
    await cards.save(order, facts);
    if (decision.state !== 'credited') {
      const { state: to, received } = decision;
      const stuck = (to === 'quarantined' ? decision.quarantine : null) ?? facts.remark?.stuck ?? null;
      await moveTopUp(pool, { id: order.id, from: order.state, to, stuck, received });
    }
    return unexplained;
  }

  /** An account with a disputed payment is not charged automatically, even where the payment still waits for staff. */
  async function warnOfDisputes(order: TopUp, payments: readonly PaymentFacts[]): Promise<void> {
    const disputes = payments.flatMap(({ reversals }) => reversals.filter(({ kind }) => kind === 'dispute'));
    if (disputes.length === 0) return;
    const idsOf = (some: typeof disputes): string[] => some.map(({ objectId }) => objectId);
    await noteDisputes(pool, order, {
      open: idsOf(disputes.filter(({ isOpen }) => isOpen)),
      won: idsOf(disputes.filter(({ isOpen, isTaken }) => !isOpen && !isTaken)),
    });
  }

  /**
   * The payment is this order's, and a person has credited it to another one. Not twice: which is right, a person
   * decides.
   */
  async function reportElsewhere(order: TopUp, paymentId: string, received: PicoUsd): Promise<void> {
    const other = await topUpOfPayment(pool, order.provider, paymentId);
    assert(other !== null, 'a payment that is credited elsewhere has an order');
    const evidence = {
      top_up: formatId('topUp', order.id),
      account: formatId('account', order.accountId),
      provider: order.provider,
      received_usd: formatUsd(received),
      credited_to_top_up: formatId('topUp', other),
    };
    await openCase(pool, { kind: 'payment_credited_elsewhere', subject: paymentId, evidence });
    logger.warn({ payment_id: paymentId, ...evidence }, 'payment is credited to another order; case open');
  }

  /**
   * Makes cases of payments that are neither credited nor given back, and for which the order itself waits for nobody.
   */
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
        received: formatAmount(received, currency),
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
}
