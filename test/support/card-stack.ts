/**
 * A whole Holdfast before Stripe's twin, and what cards, banks and Stripe itself do to it: for tests of top-ups by card
 * that look at it from outside.
 */
import { Client, Connection } from '@temporalio/client';
import Stripe from 'stripe';
import { uuidv7 } from 'uuidv7';
import { startStripeTwin, type StripeTwin } from '../../twins/stripe/twin.ts';
import { checkoutOf, People, type Customer, type TopUpView } from './people.ts';
import { testServices } from './services.ts';
import { startTestStack, type TestStack, type TestStackOptions } from './stack.ts';
import { TwinControl } from './twin-control.ts';
import { until } from './until.ts';

/** The first one signs what the twin sends; the product takes either, as while they are rotated. */
export const WEBHOOK_SECRETS = ['whsec_0123456789abcdef0123', 'whsec_fedcba98765432100000'] as const;
const KEY = 'sk_test_tests';
/** Long enough for events, wake-ups and polls that would wrongly do it again. */
const SETTLE_DOWN_MS = 1500;

/** Stripe's twin, which repeats events soon; what is delayed ends when a test says so. */
export interface CardProvider {
  readonly twin: StripeTwin;
  /** The twin as Stripe's own SDK sees it. */
  readonly stripe: Stripe;
  readonly control: TwinControl;
  /** With it the product reaches the twin, asks it often, and takes a fee of 5 %. */
  readonly env: Readonly<Record<string, string>>;
}

export interface CardStack extends CardProvider {
  readonly stack: TestStack;
  readonly people: People;
  /** Of the namespace of processes. */
  readonly temporal: Client;
  pay(topUpId: string, how?: object): Promise<void>;
  /** An order of 10 USD that is paid and credited. */
  paidOrder(customer: Customer): Promise<TopUpView>;
  sessionOf(topUpId: string): Promise<string>;
  paymentIntentOf(topUpId: string): Promise<string>;
  sign(event: string, options?: { readonly secret?: string; readonly ageSeconds?: number }): string;
  /** Posts an event to the product's webhook; resolves with the status of the answer. */
  deliver(event: string, signature?: string): Promise<number>;
  /** Resolves once every event that has come is handled. */
  untilEventsAreHandled(): Promise<void>;
  /** Lets pass what would wrongly happen a second time. */
  settleDown(): Promise<void>;
  /** Ends faults and lets events come again. */
  heal(): void;
  stop(): Promise<void>;
}

export async function startCardProvider(): Promise<CardProvider> {
  const twin = await startStripeTwin({
    webhookSecrets: [WEBHOOK_SECRETS[0]],
    retryLadderMs: [100, 300, 1000],
    laterDelayMs: 50,
    asyncDelayMs: null,
  });
  return {
    twin,
    stripe: new Stripe(KEY, { host: '127.0.0.1', port: String(twin.port), protocol: 'http' }),
    control: new TwinControl(() => twin.url),
    env: {
      STRIPE_SECRET_KEY: KEY,
      STRIPE_WEBHOOK_SECRETS: WEBHOOK_SECRETS.join(','),
      STRIPE_API_URL: twin.url,
      TOP_UP_CARD_FEE_PPM: '50000',
      TOP_UP_POLL_SECONDS: '1',
      TOP_UP_POLL_MAX_SECONDS: '2',
    },
  };
}

export async function startCardStack(options: TestStackOptions): Promise<CardStack> {
  const provider = await startCardProvider();
  const { twin, stripe, control } = provider;
  const env = { ...provider.env, EVENT_AGE_SECONDS: '2', ...options.env };
  const stack = await startTestStack({ ...options, env });
  const connection = await Connection.connect({ address: testServices().temporalAddress });

  const cards: CardStack = {
    ...provider,
    stack,
    people: new People(stack),
    temporal: new Client({ connection, namespace: stack.namespaces.processes }),
    async pay(topUpId, how = {}) {
      await control.steer(`sessions/${await cards.sessionOf(topUpId)}/pay`, how);
    },
    async paidOrder(customer) {
      const { id } = await customer.order('card');
      await cards.pay(id);
      return customer.untilState(id, 'credited');
    },
    sessionOf: (topUpId) => checkoutOf(stack, topUpId),
    async paymentIntentOf(topUpId) {
      const session = await stripe.checkout.sessions.retrieve(await cards.sessionOf(topUpId));
      return session.payment_intent as string;
    },
    sign: (event, { secret = WEBHOOK_SECRETS[0], ageSeconds = 0 } = {}) =>
      stripe.webhooks.generateTestHeaderString({
        payload: event,
        secret,
        timestamp: Math.floor(Date.now() / 1000) - ageSeconds,
      }),
    async deliver(event, signature = cards.sign(event)) {
      const response = await fetch(`${stack.baseUrl}/webhooks/stripe`, {
        method: 'POST',
        headers: { 'stripe-signature': signature, 'content-type': 'application/json' },
        body: event,
      });
      await response.text();
      return response.status;
    },
    async untilEventsAreHandled() {
      await until('every event to be handled', async () => {
        const { rowCount } = await stack.admin.query('select from provider_event where handled_at is null');
        return rowCount === 0;
      });
    },
    settleDown: () => new Promise((resolve) => setTimeout(resolve, SETTLE_DOWN_MS)),
    heal() {
      twin.faults.clear();
      twin.configureWebhooks({ url: `${stack.baseUrl}/webhooks/stripe`, secrets: [WEBHOOK_SECRETS[0]] });
    },
    async stop() {
      await connection.close();
      await stack.stop();
      await twin.close();
    },
  };
  cards.heal();
  return cards;
}

/** An event as Stripe words it, with an id that no other has. */
export function stripeEvent(type: string, object: object = {}): { readonly id: string; readonly text: string } {
  const id = `evt_${uuidv7()}`;
  return { id, text: JSON.stringify({ id, object: 'event', type, livemode: false, data: { object } }) };
}
