/**
 * When requests cannot be accounted for: 503 with `retry-after` before any upstream call, quickly, and service again on
 * its own once the cause is gone. Faults in the middle of an answer are in test/recovery.
 */
import assert from 'node:assert/strict';
import { InternalServerError } from 'openai';
import {
  balanceOf,
  createCustomer,
  dollars,
  errorOf,
  get,
  MESSAGES,
  openAiClient,
  post,
  refusalOf,
  upstreamCalls,
  violations,
  type Customer,
  STACK_START_MS,
} from '../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../../../support/tcp-proxy.ts';
import { until } from '../../../support/until.ts';

/** Far above the configured hold time-out of a second, far below what a client would call hanging. */
const QUICK_MS = 3500;

describe('gateway: when requests cannot be accounted for', () => {
  let stack: TestStack;
  let proxy: TcpProxy;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-availability',
      worker: false,
      env: { CATALOGUE_REFRESH_SECONDS: '0.2', CATALOGUE_STALE_SECONDS: '1', KEY_CACHE_SECONDS: '600' },
      databaseUrl: async (url) => {
        proxy = await startTcpProxyFor(url);
        return proxy.through(url);
      },
    });
    customer = await createCustomer(stack, '1');
  });
  afterEach(async () => {
    await until('the gateway to be ready again', async () => (await fetch(`${stack.baseUrl}/readyz`)).status === 200);
    assert.deepEqual(await violations(stack), []);
  });
  after(async () => {
    await stack.stop();
    await proxy.close();
  });

  const ask = (secret: string, more: object = {}): Promise<Response> =>
    post(stack, secret, { model: 'test/small', messages: MESSAGES, ...more });

  async function assertUnavailable(calls: readonly (() => Promise<Response>)[]): Promise<void> {
    const before = upstreamCalls(stack);
    for (const call of calls) {
      const begin = performance.now();
      const response = await call();
      assert.equal(response.headers.get('retry-after'), '1');
      const { status, code, type } = await refusalOf(response);
      assert.deepEqual([status, code, type], [503, 'ledger_unavailable', 'service_unavailable']);
      assert.ok(performance.now() - begin < QUICK_MS, `after ${(performance.now() - begin).toFixed(0)} ms`);
    }
    assert.equal(upstreamCalls(stack), before, 'no upstream was called');
  }

  async function assertServes(): Promise<void> {
    for (const model of ['test/small', 'test/small:free']) {
      await until(`${model} to be served again`, async () => {
        const response = await ask(customer.secret, { model });
        await response.text();
        return response.status === 200;
      });
    }
  }

  /** While `work` runs the gateway may not read the catalogue. */
  async function withoutCatalogue<T>(work: () => Promise<T>): Promise<T> {
    const signature = 'holdfast.catalogue()';
    await stack.admin.query(`revoke execute on function ${signature} from holdfast_gateway`);
    try {
      return await work();
    } finally {
      await stack.admin.query(`grant execute on function ${signature} to holdfast_gateway`);
    }
  }

  async function untilStale(): Promise<void> {
    await until('the catalogue to be stale', async () => (await fetch(`${stack.baseUrl}/readyz`)).status === 503);
  }

  it('prices that could not be refreshed for too long: paid requests get 503, :free goes on', async () => {
    await withoutCatalogue(async () => {
      await untilStale();
      await assertUnavailable([
        () => ask(customer.secret),
        () => ask(customer.secret, { stream: true }),
        () => ask(customer.secret, { model: 'test/per-call' }),
      ]);
      const free = await ask(customer.secret, { model: 'test/small:free' });
      assert.equal(free.status, 200, await free.text());

      const error = await errorOf(customer.openai.chat.completions.create({ model: 'test/small', messages: MESSAGES }));
      assert.ok(error instanceof InternalServerError);
      assert.deepEqual([error.status, error.code, error.type], [503, 'ledger_unavailable', 'service_unavailable']);
      assert.equal(error.headers?.get('retry-after'), '1');
    });
    await assertServes();
  });

  it('an old catalogue does not say that a model, its price or the price of a field does not exist', async () => {
    await withoutCatalogue(async () => {
      await untilStale();
      await assertUnavailable([
        () => ask(customer.secret, { model: 'test/new' }),
        () => get(stack, customer.secret, '/v1/models/test/new'),
        () => ask(customer.secret, { model: 'test/unpriced' }),
        () => ask(customer.secret, { modalities: ['text', 'audio'], audio: { voice: 'ash', format: 'mp3' } }),
      ]);
      const known = await get(stack, customer.secret, '/v1/models');
      assert.equal(known.status, 200, await known.text());
    });
    await assertServes();
    for (const model of ['test/new', 'test/unpriced']) {
      const { status } = await refusalOf(await ask(customer.secret, { model }));
      assert.ok(status < 500, `${model}: ${status}`);
    }
  });

  it('a client that retries on its own gets its answer once the cause is gone', async () => {
    const client = openAiClient(stack, customer.secret);
    client.maxRetries = 5;
    // In a list: the promise itself would be waited for while nobody can answer it.
    const [answer] = await withoutCatalogue(async () => {
      await untilStale();
      return [client.chat.completions.create({ model: 'test/small', messages: MESSAGES })];
    });
    assert.equal((await answer).choices.length, 1);
  });

  it('a gateway that has never read the catalogue gives 503, and serves once it has', async () => {
    await withoutCatalogue(async () => {
      stack.api.signal('SIGTERM');
      await stack.api.exited;
      await stack.startApi();
      await assertUnavailable([
        () => ask(customer.secret),
        () => ask(customer.secret, { model: 'test/small:free' }),
        () => get(stack, customer.secret, '/v1/models'),
        () => get(stack, customer.secret, '/v1/models/test/small'),
      ]);
    });
    await assertServes();
  });

  for (const [how, begin, end] of [
    ['is down', () => proxy.refuse(), () => proxy.accept()],
    ['does not answer', () => proxy.pause(), () => proxy.resume()],
  ] as const) {
    it(`PostgreSQL ${how}: every request gets 503 at once or within the time-out, known key or not`, async () => {
      const unknown = await createCustomer(stack, '1');
      const free = await createCustomer(stack, '0');
      const known = await ask(customer.secret);
      assert.equal(known.status, 200, await known.text());
      const before = await balanceOf(stack, customer.account);
      begin();
      try {
        await assertUnavailable([
          () => ask(customer.secret),
          () => ask(customer.secret, { stream: true }),
          () => ask(customer.secret, { model: 'test/small:free' }),
          () => ask(unknown.secret),
          () => ask(free.secret, { model: 'test/small:free', stream: true }),
          () => get(stack, unknown.secret, '/v1/models'),
        ]);
        // Many at once are not slower than one: nobody queues behind the time-out of another.
        await Promise.all(Array.from({ length: 20 }, () => assertUnavailable([() => ask(customer.secret)])));
      } finally {
        end();
      }
      await assertServes();
      await until('every hold that was granted unseen to be given back', async () => {
        return (
          (await balanceOf(stack, customer.account)).held === 0n &&
          (await balanceOf(stack, unknown.account)).held === 0n
        );
      });
      const served = dollars('0.000033');
      const spent = before.balance - (await balanceOf(stack, customer.account)).balance;
      assert.equal(spent % served, 0n, 'only answers are paid');
      assert.equal((await balanceOf(stack, unknown.account)).balance, dollars('1'));
    });
  }

  it('bad requests are told what is wrong with them also while PostgreSQL is down, where that needs no database', async () => {
    proxy.refuse();
    try {
      for (const [body, code] of [
        [{ model: 'test/none', messages: MESSAGES }, 'model_not_found'],
        [{ model: 'test/small', messages: 'Hi' }, 'invalid_body'],
      ] as const) {
        assert.equal((await refusalOf(await post(stack, customer.secret, body))).code, code);
      }
    } finally {
      proxy.accept();
    }
    await assertServes();
  });
});
