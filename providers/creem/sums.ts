/**
 * The counted part of a Creem payment: the paid sum without tax, since Creem hands the tax on. An order and its
 * transaction each tell it in several ways, and either may leave any of them out (the orders in Creem's documentation
 * have `amount` alone). So every way that the answers allow is gone, and the least of them counts: a sum that nobody
 * explains is no credit.
 */
import type { CreemOrder, CreemTransaction } from './answers.ts';

type OrderSums = Pick<CreemOrder, 'subTotalCents' | 'amountCents' | 'discountCents' | 'taxCents' | 'paidCents'>;
type TransactionSums = Pick<CreemTransaction, 'amountCents' | 'discountCents' | 'taxCents' | 'paidCents'>;

const NOTHING: TransactionSums = { amountCents: null, discountCents: 0, taxCents: null, paidCents: null };

export interface CreemSums {
  /** The counted sum, in cents of the order's currency; 0 where no answer has it. */
  readonly receivedCents: number;
  /** The paid sum with tax, of which refunds are shares. Null where no answer has it. */
  readonly paidCents: number | null;
}

/**
 * Sums of an order with its transaction; the transaction's sums count only in the order's own currency. A transaction
 * that does not say its currency is in the other's.
 */
export function creemSums(
  order: OrderSums & Pick<CreemOrder, 'currency'>,
  transaction: (TransactionSums & Pick<CreemTransaction, 'currency'>) | null,
): CreemSums {
  const currency = order.currency ?? transaction?.currency;
  const isComparable = transaction !== null && (transaction.currency ?? currency) === currency;
  const sums = sumsOf(order, isComparable ? transaction : NOTHING);
  // A refund is a share of what its own transaction was paid with, in whatever currency.
  return isComparable || transaction === null ? sums : { ...sums, paidCents: transaction.paidCents };
}

/** Sums of a transaction whose order is not at hand. */
export function creemTransactionSums(transaction: TransactionSums): CreemSums {
  return sumsOf({ ...NOTHING, subTotalCents: null }, transaction);
}

function sumsOf(order: OrderSums, transaction: TransactionSums): CreemSums {
  const paidCents = order.paidCents ?? transaction.paidCents;
  const taxCents = order.taxCents ?? transaction.taxCents;
  const discountCents = Math.max(order.discountCents, transaction.discountCents);
  const ways = [
    difference(order.paidCents, order.taxCents),
    difference(transaction.paidCents, transaction.taxCents),
    difference(paidCents, taxCents ?? 0),
    difference(order.subTotalCents, discountCents),
    difference(order.amountCents, discountCents),
    difference(transaction.amountCents, discountCents),
  ].filter((cents) => cents !== null);
  const receivedCents = ways.length === 0 ? 0 : Math.max(Math.min(...ways), 0);
  const withTax = transaction.paidCents ?? order.paidCents;
  return { receivedCents, paidCents: withTax ?? (ways.length === 0 ? null : receivedCents + (taxCents ?? 0)) };
}

function difference(cents: number | null, less: number | null): number | null {
  return cents === null || less === null ? null : cents - less;
}
