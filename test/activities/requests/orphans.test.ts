/**
 * The orphan activities and an upstream's answer, asked of the twin where it can give that answer and of a
 * small broken server where it cannot; bill and platform cost are written on a real ledger.
 */
import assert from 'node:assert/strict';
import { createServer, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createOrphanActivities, type OrphanActivities } from '../../../activities/requests/orphans.ts';
import { createModel, publishPrices, updateModel, type Upstream } from '../../../db/requests/catalogue.ts';
import {
  finishRequests,
  noteClientLeft,
  placeFreeHolds,
  placeHold,
  placeHolds,
  type HoldRequest,
} from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { NO_USAGE } from '../../../domain/usage/usage.ts';
import { createLogger } from '../../../runtime/logger.ts';
import { startUpstreamTwin, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { until } from '../../support/until.ts';

const MODEL = 'demo/orphans';
const FREE_MODEL = 'demo/orphans:free';
/** Paid by the answer and by the search. */
const UNIT_MODEL = 'demo/orphans-by-the-call';
const UNIT_PRICES = { request: '0.01', web_search: '0.02' };
/** $1 per million tokens in, $2 out: a microdollar and two. */
const PRICES = { input: '1', output: '2' };
const PROVIDER_KEY = 'sk-provider';

describe('orphan activities', () => {
  let ledger: LedgerDatabase;
  let activities: OrphanActivities;
  let customer: { accountId: AccountUuid; keyId: KeyUuid };
  let twin: UpstreamTwin;

  before(async () => {
    ledger = await createLedgerDatabase('orphan-activities');
    twin = await startUpstreamTwin();
    activities = createOrphanActivities({
      pool: ledger.worker,
      logger: createLogger('test', 'silent'),
      environment: {
        UPSTREAM_TEST_KEY: PROVIDER_KEY,
        UPSTREAM_TEST_KEY_HOSTS: '127.0.0.1:*',
        UPSTREAM_PRIVATE_HOSTS: '127.0.0.1:*',
      },
    });
    const accountId = await createCustomer(ledger, '100');
    customer = { accountId, keyId: await createKey(ledger, accountId) };
    for (const [id, prices] of [
      [MODEL, PRICES],
      [FREE_MODEL, PRICES],
      [UNIT_MODEL, UNIT_PRICES],
    ] as const) {
      await createModel(ledger.management, {
        id,
        dialect: 'openai',
        context_length: 8000,
        default_output_tokens: 1000,
        upstreams: [twinUpstream()],
      });
      await publishPrices(ledger.management, {
        modelId: id,
        validFrom: null,
        prices: { prices },
        leadSeconds: 0,
        by: 'test',
      });
    }
  });
  afterEach(async () => {
    twin.reset();
    await useUpstreams([twinUpstream()]);
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });
  after(async () => {
    await twin.close();
    await ledger.database.drop();
  });

  function twinUpstream(): Upstream {
    return {
      base_url: `${twin.url}/v1`,
      api_key_env: 'UPSTREAM_TEST_KEY',
      model: 'twin-chat',
      lookup: `${twin.url}/_twin/requests/{request_id}`,
    };
  }

  async function useUpstreams(upstreams: readonly Upstream[]): Promise<void> {
    assert.ok(await updateModel(ledger.management, MODEL, { upstreams }));
  }

  /** A paid hold of 0.50. */
  async function held(): Promise<{ id: RequestUuid; wireId: string }> {
    const hold = holdOf(customer, '0.5', { modelId: MODEL });
    await placeHold(ledger.gateway, hold);
    return { id: hold.requestId, wireId: formatId('request', hold.requestId) };
  }

  /** A hold whose client left after the gateway had counted this much. */
  async function left(counted: { inputTokens: number; outputTokens: number }) {
    const request = await held();
    await noteLeft(request.id, counted);
    return request;
  }

  /** The client has left, and a sweep has found that the gateway is gone. */
  async function noteLeft(id: RequestUuid, counted: { inputTokens: number; outputTokens: number }): Promise<void> {
    await noteClientLeft(ledger.gateway, id, counted);
    await ledger.admin.query('update request set resolver_started_at = now() where id = $1', [id]);
  }

  /** A hold that the sweep has released. */
  async function released() {
    const request = await held();
    await finishRequests(ledger.worker, [
      endOf(request.id, '0', { outcome: 'orphaned', usage: NO_USAGE, latencyMs: 0 }),
    ]);
    await settleRequests(ledger.worker, [request.id], 'meter/test');
    return request;
  }

  /** Calls the twin as a gateway does. */
  function ask(wireId: string, body: Record<string, unknown> = {}, signal?: AbortSignal): Promise<Response> {
    return fetch(`${twin.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${PROVIDER_KEY}`, 'x-request-id': wireId },
      body: JSON.stringify({ model: 'twin-chat', messages: [{ role: 'user', content: 'Hello there' }], ...body }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async function row(id: RequestUuid) {
    const { rows } = await ledger.admin.query<{
      state: string;
      outcome: string | null;
      cost: string | null;
      list_cost: string | null;
      estimated: boolean;
      input_tokens: string | null;
      output_tokens: string | null;
      raw_usage: unknown;
    }>(
      'select state, outcome, cost, list_cost, estimated, input_tokens, output_tokens, raw_usage from request where id = $1',
      [id],
    );
    return rows[0]!;
  }

  async function platformCosts(id: RequestUuid): Promise<{ reason: string; list_cost: string }[]> {
    const { rows } = await ledger.admin.query<{ reason: string; list_cost: string }>(
      'select reason, list_cost::text from platform_cost where request_id = $1 order by reason',
      [id],
    );
    return rows;
  }

  describe('the look-up', () => {
    it('finds the usage of an answer that was cut, as the upstream counts it', async () => {
      const { id, wireId } = await held();
      twin.configure({ output_tokens: 200, chunk_interval_ms: 5 });
      const client = new AbortController();
      const response = await ask(wireId, { stream: true }, client.signal);
      const reader = response.body!.getReader();
      await reader.read();
      client.abort();
      await assert.rejects(reader.read());
      const record = await until('the twin notes the end', () => {
        const found = twin.request(wireId);
        return found?.status === 'aborted' && found;
      });
      assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'usage', usage: record.usage });
      assert.equal((await row(id)).state, 'held', 'looking changes nothing');
    });

    it('takes an answer that still runs for none: its usage is not final', async () => {
      const { wireId } = await held();
      twin.configure({ output_tokens: 5000, chunk_interval_ms: 20 });
      const client = new AbortController();
      const response = await ask(wireId, { stream: true }, client.signal);
      await response.body!.getReader().read();
      assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'pending', reason: 'still running there' });
      client.abort();
    });

    it('goes on asking about a request that never arrived', async () => {
      const { wireId } = await held();
      assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'unknown' });
    });

    it('says so where the upstream did no work: it answered without a model', async () => {
      const { wireId } = await held();
      twin.faults.add({ fault: { type: 'status', status: 500 } });
      const response = await ask(wireId);
      assert.equal(response.status, 500);
      assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'nothing' });
    });

    it('says so when no upstream of the model can be asked', async () => {
      const { wireId } = await held();
      await useUpstreams([{ ...twinUpstream(), lookup: null }]);
      assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'no-lookup' });
      await useUpstreams([]);
      assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'no-lookup' });
    });

    it('asks the first upstream that can be asked, with the request’s wire id and the provider’s key', async () => {
      const { wireId } = await held();
      const asked: { url: string | undefined; authorization: string | undefined }[] = [];
      const usage = { prompt_tokens: 1, completion_tokens: 2 };
      await withServer(
        (request, response) => {
          asked.push({ url: request.url, authorization: request.headers.authorization });
          response.end(JSON.stringify({ usage }));
        },
        async (url) => {
          const second = { ...twinUpstream(), lookup: `${url}/usage/{request_id}?final=1` };
          await useUpstreams([{ ...twinUpstream(), lookup: null }, second]);
          assert.deepEqual(await activities.lookUpUsage(wireId), { kind: 'usage', usage });
          await useUpstreams([{ ...second, api_key_env: null }]);
          await activities.lookUpUsage(wireId);
        },
      );
      assert.deepEqual(asked, [
        { url: `/usage/${wireId}?final=1`, authorization: `Bearer ${PROVIDER_KEY}` },
        { url: `/usage/${wireId}?final=1`, authorization: undefined },
      ]);
    });

    for (const { what, answer } of [
      { what: 'an error', answer: ((_request, response) => response.writeHead(503).end('later')) as RequestListener },
      { what: 'HTML with 200', answer: ((_request, response) => response.end('<html>')) as RequestListener },
      { what: 'JSON that is no object', answer: ((_request, response) => response.end('null')) as RequestListener },
      { what: 'half an answer', answer: ((_request, response) => cutHalfWay(response)) as RequestListener },
      { what: 'a cut connection', answer: ((request) => request.socket.destroy()) as RequestListener },
    ]) {
      it(`goes on asking when the upstream gives ${what}`, async () => {
        const { wireId } = await held();
        await withServer(answer, async (url) => {
          await useUpstreams([{ ...twinUpstream(), lookup: `${url}/{request_id}` }]);
          assert.equal((await activities.lookUpUsage(wireId)).kind, 'pending');
        });
      });
    }

    it('goes on asking when the upstream cannot be reached', async () => {
      const { wireId } = await held();
      const nowhere = await withServer(
        (_request, response) => response.end(),
        async (url) => url,
      );
      await useUpstreams([{ ...twinUpstream(), lookup: `${nowhere}/{request_id}` }]);
      assert.equal((await activities.lookUpUsage(wireId)).kind, 'pending');
    });
  });

  describe('the bill of a request whose client had left', () => {
    const COUNTED = { inputTokens: 100, outputTokens: 10 };

    it('is the upstream’s usage at the pinned prices', async () => {
      const { id, wireId } = await left(COUNTED);
      const usage = { prompt_tokens: 1000, completion_tokens: 500, total_tokens: 1500 };
      const sentence = await activities.finishOrphan({ requestId: wireId, usage });
      assert.equal(sentence, "Ended as client_disconnected by the upstream's usage: 0.002000000000 USD.");
      assert.deepEqual(await row(id), {
        state: 'finished',
        outcome: 'client_disconnected',
        cost: '0.002000000000',
        list_cost: '0.002000000000',
        estimated: false,
        input_tokens: '1000',
        output_tokens: '500',
        raw_usage: null,
      });
    });

    it('is the gateway’s own count, marked as an estimate, where there is no evidence', async () => {
      const { id, wireId } = await left(COUNTED);
      const sentence = await activities.finishOrphan({ requestId: wireId, usage: null });
      assert.match(sentence, /by the gateway's count when the client left .*: 0\.000120000000 USD\.$/);
      assert.deepEqual(await row(id), {
        state: 'finished',
        outcome: 'client_disconnected',
        cost: '0.000120000000',
        list_cost: '0.000120000000',
        estimated: true,
        input_tokens: '100',
        output_tokens: '10',
        raw_usage: null,
      });
    });

    for (const { what, usage } of [
      { what: 'negative', usage: { prompt_tokens: -5, completion_tokens: 10 } },
      { what: 'not a number', usage: { prompt_tokens: 'many', completion_tokens: 10 } },
      { what: 'beyond 2^53', usage: { prompt_tokens: 2 ** 60, completion_tokens: 10 } },
      { what: 'no object', usage: 'a lot' },
    ]) {
      it(`is an estimate, with the evidence kept, where the reported usage is ${what}`, async () => {
        const { id, wireId } = await left(COUNTED);
        await activities.finishOrphan({ requestId: wireId, usage });
        const found = await row(id);
        assert.equal(found.cost, '0.000120000000');
        assert.equal(found.estimated, true);
        assert.deepEqual(found.raw_usage, usage);
      });
    }

    it('reads the usage of either dialect', async () => {
      const { id, wireId } = await left(COUNTED);
      await activities.finishOrphan({ requestId: wireId, usage: { input_tokens: 1000, output_tokens: 500 } });
      const found = await row(id);
      assert.equal(found.cost, '0.002000000000');
      assert.equal(found.estimated, false);
    });

    it('a hold that a gateway still holds gets no record: a run started for it ends nothing for 0', async () => {
      const [working, draining] = [await held(), await held()];
      await noteClientLeft(ledger.gateway, draining.id, COUNTED);
      for (const { id, wireId } of [working, draining]) {
        const finish = activities.finishOrphan({ requestId: wireId, usage: null });
        await assert.rejects(finish, { type: 'not_an_orphan', nonRetryable: true });
        assert.equal((await row(id)).state, 'held');
        await finishRequests(ledger.gateway, [endOf(id, '0.04')]);
        assert.equal((await row(id)).cost, '0.040000000000');
      }
    });

    it('is written once: a repeat says the same and changes nothing', async () => {
      const { id, wireId } = await left(COUNTED);
      const input = { requestId: wireId, usage: { prompt_tokens: 1000, completion_tokens: 500 } };
      const first = await activities.finishOrphan(input);
      const before = await row(id);
      assert.equal(await activities.finishOrphan(input), first);
      assert.deepEqual(await row(id), before);
      assert.deepEqual(await platformCosts(id), []);
    });

    it('is nobody’s when the request had ended otherwise: its usage is platform cost', async () => {
      const { id, wireId } = await left(COUNTED);
      await finishRequests(ledger.gateway, [endOf(id, '0', { outcome: 'upstream_error', usage: NO_USAGE })]);
      const usage = { prompt_tokens: 1000, completion_tokens: 500 };
      const sentence = await activities.finishOrphan({ requestId: wireId, usage });
      assert.equal(sentence, 'The request had ended otherwise meanwhile; its usage is platform cost.');
      assert.equal((await row(id)).outcome, 'upstream_error');
      assert.deepEqual(await platformCosts(id), [{ reason: 'late_finish', list_cost: '0.002000000000' }]);
    });
  });

  describe('the platform cost of a released orphan', () => {
    const USAGE = { prompt_tokens: 1000, completion_tokens: 500 };

    it('is booked once and charges nobody', async () => {
      const { id, wireId } = await released();
      const expected = `Platform cost of ${wireId}: 0.002000000000 USD.`;
      assert.equal(await activities.bookOrphanCost({ requestId: wireId, usage: USAGE }), expected);
      assert.equal(await activities.bookOrphanCost({ requestId: wireId, usage: USAGE }), expected);
      assert.deepEqual(await platformCosts(id), [{ reason: 'orphan', list_cost: '0.002000000000' }]);
      const found = await row(id);
      assert.deepEqual([found.state, found.outcome, found.cost], ['released', 'orphaned', '0']);
    });

    for (const [what, usage] of [
      ['the upstream cannot say', null],
      ['what it says cannot be true', { prompt_tokens: -1, completion_tokens: 5 }],
    ] as const) {
      it(`is all that was held where ${what}, marked as an estimate, never silently nothing`, async () => {
        const { id, wireId } = await released();
        const sentence = await activities.bookOrphanCost({ requestId: wireId, usage });
        assert.match(sentence, /an estimate: all that was held/);
        const { rows } = await ledger.admin.query(
          `select c.reason, c.estimated, c.list_cost = r.hold as is_hold from platform_cost c join request r on r.id = c.request_id
            where r.id = $1 and r.hold > 0`,
          [id],
        );
        assert.deepEqual(rows, [{ reason: 'orphan', estimated: true, is_hold: true }]);
      });
    }

    it('waits until the hold is released', async () => {
      const { id, wireId } = await held();
      await assert.rejects(activities.bookOrphanCost({ requestId: wireId, usage: USAGE }), /not released yet/);
      assert.deepEqual(await platformCosts(id), []);
    });

    it('is not booked when the gateway came back in time: the customer pays that usage', async () => {
      const { id, wireId } = await held();
      await finishRequests(ledger.gateway, [endOf(id, '0.002')]);
      const sentence = await activities.bookOrphanCost({ requestId: wireId, usage: USAGE });
      assert.equal(sentence, 'The request had ended as completed meanwhile; nothing to book.');
      assert.deepEqual(await platformCosts(id), []);
    });

    it('of 0.002 USD is the list price of a :free request as well, whose customer pays nothing', async () => {
      const hold = holdOf(customer, '0', { modelId: FREE_MODEL });
      await placeFreeHolds(ledger.gateway, [hold]);
      await finishRequests(ledger.worker, [endOf(hold.requestId, '0', { outcome: 'orphaned', usage: NO_USAGE })]);
      await activities.bookOrphanCost({ requestId: formatId('request', hold.requestId), usage: USAGE });
      assert.deepEqual(await platformCosts(hold.requestId), [{ reason: 'orphan', list_cost: '0.002000000000' }]);
      const found = await row(hold.requestId);
      assert.equal(usd(found.cost!), 0n);
    });
  });

  describe('an orphan of 100 answers, each with a search, where both are paid by the piece', () => {
    const askedUnits = { furtherAnswers: 99, webSearches: 100 };
    // More than one answer could hold, and no more than a hundred can.
    const usage = { prompt_tokens: 10, completion_tokens: 100 * 8000 };
    const unitHold = () => holdOf(customer, '3', { modelId: UNIT_MODEL, askedUnits });

    for (const [how, place] of [
      ['alone', (hold: HoldRequest) => placeHold(ledger.gateway, hold)],
      ['with others', (hold: HoldRequest) => placeHolds(ledger.gateway, [holdOf(customer, '1'), hold])],
    ] as const) {
      it(`is billed $3.00, not $0.01, when its client had left (held ${how})`, async () => {
        const hold = unitHold();
        await place(hold);
        await noteLeft(hold.requestId, { inputTokens: 10, outputTokens: 0 });
        await activities.finishOrphan({ requestId: formatId('request', hold.requestId), usage });
        const found = await row(hold.requestId);
        assert.deepEqual([found.list_cost, found.estimated], ['3.000000000000', false]);
      });
    }

    it('is billed as much where the provider tells nothing', async () => {
      const hold = unitHold();
      await placeHold(ledger.gateway, hold);
      await noteLeft(hold.requestId, { inputTokens: 10, outputTokens: 5 });
      await activities.finishOrphan({ requestId: formatId('request', hold.requestId), usage: null });
      const found = await row(hold.requestId);
      assert.deepEqual([found.list_cost, found.estimated], ['3.000000000000', true]);
    });

    it('is a platform cost of $3.00 when it was cut by our own fault', async () => {
      const hold = unitHold();
      await placeHold(ledger.gateway, hold);
      const end = endOf(hold.requestId, '0', { outcome: 'orphaned', usage: NO_USAGE, latencyMs: 0 });
      await finishRequests(ledger.worker, [end]);
      await settleRequests(ledger.worker, [hold.requestId], 'meter/test');
      await activities.bookOrphanCost({ requestId: formatId('request', hold.requestId), usage });
      assert.deepEqual(await platformCosts(hold.requestId), [{ reason: 'orphan', list_cost: '3.000000000000' }]);
    });
  });

  it('takes an id that is none, or that nobody knows, for a bug', async () => {
    const unknown = formatId('request', holdOf(customer, '0').requestId);
    for (const requestId of ['req_nonsense', unknown]) {
      await assert.rejects(activities.lookUpUsage(requestId), /invariant broken/);
      await assert.rejects(activities.finishOrphan({ requestId, usage: null }), /invariant broken/);
      await assert.rejects(activities.bookOrphanCost({ requestId, usage: {} }), /invariant broken/);
    }
  });
});

function cutHalfWay(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': '100' });
  response.write('{"usage":', () => response.destroy());
}

/** A server of one answer, for as long as `body` runs. */
async function withServer<T>(answer: RequestListener, body: (url: string) => Promise<T>): Promise<T> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    return await body(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}
