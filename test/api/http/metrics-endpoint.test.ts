/** Metrics are not on the customers' port, unless a token is set and shown. */
import assert from 'node:assert/strict';
import { STACK_START_MS } from '../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../support/stack.ts';

const TOKEN = 'token-of-the-monitoring';

describe('metrics', () => {
  let stack: TestStack;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'metrics', worker: false });
  });
  after(() => stack.stop());

  const ask = async (url: string, token: string | null = null): Promise<{ status: number; text: string }> => {
    const response = await fetch(url, token === null ? {} : { headers: { authorization: `Bearer ${token}` } });
    return { status: response.status, text: await response.text() };
  };

  it('metrics are on a port of their own, which serves nothing else', async () => {
    const { status, text } = await ask(stack.metricsUrl);
    assert.equal(status, 200);
    assert.match(text, /^holdfast_gateway_open_requests\{process="api"\} \d+$/m);
    for (const path of ['/', '/v1/models', '/healthz', '/metrics/x']) {
      assert.equal((await ask(new URL(path, stack.metricsUrl).href)).status, 404, path);
    }
  });

  it("metrics are not found on the customers' port without their token, for any credentials", async () => {
    for (const token of [null, TOKEN, 'null', 'undefined']) {
      const { status, text } = await ask(`${stack.baseUrl}/metrics`, token);
      assert.equal(status, 404);
      assert.doesNotMatch(text, /holdfast_gateway/);
    }
  });

  it("metrics are on the customers' port for clients with the token, and then on no other port", async function () {
    this.timeout(STACK_START_MS);
    stack.api.signal('SIGKILL');
    await stack.api.exited;
    const { log } = await stack.startApi({ METRICS_PORT: '', METRICS_TOKEN: TOKEN });
    assert.ok(!log.some(({ msg }) => msg === 'metrics listen'));
    const url = `${stack.baseUrl}/metrics`;
    for (const token of [null, '', 'x', `${TOKEN}x`, TOKEN.slice(1), TOKEN.toUpperCase()]) {
      assert.deepEqual(await ask(url, token), { status: 401, text: '' }, String(token));
    }
    const { status, text } = await ask(url, TOKEN);
    assert.equal(status, 200);
    assert.match(text, /^holdfast_gateway_open_requests/m);
    assert.equal((await ask(`${stack.baseUrl}/healthz`)).status, 200);
  });
});
