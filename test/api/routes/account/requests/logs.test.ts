/** The log: filters, pages, export, and receipts that explain the charge to the pico-USD. */
import assert from 'node:assert/strict';
import { loadCatalogue, type CatalogueModel } from '../../../../../db/requests/catalogue.ts';
import {
  bookPlatformCost,
  finishRequests,
  logRefusals,
  noteClientLeft,
  placeFreeHolds,
} from '../../../../../db/requests/requests.ts';
import { settleRequests } from '../../../../../db/requests/settlement.ts';
import {
  formatId,
  uuidOf,
  uuidTime,
  type AccountUuid,
  type KeyUuid,
  type RequestUuid,
} from '../../../../../domain/ids.ts';
import { addUsd, formatUsd, usd } from '../../../../../domain/money.ts';
import { compilePrices, isPriceProblem, tiersAt } from '../../../../../domain/requests/prices.ts';
import { rate } from '../../../../../domain/requests/rating.ts';
import { NO_USAGE, type Usage } from '../../../../../domain/usage/usage.ts';
import {
  createCustomer,
  createKey,
  credit,
  endOf,
  GATEWAY_ID,
  newRequestId,
  uuidAt,
} from '../../../../support/ledger-database.ts';
import {
  finishedRequest,
  heldRequest,
  readPages,
  refusal,
  settledRequest,
  startManagement,
  tokenOf,
  type Management,
} from '../../management.ts';

const MODELS: readonly CatalogueModel[] = [
  {
    id: 'demo/tiered',
    dialect: 'openai',
    context_length: 1_000_000,
    default_output_tokens: 1000,
    upstreams: [],
    prices: { input: '2.5', cached_input: '0.25', output: '10', reasoning: '12' },
    tiers: [{ min_input_tokens: 1000, prices: { input: '5', cached_input: '0.5', output: '15', reasoning: '18' } }],
  },
  {
    id: 'demo/night',
    dialect: 'openai',
    context_length: 1000,
    default_output_tokens: 100,
    upstreams: [],
    prices: { input: '1', output: '2' },
    windows: [{ from: '00:00', to: '00:01', prices: { input: '0.5', output: '1' } }],
  },
  {
    id: 'demo/call',
    dialect: 'openai',
    context_length: 1000,
    default_output_tokens: 100,
    upstreams: [],
    prices: { request: '0.01', image: '0.02' },
  },
];

function rated(model: string, usage: Usage, requestId: RequestUuid) {
  const prices = compilePrices(MODELS.find(({ id }) => id === model)!);
  assert.ok(!isPriceProblem(prices));
  return rate(tiersAt(prices, uuidTime(requestId)), usage).cost;
}

