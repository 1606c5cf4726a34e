/**
 * Top-ups by card end to end: api, worker, PostgreSQL and Temporal as they run, before Stripe's twin, which the product
 * reaches by the real SDK. Named after the scenarios that rivals fail at; whatever happens to events, processes and
 * answers, each payment is credited once and each reversal takes it back once.
 */
import assert from 'node:assert/strict';
import { Client, Connection } from '@temporalio/client';
import Stripe from 'stripe';
import { createAccessToken } from '../../db/access-tokens.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { parseId, type Uuid } from '../../domain/ids.ts';
import { startStripeTwin, type StripeTwin } from '../../sandbox/twins/stripe/twin.ts';
import { reversalWorkflowId } from '../../workflows/contract.ts';
import { brokenRules } from '../support/ledger-database.ts';
import { startTestStack, until, type TestAccount, type TestStack } from '../support/stack.ts';
import { testServices } from '../support/services.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';

const STACK_START_MS = 60_000;
const SECRET = 'whsec_0123456789abcdef0123';
const KEY = 'sk_test_tests';
const OPEN_MAX = 3;

interface TopUpView {
  readonly id: string;
  readonly state: string;
  readonly checkout_url: string | null;
  readonly fee_usd: string;
  readonly received_usd: string;
  readonly credited_usd: string;
}

