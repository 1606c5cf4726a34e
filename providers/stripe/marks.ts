/**
 * The means of a payment, as far as Stripe can recognize it again: for every user and account of a card,
 * its fingerprint is the same. A wallet may show another number for the same card, which nobody can tell.
 */
import type Stripe from 'stripe';
import type { PayerMark } from '../../domain/payments/top-up.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Longer than anything that Stripe gives as one; `account_mark` takes no more. */
const VALUE_LENGTH_MAX = 400;

/** Every mark that a charge carries; none where the charge was not read, or its method has none. */
export function payerMarksOf(charge: Stripe.PaymentIntent['latest_charge']): PayerMark[] {
  if (charge === null || typeof charge === 'string') return [];
  const details = charge.payment_method_details;
  if (details === null) return [];
  // By the form of the details and not by a list of methods: a shop switches methods on in the dashboard.
  const method = fieldsIn(details, details.type);
  const funding = fieldsIn(fieldsIn(method, 'funding'), 'card');
  const kind =
    details.type.startsWith('card') || details.type === 'interac_present' ? 'card_fingerprint' : 'bank_fingerprint';
  return [
    ...markOf(kind, method['fingerprint']),
    ...markOf('card_fingerprint', funding['fingerprint']),
    ...markOf('payer_account', method['payer_id'] ?? method['buyer_id'], `${details.type} `),
    ...markOf('funding_address', lowerCase(method['buyer_address'])),
  ];
}

function markOf(kind: PayerMark['kind'], value: unknown, prefix = ''): PayerMark[] {
  if (typeof value !== 'string' || value === '' || value.length > VALUE_LENGTH_MAX) return [];
  return [{ kind, value: prefix + value }];
}

function fieldsIn(holder: object, name: string): Fields {
  const value = (holder as Fields)[name];
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

/** Deposits on chains are compared by their address in lower case. */
const lowerCase = (value: unknown): unknown => (typeof value === 'string' ? value.toLowerCase() : value);
