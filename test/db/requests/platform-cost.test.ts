/**
 * Unpaid usage is booked with the end of its request, in the same transaction and once: all of an end without a
 * bill, and beside a bill what was produced and not delivered.
 */
import assert from 'node:assert/strict';
import { finishRequests, placeHolds, type FinishRecord } from '../../../db/requests/requests.ts';
import type { RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';
import { customerWithKey } from '../../support/finished-requests.ts';
import {
  brokenRules,
  createLedgerDatabase,
  endOf,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

describe('platform cost of a finish', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('platform_cost');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function held(n: number): Promise<RequestUuid[]> {
    const key = await customerWithKey(ledger, '10');
    const holds = Array.from({ length: n }, () => holdOf(key, '1'));
    await placeHolds(ledger.gateway, holds);
    return holds.map(({ requestId }) => requestId);
  }

  async function booked(ids: readonly RequestUuid[]): Promise<string[]> {
    const { rows } = await ledger.admin.query<{ line: string }>(
      `select concat_ws(' ', reason, list_cost::numeric(20, 1), usage ->> 'output_tokens', case when estimated then 'estimated' end) as line
        from platform_cost where request_id = any ($1) order by request_id, reason`,
      [ids],
    );
    return rows.map(({ line }) => line);
  }

  const CUT: Partial<FinishRecord> = {
    outcome: 'cut_by_time',
    estimated: true,
    undelivered: { usage: { ...NO_USAGE, outputTokens: 70 }, listCost: usd('0.7') },
  };

  it('beside a bill is what was produced and not delivered, alone and in a batch, however often the end is told', async () => {
    const ids = await held(3);
    const ends = ids.map((id) => endOf(id, '0.2', CUT));
    assert.deepEqual(await finishRequests(ledger.gateway, ends.slice(0, 1)), ['finished']);
    assert.deepEqual(await finishRequests(ledger.gateway, ends.slice(0, 1)), ['replayed']);
    assert.deepEqual(await finishRequests(ledger.gateway, ends), ['replayed', 'finished', 'finished']);
    assert.deepEqual(await booked(ids), Array(3).fill('undelivered 0.7 70 estimated'));
    const { rows } = await ledger.admin.query('select cost::text from request where id = any ($1)', [ids]);
    assert.deepEqual(
      rows.map(({ cost }) => usd(cost as string)),
      Array(3).fill(usd('0.2')),
    );
  });

  it('the platform cost of an unbilled end says whether a provider reported it', async () => {
    const ids = await held(2);
    await finishRequests(ledger.gateway, [
      endOf(ids[0]!, '0.3', { outcome: 'upstream_error' }),
      endOf(ids[1]!, '0.4', { outcome: 'upstream_timeout', estimated: true }),
    ]);
    assert.deepEqual(await booked(ids), ['upstream_error 0.3 20', 'upstream_timeout 0.4 20 estimated']);
  });
});
