/**
 * The Creem twin against the unmodified `creem` client, its own signature check, and a plain browser's form. Whatever the
 * twin does differently from Creem would let a wrong top-up pass every other test.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { Creem } from 'creem';
import type { CheckoutEntity } from 'creem/models/components';
import { CreemError } from 'creem/models/errors';
import { constructWebhookEventEntity, parseWebhookEventEntity, verifyWebhookSignature } from 'creem/webhooks.js';
import { z } from 'zod';

import { parseEnvironment } from '../../runtime/environment.ts';
import { PAYMENT_SCHEMA, paymentSettings } from '../../runtime/payments.ts';
import { PROVIDER_TWINS, takesRealMoney } from '../../sandbox/provider-twins.ts';
import { startCreemTwin, type CreemTwin, type CreemTwinOptions } from '../../sandbox/twins/creem/twin.ts';
import { until } from '../support/stack.ts';

const MAIN = join(import.meta.dirname, '../../sandbox/twins/creem/main.ts');
const PRODUCT = 'prod_test';
const SECRET = 'whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHM=';
const OLD_SECRET = 'whsec_b2xkLXNlY3JldC1vZi10aGUtdGVzdHM=';

interface Received {
  readonly headers: Record<string, string>;
  readonly body: string;
  readonly type: string;
}

/** A webhook endpoint that answers what it is told to. */
interface Endpoint {
  readonly url: string;
  readonly received: Received[];
  status: number;
  types(): string[];
  close(): Promise<void>;
}