describe('/api/logs', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_logs');
    await loadCatalogue(management.management, MODELS);
  });
  after(() => management.stop());

  /** A settled request whose list cost is what its usage costs. */
  async function ratedRequest(
    model: string,
    usage: Usage,
    hold = '5',
    requestId = newRequestId(),
  ): Promise<RequestUuid> {
    const given = { modelId: model, wanted: usd(hold), least: usd(hold), requestId };
    await settledRequest(management, formatUsd(rated(model, usage, requestId)), { hold: given, end: { usage } });
    return requestId;
  }

  const receipt = async (requestId: RequestUuid, token = management.tokens.account) =>
    management.call('GET', `/api/logs/${formatId('request', requestId)}`, { token });

  describe('list', () => {
    let accountId: AccountUuid;
    let token: string;
    let keys: KeyUuid[];
    let ids: Record<'held' | 'finished' | 'failed' | 'other' | 'refused' | 'free' | 'cut', RequestUuid>;

    before(async () => {
      accountId = await createCustomer(management, '10');
      token = await tokenOf(management, 'account', accountId);
      keys = [await createKey(management, accountId, { name: '=evil,"key"' }), await createKey(management, accountId)];
      const hold = { accountId, keyId: keys[0]! };
      const held = await heldRequest(management, hold);
      const finished = await finishedRequest(management, '0.1', { hold: { ...hold, stream: true } });
      const failed = await settledRequest(management, '0', {
        hold,
        end: { outcome: 'upstream_error', usage: NO_USAGE },
      });
      const other = await settledRequest(management, '0.2', {
        hold: { accountId, keyId: keys[1]!, modelId: 'demo/other' },
      });
      const refused = newRequestId();
      await logRefusals(management.gateway, GATEWAY_ID, [
        {
          requestId: refused,
          accountId,
          keyId: keys[0]!,
          modelId: 'demo/model',
          code: 'key_limit_exceeded',
          stream: false,
          latencyMs: 1,
        },
      ]);
      const free = newRequestId();
      const freeHold = {
        requestId: free,
        accountId,
        keyId: keys[0]!,
        modelId: 'demo/x:free',
        stream: false,
        gatewayId: GATEWAY_ID,
        ttlSeconds: 60,
      };
      assert.deepEqual(await placeFreeHolds(management.gateway, [freeHold]), [null]);
      await finishRequests(management.gateway, [endOf(free, '0')]);
      const cut = await settledRequest(management, '0.3', { hold, end: { outcome: 'cut_by_limit', estimated: true } });
      ids = { held, finished, failed, other, refused, free, cut };
    });

    const list = async (query: string) => {
      const { status, body, text } = await management.call('GET', `/api/logs${query}`, { token });
      assert.equal(status, 200, text);
      return body['data'] as Record<string, unknown>[];
    };
    const named = async (query: string) => {
      const names = Object.entries(ids).map(([name, id]) => [formatId('request', id), name] as const);
      const byId = new Map<unknown, string>(names);
      return (await list(query)).map((row) => byId.get(row['request_id']));
    };

    it('the list has every request once, newest first, in every state', async () => {
      assert.deepEqual(await named(''), ['cut', 'free', 'refused', 'other', 'failed', 'finished', 'held']);
    });

    it('the list adds up to the balance at any moment', async () => {
      const sum = addUsd(...(await list('')).map((row) => usd(row['cost_usd'] as string)));
      const { body } = await management.call('GET', '/api/account', { token });
      assert.equal(body['balance_usd'], formatUsd(usd(formatUsd(addUsd(usd('10'), usd(`-${formatUsd(sum)}`))))));
    });

    it('the list filters by each field and by several at once', async () => {
      const keyOf = (index: number) => formatId('key', keys[index]!);
      const cases: [string, string[]][] = [
        ['?model=demo/other', ['other']],
        ['?model=demo%2Fx:free', ['free']],
        [`?key_id=${keyOf(1)}`, ['other']],
        [`?key_id=${keyOf(1)}&model=demo/model`, []],
        [`?request_id=${formatId('request', ids.failed)}`, ['failed']],
        ['?outcome=upstream_error', ['failed']],
        ['?outcome=refused', ['refused']],
        ['?outcome=completed&state=finished', ['finished']],
        ['?state=held', ['held']],
        ['?state=charged', ['cut', 'other']],
        ['?state=released', ['free', 'refused', 'failed']],
        ['?from=2099-01-01T00:00:00Z', []],
        ['?to=2020-01-01T00:00:00Z', []],
      ];
      for (const [query, wanted] of cases) assert.deepEqual(await named(query), wanted, query);
    });

    it('the list filters by the time a request was recorded, from inclusive to exclusive', async () => {
      const rows = await list('');
      const at = rows.map((row) => row['created_at'] as string);
      // To the millisecond that answers show; stored moments are finer, so a bound is the millisecond's beginning.
      const since = await list(`?from=${at[2]}`);
      assert.deepEqual(
        since.map((row) => row['request_id']),
        rows.filter((row) => (row['created_at'] as string) >= at[2]!).map((row) => row['request_id']),
      );
      const until = await list(`?to=${at[2]}`);
      assert.equal(since.length + until.length, rows.length);
    });

    it('the list shows the known fields of each state', async () => {
      const [cut, free, refused, other, failed, finished, held] = await list('');
      assert.deepEqual(
        [held!['cost_usd'], held!['list_cost_usd'], held!['held_usd'], held!['outcome'], held!['finished_at']],
        ['0.000000000000', null, '0.500000000000', null, null],
      );
      assert.deepEqual(
        [finished!['cost_usd'], finished!['stream'], finished!['workflow_id']],
        ['0.100000000000', true, null],
      );
      assert.deepEqual(
        [failed!['cost_usd'], failed!['state'], failed!['workflow_id']],
        ['0.000000000000', 'released', `meter/${formatId('request', ids.failed)}`],
      );
      assert.deepEqual(
        [other!['cost_usd'], other!['key_name'], other!['input_tokens']],
        ['0.200000000000', 'Key', 100],
      );
      assert.deepEqual(
        [refused!['refusal_code'], refused!['price_version'], refused!['cost_usd']],
        ['key_limit_exceeded', null, '0.000000000000'],
      );
      assert.deepEqual(
        [free!['cost_usd'], free!['held_usd'], free!['price_version'], free!['workflow_id']],
        ['0.000000000000', '0.000000000000', null, null],
      );
      assert.deepEqual([cut!['estimated'], cut!['outcome'], cut!['key_name']], [true, 'cut_by_limit', '=evil,"key"']);
    });

    it('pages neither repeat nor skip a row while requests come in', async () => {
      const rows = await readPages(management, '/api/logs', {
        limit: 2,
        token,
        between: () => heldRequest(management, { accountId, keyId: keys[0]! }),
      });
      const order = [ids.cut, ids.free, ids.refused, ids.other, ids.failed, ids.finished, ids.held];
      assert.deepEqual(
        rows.map((row) => row['request_id']),
        order.map((id) => formatId('request', id)),
      );
    });

    it('GET /api/logs names the parameter that is not valid', async () => {
      const cases: [string, string][] = [
        ['?outcome=done', 'outcome'],
        ['?state=open', 'state'],
        ['?key_id=req_01980000000070008000000000000000', 'key_id'],
        ['?request_id=1', 'request_id'],
        ['?from=yesterday', 'from'],
        ['?from=2026-01-01', 'from'],
        ['?from=1999-12-31T23:59:59Z', 'from'],
        ['?to=0000-01-01T00:00:00Z', 'to'],
        ['?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z', 'to'],
        ['?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z', 'to'],
        ['?model=', 'model'],
        ['?model=%00', 'model'],
        [`?model=${'m'.repeat(201)}`, 'model'],
        [`?cursor=${Buffer.from("' or 1=1").toString('base64url')}`, 'cursor'],
        ['?limit=1000', 'limit'],
        ['?offset=5', 'offset'],
      ];
      for (const [query, param] of cases) {
        const answer = await management.call('GET', `/api/logs${query}`, { token });
        assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param }, query);
      }
    });

    it('the export has the rows of the list, with the same filters', async () => {
      const answer = await management.call('GET', '/api/logs.csv?state=charged', { token });
      assert.equal(answer.headers.get('content-type'), 'text/csv; charset=utf-8; header=present');
      assert.equal(answer.headers.get('content-disposition'), 'attachment; filename="holdfast-logs.csv"');
      const [header, ...lines] = answer.text.split('\r\n');
      const rows = await list('?state=charged');
      assert.equal(header, Object.keys(rows[0]!).join(','));
      assert.equal(lines.pop(), '');
      assert.deepEqual(
        lines.map((line) => line.split(',')[0]),
        rows.map((row) => row['request_id']),
      );
      assert.ok(lines[0]!.includes(`,"'=evil,""key""",`), 'a key name is no formula');
      assert.equal(refusal(await management.call('GET', '/api/logs.csv?limit=5', { token })).param, 'limit');
    });
  });

  describe('large export', () => {
    let token: string;
    const ROWS = 20_000;

    before(async () => {
      const accountId = await createCustomer(management, '1');
      const keyId = await createKey(management, accountId, { name: 'n'.repeat(100) });
      token = await tokenOf(management, 'account', accountId);
      await management.admin.query(
        `insert into request (id, account_id, key_id, model_id, hold, price_version, expires_at, gateway_id)
         select uuidv7(), $1, $2, repeat('m', 190) || n, 0, 1, now() + interval '1 hour', $3 from generate_series(1, $4) n`,
        [accountId, keyId, GATEWAY_ID, ROWS],
      );
    });

    it('a large export has every row once, over many batches', async () => {
      const { text } = await management.call('GET', '/api/logs.csv', { token });
      const lines = text.trimEnd().split('\r\n').slice(1);
      assert.equal(lines.length, ROWS);
      assert.equal(new Set(lines).size, ROWS);
      await untilNoExport(management);
    });

    it('at most two exports run at once, and a reader that leaves frees its place and connection', async () => {
      const leaving = new AbortController();
      const headers = { authorization: `Bearer ${token}` };
      for (let count = 0; count < 2; count++) {
        const unread = await fetch(`${management.url}/api/logs.csv`, { headers, signal: leaving.signal });
        assert.equal(unread.status, 200);
      }
      const third = await management.call('GET', '/api/logs.csv', { token });
      assert.deepEqual(refusal(third), { status: 429, code: 'rate_limit_exceeded', param: null });
      assert.equal(third.headers.get('retry-after'), '10');
      assert.equal(
        (await management.call('GET', '/api/logs?limit=1', { token })).status,
        200,
        'pages are still served',
      );
      const before = management.logged.length;
      leaving.abort();
      await untilNoExport(management);
      assert.equal((await management.call('GET', '/api/logs.csv?state=charged', { token })).status, 200);
      assert.deepEqual(management.logged.slice(before), [], 'a reader that leaves is no alarm');
    });
  });

  describe('receipt', () => {
    it('a receipt has lines that add up to the charge: quantity × unit price, at the tier the input reached', async () => {
      const usage = { ...NO_USAGE, inputTokens: 1200, cachedInputTokens: 200, outputTokens: 50, reasoningTokens: 20 };
      const { body } = await receipt(await ratedRequest('demo/tiered', usage));
      assert.deepEqual(body['lines'], [
        { dimension: 'input', quantity: 1000, unit_price_usd: '0.000005000000', amount_usd: '0.005000000000' },
        { dimension: 'cached_input', quantity: 200, unit_price_usd: '0.000000500000', amount_usd: '0.000100000000' },
        { dimension: 'output', quantity: 30, unit_price_usd: '0.000015000000', amount_usd: '0.000450000000' },
        { dimension: 'reasoning', quantity: 20, unit_price_usd: '0.000018000000', amount_usd: '0.000360000000' },
      ]);
      assert.deepEqual(
        [body['lines_total_usd'], body['list_cost_usd'], body['cost_usd'], body['explained']],
        ['0.005910000000', '0.005910000000', '0.005910000000', true],
      );
      assert.deepEqual(body['hold'], {
        held_usd: '5.000000000000',
        charged_usd: '0.005910000000',
        given_back_usd: '4.994090000000',
      });
      assert.equal((body['price'] as { version: number }).version, 1);
      assert.deepEqual((body['price'] as { prices: unknown }).prices, {
        prices: MODELS[0]!.prices,
        tiers: MODELS[0]!.tiers,
      });
      assert.deepEqual(
        (body['postings'] as { kind: string; amount_usd: string }[]).map(({ kind, amount_usd }) => [kind, amount_usd]),
        [['charge', '-0.005910000000']],
      );
      assert.deepEqual(
        (body['timeline'] as { event: string }[]).map(({ event }) => event),
        ['held', 'finished', 'charged'],
      );
      assert.match(body['workflow_id'] as string, /^meter\/req_/);
    });

    it('a receipt uses the price window of the time inside the request id, as the hold did', async () => {
      const usage = { ...NO_USAGE, inputTokens: 10, outputTokens: 10 };
      const midnight = Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth(), new Date().getUTCDate());
      const night = await ratedRequest('demo/night', usage, '1', uuidOf('request', uuidAt(midnight + 59_999)));
      const day = await ratedRequest('demo/night', usage, '1', uuidOf('request', uuidAt(midnight + 60_000)));
      const of = async (id: RequestUuid) => (await receipt(id)).body;
      assert.deepEqual([(await of(night))['cost_usd'], (await of(night))['explained']], ['0.000015000000', true]);
      assert.deepEqual([(await of(day))['cost_usd'], (await of(day))['explained']], ['0.000030000000', true]);
    });

    it('a receipt of a model paid by the call has unit lines: one call for each answer', async () => {
      const { body } = await receipt(
        await ratedRequest('demo/call', {
          ...NO_USAGE,
          inputTokens: 10,
          outputTokens: 2,
          furtherAnswers: 3,
          images: 3,
        }),
      );
      assert.deepEqual(
        (body['lines'] as { dimension: string; amount_usd: string }[]).map(({ dimension, amount_usd }) => [
          dimension,
          amount_usd,
        ]),
        [
          ['request', '0.040000000000'],
          ['image', '0.060000000000'],
        ],
      );
    });

    it('a receipt shows which part of an overrun we bore and which the customer paid', async () => {
      const accountId = await createCustomer(management, '0.012');
      const keyId = await createKey(management, accountId);
      const token = await tokenOf(management, 'account', accountId);
      const usage = { ...NO_USAGE, outputTokens: 1000 };
      const hold = { accountId, keyId, modelId: 'demo/night', wanted: usd('0.001'), least: usd('0.001') };
      const id = await finishedRequest(management, '0.002', { hold, end: { usage } });
      const before = (await receipt(id, token)).body;
      assert.deepEqual(
        [before['cost_usd'], before['overrun_usd'], before['not_charged_usd']],
        ['0.001000000000', '0.001000000000', '0.000000000000'],
      );
      await credit(management.management, accountId, '-0.0105');
      await settleRequests(management.worker, [id], 'meter/overrun');
      const { body } = await receipt(id, token);
      assert.deepEqual(
        [body['cost_usd'], body['overrun_usd'], body['not_charged_usd']],
        ['0.001500000000', '0.001000000000', '0.000500000000'],
      );
      assert.equal((body['hold'] as Record<string, string>)['given_back_usd'], '0.000000000000');
    });

    it('a receipt explains a failed request: nothing charged, everything released, and why', async () => {
      const usage = { ...NO_USAGE, inputTokens: 100 };
      const requestId = await settledRequest(management, '0.0001', {
        hold: { modelId: 'demo/night' },
        end: { outcome: 'upstream_timeout', usage },
      });
      const { body } = await receipt(requestId);
      assert.deepEqual(
        [body['cost_usd'], body['not_charged_usd'], body['explained']],
        ['0.000000000000', '0.000100000000', true],
      );
      assert.deepEqual(body['postings'], []);
      assert.match(body['outcome_meaning'] as string, /did not end in time/);
      assert.deepEqual(
        (body['timeline'] as { event: string }[]).map(({ event }) => event),
        ['held', 'finished', 'released'],
      );
      assert.equal((body['hold'] as Record<string, string>)['given_back_usd'], '0.500000000000');
    });

    it('a receipt admits that it cannot explain a cost that does not match the usage, and raises an alarm', async () => {
      const requestId = await settledRequest(management, '0.3', { hold: { modelId: 'demo/night' } });
      const before = management.logged.length;
      const { status, body } = await receipt(requestId);
      assert.deepEqual(
        [status, body['explained'], body['lines_total_usd'], body['cost_usd']],
        [200, false, '0.000140000000', '0.300000000000'],
      );
      assert.deepEqual(
        management.logged.slice(before).map((line) => [line['level'], line['subject']]),
        [[50, formatId('request', requestId)]],
      );
    });

    it('a receipt shows when the client left, and that a request is still running', async () => {
      const requestId = await heldRequest(management, { modelId: 'demo/night' });
      await noteClientLeft(management.gateway, requestId, NO_USAGE);
      const { body } = await receipt(requestId);
      assert.deepEqual(
        (body['timeline'] as { event: string }[]).map(({ event }) => event),
        ['held', 'client_left'],
      );
      assert.deepEqual([body['lines'], body['explained'], body['list_cost_usd']], [[], true, null]);
    });

    it('a receipt has nothing for staff: no platform cost, no names of operators', async () => {
      const requestId = await settledRequest(management, '0', { end: { outcome: 'upstream_error', usage: NO_USAGE } });
      await bookPlatformCost(management.worker, {
        requestId,
        reason: 'orphan',
        usage: NO_USAGE,
        listCost: usd('0.7'),
        estimated: false,
      });
      const { text } = await receipt(requestId);
      assert.ok(!text.includes('platform'));
    });

    it('a receipt is hidden from other accounts and absent for unknown ids', async () => {
      const token = await tokenOf(management, 'account', await createCustomer(management, '0'));
      const requestId = await settledRequest(management, '0.1');
      assert.equal(refusal(await receipt(requestId, token)).code, 'not_found');
      assert.equal(refusal(await receipt(newRequestId())).code, 'not_found');
      assert.equal(refusal(await receipt(uuidOf('request', uuidAt(Date.UTC(2035, 0))))).code, 'not_found');
    });
  });
});

/** Polls until no export is open on the server. */
async function untilNoExport(management: Management): Promise<void> {
  for (const deadline = performance.now() + 10_000; ;) {
    const { rows } = await management.admin.query(
      `select 1 from pg_stat_activity where datname = current_database() and application_name = 'holdfast_reporter'
         and (state <> 'idle')`,
    );
    if (rows.length === 0) return;
    assert.ok(performance.now() < deadline, 'an export is still open');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
