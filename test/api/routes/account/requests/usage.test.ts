/** Usage over time: exact at every moment, in whole UTC buckets, with nothing left out between. */
import assert from 'node:assert/strict';
import { finishRequests, placeFreeHolds } from '../../../../../db/requests/requests.ts';
import { settleRequests } from '../../../../../db/requests/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../../../domain/ids.ts';
import { NO_USAGE } from '../../../../../domain/usage/usage.ts';
import {
  behindTheGuards,
  createCustomer,
  createKey,
  endOf,
  GATEWAY_ID,
  newRequestId,
} from '../../../../support/ledger-database.ts';
import {
  finishedRequest,
  heldRequest,
  pick,
  refusal,
  startManagement,
  tokenOf,
  type Management,
} from '../../management.ts';

interface Sums {
  readonly requests: number;
  readonly failed: number;
  readonly input_tokens: number;
  readonly cost_usd: string;
}
interface Group extends Sums {
  readonly model?: string;
  readonly key_id?: string;
  readonly key_name?: string;
}
interface Bucket extends Sums {
  readonly start: string;
  readonly groups: readonly Group[];
}

describe('/api/usage', () => {
  let management: Management;
  let accountId: AccountUuid;
  let token: string;
  let keys: KeyUuid[];

  before(async () => {
    management = await startManagement('routes_usage');
    accountId = await createCustomer(management, '100');
    token = await tokenOf(management, 'account', accountId);
    keys = [
      await createKey(management, accountId, { name: 'first' }),
      await createKey(management, accountId, { name: 'second' }),
    ];
    // The day before yesterday 23:59:59 and the next midnight; three days ago; today.
    const finished = [
      await request('demo/a', 0, '0.1', at(2, 23, 59, 59)),
      await request('demo/b', 1, '0.2', at(1, 0)),
      await request('demo/a', 1, '0.4', at(1, 0, 30)),
      await request('demo/a', 0, '0', at(1, 1), 'upstream_error'),
      await request('demo/a', 0, '0.01', at(3, 12)),
      await request('demo/a', 0, '0.02', at(0, 0)),
    ];
    await settleRequests(management.worker, finished, 'meter/usage');
    await request('demo/a', 0, '0.000000000001', at(1, 0, 59, 59));
    await request('demo/b', 0, '0', at(1, 2), 'upstream_timeout');
    await heldRequest(management, { accountId, keyId: keys[0]! });
    const other = await createCustomer(management, '1');
    await finishedRequest(management, '0.7', { hold: { accountId: other, keyId: await createKey(management, other) } });
  });
  after(() => management.stop());

  const today = new Date();

  /** Days ago at a time, UTC. */
  function at(daysAgo: number, hour: number, minute = 0, second = 0): Date {
    return new Date(
      Date.UTC(today.getUTCFullYear(), today.getUTCMonth(), today.getUTCDate() - daysAgo, hour, minute, second),
    );
  }

  /** A finished request that began at a moment of the past. */
  async function request(
    modelId: string,
    key: 0 | 1,
    cost: string,
    createdAt: Date,
    outcome: 'completed' | 'upstream_error' | 'upstream_timeout' = 'completed',
  ): Promise<RequestUuid> {
    const hold = { accountId, keyId: keys[key]!, modelId };
    const requestId = await finishedRequest(management, cost, { hold, end: { outcome } });
    await behindTheGuards(management.admin, (client) =>
      client.query('update request set created_at = $2 where id = $1', [requestId, createdAt]),
    );
    return requestId;
  }

  async function usage(
    query: string,
  ): Promise<{ totals: Sums; groups: readonly Group[]; data: readonly Bucket[]; body: Record<string, unknown> }> {
    const { status, body, text } = await management.call('GET', `/api/usage${query}`, { token });
    assert.equal(status, 200, text);
    return { totals: body['totals'] as Sums, groups: body['groups'] as Group[], data: body['data'] as Bucket[], body };
  }

  const day = (daysAgo: number): string => at(daysAgo, 0).toISOString();

  it('usage by day has one bucket for each UTC day, quiet ones at zero, unsettled requests included', async () => {
    const { data, totals } = await usage(`?from=${day(4)}&to=${day(0)}`);
    assert.deepEqual(
      data.map(({ start, requests, failed, input_tokens, cost_usd }) => [
        start,
        requests,
        failed,
        input_tokens,
        cost_usd,
      ]),
      [
        [day(4), 0, 0, 0, '0.000000000000'],
        [day(3), 1, 0, 100, '0.010000000000'],
        [day(2), 1, 0, 100, '0.100000000000'],
        [day(1), 5, 2, 300, '0.600000000001'],
      ],
    );
    assert.deepEqual([totals.requests, totals.failed, totals.cost_usd], [7, 2, '0.710000000001']);
  });

  it('usage by hour has buckets that begin and end on the hour', async () => {
    const { data, body } = await usage(
      `?bucket=hour&from=${at(2, 23, 10).toISOString()}&to=${at(1, 2, 0, 1).toISOString()}`,
    );
    assert.deepEqual(pick(body, 'from', 'to'), [at(2, 23).toISOString(), at(1, 3).toISOString()]);
    assert.deepEqual(
      data.map(({ start, requests, cost_usd }) => [start, requests, cost_usd]),
      [
        [at(2, 23).toISOString(), 1, '0.100000000000'],
        [at(1, 0).toISOString(), 3, '0.600000000001'],
        [at(1, 1).toISOString(), 1, '0.000000000000'],
        [at(1, 2).toISOString(), 1, '0.000000000000'],
      ],
    );
  });

  it('usage is grouped by model and by key, the most expensive first, and groups add up to their bucket', async () => {
    const byModel = await usage(`?from=${day(4)}&to=${day(0)}&group_by=model`);
    assert.deepEqual(
      byModel.groups.map(({ model, requests, cost_usd }) => [model, requests, cost_usd]),
      [
        ['demo/a', 5, '0.510000000001'],
        ['demo/b', 2, '0.200000000000'],
      ],
    );
    assert.deepEqual(byModel.data[0]?.groups, []);
    assert.deepEqual(
      byModel.data[3]?.groups.map(({ model, requests, failed }) => [model, requests, failed]),
      [
        ['demo/a', 3, 1],
        ['demo/b', 2, 1],
      ],
    );
    const byKey = await usage(`?from=${day(4)}&to=${day(0)}&group_by=key`);
    assert.deepEqual(
      byKey.groups.map(({ key_id, key_name, cost_usd }) => [key_id, key_name, cost_usd]),
      [
        [formatId('key', keys[1]!), 'second', '0.600000000000'],
        [formatId('key', keys[0]!), 'first', '0.110000000001'],
      ],
    );
    assert.deepEqual((await usage(`?from=${day(4)}&to=${day(0)}`)).groups, []);
  });

  it('usage ends now by default and reaches back a month of days or a day of hours', async () => {
    const days = await usage('');
    assert.equal(days.data.length, 30);
    assert.equal(days.data.at(-1)?.start, day(0));
    assert.equal(days.data.at(-1)?.cost_usd, '0.020000000000');
    assert.equal((await usage('?bucket=hour')).data.length, 24);
  });

  it('usage does not change when finished requests are settled, nor double when they are rolled up', async () => {
    const query = `?from=${day(4)}&to=${day(0)}&group_by=model`;
    const before = await usage(query);
    const { rows } = await management.admin.query<{ id: string }>(
      `select id from request where account_id = $1 and state = 'finished'`,
      [accountId],
    );
    assert.equal(rows.length, 2);
    await settleRequests(
      management.worker,
      rows.map(({ id }) => id),
      'meter/later',
    );
    assert.deepEqual(await usage(query), before);
  });

  it('usage counts free requests at cost 0 and refused ones not at all', async () => {
    const hold = {
      accountId,
      keyId: keys[0]!,
      modelId: 'demo/x:free',
      stream: false,
      gatewayId: GATEWAY_ID,
      ttlSeconds: 60,
    };
    const requestId = newRequestId();
    const before = (await usage('')).totals;
    await placeFreeHolds(management.gateway, [{ ...hold, requestId }]);
    await finishRequests(management.gateway, [endOf(requestId, '0', { usage: { ...NO_USAGE, inputTokens: 5 } })]);
    const { totals } = await usage('');
    assert.deepEqual(
      [totals.requests - before.requests, totals.input_tokens - before.input_tokens, totals.cost_usd],
      [1, 5, before.cost_usd],
    );
  });

  it('GET /api/usage names the parameter that is not valid', async () => {
    const cases: [string, string][] = [
      ['?bucket=week', 'bucket'],
      ['?group_by=account', 'group_by'],
      ['?from=2026', 'from'],
      [`?from=${day(1)}&to=${day(2)}`, 'to'],
      ['?from=2099-01-01T00:00:00Z', 'from'],
      ['?from=2020-01-01T00:00:00Z', 'from'],
      [`?bucket=hour&from=${day(40)}`, 'from'],
      ['?limit=3', 'limit'],
    ];
    for (const [query, param] of cases) {
      const answer = await management.call('GET', `/api/usage${query}`, { token });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param }, query);
    }
  });
});
