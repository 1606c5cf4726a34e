/**
 * Parts of a payment's truth that its provider would not tell: a key without the permission, or a list that is away.
 * The credit is booked by then. Passing failures are retried; failures that staff must mend are shown on the order
 * where money moves by it, and in one case for all orders.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { formatId } from '../../domain/ids.ts';
import type { CheckoutFacts, FraudWarning } from '../../domain/payments/top-up.ts';
import { openCase } from '../../db/accounts/cases.ts';
import { closeGoneCases } from '../../db/payments/reconciliation.ts';
import { eventOf } from '../../db/payments/provider-events.ts';
import { noteTopUpStuck, type TopUp } from '../../db/payments/top-ups.ts';
import { RailRefusal, type PaymentRail } from '../../providers/rail.ts';

export interface UnreadParts {
  /** The facts, with fraud warnings that only these events report. */
  fromEvents(rail: PaymentRail, facts: CheckoutFacts, events: readonly string[]): Promise<CheckoutFacts>;
  /**
   * Says what is missing, once the rest is booked; returns the order with it. `isMissing` where it is something by
   * which money moves. Throws what may pass without a person, so that it is asked for again.
   */
  report(order: TopUp, facts: CheckoutFacts): Promise<{ readonly order: TopUp; readonly isMissing: boolean }>;
  /** An order's events that do not concern missing parts. The others wait until the parts can be read. */
  eventsThatCanEnd(rail: PaymentRail, events: readonly string[]): Promise<string[]>;
}

const CASE_KIND = 'provider_permission';

export function createUnreadParts({ pool, logger }: { pool: pg.Pool; logger: Logger }): UnreadParts {
  /** Subjects of the cases that this process has opened. Those of a process that has ended are left to a person. */
  const opened = new Set<string>();

  /** Closes the cases of a provider whose part has just been read. */
  async function closeCases(provider: string, refused: readonly string[]): Promise<void> {
    const gone = [...opened].filter((subject) => subject.startsWith(`${provider} `) && !refused.includes(subject));
    if (gone.length === 0) return;
    const resolution = 'the provider tells it now';
    await closeGoneCases(pool, { kinds: [CASE_KIND], lookedAt: gone, found: [], resolution });
    for (const subject of gone) opened.delete(subject);
  }

  return {
    async fromEvents(rail, facts, events) {
      const unread = facts.payments.some((payment) => payment.unread !== undefined);
      if (!unread || events.length === 0) return facts;
      const warned: { warning: FraudWarning; paymentId: string | null }[] = [];
      for (const eventId of events) {
        const event = await eventOf(pool, rail.provider, eventId);
        const { warning, paymentId = null } = event === null ? {} : rail.subjectOf(event.payload);
        if (warning !== undefined) warned.push({ warning, paymentId });
      }
      if (warned.length === 0) return facts;
      const payments = facts.payments.map((payment) => {
        const warnings = warned
          .filter(({ paymentId }) => paymentId === payment.paymentId)
          .map(({ warning }) => warning);
        return { ...payment, warnings: [...(payment.warnings ?? []), ...warnings] };
      });
      return { ...facts, payments };
    },

    async report(order, facts) {
      const parts = facts.payments.flatMap((payment) => payment.unread ?? []);
      const passing = parts.find(({ error }) => !(error instanceof RailRefusal));
      for (const { part, isEssential, error } of parts) {
        if (!(error instanceof RailRefusal)) continue;
        const evidence = { part, refusal: error.message, needed_for_money: isEssential };
        const subject = `${order.provider} ${part}`;
        await openCase(pool, { kind: CASE_KIND, subject, evidence });
        opened.add(subject);
        logger.warn({ top_up_id: formatId('topUp', order.id), provider: order.provider, ...evidence }, 'not readable');
      }
      if (facts.payments.some(({ status }) => status === 'paid')) {
        await closeCases(
          order.provider,
          parts.map(({ part }) => `${order.provider} ${part}`),
        );
      }
      const missing = parts.find(({ isEssential }) => isEssential);
      const stuck = missing?.error instanceof RailRefusal ? missing.error.code : null;
      const isNews = order.state === 'credited' && order.stuck !== stuck;
      if (isNews) await noteTopUpStuck(pool, order.id, stuck);
      if (passing !== undefined) throw passing.error;
      return { order: isNews ? { ...order, stuck } : order, isMissing: missing !== undefined };
    },

    async eventsThatCanEnd(rail, events) {
      const ended: string[] = [];
      for (const eventId of events) {
        const event = await eventOf(pool, rail.provider, eventId);
        if (event === null || rail.subjectOf(event.payload).reversalId === null) ended.push(eventId);
      }
      return ended;
    },
  };
}
