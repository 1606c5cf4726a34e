/**
 * Everything at once, in random order: payments by card and chain, events dropped, duplicated, delayed and reordered,
 * refunds, disputes, reorgs, spending, and processes that die. When it is quiet again every account must hold exactly
 * what the providers' own statements say it should, by a fold that knows nothing of the ledger.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { JsonRpcProvider } from 'ethers';
import { formatUsd, picoUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { startCardProvider, type CardProvider } from '../support/card-stack.ts';
import { startCryptoStack, type CryptoStack } from '../support/crypto-stack.ts';
import { post } from '../support/gateway-client.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { until } from '../support/until.ts';

const CHAIN = 8453;
const STORIES = 3;
const ACCOUNTS = 3;
/** Fee of 5 % on orders of 10 USD. */
const CHARGE_CENTS = 1050n;
const CREDIT = usd('10');
const PICO_PER_TOKEN_UNIT = 1_000_000n;

/** The possible events; `n` picks the account, the payment, the sum. */
const step = fc.record({
  what: fc.constantFrom(
    'pay by card',
    'pay by card',
    'pay by chain',
    'pay by chain',
    'refund',
    'dispute',
    'end a dispute',
    'reorg',
    'mine',
    'spend',
    'spend',
    'kill the worker',
    'kill the api',
  ),
  n: fc.nat(10_000),
  fault: fc.constantFrom(
    { duplicate: 4 },
    { drop: true },
    { delay_ms: 700 },
    { reorder: true },
    { wrong_secret: true },
    null,
    null,
  ),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

interface Person {
  readonly customer: Customer;
  readonly key: string;
  readonly transfers: { readonly txHash: string; readonly units: bigint }[];
}

describe('money that comes in, spends and goes back in any order', () => {
  let bank: CardProvider;
  let crypto: CryptoStack;
  let node: JsonRpcProvider;

  before(async function () {
    this.timeout(90_000);
    bank = await startCardProvider();
    crypto = await startCryptoStack({
      name: 'interleavings',
      chains: [{ chainId: CHAIN }],
      env: () => ({
        ...bank.env,
        RECONCILE_INTERVAL_SECONDS: '5',
        RECONCILE_GRACE_SECONDS: '1',
        RECONCILE_LOOK_SECONDS: '1',
      }),
    });
    node = new JsonRpcProvider(crypto.chain(CHAIN).anvilUrl, CHAIN, { staticNetwork: true, cacheTimeout: -1 });
    hearEvents();
  });
  after(async () => {
    node.destroy();
    await crypto.stop();
    await bank.twin.close();
  });

  /** The api has another port after each start. */
  function hearEvents(): void {
    bank.twin.configureWebhooks({ url: `${crypto.stack.baseUrl}/webhooks/stripe` });
  }

  class Story {
    readonly people: Person[];
    /** PaymentIntents of this story's orders. */
    readonly intents: string[] = [];
    readonly openDisputes: string[] = [];

    constructor(people: Person[]) {
      this.people = people;
    }

    async take({ what, n, fault }: Step): Promise<void> {
      const person = this.people[n % this.people.length]!;
      switch (what) {
        case 'pay by card':
          if (fault !== null) bank.twin.faults.add({ on: 'delivery', match: {}, fault, count: 1 + (n % 4) });
          return this.#payByCard(person);
        case 'pay by chain':
          return this.#payByChain(person, 1_000_000n + BigInt(n) * 997n);
        case 'refund':
          return this.#refund(n);
        case 'dispute':
          return this.#dispute(n);
        case 'end a dispute':
          return this.#endDispute(n % 2 === 0 ? 'won' : 'lost');
        case 'reorg':
          return this.#reorg(person, n);
        case 'mine':
          return void (await crypto.chain(CHAIN).mine(1 + (n % 6)));
        case 'spend':
          return this.#spend(person);
        case 'kill the worker': {
          const dying = crypto.stack.worker;
          dying.signal('SIGKILL');
          await dying.exited;
          return void (await crypto.stack.startWorker());
        }
        case 'kill the api': {
          const dying = crypto.stack.api;
          dying.signal('SIGKILL');
          await dying.exited;
          await crypto.stack.startApi();
          return hearEvents();
        }
      }
    }

    async #payByCard({ customer }: Person): Promise<void> {
      const { id } = await customer.order('card');
      const { sessions } = bank.stripe.checkout;
      const session = await until('a session', async () => {
        for await (const found of sessions.list({ limit: 100 })) {
          if (found.client_reference_id === id) return found.id;
        }
        return null;
      });
      await bank.control.steer(`sessions/${session}/pay`);
      this.intents.push((await sessions.retrieve(session)).payment_intent as string);
    }

    async #payByChain({ customer, transfers }: Person, units: bigint): Promise<void> {
      const order = await crypto.order(customer);
      const amount = `${units / 1_000_000n}.${(units % 1_000_000n).toString().padStart(6, '0')}`;
      const { txHash } = await crypto.chain(CHAIN).transfer({ token: 'USDC', to: order.address, amount });
      transfers.push({ txHash, units });
    }

    /** A part, or more than is left: then Stripe refuses. */
    async #refund(n: number): Promise<void> {
      const intent = this.intents[n % Math.max(this.intents.length, 1)];
      if (intent !== undefined)
        await bank.stripe.refunds.create({ payment_intent: intent, amount: 1 + (n % 700) }).catch(refused);
    }

    /** Stripe refuses it for what is disputed or given back already. */
    async #dispute(n: number): Promise<void> {
      const intent = this.intents[n % Math.max(this.intents.length, 1)];
      if (intent === undefined) return;
      const wanted = { payment_intent: intent, withdraw: true };
      const { status, body } = await bank.control.call<{ id: string }>('POST', 'disputes', wanted);
      if (status === 200) this.openDisputes.push(body.id);
    }

    async #endDispute(status: 'won' | 'lost'): Promise<void> {
      const dispute = this.openDisputes.shift();
      if (dispute === undefined) return;
      await bank.control.call('POST', `disputes/${dispute}`, { status, reinstate: status === 'won' });
    }

    /** Drops the last blocks; half of the time the person's last transfer is mined again in another one. */
    async #reorg({ transfers }: Person, n: number): Promise<void> {
      const last = transfers.at(-1);
      const depth = 1 + (n % 5);
      const isAgain = n % 2 === 0 && last !== undefined && (await node.getTransaction(last.txHash)) !== null;
      const reinclude = isAgain ? [{ txHash: last.txHash, offset: 0 }] : [];
      await crypto.chain(CHAIN).reorg({ depth, reinclude }).catch(refused);
    }

    async #spend({ key }: Person): Promise<void> {
      const request = { model: 'test/per-call', max_tokens: 20, messages: [{ role: 'user', content: 'hello' }] };
      const response = await post(crypto.stack, key, request);
      await response.text();
    }

    /** The balance the account must have: its money at Stripe and on the chain, less its spending. */
    async truthOf({ customer, transfers }: Person): Promise<PicoUsd> {
      const { stripe } = bank;
      let sum = 0n;
      const orders = new Set(await this.#ordersOf(customer));
      for await (const intent of stripe.paymentIntents.list({ limit: 100 })) {
        if (intent.status !== 'succeeded' || !orders.has(intent.metadata['topup_id'] ?? '')) continue;
        let taken = 0n;
        for await (const refund of stripe.refunds.list({ payment_intent: intent.id, limit: 100 })) {
          if (refund.status === 'succeeded') taken += BigInt(refund.amount);
        }
        for await (const dispute of stripe.disputes.list({ payment_intent: intent.id, limit: 100 })) {
          if (dispute.status !== 'won') taken += BigInt(dispute.amount);
        }
        sum += CREDIT - (taken >= CHARGE_CENTS ? CREDIT : (CREDIT * taken) / CHARGE_CENTS);
      }
      for (const { txHash, units } of transfers) {
        if ((await node.getTransactionReceipt(txHash))?.status === 1) sum += units * PICO_PER_TOKEN_UNIT;
      }
      const { rows } = await crypto.stack.admin.query<{ spent: string }>(
        'select coalesce(sum(cost), 0)::text as spent from request where account_id = $1',
        [customer.uuid],
      );
      return picoUsd(sum - usd(rows[0]!.spent));
    }

    async #ordersOf(customer: Customer): Promise<string[]> {
      const { body } = await customer.call<{ data: { id: string }[] }>('GET', '/api/top-ups?limit=200');
      return body.data.map(({ id }) => id);
    }

    /** Faults end, blocks become final, and nothing more happens. */
    async quieten(): Promise<void> {
      bank.twin.faults.clear();
      await crypto.chain(CHAIN).mine(24);
      for (const person of this.people) {
        const { customer } = person;
        await until(
          `account ${customer.id} to hold what its providers say`,
          async () => (await customer.balance()) === (await this.truthOf(person)),
          60_000,
        ).catch(async (error: unknown) => {
          const [held, due] = [await customer.balance(), await this.truthOf(person)];
          throw new Error(`holds ${formatUsd(held)}, its providers say ${formatUsd(due)}`, { cause: error });
        });
      }
    }
  }

  it('leaves every account with the balance of a fold over the providers’ statements', async function () {
    this.timeout(600_000);
    const story = fc.array(step, { minLength: 12, maxLength: 22 });
    await fc.assert(
      fc.asyncProperty(story, async (steps) => {
        const people: Person[] = [];
        for (let n = 0; n < ACCOUNTS; n++) {
          const customer = await crypto.people.customer();
          people.push({ customer, key: (await crypto.stack.createKey(customer)).secret, transfers: [] });
        }
        const told = new Story(people);
        for (const taken of steps) await told.take(taken);
        await told.quieten();
        assert.deepEqual(await brokenRules(crypto.stack.admin), []);
      }),
      // A story cannot be told again from the start against providers that remember, so it is not shrunk.
      { numRuns: STORIES, endOnFailure: true },
    );
  });
});

/** The provider's answer to what cannot be done now; the story goes on. */
function refused(error: unknown): void {
  assert.ok(error instanceof Error);
}
