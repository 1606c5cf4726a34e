/** Checkout Sessions from creation to expiry, in payment mode with inline prices. Paying is in `checkout.ts`. */
import type Stripe from 'stripe';

import { checkMinorUnits } from './currencies.ts';
import { invalidRequest, noSuch } from './errors.ts';
import type { Params } from './form.ts';
import { newSession } from './objects.ts';
import { cancelIntent } from './payments.ts';
import { idOf, newId, type SessionRow } from './store.ts';
import type { World } from './world.ts';

const EXPIRY_SECONDS_MIN = 30 * 60;
const EXPIRY_SECONDS_MAX = 24 * 3600;
const AMOUNT_MIN_USD_CENTS = 50;
const AMOUNT_MAX = 99_999_999;

/** Stripe's own parameters that change nothing that this twin does. */
const IGNORED = [
  'adaptive_pricing',
  'allow_promotion_codes',
  'automatic_tax',
  'billing_address_collection',
  'consent_collection',
  'custom_text',
  'invoice_creation',
  'locale',
  'payment_method_options',
  'payment_method_types',
  'phone_number_collection',
  'saved_payment_method_options',
  'submit_type',
  'tax_id_collection',
  'ui_mode',
];

export function createSession(world: World, params: Params): Stripe.Checkout.Session {
  const mode = params.choice('mode', ['payment', 'setup', 'subscription']);
  if (mode !== 'payment') throw invalidRequest('This twin only has mode `payment`.', 'mode');
  const lines = params.objects('line_items').map(readLine);
  const first = lines[0];
  if (first === undefined)
    throw invalidRequest('Missing required param: line_items.', 'line_items', 'parameter_missing');
  if (lines.some(({ currency }) => currency !== first.currency)) {
    throw invalidRequest('All line items must have the same currency.', 'line_items');
  }
  const amount = lines.reduce((sum, line) => sum + line.amount_total, 0);
  checkAmount(amount, first.currency);

  const now = world.clock.now();
  const expiresAt = readExpiry(params, now);
  const customer = readCustomer(world, params);
  const intentData = params.object('payment_intent_data');
  const futureUsage = intentData?.choice('setup_future_usage', ['off_session', 'on_session']) ?? null;
  const intentMetadata = intentData?.metadata() ?? {};
  const description = intentData?.string('description') ?? first.description ?? '';
  intentData?.refuseOthers(['receipt_email', 'statement_descriptor', 'statement_descriptor_suffix', 'capture_method']);
  const customerCreation = params.choice('customer_creation', ['always', 'if_required']);
  if (customer !== null && customerCreation !== undefined) {
    throw invalidRequest(
      'You may only specify one of these parameters: customer, customer_creation.',
      'customer_creation',
    );
  }
  const id = newId('cs_test');
  const session = newSession({
    ...{ id, now, amount, currency: first.currency, expiresAt, customer },
    url: `${world.publicUrl()}/pay/${id}`,
    successUrl: readUrl(params, 'success_url', id) ?? params.requiredString('success_url'),
    cancelUrl: readUrl(params, 'cancel_url', id),
    clientReferenceId: params.string('client_reference_id') ?? null,
    customerCreation: customer === null ? (customerCreation ?? 'if_required') : null,
    customerEmail: params.string('customer_email') ?? null,
    metadata: params.metadata(),
  });
  params.refuseOthers(IGNORED);

  world.store.sessions.put({ id, session, lines, description, intentMetadata, futureUsage });
  world.agenda.plan('expire_session', id, expiresAt * 1000);
  return session;
}

export function expireSession(world: World, row: SessionRow): Stripe.Checkout.Session {
  const { session } = row;
  if (session.status !== 'open') {
    throw invalidRequest(
      'Only Checkout Sessions with a status in ["open"] can be expired. ' +
        `This Checkout Session has a status of ${String(session.status)}.`,
      'session',
    );
  }
  session.status = 'expired';
  session.url = null;
  world.store.sessions.put(row);
  world.agenda.cancel('expire_session', row.id);
  const intent = world.store.intents.get(idOf(session.payment_intent));
  if (intent !== undefined) cancelIntent(world, intent);
  world.events.emit('checkout.session.expired', session);
  return session;
}

/** The id of a customer that a call names and that still exists; null when it names none. */
export function readCustomer(world: World, params: Params): string | null {
  const id = params.string('customer');
  if (id === undefined) return null;
  const customer = world.store.customers.get(id);
  if (customer === undefined || customer.deleted === true) throw noSuch('customer', id, 'customer');
  return id;
}

export function checkAmount(amount: number, currency: string): void {
  checkMinorUnits(amount, currency);
  if (amount > AMOUNT_MAX) {
    throw invalidRequest('Amount must be no more than $999,999.99', 'amount', 'amount_too_large');
  }
  if (currency === 'usd' && amount < AMOUNT_MIN_USD_CENTS) {
    throw invalidRequest('Amount must be at least $0.50 usd', 'amount', 'amount_too_small');
  }
}

function readLine(line: Params): Stripe.LineItem {
  const quantity = line.integer('quantity') ?? 1;
  const price = line.object('price_data');
  if (price === undefined) throw noSuch('price', line.string('price') ?? '', 'line_items[0][price]');
  const product = price.object('product_data');
  const name = product?.requiredString('name') ?? price.requiredString('product');
  const currency = price.requiredString('currency').toLowerCase();
  const amount = price.requiredInteger('unit_amount') * quantity;
  if (amount < 0 || quantity < 1) throw invalidRequest('Invalid non-negative integer', 'line_items');
  product?.refuseOthers(['description', 'images', 'metadata', 'tax_code', 'unit_label']);
  price.refuseOthers(['tax_behavior']);
  line.refuseOthers(['adjustable_quantity', 'metadata', 'tax_rates']);
  return {
    id: newId('li'),
    object: 'item',
    adjustable_quantity: null,
    amount_discount: 0,
    amount_subtotal: amount,
    amount_tax: 0,
    amount_total: amount,
    currency,
    description: name,
    metadata: {},
    price: null,
    quantity,
  };
}

function readUrl(params: Params, name: string, sessionId: string): string | null {
  const url = params.string(name);
  if (url === undefined) return null;
  if (!/^https?:\/\/./.test(url)) throw invalidRequest('Not a valid URL', name, 'url_invalid');
  return url.replaceAll('{CHECKOUT_SESSION_ID}', sessionId);
}

function readExpiry(params: Params, now: number): number {
  const expiresAt = params.integer('expires_at');
  if (expiresAt === undefined) return now + EXPIRY_SECONDS_MAX;
  if (expiresAt < now + EXPIRY_SECONDS_MIN) {
    throw invalidRequest(
      'The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.',
      'expires_at',
    );
  }
  if (expiresAt > now + EXPIRY_SECONDS_MAX) {
    throw invalidRequest(
      'The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.',
      'expires_at',
    );
  }
  return expiresAt;
}
