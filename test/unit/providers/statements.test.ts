/** How provider statements are read: page by page, each entry with what the ledger can be compared by. */
import assert from 'node:assert/strict';
import type { Creem } from 'creem';
import Stripe from 'stripe';
import {
  createCreemStatement,
  createStripeStatement,
  type StatementEntry,
  type ProviderStatement,
} from '../../../providers/statements.ts';
import { usd, ZERO_USD } from '../../../domain/money.ts';
import { startStripeTwin, type StripeTwin } from '../../../twins/stripe/twin.ts';

const DAY_MS = 86_400_000;

async function pagesOf(
  statement: ProviderStatement,
  period: { since: Date; until: Date },
): Promise<(readonly StatementEntry[])[]> {
  const pages: (readonly StatementEntry[])[] = [];
  for (let cursor: string | null = null; pages.length === 0 || cursor !== null;) {
    const { entries, next }: Awaited<ReturnType<ProviderStatement['page']>> = await statement.page(period, cursor);
    pages.push(entries);
    cursor = next;
  }
  return pages;
}

describe("Stripe's statement", () => {
  let twin: StripeTwin;
  let stripe: Stripe;

  before(async () => {
    twin = await startStripeTwin({ laterDelayMs: 3_600_000 });
    stripe = new Stripe('sk_test_books', { host: '127.0.0.1', port: String(twin.port), protocol: 'http' });
  });
  after(() => twin.close());

  const pay = (metadata: Record<string, string>) =>
    stripe.paymentIntents.create({
      amount: 1050,
      currency: 'usd',
      confirm: true,
      payment_method: 'pm_card_visa',
      metadata,
    });
  const today = () => ({ since: new Date(Date.now() - DAY_MS), until: new Date(Date.now() + 60_000) });

  it('the statement lists more payments than a page of Stripe holds, each once, and only ours', async function () {
    this.timeout(30_000);
    await pay({ shop: 'another' });
    for (let n = 0; n < 120; n++) await pay({ topup_id: `top_${n}` });
    const pages = await pagesOf(createStripeStatement(stripe), today());
    assert.deepEqual(
      pages.map((entries) => entries.length),
      [100, 20, 0, 0],
    );
    assert.equal(new Set(pages.flat().map(({ topUpId }) => topUpId)).size, 120);
    assert.deepEqual(
      pages.flat().map(({ received, taken }) => [received, taken]),
      pages.flat().map(() => [usd('10.50'), ZERO_USD]),
    );
  });

  it('the statement shows the refunded part of a payment, and of a dispute only that there is one', async () => {
    const [refunded, disputed] = [await pay({ topup_id: 'top_a' }), await pay({ topup_id: 'top_b' })];
    const refund = await stripe.refunds.create({ payment_intent: refunded.id, amount: 300 });
    const made = await fetch(`${twin.url}/_twin/disputes`, {
      method: 'POST',
      body: JSON.stringify({ payment_intent: disputed.id }),
    });
    assert.ok(made.ok);
    const entries = (await pagesOf(createStripeStatement(stripe), today())).flat();
    const about = ({ id }: { readonly id: string }) =>
      entries
        .filter(({ paymentId }) => paymentId === id)
        .map(({ received, taken, reversal }) => [received, taken, reversal?.isTaken]);
    assert.deepEqual(about(refunded), [
      [usd('10.50'), usd('3'), undefined],
      [null, null, true],
    ]);
    // The dispute is open: whether its money comes back is not known.
    assert.deepEqual(about(disputed), [
      [usd('10.50'), null, undefined],
      [null, null, null],
    ]);
    assert.ok(entries.some(({ reversal }) => reversal?.objectId === refund.id));
  });
});

describe("Stripe's statement in other currencies", () => {
  for (const [currency, minor, amount] of [
    ['jpy', 1500, '1500'],
    ['kwd', 1500, '1.5'],
    ['isk', 1500, '15'],
    ['eur', 1500, '15'],
  ] as const) {
    it(`${minor} minor units of ${currency} count as ${amount} of it`, async () => {
      const intent = {
        id: 'pi_1',
        status: 'succeeded',
        amount_received: minor,
        currency,
        metadata: { topup_id: 'top_a' },
      };
      const latest_charge = { disputed: false, amount_refunded: minor / 2 };
      const list = () => Promise.resolve({ data: [{ ...intent, latest_charge }], has_more: false });
      const { entries } = await createStripeStatement({ paymentIntents: { list } } as unknown as Stripe).page(
        { since: new Date(0), until: new Date() },
        null,
      );
      const [entry] = entries;
      assert.deepEqual([entry?.received, entry?.currency], [usd(amount), currency]);
      assert.equal(entry!.taken! * 2n, entry!.received);
    });
  }
});

describe("Creem's statement", () => {
  const NOW = Date.now();
  const period = { since: new Date(NOW - 3 * DAY_MS), until: new Date(NOW) };

  /** A search with one transaction a page, so many days old. */
  function searchOver(
    daysOld: readonly number[],
    change: object = {},
  ): { statement: ProviderStatement; read: number[] } {
    const read: number[] = [];
    const search = (_customer: unknown, _order: unknown, _product: unknown, page: number) => {
      read.push(page);
      const transaction = {
        id: `tran_${page}`,
        order: `ord_${page}`,
        status: 'paid',
        amountPaid: 1271,
        taxAmount: 221,
        refundedAmount: null,
        currency: 'USD',
        createdAt: new Date(NOW - daysOld[page - 1]! * DAY_MS),
        ...change,
      };
      return Promise.resolve({ result: { items: [transaction], pagination: { totalPages: daysOld.length } } });
    };
    return { statement: createCreemStatement({ transactions: { search } } as unknown as Creem, 'prod_ours'), read };
  }

  it('the statement of Creem counts a payment without its tax, as the ledger does', async () => {
    const entries = (await pagesOf(searchOver([1]).statement, period)).flat();
    assert.deepEqual(
      entries.map(({ paymentId, received, taken }) => [paymentId, received, taken]),
      [['ord_1', usd('10.50'), ZERO_USD]],
    );
  });

  it('a payment without a currency has no sum in dollars, and a payment without a time is not left out', async () => {
    const entries = (await pagesOf(searchOver([1], { currency: undefined, createdAt: null }).statement, period)).flat();
    assert.deepEqual(
      entries.map(({ paymentId, received, currency }) => [paymentId, received, currency]),
      [['ord_1', usd('1050'), 'unknown']],
    );
  });

  it('reading stops once pages in order are older than the period', async () => {
    const { statement, read } = searchOver([1, 2, 3.5, ...Array.from({ length: 37 }, (_, n) => 5 + n)]);
    assert.equal((await pagesOf(statement, period)).flat().length, 2);
    // 3.5 days are too near to be sure; the pages after the fourth are a sample of the rest.
    assert.deepEqual(read, [1, 2, 3, 4, 13, 22, 31, 40]);
  });

  it('everything is read where the search shows another order', async () => {
    const newestLast = searchOver([9, 8, 7, 2, 1]);
    assert.equal((await pagesOf(newestLast.statement, period)).flat().length, 2);
    // As if it were ordered by something else first: all in order, until the next group.
    const grouped = searchOver([1, 2, 5, 6, 1.5, 8]);
    assert.equal((await pagesOf(grouped.statement, period)).flat().length, 3);
    const mixed = searchOver([1, 8, 2, 9, 0.5]);
    assert.equal((await pagesOf(mixed.statement, period)).flat().length, 3);
  });
});
