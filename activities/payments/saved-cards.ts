/**
 * Saved cards in top-ups: the customer object that holds a card, charges that are sent only while somebody wants
 * them, cards that are gone, and payments that a card's bank takes for fraud. Used by activities/payments/top-ups.ts.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { formatId } from '../../domain/ids.ts';
import type { CheckoutFacts, PaymentFacts } from '../../domain/payments/top-up.ts';
import {
  autoTopUpIsWanted,
  savePaymentCustomer,
  paymentCustomerOf,
  removeCards,
  saveCard,
  warnPayment,
} from '../../db/payments/auto-top-ups.ts';
import type { ProviderEvent } from '../../db/payments/provider-events.ts';
import type { CreditedPayment } from '../../db/payments/payments.ts';
import { beginCheckout, moveTopUp, noteTopUpCustomer, type TopUp } from '../../db/payments/top-ups.ts';
import { CardGone, RailRefusal, type Checkout, type PaymentRail } from '../../providers/rail.ts';

export interface SavedCards {
  /** The provider's checkout or charge of an order; null when there is none and the order has ended. */
  open(rail: PaymentRail, order: TopUp): Promise<Checkout | null>;
  /** The order with its checkout or charge; null where there is none. */
  withCheckout(rail: PaymentRail, order: TopUp): Promise<TopUp | null>;
  /** Saves the card that a payment left with the provider, where its customer wanted that. */
  save(order: TopUp, facts: CheckoutFacts): Promise<void>;
  /** Records a bank's fraud warning on a credited payment. */
  warn(payment: CreditedPayment, truth: PaymentFacts): Promise<void>;
  /** Removes the saved cards that are gone by an event; returns how many. */
  removeGone(rail: PaymentRail, event: ProviderEvent): Promise<number>;
}

export function createSavedCards({
  pool,
  logger,
  fraudWarningFreezes,
}: {
  pool: pg.Pool;
  logger: Logger;
  fraudWarningFreezes: boolean;
}): SavedCards {
  return {
    async open(rail, order) {
      if (order.card.paymentMethod !== null && !(await autoTopUpIsWanted(pool, order.id))) {
        // Consent was withdrawn, or the money came otherwise, while the provider was away: only what was charged
        // counts.
        return (await rail.cards?.findCharge(order)) ?? end(order, 'abandoned');
      }
      try {
        return await rail.openCheckout(await withCustomerIfAllowed(rail, order));
      } catch (error) {
        if (error instanceof CardGone) return end(order, 'failed');
        throw error;
      }
    },

    async withCheckout(rail, order) {
      if (order.providerId !== null) return order;
      if (order.state === 'created' || order.card.paymentMethod === null) return null;
      // An abandoned order may have been charged nevertheless: money wins over every end.
      const made = await rail.cards?.findCharge(order);
      return made === undefined || made === null ? null : beginCheckout(pool, order.id, made);
    },

    async save(order, { card }) {
      if (!order.card.save || card === undefined) return;
      const { accountId, provider } = order;
      const isNew = await saveCard(pool, { ...card, accountId, provider });
      if (isNew) logger.info({ account_id: formatId('account', accountId), last4: card.last4 }, 'card saved');
    },

    async warn(payment, { warnings = [] }) {
      if (payment.isWarned) return;
      for (const { objectId, fraudType } of warnings) {
        const evidence = { warning: objectId, fraud_type: fraudType };
        const isNew = await warnPayment(pool, { paymentId: payment.id, evidence, freeze: fraudWarningFreezes });
        if (isNew) logger.warn({ payment_id: payment.paymentId, ...evidence }, 'payment is taken for fraud; case open');
      }
    },

    async removeGone(rail, { provider, payload }) {
      const { gone } = rail.subjectOf(payload);
      if (gone === undefined) return 0;
      const reason = gone.customerId === null ? 'detached' : 'customer_deleted';
      const removed = await removeCards(pool, { provider, ...gone, reason });
      if (removed > 0) logger.info({ provider, ...gone, reason }, 'saved card is gone');
      return removed;
    },
  };

  async function end({ id, state: from, received }: TopUp, to: 'failed' | 'abandoned'): Promise<null> {
    await moveTopUp(pool, { id, from, to, stuck: null, received });
    return null;
  }

  /** A key that may create no customer objects saves no cards; paying by card still works. */
  async function withCustomerIfAllowed(rail: PaymentRail, order: TopUp): Promise<TopUp> {
    try {
      return await withCustomer(rail, order);
    } catch (error) {
      if (!(error instanceof RailRefusal && error.code === 'permission_missing')) throw error;
      logger.warn({ top_up_id: formatId('topUp', order.id), error: error.message }, 'the card will not be saved');
      return { ...order, card: { ...order.card, save: false } };
    }
  }

  /** The order with the customer object that its card is to be kept for. */
  async function withCustomer(rail: PaymentRail, order: TopUp): Promise<TopUp> {
    if (!order.card.save || order.card.customerId !== null || rail.cards === undefined) return order;
    const { accountId, provider } = order;
    const { customerId, nextN: n } = await paymentCustomerOf(pool, accountId, provider);
    if (customerId !== null) return noteTopUpCustomer(pool, order.id, customerId);
    const made = await rail.cards.createCustomer(formatId('account', accountId), n);
    const kept = await savePaymentCustomer(pool, { accountId, provider, n, customerId: made });
    return noteTopUpCustomer(pool, order.id, kept);
  }
}
