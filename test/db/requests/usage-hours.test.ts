/** The hourly rollup equals the requests it sums up, dimension by dimension, however they were settled. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  finishRequests,
  logRefusals,
  placeFreeHolds,
  placeHolds,
  type HoldRequest,
} from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf, type AccountUuid, type KeyUuid } from '../../../domain/ids.ts';
import { isBilled, type FinishOutcome } from '../../../domain/requests/request.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';
import {
  behindTheGuards,
  createCustomer,
  createKey,
  createLedgerDatabase,
  emptyLedger,
  endOf,
  GATEWAY_ID,
  holdOf,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

interface Key {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

interface Plan {
  readonly key: number;
  readonly model: string;
  readonly hoursAgo: number;
  readonly outcome: FinishOutcome;
  readonly tokens: number;
  readonly settledByAccount: boolean;
}

const plan: fc.Arbitrary<Plan> = fc.record({
  key: fc.nat(2),
  model: fc.constantFrom('demo/a', 'demo/b', 'demo/c:free'),
  hoursAgo: fc.nat(3),
  outcome: fc.constantFrom('completed', 'cut_by_limit', 'client_disconnected', 'upstream_error', 'orphaned'),
  tokens: fc.nat(1000),
  settledByAccount: fc.boolean(),
});

describe('usage hours', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;
  let keys: Key[];

  before(async () => {
    ledger = await createLedgerDatabase('usage_hours');
  });
  after(() => ledger.database.drop());
  beforeEach(makeKeys);

  /** Three keys of two accounts. */
  async function makeKeys(): Promise<void> {
    await emptyLedger(ledger.admin);
    const [one, other] = [await createCustomer(ledger, '100'), await createCustomer(ledger, '100')];
    keys = [
      { accountId: one, keyId: await createKey(ledger, one) },
      { accountId: one, keyId: await createKey(ledger, one) },
      { accountId: other, keyId: await createKey(ledger, other) },
    ];
  }

  /** A hold by a request that was made some hours ago. */
  async function heldHoursAgo(hours: number, given: { key: Key; model: string }): Promise<HoldRequest> {
    const hold = holdOf(given.key, '0.01', { modelId: given.model });
    if (given.model.endsWith(':free')) await placeFreeHolds(ledger.gateway, [hold]);
    else await placeHolds(ledger.gateway, [hold]);
    await behindTheGuards(ledger.admin, (client) =>
      client.query('update request set created_at = created_at - make_interval(hours => $2) where id = $1', [
        hold.requestId,
        hours,
      ]),
    );
    return hold;
  }

  async function rollup(): Promise<unknown[]> {
    const { rows } = await ledger.admin.query<Record<string, unknown>>(
      `select account_id, hour, model_id, key_id, requests::int, failed::int, input_tokens::int, output_tokens::int,
        cached_input_tokens::int, reasoning_tokens::int, cost::numeric(32, 12)::text
      from usage_hour order by account_id, hour, model_id, key_id`,
    );
    return rows;
  }

  /** The same, added up from the requests themselves. */
  async function expected(): Promise<unknown[]> {
    const billed = (column: string): string =>
      `coalesce(sum(${column}) filter (where outcome in ('completed', 'cut_by_limit', 'client_disconnected')), 0)::int as ${column}`;
    const { rows } = await ledger.admin.query<Record<string, unknown>>(
      `select account_id, date_trunc('hour', created_at, 'UTC') as hour, model_id, key_id, count(*)::int as requests,
        (count(*) filter (where outcome in ('upstream_error', 'orphaned')))::int as failed,
        ${billed('input_tokens')}, ${billed('output_tokens')}, ${billed('cached_input_tokens')}, ${billed('reasoning_tokens')},
        sum(cost)::numeric(32, 12)::text as cost
      from request where state in ('charged', 'released') and outcome <> 'refused'
      group by 1, 2, 3, 4 order by 1, 2, 3, 4`,
    );
    return rows;
  }

  it('equal their requests for any mix of keys, models, hours, outcomes and ways of settling', () =>
    fc.assert(
      fc.asyncProperty(fc.array(plan, { minLength: 1, maxLength: 12 }), async (plans) => {
        await makeKeys();
        const holds: HoldRequest[] = [];
        for (const { key, model, hoursAgo } of plans)
          holds.push(await heldHoursAgo(hoursAgo, { key: keys[key]!, model }));
        const ends = plans.map(({ tokens, outcome }, n) => {
          const usage = {
            ...NO_USAGE,
            inputTokens: 4 * tokens,
            cachedInputTokens: tokens,
            outputTokens: 2 * tokens,
            reasoningTokens: tokens,
          };
          return endOf(holds[n]!.requestId, '0.01', { outcome, usage });
        });
        await finishRequests(ledger.gateway, ends);
        for (const [n, { key, settledByAccount }] of plans.entries()) {
          if (settledByAccount) await settleAccount(ledger.gateway, keys[key]!.accountId);
          else await settleRequests(ledger.worker, [holds[n]!.requestId], 'meter/usage');
        }
        assert.deepEqual(await rollup(), await expected());
        const requests = (await rollup()).reduce<number>((sum, row) => sum + (row as { requests: number }).requests, 0);
        assert.equal(requests, plans.length);
        const failed = plans.filter(({ outcome }) => !isBilled(outcome)).length;
        const found = (await rollup()).reduce<number>((sum, row) => sum + (row as { failed: number }).failed, 0);
        assert.equal(found, failed);
      }),
      { numRuns: 25 },
    ));

  it('usage hours count a request in the hour of its beginning (UTC), not of its end', async () => {
    const hold = await heldHoursAgo(0, { key: keys[0]!, model: 'demo/a' });
    await behindTheGuards(ledger.admin, (client) =>
      client.query("update request set created_at = '2026-10-31T23:59:59.999Z' where id = $1", [hold.requestId]),
    );
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.01')]);
    await settleRequests(ledger.worker, [hold.requestId], 'meter/usage');
    const { rows } = await ledger.admin.query('select hour from usage_hour');
    assert.deepEqual(rows, [{ hour: new Date('2026-10-31T23:00:00Z') }]);
  });

  it('usage hours do not count a repeat, a refused request or an unsettled one', async () => {
    const [first, second] = [
      await heldHoursAgo(0, { key: keys[0]!, model: 'demo/a' }),
      await heldHoursAgo(0, { key: keys[0]!, model: 'demo/a' }),
    ];
    const free = await heldHoursAgo(0, { key: keys[0]!, model: 'demo/c:free' });
    const ends = [endOf(first.requestId, '0.01'), endOf(second.requestId, '0.01'), endOf(free.requestId, '0')];
    for (let n = 0; n < 2; n++) await finishRequests(ledger.gateway, ends);
    for (let n = 0; n < 2; n++) await settleRequests(ledger.worker, [first.requestId, free.requestId], 'meter/usage');
    const refusal = { ...first, requestId: uuidOf('request', uuidAt(Date.now())), latencyMs: 1 };
    await logRefusals(ledger.gateway, GATEWAY_ID, [{ ...refusal, code: 'rate_limit_exceeded' }]);
    const { rows } = await ledger.admin.query('select model_id, requests::int from usage_hour order by model_id');
    assert.deepEqual(rows, [
      { model_id: 'demo/a', requests: 1 },
      { model_id: 'demo/c:free', requests: 1 },
    ]);
  });

  it('usage hours add up when many settle into the same hour at once', async () => {
    const holds = keys.flatMap((key) => Array.from({ length: 40 }, () => holdOf(key, '0.01')));
    const free = keys.flatMap((key) => Array.from({ length: 40 }, () => holdOf(key, '0', { modelId: 'demo/c:free' })));
    await placeHolds(ledger.gateway, holds);
    await placeFreeHolds(ledger.gateway, free);
    const chunks = <T>(items: readonly T[]): T[][] =>
      Array.from({ length: 12 }, (_, n) => items.filter((_item, index) => index % 12 === n));
    await Promise.all(
      [...chunks(holds), ...chunks(free)].map(async (chunk) => {
        await finishRequests(
          ledger.gateway,
          chunk.map(({ requestId }) => endOf(requestId, '0.01')),
        );
        await settleRequests(
          ledger.worker,
          chunk.map(({ requestId }) => requestId),
          'meter/usage',
        );
      }),
    );
    assert.deepEqual(await rollup(), await expected());
    assert.equal((await rollup()).length, 6);
  });
});
