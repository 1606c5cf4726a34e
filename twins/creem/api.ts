/** The routes of Creem's API that this twin has, from a request to the answered object. */
import type { FaultRules } from '../kit/payment-faults.ts';
import { openCheckout, refund } from './payments.ts';
import type { Transaction } from './store.ts';
import { listWebhooks, webhookSecret } from './webhooks-api.ts';
import { existing, Refused, type World } from './world.ts';
import { isObject, type JsonObject } from '../kit/input.ts';

export interface ApiRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly apiKey: string | undefined;
  readonly body: string;
}

export interface ApiAnswer {
  readonly status: number;
  readonly body: unknown;
}

/** The call was carried out and its answer is lost on the way. */
export const LOST = Symbol('lost');

/** Creem's own bounds of a price, in cents. */
const PRICE_MIN = 100;
const PRICE_MAX = 99_999_999;
const PAGE_DEFAULT = 10;
const WEBHOOK_SECRET = /^\/v1\/webhooks\/([^/]+)\/secret$/;

export async function answerApi(
  world: World,
  faults: FaultRules,
  request: ApiRequest,
): Promise<ApiAnswer | typeof LOST> {
  const fault = faults.takeForCall(request.method, request.path, false);
  if (fault.hang_ms !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.hang_ms));
  if (fault.rate_limit === true) return refusal(429, 'The rate limit was exceeded.');
  if (fault.fail_status !== undefined && fault.after_commit !== true) return refusal(fault.fail_status, 'As asked.');
  const answer = answered(world, request);
  world.store.flush();
  if (fault.drop_response_after_commit === true) return LOST;
  return fault.fail_status === undefined ? answer : refusal(fault.fail_status, 'As asked.');
}

function answered(world: World, request: ApiRequest): ApiAnswer {
  try {
    return { status: 200, body: carryOut(world, request) };
  } catch (error) {
    if (error instanceof Refused) return refusal(error.status, error.message);
    throw error;
  }
}

function refusal(status: number, message: string): ApiAnswer {
  return { status, body: { trace_id: 'twin', status, error: 'Refused', message: [message], timestamp: Date.now() } };
}

function carryOut(world: World, { method, path, query, apiKey, body }: ApiRequest): unknown {
  if (apiKey === undefined) throw new Refused(401, 'The API key is missing.');
  if (!apiKey.startsWith('creem_test_')) throw new Refused(403, 'The API key is not one of test mode.');
  const { store } = world;
  switch (`${method} ${path}`) {
    case 'POST /v1/checkouts':
      return createCheckout(world, fieldsOf(body));
    case 'GET /v1/checkouts':
      return { ...existing(store.checkouts, query.get('checkout_id') ?? ''), product: store.product };
    case 'GET /v1/transactions':
      return existing(store.transactions, query.get('transaction_id') ?? '');
    case 'GET /v1/transactions/search':
      return searchTransactions(world, query);
    case 'POST /v1/refunds':
      // Always of all that is left: a part can be given back in the dashboard alone.
      return {
        status: refund(world, existing(store.transactions, text(fieldsOf(body), 'transaction_id') ?? '')).status,
      };
    case `GET /v1/products/${store.product.id}`:
      return store.product;
    case 'GET /v1/webhooks':
      return listWebhooks(world.webhooks());
    default:
      if (method === 'GET' && WEBHOOK_SECRET.test(path)) {
        return webhookSecret(world.webhooks(), WEBHOOK_SECRET.exec(path)![1]!);
      }
      throw new Refused(404, `There is no ${method} ${path}.`);
  }
}

function createCheckout(world: World, fields: JsonObject): unknown {
  const { store } = world;
  const productId = text(fields, 'product_id');
  if (productId !== store.product.id) throw new Refused(404, 'The product was not found.');
  const price = fields['custom_price'] ?? store.product.price;
  if (typeof price !== 'number' || !Number.isInteger(price) || price < PRICE_MIN || price > PRICE_MAX) {
    throw new Refused(400, `custom_price must be a whole number from ${PRICE_MIN} to ${PRICE_MAX}.`);
  }
  const units = fields['units'] ?? 1;
  if (typeof units !== 'number' || !Number.isInteger(units) || units < 1)
    throw new Refused(400, 'units must be positive.');
  const metadata = fields['metadata'];
  // No idempotency: the same call twice makes two checkouts.
  const checkout = openCheckout(world, {
    customPrice: price,
    units,
    requestId: text(fields, 'request_id'),
    successUrl: text(fields, 'success_url'),
    metadata: isObject(metadata) ? metadata : undefined,
  });
  return { ...checkout, product: store.product };
}

function searchTransactions(world: World, query: URLSearchParams): unknown {
  const wanted = (transaction: Transaction): boolean =>
    [
      [query.get('order_id'), transaction.order],
      [query.get('customer_id'), transaction.customer],
      [query.get('product_id'), world.store.product.id],
    ].every(([given, has]) => given === null || given === has);
  const all = [...world.store.transactions.values()].filter(wanted).reverse();
  const size = Number(query.get('page_size') ?? PAGE_DEFAULT);
  const page = Number(query.get('page_number') ?? 1);
  const pages = Math.max(1, Math.ceil(all.length / size));
  return {
    items: all.slice((page - 1) * size, page * size),
    pagination: {
      total_records: all.length,
      total_pages: pages,
      current_page: page,
      next_page: page < pages ? page + 1 : null,
      prev_page: page > 1 ? page - 1 : null,
    },
  };
}

function fieldsOf(body: string): JsonObject {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    throw new Refused(400, 'The body is not valid JSON.');
  }
  if (!isObject(parsed)) throw new Refused(400, 'The body is not an object.');
  return parsed;
}

function text(fields: JsonObject, name: string): string | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new Refused(400, `${name} must be a string.`);
  return value;
}