async function startEndpoint(): Promise<Endpoint> {
  const received: Received[] = [];
  const server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const body = Buffer.concat(parts).toString('utf8');
      const { eventType: type } = JSON.parse(body) as { eventType: string };
      received.push({ headers: request.headers as Record<string, string>, body, type });
      response.writeHead(endpoint.status).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const endpoint: Endpoint = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`,
    received,
    status: 200,
    types: () => received.map(({ type }) => type),
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
  return endpoint;
}

describe('creem twin', () => {
  let twin: CreemTwin;
  let endpoint: Endpoint;
  let creem: Creem;

  beforeEach(async () => {
    endpoint = await startEndpoint();
    twin = await start();
    creem = clientOf(twin);
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  function start(options: CreemTwinOptions = {}): Promise<CreemTwin> {
    return startCreemTwin({
      productId: PRODUCT,
      webhooks: { url: endpoint.url, secrets: [SECRET] },
      retryLadderMs: [5, 10, 15],
      ...options,
    });
  }

  const clientOf = ({ url }: { url: string }, apiKey = 'creem_test_twin'): Creem =>
    new Creem({ apiKey, serverURL: url, timeoutMs: 5_000 });

  const order = (requestId = 'order-1'): Promise<CheckoutEntity> =>
    creem.checkouts.create({
      productId: PRODUCT,
      requestId,
      customPrice: 2_000,
      metadata: { where: 'checkout' },
      successUrl: 'http://seller.test/done?a=1',
    });

  async function control<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
    const response = await fetch(`${twin.url}/_twin/${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  async function steer<T = { id: string }>(path: string, body: object = {}): Promise<T> {
    const answer = await control<T>('POST', path, body);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body;
  }

  /** The transaction of a checkout that was paid. */
  async function paid(how: object = {}): Promise<string> {
    const { id } = await order();
    await steer(`checkouts/${id}/pay`, how);
    const checkout = await creem.checkouts.retrieve(id);
    return checkout.order!.transaction!;
  }

  const isRefused = (status: number) => (error: unknown) => error instanceof CreemError && error.statusCode === status;

  const events = (count: number): Promise<true> =>
    until(`${count} events`, () => endpoint.received.length >= count && (true as const));

  describe('checkouts', () => {
    it('begin pending, and have an order with the tax on top once they are paid', async () => {
      const made = await order();
      assert.deepEqual([made.status, made.mode, made.requestId, made.order], ['pending', 'test', 'order-1', undefined]);
      await steer(`checkouts/${made.id}/pay`);
      const { status, order: sold, metadata } = await creem.checkouts.retrieve(made.id);
      assert.equal(status, 'completed');
      assert.deepEqual([sold?.subTotal, sold?.taxAmount, sold?.amountPaid, sold?.currency], [2_000, 420, 2_420, 'USD']);
      assert.deepEqual([sold?.status, sold?.type, metadata], ['paid', 'onetime', { where: 'checkout' }]);
    });

    it('are two when the same call is made twice: there is no idempotency', async () => {
      const [first, second] = [await order(), await order()];
      assert.notEqual(first.id, second.id);
      assert.deepEqual([first.requestId, second.requestId], ['order-1', 'order-1']);
    });

    it('expire on request, and cannot be paid afterwards', async () => {
      const { id } = await order();
      await steer(`checkouts/${id}/expire`);
      assert.equal((await creem.checkouts.retrieve(id)).status, 'expired');
      assert.equal((await control('POST', `checkouts/${id}/pay`)).status, 409);
    });

    it('refuse what Creem refuses', async () => {
      await assert.rejects(creem.checkouts.create({ productId: 'prod_other', customPrice: 500 }), isRefused(404));
      await assert.rejects(creem.checkouts.create({ productId: PRODUCT, customPrice: 99 }), isRefused(400));
      await assert.rejects(creem.checkouts.retrieve('ch_none'), isRefused(404));
      await assert.rejects(clientOf(twin, 'creem_live_key').checkouts.retrieve('ch_none'), isRefused(403));
    });

    it('sell a product that is sold once', async () => {
      const { billingType, currency, status, taxMode } = await creem.products.get(PRODUCT);
      assert.deepEqual([billingType, currency, status, taxMode], ['onetime', 'USD', 'active', 'exclusive']);
    });
  });

  it('shows a page that says the tax, takes a plain form post, and sends the browser back with the ids', async () => {
    const made = await order();
    const page = await (await fetch(made.checkoutUrl!)).text();
    assert.match(page, /\$24\.20/);
    assert.match(page, /\$4\.20/);
    const paying = await fetch(made.checkoutUrl!, { method: 'POST', redirect: 'manual' });
    const { searchParams } = new URL(paying.headers.get('location') ?? '');
    assert.equal(paying.status, 303);
    assert.deepEqual(
      [searchParams.get('a'), searchParams.get('checkout_id'), searchParams.get('request_id')],
      ['1', made.id, 'order-1'],
    );
    const again = await fetch(made.checkoutUrl!, { method: 'POST', redirect: 'manual' });
    assert.match(await again.text(), /has been made/);
    const { result } = await creem.transactions.search();
    assert.equal(result.items.length, 1);
  });

  describe('transactions', () => {
    it('are found by order, by page, and show what was refunded', async () => {
      const first = await paid();
      await paid();
      const { order: orderId } = await creem.transactions.getById(first);
      const found = await creem.transactions.search(undefined, orderId ?? '', undefined, 1, 100);
      assert.deepEqual(
        found.result.items.map(({ id, status, amount, amountPaid }) => [id, status, amount, amountPaid]),
        [[first, 'paid', 2_000, 2_420]],
      );
      const pages: number[] = [];
      for await (const { result } of await creem.transactions.search(undefined, undefined, PRODUCT, 1, 1)) {
        pages.push(result.items.length);
      }
      assert.deepEqual(pages, [1, 1]);
    });

    it('are refunded in full by the API, in parts by the dashboard, never above what was paid', async () => {
      const transaction = await paid();
      await steer(`transactions/${transaction}/refund`, { amount: 400 });
      const part = await creem.transactions.getById(transaction);
      assert.deepEqual([part.status, part.refundedAmount], ['partialRefund', 400]);
      assert.equal((await control('POST', `transactions/${transaction}/refund`, { amount: 2_021 })).status, 400);
      assert.deepEqual(await creem.transactions.refund({ transactionId: transaction }), { status: 'succeeded' });
      const whole = await creem.transactions.getById(transaction);
      assert.deepEqual([whole.status, whole.refundedAmount], ['refunded', 2_420]);
      await assert.rejects(creem.transactions.refund({ transactionId: transaction }), isRefused(400));
      await events(3);
      assert.deepEqual(endpoint.types(), ['checkout.completed', 'refund.created', 'refund.created']);
    });

    it('move by a refund only once it is through, and back when it fails', async () => {
      const transaction = await paid();
      const { id } = await steer(`transactions/${transaction}/refund`, { status: 'pending' });
      assert.equal((await creem.transactions.getById(transaction)).status, 'paid');
      await steer(`refunds/${id}/end`, { status: 'succeeded' });
      assert.equal((await creem.transactions.getById(transaction)).status, 'refunded');
      await steer(`refunds/${id}/end`, { status: 'failed' });
      assert.equal((await creem.transactions.getById(transaction)).status, 'paid');
      await events(2);
      assert.deepEqual(endpoint.types(), ['checkout.completed', 'refund.created'], 'the end has no event');
    });

    it('are charged back by a dispute; winning has no event, becoming a refund has one', async () => {
      const transaction = await paid();
      const first = await steer(`transactions/${transaction}/dispute`);
      assert.equal((await creem.transactions.getById(transaction)).status, 'chargedBack');
      await steer(`disputes/${first.id}/end`, { outcome: 'won' });
      const won = await creem.transactions.getById(transaction);
      assert.deepEqual([won.status, won.refundedAmount], ['paid', 0]);
      const second = await steer(`transactions/${transaction}/dispute`);
      await steer(`disputes/${second.id}/end`, { outcome: 'refunded' });
      assert.equal((await creem.transactions.getById(transaction)).status, 'refunded');
      await events(4);
      assert.deepEqual(endpoint.types().sort(), [
        'checkout.completed',
        'dispute.created',
        'dispute.created',
        'refund.created',
      ]);
    });
  });

  describe('events', () => {
    const last = (): Received => endpoint.received.at(-1)!;
    const isGenuine = (received: Received, secret: string): Promise<boolean> =>
      constructWebhookEventEntity(received.body, received.headers, secret).then(
        () => true,
        () => false,
      );

    it('are what the SDK reads, and name the request id of the checkout also when they are of a refund', async () => {
      const transaction = await paid();
      await creem.transactions.refund({ transactionId: transaction });
      await events(2);
      const [completed, refunded] = ['checkout.completed', 'refund.created'].map((type) =>
        parseWebhookEventEntity(endpoint.received.find((received) => received.type === type)!.body),
      );
      assert.equal(completed?.eventType === 'checkout.completed' && completed.object.requestId, 'order-1');
      assert.ok(refunded?.eventType === 'refund.created' && typeof refunded.object.checkout === 'object');
      assert.equal(refunded.object.checkout.requestId, 'order-1');
      assert.equal(refunded.object.transaction.id, transaction);
    });

    for (const form of ['legacy', 'standard', 'both'] as const) {
      it(`are signed in the ${form} form as the SDK checks it`, async () => {
        twin.configureWebhooks({ form });
        await paid();
        await events(1);
        const { headers } = last();
        assert.deepEqual(
          ['creem-signature' in headers, 'webhook-signature' in headers],
          [form !== 'standard', form !== 'legacy'],
        );
        assert.deepEqual([await isGenuine(last(), SECRET), await isGenuine(last(), OLD_SECRET)], [true, false]);
      });
    }

    it('carry a signature of every secret in the standard form while one is being replaced', async () => {
      twin.configureWebhooks({ form: 'standard', secrets: [SECRET, OLD_SECRET] });
      await paid();
      await events(1);
      assert.deepEqual([await isGenuine(last(), SECRET), await isGenuine(last(), OLD_SECRET)], [true, true]);
    });

    for (const [name, fault] of [
      ['a wrong secret', { wrong_secret: true }],
      ['an altered byte', { altered_byte: true }],
      ['a time too long ago', { stale_seconds: 301 }],
      ['a time too far ahead', { future_seconds: 310 }],
    ] as const) {
      it(`fail the check with ${name}`, async () => {
        await steer('faults', { on: 'delivery', fault });
        await paid();
        await events(1);
        assert.equal(await isGenuine(last(), SECRET), false);
      });
    }

    it('can be lost, sent twice, late, and in another order', async () => {
      await steer('faults', { on: 'delivery', fault: { drop: true } });
      await paid();
      await until('a dropped delivery', () => twin.deliveries()[0]?.state === 'dropped');
      assert.equal(endpoint.received.length, 0);
      await steer(`deliveries/${twin.deliveries()[0]!.id}/redeliver`);
      assert.equal(endpoint.received.length, 1);
      await steer('faults', { on: 'delivery', fault: { duplicate: 3, delay_ms: 5 } });
      await paid();
      await events(4);
      await steer('faults', { on: 'delivery', fault: { reorder: true } });
      const transaction = await paid();
      await creem.transactions.refund({ transactionId: transaction });
      await events(6);
      assert.deepEqual(endpoint.types().slice(-2), ['refund.created', 'checkout.completed']);
    });

    it('are tried again after each wait of the ladder, and then no more', async () => {
      endpoint.status = 503;
      await paid();
      const row = await until('the end of the ladder', () => {
        const [first] = twin.deliveries();
        return first?.state === 'failed' && first;
      });
      assert.equal(row.attempts.length, 4);
      endpoint.status = 200;
      await steer(`deliveries/${row.id}/redeliver`);
      assert.equal(twin.deliveries()[0]?.state, 'delivered');
    });
  });

  it('loses the answer of a call that it has carried out, and refuses as it is told', async () => {
    await steer('faults', { on: 'api', match: { method: 'POST' }, fault: { drop_response_after_commit: true } });
    await assert.rejects(order('lost'));
    assert.deepEqual(
      twin.checkouts().map(({ request_id }) => request_id),
      ['lost'],
    );
    await steer('faults', { on: 'api', fault: { fail_status: 500 } });
    await assert.rejects(order('failed'), isRefused(500));
    await steer('faults', { on: 'api', fault: { rate_limit: true } });
    await assert.rejects(order('limited'), isRefused(429));
    assert.equal(twin.checkouts().length, 1);
  });

  it('refuses controls that it does not know, by name', async () => {
    const { id } = await order();
    const answer = await control<{ error: { field: string } }>('POST', `checkouts/${id}/pay`, { subtotal: 1 });
    assert.deepEqual([answer.status, answer.body.error.field], [400, 'subtotal']);
    assert.equal((await control('POST', 'nonsense')).status, 404);
    assert.equal((await control('POST', 'checkouts/ch_none/pay')).status, 404);
  });

  describe('in the sandbox', () => {
    it('is told by both sides the same: the product accepts what it gets, and the SDK what the twin signs with', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'creem-twin-'));
      try {
        const entry = PROVIDER_TWINS.find(({ name }) => name === 'creem')!;
        const context = { url: twin.url, apiUrl: 'http://api.test', publicUrl: 'http://api.test', folder };
        const told = entry.twinEnv(context);
        const { creem: settings } = paymentSettings(
          parseEnvironment(entry.productEnv(context), z.object(PAYMENT_SCHEMA)),
        );
        assert.ok(settings !== null && !settings.live);
        assert.deepEqual(
          [told['TWIN_PRODUCT_ID'], told['TWIN_WEBHOOK_SECRETS']],
          [settings.productId, settings.webhookSecrets[0]],
        );
        twin.configureWebhooks({ form: 'standard', secrets: settings.webhookSecrets });
        await paid();
        await events(1);
        const [{ body, headers }] = endpoint.received as [Received];
        await verifyWebhookSignature(body, headers, settings.webhookSecrets[0]!);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    it('has no place beside a real account that takes real money', () => {
      for (const [env, isReal] of [
        [{}, false],
        [{ STRIPE_SECRET_KEY: 'sk_test_a', CREEM_API_KEY: 'creem_test_a' }, false],
        [{ STRIPE_SECRET_KEY: 'sk_live_a' }, true],
        [{ CREEM_API_KEY: 'creem_a' }, true],
        [{ CREEM_API_KEY: 'creem_a', CREEM_MODE: 'test' }, false],
      ] as const) {
        assert.equal(takesRealMoney(env), isReal, JSON.stringify(env));
      }
    });
  });

  describe('as a process', () => {
    let folder: string;
    let child: ChildProcess;

    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'creem-twin-'));
    });
    afterEach(async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
      rmSync(folder, { recursive: true });
    });

    async function launch(): Promise<{ url: string }> {
      child = spawn(process.execPath, [MAIN], {
        env: {
          ...process.env,
          TWIN_PORT: '0',
          TWIN_PRODUCT_ID: PRODUCT,
          TWIN_TAX_PPM: '0',
          TWIN_WEBHOOK_URL: endpoint.url,
          TWIN_WEBHOOK_SECRETS: SECRET,
          TWIN_DATA_FILE: join(folder, 'creem.json'),
        },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
      return { url: `http://127.0.0.1:${(JSON.parse(line) as { listening: number }).listening}` };
    }

    it('keeps what it was told through a kill, and sends what was not delivered at the next start', async () => {
      endpoint.status = 503;
      const first = await launch();
      const made = await clientOf(first).checkouts.create({ productId: PRODUCT, requestId: 'kept', customPrice: 700 });
      const paying = await fetch(`${first.url}/_twin/checkouts/${made.id}/pay`, { method: 'POST' });
      assert.equal(paying.status, 200);
      await events(1);
      child.kill('SIGKILL');
      await once(child, 'exit');
      endpoint.status = 200;
      endpoint.received.length = 0;
      const second = await launch();
      const checkout = await clientOf(second).checkouts.retrieve(made.id);
      assert.deepEqual([checkout.status, checkout.order?.amountPaid], ['completed', 700]);
      await events(1);
    });

    it('says which variable is wrong, and does not start', async () => {
      child = spawn(process.execPath, [MAIN], {
        env: { ...process.env, TWIN_PORT: 'x' },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const [text] = (await once(child.stderr!, 'data')) as [Buffer];
      assert.match(text.toString(), /'TWIN_PORT' must be a whole number/);
      if (child.exitCode === null) await once(child, 'exit');
      assert.equal(child.exitCode, 1);
    });
  });
});
