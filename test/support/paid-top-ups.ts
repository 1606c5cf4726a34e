/** Orders in the states that lists, exports and receipts tell apart, made as the product makes them. */
import { creditPayment, paymentsOf, reversePayment } from '../../db/payments/payments.ts';
import { beginCheckout, createTopUp, type TopUp } from '../../db/payments/top-ups.ts';
import { uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { addUsd, usd } from '../../domain/money.ts';
import type { ReversalStep } from '../../domain/payments/top-up.ts';
import { uuidAt, type LedgerPools } from './ledger-database.ts';

let made = 0;

export interface OrderText {
  readonly accountId: AccountUuid;
  /** Decimal USD. */
  readonly amount?: string;
  readonly fee?: string;
  readonly method?: string;
  readonly provider?: string;
}

/** An order with a checkout, `cs_<n>`. */
export async function waitingTopUp(ledger: LedgerPools, text: OrderText): Promise<TopUp> {
  const { accountId, amount = '10', fee = '0.50', method = 'card', provider = 'stripe' } = text;
  const { id } = await createTopUp(ledger.management, {
    id: uuidOf('topUp', uuidAt(Date.now())),
    accountId,
    method,
    provider,
    amount: usd(amount),
    fee: usd(fee),
    currency: 'usd',
    live: true,
    expiresInSeconds: 3600,
  });
  return beginCheckout(ledger.worker, id, { providerId: `cs_${++made}`, url: 'http://pay.test/', expiresAt: null });
}

/** An order that one payment has credited in full; the payment's id is `pi_<n>` unless given. */
export async function creditedTopUp(
  ledger: LedgerPools,
  text: OrderText & { readonly paymentId?: string },
): Promise<{ readonly order: TopUp; readonly paymentId: string }> {
  const order = await waitingTopUp(ledger, text);
  const paymentId = text.paymentId ?? `pi_${made}`;
  await creditPayment(ledger.worker, {
    topUpId: order.id,
    paymentId,
    received: addUsd(order.amount, order.fee),
    credit: order.amount,
    isFinal: true,
    creditedBy: 'provider',
  });
  return { order, paymentId };
}

/** Moves one step of a reversal of the order's only payment; `amount` is decimal USD of credit. */
export async function reverse(
  ledger: LedgerPools,
  order: TopUp,
  step: Omit<ReversalStep, 'amount'> & { readonly amount: string },
): Promise<void> {
  const [payment] = await paymentsOf(ledger.worker, order.id);
  await reversePayment(ledger.worker, payment!.id, { ...step, amount: usd(step.amount) }, payment!.reversed);
}
