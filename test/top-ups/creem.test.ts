/**
 * Top-ups by Creem end to end: api, worker, PostgreSQL and Temporal as they run, before Creem's twin, which the product
 * reaches by the real SDK. What is special about Creem: no idempotency key, tax on top, a sum of refunds where others have
 * a list, no event of how a dispute ends, and two ways of signing.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { Creem } from 'creem';
import { uuidv7 } from 'uuidv7';
import { createAccessToken } from '../../db/access-tokens.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { formatId, parseId, uuidOf, type Uuid } from '../../domain/ids.ts';
import { startCreemTwin, type CreemTwin } from '../../sandbox/twins/creem/twin.ts';
import { signatureHeaders, type SignatureForm } from '../../sandbox/twins/creem/signature.ts';
import { brokenRules } from '../support/ledger-database.ts';
import { startTestStack, until, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';

const STACK_START_MS = 60_000;
const SECRET = 'whsec_bmV3LXNlY3JldC1vZi10aGUtdGVzdHM=';
const OLD_SECRET = 'whsec_b2xkLXNlY3JldC1vZi10aGUtdGVzdHM=';
const KEY = 'creem_test_tests';
const PRODUCT = 'prod_credit';
/** The fee of 5 % makes 10.50 of 10.00; the twin adds 21 % tax: 2.21 (rounded), so 12.71 is paid. */
const PAID_CENTS = 1271;

interface TopUpView {
  readonly id: string;
  readonly state: string;
  readonly checkout_url: string | null;
  readonly fee_usd: string;
  readonly received_usd: string;
  readonly credited_usd: string;
  readonly stuck?: string | null;
}