describe('top-ups by card', () => {
  let twin: StripeTwin;
  let stack: TestStack;
  let stripe: Stripe;
  let databaseProxy: TcpProxy;
  let temporalProxy: TcpProxy;
  let operatorToken: string;
  let account: TestAccount;
  let token: string;

  before(async function () {
    this.timeout(STACK_START_MS);
    twin = await startStripeTwin({
      webhookSecrets: [SECRET],
      retryLadderMs: [100, 300, 1000],
      laterDelayMs: 50,
      asyncDelayMs: null,
    });
    stripe = new Stripe(KEY, { host: '127.0.0.1', port: String(twin.port), protocol: 'http' });
    temporalProxy = await startTcpProxyFor(`http://${testServices().temporalAddress}`);
    stack = await startTestStack({
      name: 'top-ups-stripe',
      env: {
        STRIPE_SECRET_KEY: KEY,
        STRIPE_WEBHOOK_SECRETS: `${SECRET},whsec_fedcba98765432100000`,
        STRIPE_API_URL: twin.url,
        TOP_UP_CARD_FEE_PPM: '50000',
        TOP_UP_POLL_SECONDS: '2',
        TOP_UP_OPEN_MAX: String(OPEN_MAX),
        EVENT_AGE_SECONDS: '3',
      },
      temporalAddress: temporalProxy.address,
      databaseUrl: async (url) => {
        databaseProxy = await startTcpProxyFor(url);
        return databaseProxy.through(url);
      },
    });
    twin.configureWebhooks({ url: `${stack.baseUrl}/webhooks/stripe` });
    const management = stack.database.pool('management', { max: 1 });
    const { secret } = await createAccessToken(management, { role: 'operator', accountId: null, name: 'ops' });
    operatorToken = secret;
  });
  after(async () => {
    await stack.stop();
    await Promise.all([twin.close(), databaseProxy.close(), temporalProxy.close()]);
  });
  beforeEach(async () => {
    account = await stack.createAccount('0');
    const management = stack.database.pool('management', { max: 1 });
    token = (await createAccessToken(management, { role: 'account', accountId: account.uuid, name: 'me' })).secret;
  });
  afterEach('no rule is broken', async () => {
    twin.faults.clear();
    twin.configureWebhooks({ url: `${stack.baseUrl}/webhooks/stripe`, secrets: [SECRET] });
    assert.deepEqual(await brokenRules(stack.admin), []);
  });

  async function call<T>(
    method: string,
    path: string,
    body?: unknown,
    as = token,
  ): Promise<{ status: number; body: T }> {
    const response = await fetch(`${stack.baseUrl}${path}`, {
      method,
      headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  async function order(amountUsd = '10'): Promise<TopUpView> {
    const { status, body } = await call<TopUpView>('POST', '/api/top-ups', { method: 'card', amount_usd: amountUsd });
    assert.equal(status, 201, JSON.stringify(body));
    return body;
  }

  const view = async (id: string): Promise<TopUpView> => (await call<TopUpView>('GET', `/api/top-ups/${id}`)).body;

  async function control(path: string, body: unknown = {}): Promise<Record<string, unknown>> {
    const response = await fetch(`${twin.url}/_twin${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const text = await response.text();
    assert.ok(response.ok, `${path}: ${text}`);
    return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
  }

  async function sessionOf(topUpId: string): Promise<string> {
    const { rows } = await stack.admin.query<{ provider_id: string }>('select provider_id from top_up where id = $1', [
      uuidOfTopUp(topUpId),
    ]);
    return rows[0]!.provider_id;
  }

  const uuidOfTopUp = (id: string): Uuid<'topUp'> => parseId('topUp', id)!;

  const pay = async (topUpId: string, how: object = {}): Promise<unknown> =>
    control(`/sessions/${await sessionOf(topUpId)}/pay`, how);

  async function paymentIntentOf(topUpId: string): Promise<string> {
    const session = await stripe.checkout.sessions.retrieve(await sessionOf(topUpId));
    return session.payment_intent as string;
  }

  async function balance(): Promise<PicoUsd> {
    const { body } = await call<{ balance_usd: string }>('GET', '/api/account');
    return usd(body.balance_usd);
  }

  const untilState = (id: string, state: string, timeoutMs?: number): Promise<TopUpView> =>
    until(
      `${id} to be ${state}`,
      async () => {
        const now = await view(id);
        return now.state === state && now;
      },
      timeoutMs,
    );

  const untilBalance = (amount: string, timeoutMs?: number): Promise<true> =>
    until(`a balance of ${amount}`, async () => (await balance()) === usd(amount) && (true as const), timeoutMs);

  /** Long enough for events, pokes and polls that would wrongly do it again. */
  const settleDown = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1500));

  const postings = async (kind: string): Promise<number> => {
    const { rows } = await stack.admin.query<{ n: number }>(
      'select count(*)::int as n from posting where kind = $2 and $1 in (debit, credit)',
      [account.uuid, kind],
    );
    return rows[0]!.n;
  };

  async function paidOrder(): Promise<TopUpView> {
    const made = await order();
    await pay(made.id);
    return untilState(made.id, 'credited');
  }

  it('says what it costs before, and credits the amount without the fee after', async () => {
    const { body } = await call<{ data: { method: string; min_usd: string; fee: { ppm: number } }[] }>(
      'GET',
      '/api/top-ups/methods',
    );
    assert.deepEqual(
      body.data.map(({ method, min_usd, fee }) => [method, min_usd, fee.ppm]),
      [['card', '5.000000000000', 50_000]],
    );
    const made = await order();
    assert.equal(made.state, 'waiting');
    assert.equal(made.fee_usd, '0.500000000000');
    assert.match(made.checkout_url ?? '', /^http:\/\/127\.0\.0\.1/);
    const session = await stripe.checkout.sessions.retrieve(await sessionOf(made.id));
    assert.equal(session.amount_total, 1050);
    await pay(made.id);
    const paid = await untilState(made.id, 'credited');
    assert.deepEqual([paid.received_usd, paid.credited_usd], ['10.500000000000', '10.000000000000']);
    assert.equal(await balance(), usd('10'));
  });

  it('refuses amounts outside the limits and methods it does not have, by name', async () => {
    for (const [body, param] of [
      [{ method: 'card', amount_usd: '4.99' }, 'amount_usd'],
      [{ method: 'card', amount_usd: '1000.01' }, 'amount_usd'],
      [{ method: 'card', amount_usd: '10.001' }, 'amount_usd'],
      [{ method: 'cheque', amount_usd: '10' }, 'method'],
      [{ method: 'card', amount_usd: -10 }, 'amount_usd'],
    ] as const) {
      const answer = await call<{ error: { param: string } }>('POST', '/api/top-ups', body);
      assert.deepEqual([answer.status, answer.body.error.param], [422, param]);
    }
  });

  it('refuses an order beyond those that may be open, says what to do, and takes it with the same key afterwards', async () => {
    const ordering = (key: string): Promise<Response> =>
      fetch(`${stack.baseUrl}/api/top-ups`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', 'idempotency-key': key },
        body: JSON.stringify({ method: 'card', amount_usd: '10' }),
      });
    const answers = await Promise.all(Array.from({ length: OPEN_MAX + 2 }, (_, n) => ordering(`order-in-test-${n}`)));
    const statuses = answers.map(({ status }) => status);
    assert.deepEqual(statuses.toSorted(), [...Array<number>(OPEN_MAX).fill(201), 429, 429]);
    const refused = answers.find(({ status }) => status === 429)!;
    assert.ok(Number(refused.headers.get('retry-after')) > 1);
    const { error } = (await refused.json()) as { error: { code: string; message: string } };
    assert.equal(error.code, 'rate_limit_exceeded');
    assert.match(error.message, /Pay one of them, or wait until one expires/);
    const taken = statuses.indexOf(201);
    assert.equal((await ordering(`order-in-test-${taken}`)).status, 201, 'a repeat is no other order');
    const { id } = (await answers[taken]!.json()) as TopUpView;
    await pay(id);
    await untilState(id, 'credited');
    assert.equal((await ordering(`order-in-test-${statuses.indexOf(429)}`)).status, 201);
  });

  it('S1: the same event many times, in parallel, is one credit', async () => {
    const made = await order();
    twin.faults.add({ on: 'delivery', match: { event_type: 'checkout.session.completed' }, fault: { duplicate: 10 } });
    await pay(made.id);
    await untilState(made.id, 'credited');
    await settleDown();
    assert.equal(await balance(), usd('10'));
    assert.equal(await postings('top_up'), 1);
  });

  it('S2: a worker killed at the moment of the credit leaves one credit', async function () {
    this.timeout(60_000);
    const made = await order();
    const dying = stack.worker;
    const paying = pay(made.id);
    dying.signal('SIGKILL');
    await paying;
    await dying.exited;
    await stack.startWorker();
    await untilState(made.id, 'credited', 50_000);
    assert.equal(await postings('top_up'), 1);
  });

  it('S2: a credit whose answer is lost is one credit', async () => {
    const made = await order();
    const lost = databaseProxy.loseAnswerTo('credit_payment');
    await pay(made.id);
    await lost;
    await untilState(made.id, 'credited', 30_000);
    await settleDown();
    assert.equal(await postings('top_up'), 1);
  });

  it('S3: with the database away an event is not acknowledged, and credited when it is back', async () => {
    const made = await order();
    databaseProxy.refuse();
    try {
      await pay(made.id).catch(() => undefined);
    } finally {
      databaseProxy.accept();
    }
    await untilState(made.id, 'credited', 20_000);
    assert.equal(await balance(), usd('10'));
  });

  it('no event at all: polling credits', async () => {
    twin.configureWebhooks({ url: null });
    const made = await order();
    await settleDown();
    await pay(made.id);
    await untilState(made.id, 'credited', 15_000);
    const { rows } = await stack.admin.query('select from provider_event where payload::text like $1', [
      `%${made.id}%`,
    ]);
    assert.equal(rows.length, 0, 'no event has come');
  });

  it('S8, S11: two partial refunds, each taken back once; the balance may fall below zero', async () => {
    const paid = await paidOrder();
    await stack.admin.query(`select post_transfer('spent', uuidv7(), $1, system_account('revenue'), 9, null, false)`, [
      account.uuid,
    ]);
    const paymentIntent = await paymentIntentOf(paid.id);
    await stripe.refunds.create({ payment_intent: paymentIntent, amount: 525 });
    await untilBalance('-4');
    await stripe.refunds.create({ payment_intent: paymentIntent, amount: 210 });
    await untilBalance('-6');
    await settleDown();
    assert.equal(await balance(), usd('-6'));
    assert.equal(await postings('top_up_reversal'), 2);
  });

  it('S9, S10: a dispute takes the credit back, winning restores it once, a later refund takes it back again', async () => {
    const paid = await paidOrder();
    const paymentIntent = await paymentIntentOf(paid.id);
    const dispute = await control('/disputes', { payment_intent: paymentIntent, withdraw: true });
    await untilBalance('0');
    await control(`/disputes/${String(dispute['id'])}`, { status: 'won', reinstate: true });
    await untilBalance('10');
    await stripe.refunds.create({ payment_intent: paymentIntent });
    await untilBalance('0');
    await settleDown();
    assert.equal(await balance(), usd('0'));
  });

  it('a dispute whose run is lost gets another one, and is given back though no event says that it was won', async function () {
    this.timeout(60_000);
    const paid = await paidOrder();
    const dispute = await control('/disputes', { payment_intent: await paymentIntentOf(paid.id), withdraw: true });
    await untilBalance('0');
    const id = String(dispute['id']);
    const connection = await Connection.connect({ address: testServices().temporalAddress });
    try {
      const { workflow } = new Client({ connection, namespace: stack.namespaces.processes });
      const run = workflow.getHandle(reversalWorkflowId('stripe', id));
      await until('its event to be handled', async () => {
        const { rowCount } = await stack.admin.query('select from provider_event where handled_at is null');
        return rowCount === 0;
      });
      await run.terminate('lost');
      twin.configureWebhooks({ url: null });
      await control(`/disputes/${id}`, { status: 'won', reinstate: true });
      await stack.admin.query(`update top_up set looked_at = looked_at - interval '1 hour' where id = $1`, [
        uuidOfTopUp(paid.id),
      ]);
      await untilBalance('10', 20_000);
      await run.result();
    } finally {
      await connection.close();
    }
  });

  it('a refund that fails is given back', async () => {
    const paid = await paidOrder();
    const made = await control('/refunds', { payment_intent: await paymentIntentOf(paid.id), status: 'succeeded' });
    await untilBalance('0');
    await control(`/refunds/${String(made['id'])}`, { status: 'failed' });
    await untilBalance('10');
  });

  it('an order that nobody paid expires, and nothing is credited', async () => {
    const made = await order();
    await control(`/sessions/${await sessionOf(made.id)}/expire`);
    await untilState(made.id, 'expired');
    assert.equal(await balance(), usd('0'));
  });

  it('S14: a delayed method credits only when it succeeds', async () => {
    const made = await order();
    const session = await sessionOf(made.id);
    await pay(made.id, { card: 'async_success' });
    await untilState(made.id, 'processing');
    assert.equal(await balance(), usd('0'));
    await control(`/async/${session}`, { succeed: true });
    await untilState(made.id, 'credited');

    const failing = await order();
    await pay(failing.id, { card: 'async_failure' });
    await untilState(failing.id, 'processing');
    await control(`/async/${await sessionOf(failing.id)}`, { succeed: false });
    await untilState(failing.id, 'failed');
    assert.equal(await balance(), usd('10'));
  });

  it('S15: a checkout whose answer is lost after it was made is one checkout', async () => {
    twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/checkout/sessions' },
      fault: { drop_response_after_commit: true },
    });
    const made = await order();
    const now = await untilState(made.id, 'waiting');
    assert.ok(now.checkout_url !== null);
    const sessions = await stripe.checkout.sessions.list({ limit: 100 });
    assert.equal(sessions.data.filter((session) => session.client_reference_id === made.id).length, 1);
  });

  it('S17: another amount than was asked for waits for a person, with what was received on record', async () => {
    const made = await order();
    await pay(made.id, { amount_total: 700 });
    const now = await untilState(made.id, 'quarantined');
    assert.deepEqual([now.received_usd, now.credited_usd], ['7.000000000000', '0.000000000000']);
    const { body } = await call<{ data: { id: string; stuck: string; workflow_url: string | null }[] }>(
      'GET',
      '/admin/top-ups?stuck=true',
      undefined,
      operatorToken,
    );
    assert.equal(body.data.find(({ id }) => id === made.id)?.stuck, 'amount_mismatch');
  });

  it('Temporal away while events arrive: they are stored, acknowledged, and credited when it is back', async () => {
    const made = await order();
    temporalProxy.refuse();
    try {
      await pay(made.id);
      await until('the event to be acknowledged', () =>
        Promise.resolve(
          twin.deliveries().some((delivery) => JSON.stringify(delivery).includes('checkout.session.completed')),
        ),
      );
      await settleDown();
      assert.equal(await balance(), usd('0'));
    } finally {
      temporalProxy.accept();
    }
    await untilState(made.id, 'credited', 40_000);
    assert.equal(await postings('top_up'), 1);
  });

  it('an operator can look again and can give up, also when the order has ended', async () => {
    const made = await order();
    twin.configureWebhooks({ url: null });
    const rechecked = await call<TopUpView>('POST', `/admin/top-ups/${made.id}/recheck`, {}, operatorToken);
    assert.deepEqual([rechecked.status, rechecked.body.state], [200, 'waiting']);
    const abandoned = await call<TopUpView>(
      'POST',
      `/admin/top-ups/${made.id}/abandon`,
      { reason: 'asked by phone' },
      operatorToken,
    );
    assert.deepEqual([abandoned.status, abandoned.body.state], [200, 'abandoned']);
    const ended = await call<TopUpView>('POST', `/admin/top-ups/${made.id}/recheck`, {}, operatorToken);
    assert.deepEqual([ended.status, ended.body.state], [200, 'abandoned']);
  });

  describe('an event', () => {
    const payload = (): string =>
      JSON.stringify({
        id: `evt_${Date.now()}`,
        object: 'event',
        type: 'checkout.session.completed',
        livemode: false,
        data: { object: {} },
      });

    async function deliver(body: string, signature: string): Promise<number> {
      const response = await fetch(`${stack.baseUrl}/webhooks/stripe`, {
        method: 'POST',
        headers: { 'stripe-signature': signature, 'content-type': 'application/json' },
        body,
      });
      await response.text();
      return response.status;
    }
    const sign = (body: string, secret: string, ageSeconds = 0): string =>
      stripe.webhooks.generateTestHeaderString({
        payload: body,
        secret,
        timestamp: Math.floor(Date.now() / 1000) - ageSeconds,
      });

    it('is taken with any of the secrets, so that they can be rotated', async () => {
      for (const secret of [SECRET, 'whsec_fedcba98765432100000']) {
        const body = payload();
        assert.equal(await deliver(body, sign(body, secret)), 200);
      }
    });

    it('with characters that PostgreSQL has no place for is stored without them, not refused for ever', async () => {
      const id = `evt_nul_${Date.now()}`;
      const object = { description: 'a\u0000b\ud800', 'k\u0000ey': 1 };
      const body = JSON.stringify({ id, object: 'event', type: 'charge.updated', livemode: false, data: { object } });
      assert.equal(await deliver(body, sign(body, SECRET)), 200);
      const { rows } = await stack.admin.query<{ object: unknown }>(
        `select payload #> '{data,object}' as object from provider_event where event_id = $1`,
        [id],
      );
      assert.deepEqual(rows, [{ object: { description: 'ab\ufffd', key: 1 } }]);
    });

    it('that cannot be placed does not keep the sweep from those after it', async () => {
      const about = (id: string, object: object): string =>
        JSON.stringify({ id, object: 'event', type: 'payment_intent.succeeded', livemode: false, data: { object } });
      const lost = about(`evt_lost_${Date.now()}`, { object: 'payment_intent', id: 'pi_of_nobody' });
      const next = `evt_next_${Date.now()}`;
      assert.equal(await deliver(lost, sign(lost, SECRET)), 200);
      const other = about(next, {});
      assert.equal(await deliver(other, sign(other, SECRET)), 200);
      await until('the next event to be handled', async () => {
        const { rows } = await stack.admin.query<{ result: string | null }>(
          'select result from provider_event where event_id = $1',
          [next],
        );
        return rows[0]?.result === 'not ours';
      });
    });

    it('is refused with a wrong secret, an altered byte, or a time too far from now in either direction', async () => {
      const body = payload();
      assert.equal(await deliver(body, sign(body, 'whsec_ffffffffffffffffffff')), 400);
      assert.equal(await deliver(`${body} `, sign(body, SECRET)), 400);
      assert.equal(await deliver(body, sign(body, SECRET, 301)), 400);
      assert.equal(await deliver(body, sign(body, SECRET, -310)), 400);
      assert.equal(await deliver(body, 'nonsense'), 400);
    });
  });
});
