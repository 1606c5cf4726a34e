/** Staff find a top-up by what a customer can tell: an amount, a day, an id of the provider. */
import assert from 'node:assert/strict';
import { formatId, type AccountUuid } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import { notePayments } from '../../../../../db/payments/known-payments.ts';
import { createCustomer } from '../../../../support/ledger-database.ts';
import { creditedTopUp, reverse, waitingTopUp } from '../../../../support/paid-top-ups.ts';
import { readPages, refusal, rowsOf, startManagement, type Management } from '../../management.ts';
import type { TopUp } from '../../../../../db/payments/top-ups.ts';

describe('/admin/top-ups', () => {
  let management: Management;
  let accountId: AccountUuid;
  let paid: TopUp;
  let waiting: TopUp;
  let chain: TopUp;
  const HASH = `0x${'ab'.repeat(32)}`;
  before(async () => {
    management = await startManagement('routes_top_up_search');
    accountId = await createCustomer(management, '0');
    paid = (await creditedTopUp(management, { accountId, paymentId: 'pi_known' })).order;
    await reverse(management, paid, { objectId: 're_known', kind: 'refund', direction: 'out', amount: '1' });
    waiting = await waitingTopUp(management, { accountId: management.accountId, amount: '12.34', fee: '0.66' });
    await notePayments(management.worker, waiting.id, [
      {
        ...{ paymentId: 'pi_Known1', status: 'paid', received: usd('3'), currency: 'usd', live: true },
        otherIds: ['ch_Known1'],
      },
    ]);
    chain = (
      await creditedTopUp(management, { accountId, method: 'crypto', provider: 'crypto', paymentId: `8453/${HASH}/0` })
    ).order;
    await management.admin.query("update top_up set stuck = 'amount_mismatch' where id = $1", [waiting.id]);
  });
  after(() => management.stop());

  /** Which of the orders above are found. */
  async function found(query: string): Promise<string[]> {
    const { status, body } = await management.call('GET', `/admin/top-ups?${query}`, {
      token: management.tokens.support,
    });
    assert.equal(status, 200);
    const names = new Map<string, string>(
      Object.entries({ paid, waiting, chain }).map(([name, { id }]) => [formatId('topUp', id), name]),
    );
    return rowsOf(body).map((row) => names.get(row['id'] as string) ?? 'another');
  }

  const cases: [string, () => string, string[]][] = [
    ['nothing: all, newest first', () => '', ['chain', 'waiting', 'paid']],
    ['state', () => 'state=waiting', ['waiting']],
    ['account', () => `account_id=${formatId('account', accountId)}`, ['chain', 'paid']],
    ['provider', () => 'provider=stripe', ['waiting', 'paid']],
    ['that it waits for a person', () => 'stuck=true', ['waiting']],
    ['the checkout’s id', () => `q=${waiting.providerId}`, ['waiting']],
    ['the payment’s id', () => 'q=pi_known', ['paid']],
    ['the refund’s id', () => 'q=re_known', ['paid']],
    ['the hash of a chain transaction, in any case', () => `q=${HASH.toUpperCase().replace('0X', '0x')}`, ['chain']],
    ['the charge of a payment', () => 'q=ch_Known1', ['waiting']],
    [
      'a link to a payment',
      () => `q=${encodeURIComponent('https://dashboard.stripe.com/payments/pi_Known1')}`,
      ['waiting'],
    ],
    ['an id that nobody has', () => 'q=pi_', []],
    ['a pattern, which is no id', () => 'q=%25', []],
    ['the amount', () => 'amount_usd=12.34', ['waiting']],
    ['the amount with its fee', () => 'amount_usd=13', ['waiting']],
    ['the amount of several', () => 'amount_usd=10.00', ['chain', 'paid']],
    ['the day', () => `from=${new Date(Date.now() - 86_400_000).toISOString()}`, ['chain', 'waiting', 'paid']],
    ['another day', () => `to=${new Date(Date.now() - 86_400_000).toISOString()}`, []],
    ['several things at once', () => 'state=credited&provider=stripe&amount_usd=10.5', ['paid']],
  ];
  for (const [what, query, expected] of cases) {
    it(`the search finds top-ups by ${what}`, async () => assert.deepEqual(await found(query()), expected));
  }

  it('the search returns its results in pages', async () => {
    const rows = await readPages(management, '/admin/top-ups', { limit: 1 });
    assert.equal(rows.length, 3);
  });

  for (const [query, param] of [
    ['state=paid', 'state'],
    ['amount_usd=-1', 'amount_usd'],
    ['from=yesterday', 'from'],
    ['q=', 'q'],
  ] as const) {
    it(`the search refuses ${query}`, async () => {
      const answer = await management.call('GET', `/admin/top-ups?${query}`);
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param });
    });
  }
});
