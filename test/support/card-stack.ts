/**
 * A whole Holdfast before Stripe's twin, and what a customer, an operator and a bank do to it: for tests of top-ups by card
 * that look at it from outside.
 */
import assert from 'node:assert/strict';
import Stripe from 'stripe';
import { createAccessToken, type TokenRole } from '../../db/access-tokens.ts';
import { parseId } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { startStripeTwin, type StripeTwin } from '../../sandbox/twins/stripe/twin.ts';
import { startTestStack, until, type TestAccount, type TestStack } from './stack.ts';

export const WEBHOOK_SECRET = 'whsec_0123456789abcdef0123';
const KEY = 'sk_test_tests';

export interface Answer<T> {
  readonly status: number;
  readonly body: T;
}

export interface TopUpView {
  readonly id: string;
  readonly state: string;
  readonly method: string;
  readonly received_usd: string;
  readonly credited_usd: string;
}

/** A customer with a management token. */
export interface Customer extends TestAccount {
  readonly token: string;
}

export interface CardStack {
  readonly twin: StripeTwin;
  readonly stack: TestStack;
  /** The twin as Stripe's own SDK sees it. */
  readonly stripe: Stripe;
  customer(balanceUsd?: string): Promise<Customer>;
  /** A token of somebody of the staff; each name is another person. */
  staff(name: string, role?: TokenRole): Promise<string>;
  call<T>(token: string, method: string, path: string, body?: unknown): Promise<Answer<T>>;
  /** The twin's control API. */
  control<T = Record<string, unknown>>(path: string, body?: unknown): Promise<T>;
  order(customer: Customer, change?: object): Promise<TopUpView>;
  pay(topUpId: string, how?: object): Promise<void>;
  sessionOf(topUpId: string): Promise<string>;
  paymentIntentOf(topUpId: string): Promise<string>;
  untilState(customer: Customer, topUpId: string, state: string): Promise<TopUpView>;
  balanceOf(customer: Customer): Promise<PicoUsd>;
  /** Delivers an event that this test signs, as Stripe's own. */
  deliver(type: string, object: object): Promise<number>;
  /** Ends faults and lets events come again. */
  heal(): void;
  stop(): Promise<void>;
}

export async function startCardStack(name: string, env: Readonly<Record<string, string>> = {}): Promise<CardStack> {
  const twin = await startStripeTwin({
    webhookSecrets: [WEBHOOK_SECRET],
    retryLadderMs: [100, 300, 1000],
    laterDelayMs: 50,
    asyncDelayMs: null,
  });
  const stack = await startTestStack({
    name,
    env: {
      STRIPE_SECRET_KEY: KEY,
      STRIPE_WEBHOOK_SECRETS: WEBHOOK_SECRET,
      STRIPE_API_URL: twin.url,
      TOP_UP_CARD_FEE_PPM: '50000',
      TOP_UP_POLL_SECONDS: '1',
      TOP_UP_POLL_MAX_SECONDS: '2',
      EVENT_AGE_SECONDS: '2',
      ...env,
    },
  });
  const stripe = new Stripe(KEY, { host: '127.0.0.1', port: String(twin.port), protocol: 'http' });
  const management = stack.database.pool('management', { max: 2 });
  let events = 0;

  const cards: CardStack = {
    twin,
    stack,
    stripe,
    async customer(balanceUsd = '0') {
      const account = await stack.createAccount(balanceUsd);
      const { secret } = await createAccessToken(management, { role: 'account', accountId: account.uuid, name: 'me' });
      return { ...account, token: secret };
    },
    async staff(person, role = 'operator') {
      return (await createAccessToken(management, { role, accountId: null, name: person })).secret;
    },
    async call<T>(token: string, method: string, path: string, body?: unknown) {
      const response = await fetch(`${stack.baseUrl}${path}`, {
        method,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: (await response.json()) as T };
    },
    async control<T>(path: string, body: unknown = {}) {
      const response = await fetch(`${twin.url}/_twin${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const text = await response.text();
      assert.ok(response.ok, `${path}: ${text}`);
      return JSON.parse(text) as T;
    },
    async order(customer, change = {}) {
      const wanted = { method: 'card', amount_usd: '10', ...change };
      const { status, body } = await cards.call<TopUpView>(customer.token, 'POST', '/api/top-ups', wanted);
      assert.equal(status, 201, JSON.stringify(body));
      return body;
    },
    async pay(topUpId, how = {}) {
      await cards.control(`/sessions/${await cards.sessionOf(topUpId)}/pay`, how);
    },
    sessionOf: (topUpId) =>
      until(`${topUpId} to have its checkout`, async () => {
        const { rows } = await stack.admin.query<{ provider_id: string | null }>(
          'select provider_id from top_up where id = $1',
          [parseId('topUp', topUpId)],
        );
        return rows[0]!.provider_id;
      }),
    async paymentIntentOf(topUpId) {
      const session = await stripe.checkout.sessions.retrieve(await cards.sessionOf(topUpId));
      return session.payment_intent as string;
    },
    untilState: (customer, topUpId, state) =>
      until(`${topUpId} to be ${state}`, async () => {
        const { body } = await cards.call<TopUpView>(customer.token, 'GET', `/api/top-ups/${topUpId}`);
        return body.state === state && body;
      }),
    async balanceOf(customer) {
      const { body } = await cards.call<{ balance_usd: string }>(customer.token, 'GET', '/api/account');
      return usd(body.balance_usd);
    },
    async deliver(type, object) {
      const id = `evt_test_${Date.now()}_${++events}`;
      const payload = JSON.stringify({ id, object: 'event', type, livemode: false, data: { object } });
      const signature = stripe.webhooks.generateTestHeaderString({ payload, secret: WEBHOOK_SECRET });
      const response = await fetch(`${stack.baseUrl}/webhooks/stripe`, {
        method: 'POST',
        headers: { 'stripe-signature': signature, 'content-type': 'application/json' },
        body: payload,
      });
      await response.text();
      return response.status;
    },
    heal() {
      twin.faults.clear();
      twin.configureWebhooks({ url: `${stack.baseUrl}/webhooks/stripe`, secrets: [WEBHOOK_SECRET] });
    },
    async stop() {
      await stack.stop();
      await twin.close();
    },
  };
  cards.heal();
  return cards;
}