describe('top-ups by Creem', function () {
  // Several waits for polls in a row.
  this.timeout(60_000);

  let twin: CreemTwin;
  let stack: TestStack;
  let creem: Creem;
  let databaseProxy: TcpProxy;
  let operatorToken: string;
  let account: TestAccount;
  let token: string;

  before(async function () {
    this.timeout(STACK_START_MS);
    twin = await startCreemTwin({ productId: PRODUCT, retryLadderMs: [100, 300, 1000, 3000] });
    creem = new Creem({ apiKey: KEY, serverURL: twin.url });
    stack = await startTestStack({
      name: 'top-ups-creem',
      env: {
        CREEM_API_KEY: KEY,
        CREEM_WEBHOOK_SECRETS: `${SECRET},${OLD_SECRET}`,
        CREEM_PRODUCT_ID: PRODUCT,
        CREEM_API_URL: twin.url,
        TOP_UP_CREEM_MIN_USD: '2',
        TOP_UP_CREEM_FEE_PPM: '50000',
        TOP_UP_POLL_SECONDS: '2',
        TOP_UP_POLL_MAX_SECONDS: '2',
        EVENT_AGE_SECONDS: '3',
      },
      databaseUrl: async (url) => {
        databaseProxy = await startTcpProxyFor(url);
        return databaseProxy.through(url);
      },
    });
    const management = stack.database.pool('management', { max: 1 });
    const { secret } = await createAccessToken(management, { role: 'operator', accountId: null, name: 'ops' });
    operatorToken = secret;
  });
  after(async () => {
    await stack.stop();
    await Promise.all([twin.close(), databaseProxy.close()]);
  });
  beforeEach(async () => {
    twin.configureWebhooks({ url: `${stack.baseUrl}/webhooks/creem`, secrets: [SECRET], form: 'both' });
    account = await stack.createAccount('0');
    const management = stack.database.pool('management', { max: 1 });
    token = (await createAccessToken(management, { role: 'account', accountId: account.uuid, name: 'me' })).secret;
  });
  afterEach('no rule is broken', async () => {
    twin.faults.clear();
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
    const { status, body } = await call<TopUpView>('POST', '/api/top-ups', { method: 'creem', amount_usd: amountUsd });
    assert.equal(status, 201, JSON.stringify(body));
    return body;
  }

  const view = async (id: string): Promise<TopUpView> => (await call<TopUpView>('GET', `/api/top-ups/${id}`)).body;

  const recheck = async (id: string): Promise<void> => {
    const { status } = await call('POST', `/admin/top-ups/${id}/recheck`, {}, operatorToken);
    assert.equal(status, 200);
  };

  async function control<T = Record<string, unknown>>(path: string, body: unknown = {}): Promise<T> {
    const response = await fetch(`${twin.url}/_twin${path}`, { method: 'POST', body: JSON.stringify(body) });
    const text = await response.text();
    assert.ok(response.ok, `${path}: ${text}`);
    return JSON.parse(text) as T;
  }

  const uuidOfTopUp = (id: string): Uuid<'topUp'> => parseId('topUp', id)!;

  async function checkoutOf(topUpId: string): Promise<string> {
    const { rows } = await stack.admin.query<{ provider_id: string }>('select provider_id from top_up where id = $1', [
      uuidOfTopUp(topUpId),
    ]);
    return rows[0]!.provider_id;
  }

  const pay = async (topUpId: string, how: object = {}): Promise<unknown> =>
    control(`/checkouts/${await checkoutOf(topUpId)}/pay`, how);

  async function transactionOf(topUpId: string): Promise<string> {
    const checkout = await creem.checkouts.retrieve(await checkoutOf(topUpId));
    return checkout.order!.transaction!;
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
  const settleDown = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 3000));

  const postings = async (kind: string): Promise<number> => {
    const { rows } = await stack.admin.query<{ n: number }>(
      'select count(*)::int as n from posting where kind = $2 and $1 in (debit, credit)',
      [account.uuid, kind],
    );
    return rows[0]!.n;
  };

  const checkoutsFor = (topUpId: string): string[] =>
    twin
      .checkouts()
      .filter((checkout) => checkout.request_id === topUpId)
      .map(({ id }) => id);

  async function paidOrder(): Promise<TopUpView> {
    const made = await order();
    await pay(made.id);
    return untilState(made.id, 'credited');
  }

  it('says what it costs before, and credits the amount without fee and tax after', async () => {
    const { body } = await call<{ data: { method: string; min_usd: string; fee: { ppm: number } }[] }>(
      'GET',
      '/api/top-ups/methods',
    );
    assert.deepEqual(
      body.data.map(({ method, min_usd, fee }) => [method, min_usd, fee.ppm]),
      [['creem', '2.000000000000', 50_000]],
    );
    const made = await order();
    assert.equal(made.state, 'waiting');
    assert.match(made.checkout_url ?? '', /^http:\/\/127\.0\.0\.1:\d+\/checkout\/ch_/);
    await pay(made.id);
    const paid = await untilState(made.id, 'credited');
    assert.deepEqual([paid.received_usd, paid.credited_usd], ['10.500000000000', '10.000000000000']);
    assert.equal(await balance(), usd('10'));
    const { order: sold, requestId } = await creem.checkouts.retrieve(await checkoutOf(made.id));
    assert.deepEqual([sold?.subTotal, sold?.amountPaid, requestId], [1050, PAID_CENTS, made.id]);
  });

  it('is paid on the page that the customer is sent to, who comes back to us', async () => {
    const made = await order();
    const page = await fetch(made.checkout_url!);
    assert.match(await page.text(), /\$12\.71/);
    const paying = await fetch(made.checkout_url!, { method: 'POST', redirect: 'manual' });
    assert.equal(paying.status, 303);
    assert.match(paying.headers.get('location') ?? '', new RegExp(`/top-ups/${made.id}\\?checkout_id=ch_`));
    await untilState(made.id, 'credited');
  });

  it('refuses an amount below its own minimum', async () => {
    const answer = await call<{ error: { param: string } }>('POST', '/api/top-ups', {
      method: 'creem',
      amount_usd: '1.99',
    });
    assert.deepEqual([answer.status, answer.body.error.param], [422, 'amount_usd']);
  });

  it('S1: the same event many times, in parallel, is one credit', async () => {
    const made = await order();
    twin.faults.add({ on: 'delivery', match: { event_type: 'checkout.completed' }, fault: { duplicate: 10 } });
    await pay(made.id);
    await untilState(made.id, 'credited');
    await settleDown();
    assert.equal(await balance(), usd('10'));
    assert.equal(await postings('top_up'), 1);
  });

  it('S3: with the database away an event is not acknowledged, and credited when it is back', async () => {
    const made = await order();
    const checkout = await checkoutOf(made.id);
    databaseProxy.refuse();
    try {
      await control(`/checkouts/${checkout}/pay`);
      await until('a refused delivery', () =>
        twin.deliveries().some(({ attempts }) => attempts.some(({ answers }) => answers.includes(503))),
      );
    } finally {
      databaseProxy.accept();
    }
    await untilState(made.id, 'credited', 20_000);
    assert.equal(await balance(), usd('10'));
  });

  it('S5: an event before our order is kept, closed as not ours, and the order credited once it is there', async () => {
    const id = uuidOf('topUp', uuidv7());
    const topUpId = formatId('topUp', id);
    const checkout = await creem.checkouts.create({ productId: PRODUCT, requestId: topUpId, customPrice: 1050 });
    await control(`/checkouts/${checkout.id}/pay`);
    await until('the event to be closed', async () => {
      const { rows } = await stack.admin.query<{ result: string | null }>(
        `select result from provider_event where provider = 'creem' and payload #>> '{object,request_id}' = $1`,
        [topUpId],
      );
      return rows[0]?.result === 'not ours';
    });
    await stack.admin.query(`select create_top_up($1, $2, 'creem', 'creem', 10, 0.5, 'usd', false, 3600)`, [
      id,
      account.uuid,
    ]);
    await untilState(topUpId, 'credited', 30_000);
    assert.equal(await balance(), usd('10'));
    assert.deepEqual(checkoutsFor(topUpId), [checkout.id], 'the paid checkout was found, no second one made');
  });

  it('S15: a checkout whose answer is lost leaves two; whichever is paid is credited, and both if both are', async () => {
    twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/checkouts' },
      fault: { drop_response_after_commit: true },
    });
    const made = await order();
    await untilState(made.id, 'waiting');
    const [lost, shown] = await until('two checkouts', () => {
      const ids = checkoutsFor(made.id);
      return ids.length === 2 && ids;
    });
    assert.equal(await checkoutOf(made.id), shown);
    await control(`/checkouts/${lost!}/pay`);
    await untilState(made.id, 'credited');
    assert.equal(await balance(), usd('10'));
    await control(`/checkouts/${shown!}/pay`);
    await untilBalance('20');
    await settleDown();
    assert.equal(await postings('top_up'), 2);
    assert.equal(await balance(), usd('20'));
  });

  it('two paid checkouts of one request id: each is refunded on its own', async () => {
    const made = await paidOrder();
    const second = await creem.checkouts.create({ productId: PRODUCT, requestId: made.id, customPrice: 1050 });
    const paid = await control<{ order: { transaction: string } }>(`/checkouts/${second.id}/pay`);
    await untilBalance('20');
    await creem.transactions.refund({ transactionId: paid.order.transaction });
    await untilBalance('10');
    await creem.transactions.refund({ transactionId: await transactionOf(made.id) });
    await untilBalance('0');
    await settleDown();
    assert.equal(await postings('top_up_reversal'), 2);
  });

  it('no event at all: polling credits', async () => {
    twin.configureWebhooks({ url: null });
    const made = await order();
    await pay(made.id);
    await untilState(made.id, 'credited', 15_000);
    const { rows } = await stack.admin.query('select from provider_event where payload::text like $1', [
      `%${made.id}%`,
    ]);
    assert.equal(rows.length, 0, 'no event has come');
  });

  it('S8, S11: partial refunds are taken back once each, tax left out; the balance may fall below zero', async () => {
    const paid = await paidOrder();
    const transaction = await transactionOf(paid.id);
    await stack.admin.query(`select post_transfer('spent', uuidv7(), $1, system_account('revenue'), 9, null, false)`, [
      account.uuid,
    ]);
    // 635.5 cents would be half of what was paid; the share is rounded down to a trillionth.
    await control(`/transactions/${transaction}/refund`, { amount: 636 });
    await until('half to be taken back', async () => {
      const left = await balance();
      return left < usd('-3.99') && left > usd('-4.01');
    });
    await control(`/transactions/${transaction}/refund`, { amount: PAID_CENTS - 636 });
    await untilBalance('-9');
    await settleDown();
    assert.equal(await balance(), usd('-9'));
    assert.equal(await postings('top_up_reversal'), 2);
  });

  it('a refund whose event is lost is taken back at the next look, and its event then moves nothing', async () => {
    const paid = await paidOrder();
    const transaction = await transactionOf(paid.id);
    twin.faults.add({ on: 'delivery', match: { event_type: 'refund.created' }, fault: { drop: true } });
    const refund = await control<{ id: string }>(`/transactions/${transaction}/refund`, { amount: PAID_CENTS });
    await recheck(paid.id);
    assert.equal(await balance(), usd('0'));
    const event = twin.deliveries().findLast(({ event_type }) => event_type === 'refund.created')!;
    await control(`/deliveries/${event.id}/redeliver`);
    await until('the refund to be on record', async () => {
      const { rows } = await stack.admin.query('select from payment_reversal where object_id = $1', [refund.id]);
      return rows.length === 1;
    });
    assert.equal(await balance(), usd('0'));
    assert.equal(await postings('top_up_reversal'), 1);
  });

  it('a refund that is told of before its payment', async () => {
    const made = await order();
    twin.faults.add({ on: 'delivery', match: { event_type: 'checkout.completed' }, fault: { reorder: true } });
    await pay(made.id);
    await creem.transactions.refund({ transactionId: await transactionOf(made.id) });
    await untilState(made.id, 'credited');
    await untilBalance('0');
    await settleDown();
    assert.deepEqual([await postings('top_up'), await postings('top_up_reversal')], [1, 1]);
  });

  it('a refund that fails is given back, though no event says so', async () => {
    const paid = await paidOrder();
    const path = `/transactions/${await transactionOf(paid.id)}/refund`;
    const pending = await control<{ id: string }>(path, { status: 'pending' });
    await settleDown();
    assert.equal(await balance(), usd('10'), 'nothing has gone back yet');
    await control(`/refunds/${pending.id}/end`, { status: 'succeeded' });
    await untilBalance('0', 15_000);
    await control(`/refunds/${pending.id}/end`, { status: 'failed' });
    await untilBalance('10', 15_000);
  });

  it('S9, S10: a dispute takes the credit back, winning restores it without an event, a later refund takes it again', async () => {
    const paid = await paidOrder();
    const transaction = await transactionOf(paid.id);
    const dispute = await control<{ id: string }>(`/transactions/${transaction}/dispute`);
    await untilBalance('0');
    await control(`/disputes/${dispute.id}/end`, { outcome: 'won' });
    await untilBalance('10', 15_000);
    await creem.transactions.refund({ transactionId: transaction });
    await untilBalance('0');
    await settleDown();
    assert.equal(await balance(), usd('0'));
  });

  it('a dispute that is lost leaves the credit taken', async () => {
    const paid = await paidOrder();
    const dispute = await control<{ id: string }>(`/transactions/${await transactionOf(paid.id)}/dispute`);
    await untilBalance('0');
    await control(`/disputes/${dispute.id}/end`, { outcome: 'lost' });
    await settleDown();
    assert.equal(await balance(), usd('0'));
    assert.equal(await postings('top_up_reversal'), 1);
  });

  it('S12: a dispute that is turned into a refund is taken back once', async () => {
    const paid = await paidOrder();
    const dispute = await control<{ id: string }>(`/transactions/${await transactionOf(paid.id)}/dispute`);
    await untilBalance('0');
    await control(`/disputes/${dispute.id}/end`, { outcome: 'refunded' });
    await settleDown();
    assert.equal(await balance(), usd('0'));
    assert.equal(await postings('top_up_reversal'), 1);
    assert.equal(await postings('top_up_reversal_undone'), 0);
  });

  it('a chargeback after a partial refund takes back the rest', async () => {
    const paid = await paidOrder();
    const transaction = await transactionOf(paid.id);
    await control(`/transactions/${transaction}/refund`, { amount: 400 });
    await until('a part to be taken back', async () => (await balance()) < usd('7'));
    await control(`/transactions/${transaction}/dispute`);
    await untilBalance('0');
    assert.equal(await postings('top_up_reversal'), 2);
  });

  it('a status that nobody knows is no success, and takes nothing back', async () => {
    const made = await order();
    twin.configureWebhooks({ url: null });
    await pay(made.id);
    const transaction = await transactionOf(made.id);
    await control(`/transactions/${transaction}/set`, { status: 'onHold' });
    await untilState(made.id, 'processing');
    await control(`/transactions/${transaction}/set`, { status: 'paid' });
    await untilState(made.id, 'credited');
    await control(`/transactions/${transaction}/set`, { status: 'onHold' });
    await recheck(made.id);
    assert.equal(await balance(), usd('10'));
    // The SDK refuses an answer with this word, which is the one of Creem's own samples.
    await control(`/transactions/${transaction}/set`, { status: 'chargeback' });
    await recheck(made.id);
    assert.equal(await balance(), usd('0'));
  });

  it('an order that nobody paid expires, and nothing is credited', async () => {
    const made = await order();
    await control(`/checkouts/${await checkoutOf(made.id)}/expire`);
    await untilState(made.id, 'expired');
    assert.equal(await balance(), usd('0'));
  });

  for (const [what, how, stuck, received] of [
    ['another price', { sub_total: 700 }, 'amount_mismatch', '7.000000000000'],
    ['a discount', { discount_amount: 500 }, 'amount_mismatch', '5.500000000000'],
    ['another currency', { currency: 'EUR' }, 'currency_mismatch', '10.500000000000'],
    ['real money for a test order', { mode: 'prod' }, 'mode_mismatch', '10.500000000000'],
  ] as const) {
    it(`S17: ${what} waits for a person, with what was received on record`, async () => {
      const made = await order();
      await pay(made.id, how);
      const now = await untilState(made.id, 'quarantined');
      assert.deepEqual([now.received_usd, now.credited_usd], [received, '0.000000000000']);
      const { body } = await call<{ data: { id: string; stuck: string }[] }>(
        'GET',
        '/admin/top-ups?stuck=true',
        undefined,
        operatorToken,
      );
      assert.equal(body.data.find(({ id }) => id === made.id)?.stuck, stuck);
    });
  }

  describe('an event', () => {
    const payload = (change: object = {}): string =>
      JSON.stringify({
        id: `evt_${uuidv7()}`,
        eventType: 'checkout.completed',
        created_at: Date.now(),
        object: { id: 'ch_of_nobody', object: 'checkout', mode: 'test', ...change },
      });

    async function deliver(body: string, headers: Record<string, string>): Promise<number> {
      const response = await fetch(`${stack.baseUrl}/webhooks/creem`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body,
      });
      await response.text();
      return response.status;
    }

    const sign = (
      body: string,
      form: SignatureForm,
      { secret = SECRET, ageSeconds = 0 } = {},
    ): Record<string, string> =>
      signatureHeaders(form, {
        body: Buffer.from(body),
        messageId: 'msg_1',
        timestamp: Math.floor(Date.now() / 1000) - ageSeconds,
        secrets: [secret],
      });

    for (const form of ['legacy', 'standard', 'both'] as const) {
      it(`credits when it is signed in the ${form} form`, async () => {
        twin.configureWebhooks({ form });
        const made = await order();
        await pay(made.id);
        await untilState(made.id, 'credited');
        const row = twin.deliveries().at(-1)!;
        assert.deepEqual(row.attempts[0]?.answers, [200]);
      });

      it(`is taken with any of the secrets in the ${form} form, and refused with another or an altered byte`, async () => {
        for (const secret of [SECRET, OLD_SECRET]) {
          const body = payload();
          assert.equal(await deliver(body, sign(body, form, { secret })), 200);
        }
        const body = payload();
        const wrong = 'whsec_d3Jvbmctc2VjcmV0LW9mLXRlc3RzLg==';
        assert.equal(await deliver(body, sign(body, form, { secret: wrong })), 400);
        assert.equal(await deliver(`${body} `, sign(body, form)), 400);
        assert.equal(await deliver(body, {}), 400);
      });
    }

    it('in the standard form is refused when its time is too far from now in either direction', async () => {
      const body = payload();
      assert.equal(await deliver(body, sign(body, 'standard', { ageSeconds: 310 })), 400);
      assert.equal(await deliver(body, sign(body, 'standard', { ageSeconds: -310 })), 400);
      assert.equal(await deliver(body, sign(body, 'both', { ageSeconds: 310 })), 400);
    });

    it('with a part of the standard headers is not judged by the older one', async () => {
      const body = payload();
      const { 'webhook-id': messageId, ...rest } = sign(body, 'both');
      assert.ok(messageId !== undefined);
      assert.equal(await deliver(body, rest), 400);
      const { 'webhook-timestamp': timestamp, ...others } = sign(body, 'both', { ageSeconds: 310 });
      assert.ok(timestamp !== undefined);
      assert.equal(await deliver(body, others), 400);
    });

    it('of the older form is stored once, however often it is sent again', async () => {
      const body = payload();
      const headers = { 'creem-signature': createHmac('sha256', SECRET).update(body).digest('hex') };
      assert.deepEqual([await deliver(body, headers), await deliver(body, headers)], [200, 200]);
      const { rows } = await stack.admin.query(
        `select from provider_event where provider = 'creem' and event_id = $1`,
        [(JSON.parse(body) as { id: string }).id],
      );
      assert.equal(rows.length, 1);
    });

    it('with characters that PostgreSQL has no place for is stored without them, not refused for ever', async () => {
      const body = payload({ id: `ch_${uuidv7()}`, note: 'a\u0000b' });
      assert.equal(await deliver(body, sign(body, 'standard')), 200);
      const { id } = JSON.parse(body) as { id: string };
      const { rows } = await stack.admin.query<{ note: string }>(
        `select payload #>> '{object,note}' as note from provider_event where event_id = $1`,
        [id],
      );
      assert.deepEqual(rows, [{ note: 'ab' }]);
    });

    it('of another kind that names an order of ours changes nothing about it', async () => {
      const made = await order();
      const body = payload({ id: 'sub_1', object: 'subscription', request_id: made.id });
      assert.equal(await deliver(body, sign(body, 'standard')), 200);
      await pay(made.id);
      await untilState(made.id, 'credited');
      assert.equal(await balance(), usd('10'));
    });

    it('about real money, without an id, or that is no JSON is refused', async () => {
      for (const body of [
        payload({ mode: 'prod' }),
        '{"eventType":"checkout.completed","object":{}}',
        'not json',
        '7',
      ]) {
        assert.equal(await deliver(body, sign(body, 'legacy')), 400, body);
      }
    });
  });

  it('S7: a webhook secret that is missing or empty stops the process at its start', async () => {
    for (const CREEM_WEBHOOK_SECRETS of ['', ' , ']) {
      await assert.rejects(stack.startApi({ CREEM_WEBHOOK_SECRETS }), /CREEM_WEBHOOK_SECRETS: must name at least one/);
    }
  });
});
