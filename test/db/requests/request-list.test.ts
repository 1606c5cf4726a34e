/** The list of requests for staff: a page looks at a bounded number of them, whatever it is filtered by. */
import assert from 'node:assert/strict';
import { listRequests, type RequestFilter } from '../../../db/requests/request-list.ts';
import { createReporter, type Reporter } from '../../../db/shared/reporter.ts';
import { finishRequests, placeHolds } from '../../../db/requests/requests.ts';
import { customerWithKey } from '../../support/finished-requests.ts';
import { createLedgerDatabase, endOf, holdOf, uuidAt, type LedgerDatabase } from '../../support/ledger-database.ts';
import { uuidOf } from '../../../domain/ids.ts';

const ALL: RequestFilter = {
  accountId: null,
  model: null,
  outcome: null,
  upstreamKind: null,
  upstreamStatus: null,
  from: null,
  to: null,
};

describe('the list of requests', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;
  let reporter: Reporter;
  /** Oldest first. */
  const ids: string[] = [];

  before(async () => {
    ledger = await createLedgerDatabase('request_list');
    reporter = createReporter({ url: ledger.database.url, max: 2 });
    const key = await customerWithKey(ledger, '10');
    const now = Date.now();
    const holds = Array.from({ length: 20 }, (_, n) =>
      holdOf(key, '0.1', { requestId: uuidOf('request', uuidAt(now - 1000 + n)) }),
    );
    ids.push(...holds.map(({ requestId }) => requestId));
    await placeHolds(ledger.gateway, holds);
    // Only the oldest and the newest were refused by their provider.
    await finishRequests(
      ledger.gateway,
      [0, 19].map((n) =>
        endOf(holds[n]!.requestId, '0', {
          outcome: 'upstream_error',
          upstream: { name: '1:a', kind: 'credentials', status: 401, code: null, message: null },
        }),
      ),
    );
  });
  after(async () => {
    await reporter.end();
    await ledger.database.drop();
  });

  it('a page looks at no more requests than its bound, says where to go on, and misses none', async () => {
    const filter = { ...ALL, upstreamStatus: 401 };
    const found: string[] = [];
    const sizes: number[] = [];
    let after: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof listRequests>> = await listRequests(
        reporter,
        filter,
        { after, limit: 10 },
        6,
      );
      found.push(...page.rows.map(({ requestId }) => requestId));
      sizes.push(page.rows.length);
      after = page.next;
    } while (after !== null);
    assert.deepEqual(found, [ids[19], ids[0]]);
    assert.deepEqual(sizes, [1, 0, 0, 1], 'six requests looked at a page');
  });

  it('a full page goes on behind its last row, not behind the last one looked at', async () => {
    const first = await listRequests(reporter, ALL, { after: null, limit: 4 }, 6);
    assert.deepEqual(
      first.rows.map(({ requestId }) => requestId),
      ids.slice(16).reverse(),
    );
    assert.equal(first.next, ids[16]);
  });

  it('the list ends where nothing is left', async () => {
    assert.equal((await listRequests(reporter, ALL, { after: null, limit: 20 })).next, null);
    assert.deepEqual(await listRequests(reporter, ALL, { after: ids[0]!, limit: 20 }), { rows: [], next: null });
  });
});
