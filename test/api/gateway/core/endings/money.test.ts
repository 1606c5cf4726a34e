/**
 * The main promise over a thousand mixed requests at once: what the balance lost is what the log says, to the pico-USD,
 * at every moment, settled or not; and the log has exactly the requests that the upstream served.
 */
import assert from 'node:assert/strict';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { formatUsd, picoUsd, usd } from '../../../../../domain/money.ts';
import type { RequestRecord } from '../../../../../twins/upstream/twin.ts';
import {
  createCustomer,
  dollars,
  MESSAGES,
  post,
  requestIdOf,
  untilNothingHeld,
  violations,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { addModels, modelOf } from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';

const REQUESTS = 1000;
const CONCURRENCY = 16;
const BALANCE = '50';

interface Kind {
  readonly name: string;
  readonly body: object;
  /** Leaves in the middle of the answer. */
  readonly leaves?: boolean;
}

const twin = (steering: object): object => ({ metadata: { twin: JSON.stringify(steering) } });

/** In turn; a fifth of the requests are ordinary streams, the rest is everything else that happens. */
const KINDS: readonly Kind[] = [
  { name: 'stream', body: { model: 'test/small', stream: true } },
  { name: 'whole', body: { model: 'test/small' } },
  { name: 'stream with usage', body: { model: 'test/small', stream: true, stream_options: { include_usage: true } } },
  {
    name: 'large, cached and reasoning',
    body: { model: 'test/large', ...twin({ output_tokens: 60, reasoning_tokens: 20, cached_tokens: 1 }) },
  },
  { name: 'stream', body: { model: 'test/small', stream: true, ...twin({ output_tokens: 40, chunk_interval_ms: 1 }) } },
  { name: 'per call', body: { model: 'test/per-call' } },
  { name: 'free', body: { model: 'test/small:free' } },
  { name: 'upstream answers 500', body: { model: 'mix/fails' } },
  {
    name: 'client leaves a stream',
    body: { model: 'test/small', stream: true, ...twin({ chunk_interval_ms: 4 }) },
    leaves: true,
  },
  { name: 'several answers', body: { model: 'test/large', n: 3, max_tokens: 20 } },
  { name: 'stream', body: { model: 'test/large', stream: true } },
  { name: 'stream breaks', body: { model: 'mix/breaks', stream: true } },
  { name: 'no usage', body: { model: 'mix/mute', stream: true } },
  { name: 'per call stream', body: { model: 'test/per-call', stream: true } },
  { name: 'free stream', body: { model: 'test/small:free', stream: true } },
  {
    name: 'client leaves a whole answer',
    body: { model: 'test/small', ...twin({ chunk_interval_ms: 4 }) },
    leaves: true,
  },
  { name: 'empty', body: { model: 'mix/empty' } },
  { name: 'refused', body: { model: 'mix/unknown' } },
  { name: 'overruns its hold', body: { model: 'mix/overruns', max_tokens: 5 } },
  { name: 'stream', body: { model: 'test/small', stream: true } },
];

interface LogRow {
  readonly request_id: string;
  readonly cost_usd: string;
  readonly outcome: string;
  readonly state: string;
  readonly estimated: boolean;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly workflow_id: string | null;
  readonly model: string;
}

describe('gateway: a thousand mixed requests', () => {
  let stack: TestStack;
  let customer: Customer;
  let token: string;

  before(async function () {
    this.timeout(STACK_START_MS);
    // Nobody may be turned away because the machine is busy: every difference below is to be one of money.
    stack = await startTestStack({ name: 'gateway-money', env: { HOLD_TIMEOUT_SECONDS: '15' } });
    const prices = { input: '1.000001', output: '2.345678' };
    const baseUrl = `${stack.twin.url}/v1`;
    await addModels(
      stack,
      ['fails', 'breaks', 'mute', 'empty', 'overruns'].map((name) =>
        modelOf({ id: `mix/${name}`, prices, baseUrl, upstreamModel: name }),
      ),
    );
    for (const [model, fault] of [
      ['fails', { type: 'status', status: 500 }],
      ['breaks', { type: 'reset', after_chunks: 4 }],
      ['mute', { type: 'no_usage' }],
      ['empty', { type: 'empty' }],
      ['overruns', { type: 'exceed_max_tokens', tokens: 50 }],
    ] as const) {
      stack.twin.faults.add({ match: { model }, times: null, fault });
    }
    customer = await createCustomer(stack, BALANCE);
    token = (await createAccessToken(stack.admin, { role: 'account', accountId: customer.account.uuid, name: 'test' }))
      .secret;
  });
  after(() => stack.stop());

  /** What a client got. */
  interface Answer {
    readonly requestId: string;
    readonly status: number;
    /** As the header told it; null where there is none. */
    readonly cost: string | null;
  }

  /** Makes one request as its kind says; null when the client left before it was answered. */
  async function make(kind: Kind): Promise<Answer | null> {
    const leave = new AbortController();
    const call = post(stack, customer.secret, { messages: MESSAGES, ...kind.body }, { signal: leave.signal });
    if (kind.leaves && !('stream' in kind.body)) {
      const timer = setTimeout(() => leave.abort(), 20);
      await call.then((response) => response.text()).catch(() => undefined);
      clearTimeout(timer);
      return null;
    }
    const response = await call;
    if (kind.leaves) {
      await response.body!.getReader().read();
      leave.abort();
    } else {
      await response.text();
    }
    return {
      requestId: requestIdOf(response),
      status: response.status,
      cost: response.headers.get('x-holdfast-cost-usd'),
    };
  }

  /** Balance and log from one statement: whenever it is taken, they must agree. */
  async function snapshot(): Promise<{ lost: bigint; logged: bigint; unsettled: number }> {
    const { rows } = await stack.admin.query<{ balance: string; logged: string; unsettled: number }>(
      `select b.balance, (select coalesce(sum(cost), 0) from request where account_id = b.account_id) as logged,
         (select count(*)::int from request where account_id = b.account_id and state = 'finished') as unsettled
       from account_balance b where b.account_id = $1`,
      [customer.account.uuid],
    );
    const { balance, logged, unsettled } = rows[0]!;
    return { lost: dollars(BALANCE) - usd(balance), logged: usd(logged), unsettled };
  }

  async function shownBalance(): Promise<{ balance_usd: string; held_usd: string; available_usd: string }> {
    const response = await fetch(`${stack.baseUrl}/api/account`, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(response.status, 200);
    return (await response.json()) as { balance_usd: string; held_usd: string; available_usd: string };
  }

  async function shownLog(): Promise<LogRow[]> {
    const rows: LogRow[] = [];
    for (let cursor: string | null = ''; cursor !== null;) {
      const response = await fetch(`${stack.baseUrl}/api/logs?limit=200${cursor === '' ? '' : `&cursor=${cursor}`}`, {
        headers: { authorization: `Bearer ${token}` },
      });
      assert.equal(response.status, 200);
      const page = (await response.json()) as { data: LogRow[]; next_cursor: string | null };
      rows.push(...page.data);
      cursor = page.next_cursor;
    }
    return rows;
  }

  it('balance before − balance after = Σ cost of the log at every moment, and the log is what the upstream served', async function () {
    this.timeout(120_000);
    const answers: Answer[] = [];
    let next = 0;
    let running = true;
    let shown = dollars(BALANCE);
    const seen = { moments: 0, unsettled: 0 };
    const watch = (async () => {
      while (running) {
        const { lost, logged, unsettled } = await snapshot();
        assert.equal(lost, logged, `after ${next} requests`);
        const { balance_usd, held_usd, available_usd } = await shownBalance();
        assert.equal(usd(balance_usd) - usd(held_usd), usd(available_usd));
        assert.ok(usd(balance_usd) <= shown, 'nothing is given back that was charged');
        shown = usd(balance_usd);
        seen.moments += 1;
        if (unsettled > 0) seen.unsettled += 1;
      }
    })();
    await Promise.all(
      Array.from({ length: CONCURRENCY }, async () => {
        while (next < REQUESTS) {
          const answer = await make(KINDS[next++ % KINDS.length]!);
          if (answer !== null) answers.push(answer);
        }
      }),
    );
    await untilNothingHeld(stack, customer.account, 60_000);
    running = false;
    await watch;
    assert.ok(
      seen.moments > 20 && seen.unsettled > 0,
      `${seen.moments} moments, ${seen.unsettled} with unsettled rows`,
    );

    const log = (await shownLog()).filter(({ outcome }) => outcome !== 'refused');
    const { balance_usd, held_usd } = await shownBalance();
    const logged = log.reduce((sum, row) => sum + usd(row.cost_usd), 0n);
    assert.equal(dollars(BALANCE) - usd(balance_usd), logged);
    assert.equal(held_usd, formatUsd(dollars('0')));
    assert.deepEqual(await violations(stack), []);

    // The clients, the upstream and the log tell the same story.
    const ids = new Set(log.map((row) => row.request_id));
    assert.equal(ids.size, log.length);
    for (const { requestId, status } of answers) {
      const isRefused = status === 404;
      assert.equal(ids.has(requestId), !isRefused, `${requestId} answered ${status}`);
    }
    // A client may have left before its request was sent on; everything else was served, once.
    const unserved = log.filter((row) => stack.twin.request(row.request_id) === undefined);
    for (const row of unserved) {
      assert.deepEqual([row.outcome, usd(row.cost_usd)], ['client_disconnected', 0n], row.request_id);
      assert.ok(!answers.some(({ requestId }) => requestId === row.request_id));
    }
    const { requests, attempts } = stack.twin.requests({ limit: 1 }).totals;
    assert.deepEqual([requests + unserved.length, attempts], [ids.size, requests], 'no call is made twice or unlogged');
    const told = new Map(answers.map(({ requestId, cost }) => [requestId, cost]));
    for (const row of log) {
      const served = stack.twin.request(row.request_id);
      if (served !== undefined) assertRow(row, served);
      const cost = told.get(row.request_id) ?? null;
      if (cost !== null) assert.equal(row.cost_usd, cost, `${row.model} was told another cost`);
    }
    const outcomes = new Set(log.map((row) => row.outcome));
    for (const outcome of ['completed', 'empty_completion', 'upstream_error']) assert.ok(outcomes.has(outcome));
  });

  function assertRow(row: LogRow, served: RequestRecord): void {
    const isFree = row.model.endsWith(':free');
    const isCharged = row.outcome === 'completed' && !isFree;
    assert.equal(row.state, isCharged ? 'charged' : 'released', row.request_id);
    assert.equal(row.workflow_id === null, isFree, row.request_id);
    if (!isCharged) assert.equal(usd(row.cost_usd), 0n);
    if (row.outcome !== 'completed') return;
    assert.deepEqual(
      [row.input_tokens, row.output_tokens],
      [served.prompt_tokens, served.completion_tokens],
      `${row.model} ${row.request_id}`,
    );
    assert.equal(row.estimated, row.model === 'mix/mute');
  }

  /** What a whole answer with this body holds at `test/small`. */
  function holdOf(body: string, maxTokens: number): bigint {
    return BigInt(Buffer.byteLength(body)) * dollars('0.000001') + BigInt(maxTokens) * dollars('0.000002');
  }

  it('fifty parallel requests on money for ten holds: ten are served, forty refused, by account and by key', async () => {
    const body = JSON.stringify({ model: 'test/small', messages: MESSAGES, max_tokens: 1 });
    const ten = picoUsd(holdOf(body, 1) * 10n);
    stack.twin.configure({ latency_ms: 300 });
    try {
      for (const [balance, limit, refusal] of [
        [formatUsd(ten), null, 403],
        ['1', ten, 402],
      ] as const) {
        const poor = await createCustomer(stack, balance, { limit });
        const statuses = await Promise.all(
          Array.from({ length: 50 }, async () => {
            const response = await post(stack, poor.secret, body);
            await response.text();
            return response.status;
          }),
        );
        const count = (wanted: number): number => statuses.filter((status) => status === wanted).length;
        assert.deepEqual([count(200), count(refusal)], [10, 40]);
        await untilNothingHeld(stack, poor.account);
      }
    } finally {
      stack.twin.configure({ latency_ms: 0 });
    }
    assert.deepEqual(await violations(stack), []);
  });

  it('a nearly empty account is never refused because the settlement of its last request is late', async () => {
    const body = JSON.stringify({ model: 'test/small', messages: MESSAGES, max_tokens: 1000 });
    const cost = dollars('0.000033');
    const times = 40;
    // Each hold takes all that is left until the requests before it are settled; the last one fits to the pico-USD.
    const poor = await createCustomer(stack, formatUsd(picoUsd(holdOf(body, 1000) + BigInt(times - 1) * cost)));
    for (let i = 0; i < times; i += 1) {
      const response = await post(stack, poor.secret, body);
      const answer = await response.text();
      assert.equal(response.status, 200, `request ${i}: ${answer}`);
    }
    assert.equal((await post(stack, poor.secret, body)).status, 403);
  });
});
