/**
 * Top-ups as CSV: every state and amount as the ledger has it, nobody else's orders, and no formula for a spreadsheet.
 */
import assert from 'node:assert/strict';
import { createCustomer } from '../../../../support/ledger-database.ts';
import { creditedTopUp, reverse, waitingTopUp } from '../../../../support/paid-top-ups.ts';
import { formatId, type AccountUuid } from '../../../../../domain/ids.ts';
import { refusal, startManagement, tokenOf, type Management } from '../../management.ts';
import { until } from '../../../../support/until.ts';

describe('top-ups as CSV', () => {
  let management: Management;
  let accountId: AccountUuid;
  let token: string;
  before(async () => {
    management = await startManagement('routes_top_ups_csv');
  });
  after(() => management.stop());
  beforeEach(async () => {
    accountId = await createCustomer(management, '0');
    token = await tokenOf(management, 'account', accountId);
  });

  /** Lines as records; only for files without quoted cells. */
  async function read(path: string, as = token): Promise<Record<string, string>[]> {
    const { status, text, headers } = await management.call('GET', path, { token: as });
    assert.equal(status, 200, text);
    assert.equal(headers.get('content-type'), 'text/csv; charset=utf-8; header=present');
    assert.ok(text.endsWith('\r\n'));
    const [header, ...lines] = text
      .trimEnd()
      .split('\r\n')
      .map((line) => line.split(','));
    return lines.map((cells) => Object.fromEntries(header!.map((column, at) => [column, cells[at] ?? ''])));
  }

  it('the CSV has the customer’s own orders, newest first, with payments and reversals', async () => {
    const open = await waitingTopUp(management, { accountId, amount: '7.25', fee: '0' });
    const { order, paymentId } = await creditedTopUp(management, { accountId });
    await reverse(management, order, { objectId: 're_1', kind: 'refund', direction: 'out', amount: '2.5' });
    await creditedTopUp(management, { accountId: management.accountId });
    const [first, second, ...others] = await read('/api/top-ups.csv');
    assert.deepEqual(others, []);
    assert.deepEqual(
      { ...first, created_at: '', credited_at: '', reversals: first!['reversals']!.replace(/^\S+ /, '') },
      {
        id: formatId('topUp', order.id),
        created_at: '',
        state: 'credited',
        method: 'card',
        currency: 'usd',
        amount_usd: '10.000000000000',
        fee_usd: '0.500000000000',
        received_usd: '10.500000000000',
        received_other: '',
        credited_usd: '10.000000000000',
        reversed_usd: '2.500000000000',
        net_usd: '7.500000000000',
        credited_at: '',
        payment_ids: paymentId,
        reversals: 'refund re_1 took 2.500000000000',
      },
    );
    assert.deepEqual(
      [second!['id'], second!['state'], second!['amount_usd'], second!['credited_usd'], second!['payment_ids']],
      [formatId('topUp', open.id), 'waiting', '7.250000000000', '0.000000000000', ''],
    );
  });

  it('a dispute that was won shows both movements and takes nothing', async () => {
    const { order } = await creditedTopUp(management, { accountId });
    await reverse(management, order, { objectId: 'dp_1', kind: 'dispute', direction: 'out', amount: '10' });
    await reverse(management, order, { objectId: 'dp_1', kind: 'dispute', direction: 'in', amount: '10' });
    const [row] = await read('/api/top-ups.csv');
    assert.equal(row!['net_usd'], '10.000000000000');
    assert.match(row!['reversals']!, /^\S+ dispute dp_1 took 10\.0{12}; \S+ dispute dp_1 gave back 10\.0{12}$/);
  });

  it('an account without orders gets the header alone', async () => {
    const { text } = await management.call('GET', '/api/top-ups.csv', { token });
    assert.match(text, /^id,created_at,state,[a-z_,]+\r\n$/);
  });

  it('finance gets all accounts with provider ids and postings, and no formula', async () => {
    await management.admin.query('update account set name = $2, email = $3 where id = $1', [
      accountId,
      '=HYPERLINK("http://x")',
      '+1@example.com',
    ]);
    const { order } = await creditedTopUp(management, { accountId });
    const { text } = await management.call('GET', '/admin/top-ups.csv', { token: management.tokens.finance });
    const line = text.split('\r\n').find((each) => each.startsWith(formatId('topUp', order.id)))!;
    assert.match(
      line,
      new RegExp(`,${formatId('account', accountId)},"'=HYPERLINK\\(""http://x""\\)",'\\+1@example\\.com,stripe,`),
    );
    assert.match(line, new RegExp(`,${order.providerId},true,,pst_[0-9a-f]{32}$`));
    const [own] = await read('/api/top-ups.csv');
    assert.ok(!('account_id' in own!), 'customers get no staff columns');
  });

  it('the CSV is cut by time: from is inclusive, to is exclusive', async () => {
    const orders = [];
    for (const at of ['2026-11-01T00:00:00Z', '2026-11-02T00:00:00Z', '2026-11-03T00:00:00Z']) {
      const order = await waitingTopUp(management, { accountId });
      // The id bounds the search within a day, so the rows get ids of their time.
      await management.admin.query(
        'update top_up set created_at = $2, id = overlay(id::text placing left(v7_floor($2)::text, 13) from 1 for 13)::uuid where id = $1',
        [order.id, at],
      );
      orders.push(at);
    }
    const times = async (query: string): Promise<string[]> =>
      (await read(`/api/top-ups.csv?${query}`)).map((row) => row['created_at']!.replace('.000', '')).toReversed();
    assert.deepEqual(await times('from=2026-11-02T00:00:00Z'), orders.slice(1));
    assert.deepEqual(await times('to=2026-11-03T00:00:00Z'), orders.slice(0, 2));
    assert.deepEqual(await times('from=2026-11-01T00:00:00.001Z&to=2026-11-02T00:00:00Z'), []);
    const backwards = await management.call(
      'GET',
      '/api/top-ups.csv?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z',
      {
        token,
      },
    );
    assert.deepEqual(refusal(backwards), { status: 422, code: 'invalid_field', param: 'to' });
  });

  it('the CSV shares its places with the export of the log', async () => {
    const locker = await management.admin.connect();
    try {
      // Exports of the log begin, take the customers' places, and then wait for their rows.
      await locker.query('begin');
      await locker.query('lock table request in access exclusive mode');
      const logs = [1, 2].map(() => management.call('GET', '/api/logs.csv', { token }));
      await until('both exports of the log to wait', async () => {
        const { rows } = await management.admin.query<{ n: number }>(
          `select count(*)::int as n from pg_locks where relation = 'request'::regclass and not granted`,
        );
        return rows[0]!.n === logs.length;
      });
      const refused = await management.call('GET', '/api/top-ups.csv', { token });
      assert.deepEqual(refusal(refused), { status: 429, code: 'rate_limit_exceeded', param: null });
      await locker.query('rollback');
      assert.deepEqual(
        (await Promise.all(logs)).map(({ status }) => status),
        [200, 200],
      );
    } finally {
      await locker.query('rollback');
      locker.release();
    }
    assert.equal((await management.call('GET', '/api/top-ups.csv', { token })).status, 200);
  });
});
