/** The view of a top-up for its customer and for staff. */
import { z } from 'zod';
import { formatId } from '../../../../domain/ids.ts';
import { formatAmount, USD } from '../../../../domain/currency.ts';
import { formatUsd, picoUsd } from '../../../../domain/money.ts';
import { TOP_UP_STATES } from '../../../../domain/payments/top-up.ts';
import { KNOWN_PAYMENT_STATUSES, type KnownPayment } from '../../../../db/payments/known-payments.ts';
import type { ForeignAmount, TopUp } from '../../../../db/payments/top-ups.ts';
import { depositFields } from './deposit-view.ts';
import { idText, timeText, usdText } from '../../../http/fields.ts';

/** A sum in any currency, in units of it. */
export const amountView = z.object({
  amount: z
    .string()
    .meta({ description: "In units of `currency`, with that currency's decimals: `1500` JPY, `15.00` EUR." }),
  currency: z.string().meta({ description: 'ISO code in lower case.' }),
});

export function renderAmount({ amount, currency }: ForeignAmount): z.output<typeof amountView> {
  return { amount: formatAmount(amount, currency), currency };
}

const fields = {
  id: idText('topUp'),
  state: z.enum(TOP_UP_STATES),
  method: z.string(),
  amount_usd: usdText().meta({ description: 'The credited amount.' }),
  fee_usd: usdText().meta({ description: 'Added to the amount.' }),
  received_usd: usdText().meta({
    description: 'The highest amount that the provider has shown as paid in USD, credited or not.',
  }),
  received_other: z.array(amountView).meta({
    description: 'The amount paid in other currencies. There is no rate: `received_usd` contains none of it.',
  }),
  credited_usd: usdText(),
  checkout_url: z
    .string()
    .nullable()
    .meta({ description: 'Where to pay; null before it exists and after it has ended.' }),
  expires_at: timeText(),
  created_at: timeText(),
};

export const topUpView = z.object(fields);
/** A top-up that is shown alone. */
export const topUpDetailView = z.object({ ...fields, ...depositFields });
export const staffTopUpView = z.object({
  ...fields,
  account_id: idText('account'),
  provider: z.string(),
  provider_id: z.string().nullable(),
  stuck: z.string().nullable().meta({ description: 'Why the top-up needs staff; null: it does not.' }),
  workflow_id: z.string(),
  workflow_url: z.string().nullable(),
});

export function renderTopUp(order: TopUp): z.output<typeof topUpView> {
  return {
    id: formatId('topUp', order.id),
    state: order.state,
    method: order.method,
    amount_usd: formatUsd(order.amount),
    fee_usd: formatUsd(order.fee),
    received_usd: formatUsd(order.received),
    received_other: order.receivedOther.map(renderAmount),
    credited_usd: formatUsd(order.credited),
    checkout_url: order.state === 'waiting' ? order.checkoutUrl : null,
    expires_at: order.expiresAt.toISOString(),
    created_at: order.createdAt.toISOString(),
  };
}

/** A payment of an order, from which staff choose for a manual credit. */
export const knownPaymentView = z.object({
  payment_id: z.string().meta({ description: 'The key of its credit.' }),
  status: z.enum(KNOWN_PAYMENT_STATUSES).meta({
    description: "`listed`: only the provider's statement shows it. `gone`: the last check did not show it any more.",
  }),
  ...amountView.shape,
  received_usd: usdText().nullable().meta({ description: 'null in another currency: there is no rate.' }),
  live: z.boolean().nullable().meta({ description: 'Real money; null where only the statement shows it.' }),
  other_ids: z.array(z.string()).meta({ description: 'Other ids of the same money, in lower case.' }),
  credited_usd: usdText().nullable().meta({ description: 'null: not credited.' }),
  seen_at: timeText(),
});

export function renderKnownPayment(payment: KnownPayment): z.output<typeof knownPaymentView> {
  const { received, currency, credited } = payment;
  return {
    payment_id: payment.paymentId,
    status: payment.status,
    ...renderAmount({ amount: received, currency }),
    received_usd: currency === USD ? formatUsd(picoUsd(received)) : null,
    live: payment.live,
    other_ids: [...payment.otherIds],
    credited_usd: credited === null ? null : formatUsd(credited),
    seen_at: payment.seenAt.toISOString(),
  };
}
