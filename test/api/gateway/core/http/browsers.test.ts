/**
 * Browsers and other clients on the gateway's doorstep: preflights without a key, answers that pages of any origin can
 * read, keys where other providers' clients put them, slips of the base URL, and a client that leaves while it sends.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join, normalize, resolve } from 'node:path';
import OpenAI from 'openai';
import type { Browser } from 'playwright-core';
import { chromiumPath, launchBrowser, NO_CHROMIUM } from '../../../../support/browser.ts';
import {
  createCustomer,
  get,
  MESSAGES,
  post,
  refusalOf,
  STACK_START_MS,
  type Customer,
} from '../../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';
import { metric } from '../../../../recovery/evidence.ts';

const ORIGIN = 'https://chat.example';

describe('gateway: browsers and slips', () => {
  let stack: TestStack;
  let customer: Customer;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-browsers', worker: false });
    customer = await createCustomer(stack, '5');
  });
  after(() => stack.stop());

  const body = { model: 'test/small', messages: MESSAGES };

  it('a preflight needs no key and allows what it asks for', async () => {
    const asked = 'authorization,content-type,x-stainless-lang,x-my-own-header';
    for (const path of ['/v1/chat/completions', '/api/v1/models', '/v1/models/test/small', '/v1/nothing']) {
      const response = await fetch(stack.baseUrl + path, {
        method: 'OPTIONS',
        headers: {
          origin: ORIGIN,
          'access-control-request-method': 'POST',
          'access-control-request-headers': asked,
          'access-control-request-private-network': 'true',
        },
      });
      assert.equal(response.status, 204, path);
      assert.equal(await response.text(), '');
      const allowed = (name: string) => response.headers.get(`access-control-allow-${name}`);
      assert.equal(allowed('origin'), '*');
      assert.match(allowed('methods') ?? '', /GET.*POST/);
      assert.equal(allowed('headers'), asked);
      assert.equal(allowed('private-network'), 'true');
      assert.equal(allowed('credentials'), null, 'cookies are never allowed');
      assert.ok(Number(response.headers.get('access-control-max-age')) > 0);
    }
  });

  it('a preflight that names no headers, or none that could be, is told the usual ones', async () => {
    for (const asked of [null, 'no header, at all', `x-${'y'.repeat(5000)}`, 'authorization,']) {
      const response = await fetch(`${stack.baseUrl}/v1/chat/completions`, {
        method: 'OPTIONS',
        headers: { origin: ORIGIN, ...(asked === null ? {} : { 'access-control-request-headers': asked }) },
      });
      assert.equal(response.status, 204);
      const names = (response.headers.get('access-control-allow-headers') ?? '').split(', ');
      for (const name of ['authorization', 'content-type', 'x-api-key', 'anthropic-version', 'x-stainless-lang']) {
        assert.ok(names.includes(name), `${asked?.slice(0, 20)}: ${name}`);
      }
      assert.equal(response.headers.get('access-control-allow-private-network'), null);
    }
  });

  it('every answer can be read by any page, with the headers that SDKs read: answers, streams and errors', async () => {
    const headers = { origin: ORIGIN };
    const answers = [
      await post(stack, customer.secret, body, { headers }),
      await post(stack, customer.secret, { ...body, stream: true }, { headers }),
      await post(stack, 'sk-hf-wrong', body, { headers }),
      await post(stack, null, body, { headers }),
      await post(stack, customer.secret, { model: 'test/none' }, { headers }),
      await post(stack, customer.secret, null, { method: 'GET', headers }),
      await post(stack, customer.secret, {}, { path: '/v1/nothing', headers }),
      await get(stack, customer.secret, '/v1/models'),
    ];
    assert.deepEqual(
      answers.map(({ status }) => status),
      [200, 200, 401, 401, 400, 405, 404, 200],
    );
    for (const response of answers) {
      assert.equal(response.headers.get('access-control-allow-origin'), '*', String(response.status));
      const exposed = (response.headers.get('access-control-expose-headers') ?? '').split(', ');
      for (const name of ['x-request-id', 'x-holdfast-cost-usd', 'retry-after', 'x-ratelimit-remaining-requests']) {
        assert.ok(exposed.includes(name), `${response.status}: ${name}`);
      }
      await response.text();
    }
  });

  it('the management interface stays closed to pages of other origins', async () => {
    for (const path of ['/api/account', '/admin/requests', '/openapi.json', '/healthz']) {
      for (const method of ['GET', 'OPTIONS']) {
        const response = await fetch(stack.baseUrl + path, { method, headers: { origin: ORIGIN } });
        assert.equal(response.headers.get('access-control-allow-origin'), null, `${method} ${path}`);
        await response.text();
      }
    }
  });

  it("keys are found where Azure's and Anthropic's clients put them, also beside a dummy Bearer", async () => {
    const key = customer.secret;
    for (const [headers, status] of [
      [{ 'api-key': key }, 200],
      [{ 'x-api-key': key }, 200],
      [{ authorization: 'Bearer dummy', 'x-api-key': key }, 200],
      [{ authorization: 'Bearer sk-hf-wrong', 'x-api-key': key }, 200],
      [{ authorization: `Bearer ${key}`, 'x-api-key': 'dummy' }, 200],
      [{ authorization: 'Bearer', 'api-key': key }, 200],
      [{ authorization: 'Bearer dummy', 'x-api-key': 'dummy' }, 401],
      [{ authorization: 'Bearer sk-hf-wrong', 'x-api-key': 'sk-hf-wrong-too', 'api-key': key }, 401],
    ] as const) {
      const response = await post(stack, null, body, { headers });
      assert.equal(response.status, status, JSON.stringify(headers));
      await response.text();
    }
  });

  it('slips of the base URL that can mean one thing only are served, also through an unmodified client', async () => {
    for (const slip of ['/v1/', '//v1', '/v1/v1', '/api/v1/v1', '/api/v1/']) {
      const openai = new OpenAI({ apiKey: customer.secret, baseURL: stack.baseUrl + slip, maxRetries: 0 });
      const answer = await openai.chat.completions.create({ model: 'test/small', messages: MESSAGES });
      assert.equal(answer.object, 'chat.completion', slip);
    }
    for (const slip of ['', '/openai/v1', '/v1/chat/completions', '/V1']) {
      const openai = new OpenAI({ apiKey: customer.secret, baseURL: stack.baseUrl + slip, maxRetries: 0 });
      await assert.rejects(
        Promise.resolve(openai.chat.completions.create({ model: 'test/small', messages: MESSAGES })),
        /404.*Did you mean POST \/v1\/chat\/completions\? The base URL of this API ends in "\/v1"/,
        slip,
      );
    }
  });

  it('endpoints that are not there are answered with those that are, and HEAD like GET without a body', async () => {
    for (const path of ['/v1/responses', '/v1/messages', '/v1/embeddings', '/v1/completions', '/v1']) {
      const { status, code, message } = await refusalOf(await post(stack, customer.secret, {}, { path }));
      assert.deepEqual([status, code], [404, 'not_found']);
      assert.match(message, /This API has: POST \/v1\/chat\/completions/);
    }
    const head = await post(stack, customer.secret, null, { method: 'HEAD', path: '/v1/models' });
    assert.deepEqual([head.status, await head.text()], [200, '']);
  });

  it('a client that breaks its connection while it sends is no fault of the database', async () => {
    const before = await metric(stack, 'holdfast_gateway_refusals_total', { code: 'ledger_unavailable' });
    const { hostname, port } = new URL(stack.baseUrl);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    socket.write(
      `POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${customer.secret}\r\n` +
        'content-type: application/json\r\ncontent-length: 100000\r\n\r\n{"model":',
    );
    await until('the request to be read', async () => (await openRequests(stack)) > 0);
    socket.resetAndDestroy();
    await until('the request to be over', async () => (await openRequests(stack)) === 0);
    const lines = stack.api.log.filter(({ msg }) => /database did not answer|by a bug/.test(String(msg)));
    assert.deepEqual(lines, []);
    assert.equal(await metric(stack, 'holdfast_gateway_refusals_total', { code: 'ledger_unavailable' }), before);
  });
});

/** A page of another origin that has the unmodified client, as its package ships it. */
async function servePage(): Promise<{ url: string; close: () => Promise<void> }> {
  const packageDir = resolve(import.meta.dirname, '../../../../../node_modules/openai');
  const server = createServer((request, response) => {
    const path = (request.url ?? '/').split('?')[0]!;
    if (!path.startsWith('/openai/')) {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<!doctype html><title>Chat</title>');
      return;
    }
    const file = join(packageDir, normalize(path.slice('/openai'.length)));
    const stream = createReadStream(file).on('error', () => response.writeHead(404).end());
    response.setHeader('content-type', 'text/javascript');
    stream.pipe(response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

/** What the page reports about its calls. */
interface Seen {
  readonly text: string;
  readonly requestId: string | null;
  readonly cost: string | null;
  readonly streamed: string;
  readonly refused: { readonly status: number; readonly code: string; readonly requestId: string };
  readonly rejected: { readonly status: number; readonly code: string; readonly retryAfter: string };
  readonly models: readonly string[];
  readonly management: string;
}

describe('gateway: an unmodified client in a real browser', function () {
  this.timeout(60_000);
  let stack: TestStack;
  let page: Awaited<ReturnType<typeof servePage>>;
  let browser: Browser;

  before(async function () {
    const chromium = chromiumPath();
    if (chromium === null) {
      process.stdout.write(`    skipped: ${NO_CHROMIUM}\n`);
      return void this.skip();
    }
    stack = await startTestStack({ name: 'gateway-real-browser', worker: false });
    page = await servePage();
    browser = await launchBrowser(chromium);
  });
  after(async () => {
    await browser?.close();
    await page?.close();
    await stack?.stop();
  });

  it('gets answers, streams and errors with their headers from a page of another origin; the management stays closed', async () => {
    const { secret } = await createCustomer(stack, '5');
    const limited = { error: { message: 'Slow down', code: 'x' } };
    stack.twin.faults.add({
      match: { model: 'large' },
      times: null,
      fault: { type: 'status', status: 429, retry_after: 7, body: limited },
    });
    const tab = await browser.newPage();
    await tab.goto(page.url);
    const seen = await tab.evaluate(
      async ({ baseUrl, secret }): Promise<Seen> => {
        const sdk = '/openai/index.mjs';
        const { OpenAI: Client } = (await import(sdk)) as { OpenAI: typeof OpenAI };
        const clientOf = (apiKey: string) =>
          new Client({ apiKey, baseURL: `${baseUrl}/v1`, dangerouslyAllowBrowser: true, maxRetries: 0 });
        const openai = clientOf(secret);
        const messages = [{ role: 'user' as const, content: 'Hi' }];
        const errorOf = async (call: PromiseLike<unknown>): Promise<InstanceType<typeof OpenAI.APIError>> =>
          Promise.resolve(call).then(
            () => Promise.reject(new Error('an error was expected')),
            (error: unknown) => error as InstanceType<typeof OpenAI.APIError>,
          );
        const { data, response } = await openai.chat.completions
          .create({ model: 'test/small', messages })
          .withResponse();
        let streamed = '';
        for await (const chunk of await openai.chat.completions.create({
          model: 'test/small',
          messages,
          stream: true,
        })) {
          streamed += chunk.choices[0]?.delta.content ?? '';
        }
        const refused = await errorOf(
          clientOf('sk-hf-wrong').chat.completions.create({ model: 'test/small', messages }),
        );
        const rejected = await errorOf(openai.chat.completions.create({ model: 'test/large', messages }));
        const models = await openai.models.list();
        const management = await fetch(`${baseUrl}/api/account`).then(
          ({ status }) => `readable: ${status}`,
          () => 'closed',
        );
        return {
          text: data.choices[0]?.message.content ?? '',
          requestId: response.headers.get('x-request-id'),
          cost: response.headers.get('x-holdfast-cost-usd'),
          streamed,
          refused: { status: refused.status!, code: refused.code!, requestId: refused.requestID! },
          rejected: {
            status: rejected.status!,
            code: rejected.code!,
            retryAfter: rejected.headers!.get('retry-after')!,
          },
          models: models.data.map(({ id }) => id),
          management,
        };
      },
      { baseUrl: stack.baseUrl, secret },
    );
    assert.notEqual(seen.text, '');
    assert.notEqual(seen.streamed, '');
    assert.match(seen.requestId ?? '', /^req_/);
    assert.match(seen.cost ?? '', /^0\.\d{12}$/);
    assert.deepEqual([seen.refused.status, seen.refused.code], [401, 'invalid_api_key']);
    assert.match(seen.refused.requestId, /^req_/);
    assert.deepEqual(
      [seen.rejected.status, seen.rejected.code, seen.rejected.retryAfter],
      [429, 'upstream_rate_limited', '7'],
    );
    assert.ok(seen.models.includes('test/small'));
    assert.equal(seen.management, 'closed');
  });
});

function openRequests(stack: TestStack): Promise<number> {
  return metric(stack, 'holdfast_gateway_open_requests');
}
