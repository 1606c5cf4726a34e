/** The view of an order that its workflow gets: the row, and the provider's facts. */
import { formatId } from '../../domain/ids.ts';
import { amountText } from '../../domain/currency.ts';
import { addUsd, formatUsd, picoUsd } from '../../domain/money.ts';
import type { CheckoutFacts } from '../../domain/payments/top-up.ts';
import type { ManualCredit } from '../../db/payments/manual-credits.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import type { ManualCreditView, TopUpSnapshot } from '../../contract/index.ts';

/** An order as its run tells it; `unexplained` is what no reversal is left to account for. */
export function snapshotOf(order: TopUp, facts: CheckoutFacts | null, unexplained = 0n): TopUpSnapshot {
  const reversals =
    facts?.payments.flatMap(({ currency, reversals: of }) => of.map((reversal) => ({ ...reversal, currency }))) ?? [];
  const warnings = facts?.payments.flatMap((payment) => payment.warnings ?? []) ?? [];
  return {
    topUpId: formatId('topUp', order.id),
    accountId: formatId('account', order.accountId),
    provider: order.provider,
    state: order.state,
    amountUsd: formatUsd(order.amount),
    chargeUsd: formatUsd(addUsd(order.amount, order.fee)),
    receivedUsd: formatUsd(order.received),
    ...(order.receivedOther.length > 0 && {
      receivedOther: order.receivedOther.map(({ amount, currency }) => amountText(amount, currency)),
    }),
    creditedUsd: formatUsd(order.credited),
    stuck: unexplained === 0n ? (order.stuck ?? facts?.remark?.stuck ?? null) : 'reversal_unexplained',
    ...(facts?.remark === undefined ? {} : { waitsFor: facts.remark.words }),
    checkoutUrl: order.checkoutUrl,
    expiresAt: order.expiresAt.toISOString(),
    reversals: reversals.map(({ objectId, kind, amount, currency, isTaken, isOpen }) => ({
      objectId,
      kind,
      // In another currency it is no sum of USD.
      ...(currency === order.currency
        ? { amountUsd: formatUsd(picoUsd(amount)) }
        : { amount: amountText(amount, currency) }),
      isTaken,
      isOpen,
    })),
    ...(warnings.length > 0 && { warnings: warnings.map(({ objectId }) => objectId) }),
  };
}

export function viewOf(credit: ManualCredit): ManualCreditView {
  return {
    id: formatId('manualCredit', credit.id),
    paymentId: credit.paymentId,
    amountUsd: formatUsd(credit.amount),
    reason: credit.reason,
    state: credit.state,
    isKnown: credit.isKnown,
    requestedBy: credit.requestedBy,
    decidedBy: credit.decidedBy,
  };
}
