/**
 * Reading Creem's answers. Its SDK refuses a whole answer for one value that it does not know (a new status, a null
 * where it expects nothing), and Creem's documentation itself shows such values; a payment must not wait for an update
 * of the SDK. So the few fields that count are read here, from the SDK's object or from the answer that it refused, and
 * what is not known stays visible as a text that no rule takes for success.
 */
import { CreemError, ResponseValidationError } from 'creem/models/errors';
import { timeIn, wholeNumberIn } from '../../domain/sent-values.ts';
import { NotAtProvider, RailRefusal } from '../rail.ts';

/** Cents are whole numbers; what is none is null. Statuses and modes are as Creem wrote them. */
export interface CreemCheckout {
  readonly id: string;
  readonly status: string;
  readonly requestId: string | null;
  readonly url: string | null;
  readonly order: CreemOrder | null;
}

export interface CreemOrder {
  readonly id: string;
  readonly mode: string;
  readonly status: string;
  readonly transactionId: string | null;
  /** Before tax and discount. Creem's own samples have an order without it. */
  readonly subTotalCents: number | null;
  /**
   * Documented as the order's total; in Creem's samples it is the price before tax. The one sum that no order is
   * without.
   */
  readonly amountCents: number | null;
  readonly discountCents: number;
  readonly taxCents: number | null;
  /** With tax. */
  readonly paidCents: number | null;
  /** ISO code in lower case; null where the order does not say. */
  readonly currency: string | null;
}

export interface CreemTransaction {
  readonly id: string;
  /** The order that it paid. */
  readonly orderId: string | null;
  readonly status: string;
  readonly amountCents: number | null;
  readonly discountCents: number;
  /** With tax. */
  readonly paidCents: number | null;
  readonly taxCents: number | null;
  /** Refunded part of the paid sum, tax included; grows with every refund. */
  readonly refundedCents: number | null;
  /** ISO code in lower case; null where the transaction does not say. */
  readonly currency: string | null;
  readonly createdAt: Date | null;
}

export interface CreemProduct {
  readonly billingType: string;
  readonly currency: string;
  readonly status: string;
  /** `exclusive`: tax comes on top of the price. Null where the product does not say. */
  readonly taxMode: string | null;
}

type Fields = Readonly<Record<string, unknown>>;

/** Statuses of a refused call that another attempt may get past. */
const RETRYABLE = [408, 409, 425, 429];

/** Runs a call of the SDK. A permanent refusal of Creem is a RailRefusal; every other error may be retried. */
async function answerTo(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof ResponseValidationError && error.statusCode < 300) return camelCased(error.rawValue);
    const isRefusal =
      error instanceof CreemError &&
      error.statusCode >= 400 &&
      error.statusCode < 500 &&
      !RETRYABLE.includes(error.statusCode);
    if (isRefusal) throw refusalOf(error);
    throw error;
  }
}

function refusalOf({ statusCode, message }: CreemError): RailRefusal {
  if (statusCode === 404) return new NotAtProvider('creem', message);
  if (statusCode === 401) return new RailRefusal('creem', message, 'key_refused');
  return new RailRefusal('creem', message, statusCode === 403 ? 'permission_missing' : 'provider_refused');
}

export async function readCheckout(call: () => Promise<unknown>): Promise<CreemCheckout> {
  const checkout = fieldsOf(await answerTo(call), 'checkout');
  return {
    id: required(checkout, 'id'),
    status: required(checkout, 'status'),
    requestId: textOf(checkout['requestId']),
    url: textOf(checkout['checkoutUrl']),
    order: orderOf(checkout),
  };
}

/** The order of a checkout; null while it has none. It may be its id alone, and what it leaves out its checkout has. */
function orderOf(checkout: Fields): CreemOrder | null {
  const id = idOf(checkout['order']);
  if (id === null) return null;
  const order = isFields(checkout['order']) ? checkout['order'] : {};
  const isCompleted = checkout['status'] === 'completed';
  return {
    id,
    // An order that does not state its mode is not taken for real money.
    mode: textOf(order['mode']) ?? textOf(checkout['mode']) ?? 'unknown',
    status: textOf(order['status']) ?? (isCompleted ? 'paid' : 'pending'),
    transactionId: idOf(order['transaction']),
    subTotalCents: wholeNumberIn(order['subTotal']),
    amountCents: wholeNumberIn(order['amount']),
    discountCents: Math.abs(wholeNumberIn(order['discountAmount']) ?? 0),
    taxCents: wholeNumberIn(order['taxAmount']),
    paidCents: wholeNumberIn(order['amountPaid']),
    currency: textOf(order['currency'])?.toLowerCase() ?? null,
  };
}

/** One page of a search, and how many pages there are. */
export async function readTransactions(
  call: () => Promise<unknown>,
): Promise<{ readonly transactions: readonly CreemTransaction[]; readonly pages: number }> {
  const { result } = fieldsOf(await answerTo(call), 'search');
  const { items, pagination } = fieldsOf(result, 'search');
  if (!Array.isArray(items)) throw new Error('creem: a search answered without items');
  const pages = isFields(pagination) ? pagination['totalPages'] : null;
  return {
    transactions: items.map((item) => transactionOf(fieldsOf(item, 'transaction'))),
    pages: typeof pages === 'number' ? pages : 1,
  };
}

function transactionOf(transaction: Fields): CreemTransaction {
  return {
    id: required(transaction, 'id'),
    orderId: idOf(transaction['order']),
    status: required(transaction, 'status'),
    amountCents: wholeNumberIn(transaction['amount']),
    discountCents: Math.abs(wholeNumberIn(transaction['discountAmount']) ?? 0),
    paidCents: wholeNumberIn(transaction['amountPaid']),
    taxCents: wholeNumberIn(transaction['taxAmount']),
    refundedCents: wholeNumberIn(transaction['refundedAmount']),
    currency: textOf(transaction['currency'])?.toLowerCase() ?? null,
    createdAt: timeIn(transaction['createdAt']),
  };
}

export async function readProduct(call: () => Promise<unknown>): Promise<CreemProduct> {
  const product = fieldsOf(await answerTo(call), 'product');
  return {
    billingType: required(product, 'billingType'),
    currency: required(product, 'currency'),
    status: required(product, 'status'),
    taxMode: textOf(product['taxMode']),
  };
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function fieldsOf(value: unknown, what: string): Fields {
  if (!isFields(value)) throw new Error(`creem: the answer is no ${what}`);
  return value;
}

/** An answer without it is no answer: the call is repeated. */
function required(fields: Fields, name: string): string {
  const value = fields[name];
  if (typeof value !== 'string' || value === '') throw new Error(`creem: an answer has no ${name}`);
  return value;
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

/** The id of an object that an answer names by its id, or contains. */
function idOf(value: unknown): string | null {
  return isFields(value) ? textOf(value['id']) : textOf(value);
}

/** The wire's names as the SDK's objects have them. */
function camelCased(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCased);
  if (!isFields(value) || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, field]) => [
      // The SDK wraps lists in a `Result` of its own.
      name === 'Result' ? 'result' : name.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      camelCased(field),
    ]),
  );
}
