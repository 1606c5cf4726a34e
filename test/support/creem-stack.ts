/**
 * A whole Holdfast before Creem's twin, and what customers, banks and the seller's dashboard do to it: for tests of
 * top-ups by Creem that look at it from outside.
 */
import { Creem } from 'creem';
import { DEFAULT_PRODUCT_ID, startCreemTwin, type CreemTwin } from '../../twins/creem/twin.ts';
import { checkoutOf, People, type Customer, type TopUpView } from './people.ts';
import { startTestStack, type TestStack, type TestStackOptions } from './stack.ts';
import { TwinControl } from './twin-control.ts';

/** The first one signs what the twin sends; the product takes either, as while they are rotated. */
export const WEBHOOK_SECRETS = [
  'whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHM=',
  'whsec_b2xkLXNlY3JldC1vZi10aGUtdGVzdHM=',
] as const;
/** An order of 10.00 costs 10.50 with the fee of 5 %; the twin adds 21 % tax: 2.21 (rounded), so 12.71 is paid. */
export const PRICE_CENTS = 1050;
export const PAID_CENTS = 1271;
const KEY = 'creem_test_tests';
/** Long enough for events, wake-ups and polls that would wrongly do it again. */
const SETTLE_DOWN_MS = 3000;

export interface CreemStack {
  readonly twin: CreemTwin;
  readonly stack: TestStack;
  readonly people: People;
  /** The twin as Creem's own SDK sees it. */
  readonly creem: Creem;
  readonly control: TwinControl;
  pay(topUpId: string, how?: object): Promise<void>;
  /** An order of 10 USD that is paid and credited. */
  paidOrder(customer: Customer): Promise<TopUpView>;
  checkoutOf(topUpId: string): Promise<string>;
  transactionOf(topUpId: string): Promise<string>;
  /** `transactionOf` by the twin's own memory, for orders that the SDK cannot read. */
  transactionFor(topUpId: string): Promise<string>;
  /** A checkout for an order of 10 USD, made without the product; its id. */
  makeCheckout(topUpId: string): Promise<string>;
  /** Ids of all checkouts that were made for an order. */
  checkoutsFor(topUpId: string): string[];
  /** Lets pass what would wrongly happen a second time. */
  settleDown(): Promise<void>;
  /** Ends faults and lets events come again. */
  heal(): void;
  stop(): Promise<void>;
}

export async function startCreemStack(options: TestStackOptions): Promise<CreemStack> {
  const twin = await startCreemTwin({ retryLadderMs: [100, 300, 1000, 3000] });
  const stack = await startTestStack({
    ...options,
    env: {
      CREEM_API_KEY: KEY,
      CREEM_WEBHOOK_SECRETS: WEBHOOK_SECRETS.join(','),
      CREEM_PRODUCT_ID: DEFAULT_PRODUCT_ID,
      CREEM_API_URL: twin.url,
      TOP_UP_CREEM_MIN_USD: '2',
      TOP_UP_CREEM_FEE_PPM: '50000',
      TOP_UP_POLL_SECONDS: '2',
      TOP_UP_POLL_MAX_SECONDS: '2',
      EVENT_AGE_SECONDS: '3',
      ...options.env,
    },
  });
  const creem = new Creem({ apiKey: KEY, serverURL: twin.url });
  const control = new TwinControl(() => twin.url);

  const shop: CreemStack = {
    twin,
    stack,
    people: new People(stack),
    creem,
    control,
    async pay(topUpId, how = {}) {
      await control.steer(`checkouts/${await shop.checkoutOf(topUpId)}/pay`, how);
    },
    async paidOrder(customer) {
      const { id } = await customer.order('creem');
      await shop.pay(id);
      return customer.untilState(id, 'credited');
    },
    checkoutOf: (topUpId) => checkoutOf(stack, topUpId),
    async transactionOf(topUpId) {
      const checkout = await creem.checkouts.retrieve(await shop.checkoutOf(topUpId));
      return checkout.order!.transaction!;
    },
    async transactionFor(topUpId) {
      const { transactions } = await control.show<{ transactions: { id: string; order: string }[] }>('state');
      const paid = twin.checkouts().find(({ request_id }) => request_id === topUpId);
      return transactions.find(({ order }) => order === paid?.order?.id)!.id;
    },
    async makeCheckout(topUpId) {
      const wanted = { productId: DEFAULT_PRODUCT_ID, requestId: topUpId, customPrice: PRICE_CENTS };
      return (await creem.checkouts.create(wanted)).id;
    },
    checkoutsFor: (topUpId) =>
      twin
        .checkouts()
        .filter(({ request_id }) => request_id === topUpId)
        .map(({ id }) => id),
    settleDown: () => new Promise((resolve) => setTimeout(resolve, SETTLE_DOWN_MS)),
    heal() {
      twin.faults.clear();
      twin.configureWebhooks({
        url: `${stack.baseUrl}/webhooks/creem`,
        secrets: [WEBHOOK_SECRETS[0]],
        form: 'both',
      });
    },
    async stop() {
      await stack.stop();
      await twin.close();
    },
  };
  shop.heal();
  return shop;
}
