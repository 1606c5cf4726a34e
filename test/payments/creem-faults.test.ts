/**
 * Top-ups by Creem while events are repeated, forged, early or lost, an answer never comes, and the database is away:
 * real api, worker, PostgreSQL and Temporal before Creem's twin. Peculiar to Creem: no idempotency key, and
 * two ways of signing.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { uuidv7 } from 'uuidv7';
import { formatId, uuidOf } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { signatureHeaders, type SignatureForm } from '../../twins/creem/signature.ts';
import { PAID_CENTS, startCreemStack, WEBHOOK_SECRETS, type CreemStack } from '../support/creem-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff } from '../support/people.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

describe('top-ups by Creem under faults', function () {
  this.timeout(60_000);
  let shop: CreemStack;
  let databaseProxy: TcpProxy;
  let customer: Customer;
  let operator: Staff;

  before(async () => {
    shop = await startCreemStack({
      name: 'top-ups-creem-faults',
      databaseUrl: async (url) => {
        databaseProxy = await startTcpProxyFor(url);
        return databaseProxy.through(url);
      },
    });
    operator = await shop.people.staff('ops');
  });
  after(async () => {
    await shop.stop();
    await databaseProxy.close();
  });
  beforeEach(async () => {
    customer = await shop.people.customer();
  });
  afterEach('no rule is broken', async () => {
    shop.heal();
    assert.deepEqual(await brokenRules(shop.stack.admin), []);
  });

  it('S1: the same event many times, in parallel, is one credit', async () => {
    const made = await customer.order('creem');
    shop.twin.faults.add({ on: 'delivery', match: { event_type: 'checkout.completed' }, fault: { duplicate: 10 } });
    await shop.pay(made.id);
    await customer.untilState(made.id, 'credited');
    await shop.settleDown();
    assert.equal(await customer.balance(), usd('10'));
    assert.equal((await customer.postings('top_up')).length, 1);
  });

  it('S3: with the database away an event is not acknowledged, and credited when it is back', async () => {
    const made = await customer.order('creem');
    const checkout = await shop.checkoutOf(made.id);
    databaseProxy.refuse();
    try {
      await shop.control.steer(`checkouts/${checkout}/pay`);
      await until('a refused delivery', () =>
        shop.twin.deliveries().some(({ attempts }) => attempts.some(({ answers }) => answers.includes(503))),
      );
    } finally {
      databaseProxy.accept();
    }
    await customer.untilState(made.id, 'credited', 20_000);
    assert.equal(await customer.balance(), usd('10'));
  });

  it('S5: an event before our order is kept, closed as not ours, and the order credited once it is there', async () => {
    const id = uuidOf('topUp', uuidv7());
    const topUpId = formatId('topUp', id);
    const checkout = await shop.makeCheckout(topUpId);
    await shop.control.steer(`checkouts/${checkout}/pay`);
    await until('the event to be closed', async () => {
      const { rows } = await shop.stack.admin.query<{ result: string | null }>(
        `select result from provider_event where provider = 'creem' and payload #>> '{object,request_id}' = $1`,
        [topUpId],
      );
      return rows[0]?.result === 'foreign: nothing_of_ours';
    });
    await shop.stack.admin.query(`select create_top_up($1, $2, 'creem', 'creem', 10, 0.5, 'usd', false, 3600)`, [
      id,
      customer.uuid,
    ]);
    await customer.untilState(topUpId, 'credited', 30_000);
    assert.equal(await customer.balance(), usd('10'));
    assert.deepEqual(shop.checkoutsFor(topUpId), [checkout], 'the paid checkout was found, no second one made');
  });

  it('S15: a checkout whose answer is lost leaves two; whichever is paid is credited, and both if both are', async () => {
    shop.twin.faults.add({
      on: 'api',
      match: { method: 'POST', path: '/v1/checkouts' },
      fault: { drop_response_after_commit: true },
    });
    const made = await customer.order('creem');
    await customer.untilState(made.id, 'waiting');
    const [lost, shown] = await until('two checkouts', () => {
      const ids = shop.checkoutsFor(made.id);
      return ids.length === 2 && ids;
    });
    assert.equal(await shop.checkoutOf(made.id), shown);
    await shop.control.steer(`checkouts/${lost!}/pay`);
    await customer.untilState(made.id, 'credited');
    assert.equal(await customer.balance(), usd('10'));
    await shop.control.steer(`checkouts/${shown!}/pay`);
    await customer.untilBalance('20');
    await shop.settleDown();
    assert.equal((await customer.postings('top_up')).length, 2);
    assert.equal(await customer.balance(), usd('20'));
  });

  it('no event at all: polling credits', async () => {
    shop.twin.configureWebhooks({ url: null });
    const made = await customer.order('creem');
    await shop.pay(made.id);
    await customer.untilState(made.id, 'credited', 15_000);
    const { rows } = await shop.stack.admin.query('select from provider_event where payload::text like $1', [
      `%${made.id}%`,
    ]);
    assert.equal(rows.length, 0, 'no event has come');
  });

  it('a refund whose event is lost is taken back at the next look, and its event then moves nothing', async () => {
    const paid = await shop.paidOrder(customer);
    const transaction = await shop.transactionOf(paid.id);
    shop.twin.faults.add({ on: 'delivery', match: { event_type: 'refund.created' }, fault: { drop: true } });
    const refund = await shop.control.steer<{ id: string }>(`transactions/${transaction}/refund`, {
      amount: PAID_CENTS,
    });
    await operator.recheck(paid.id);
    assert.equal(await customer.balance(), usd('0'));
    const event = shop.twin.deliveries().findLast(({ event_type }) => event_type === 'refund.created')!;
    await shop.control.steer(`deliveries/${event.id}/redeliver`);
    await until('the refund to be on record', async () => {
      const { rows } = await shop.stack.admin.query('select from payment_reversal where object_id = $1', [refund.id]);
      return rows.length === 1;
    });
    assert.equal(await customer.balance(), usd('0'));
    assert.equal((await customer.postings('top_up_reversal')).length, 1);
  });

  it('a refund that is reported before its payment', async () => {
    const made = await customer.order('creem');
    shop.twin.faults.add({ on: 'delivery', match: { event_type: 'checkout.completed' }, fault: { reorder: true } });
    await shop.pay(made.id);
    await shop.creem.transactions.refund({ transactionId: await shop.transactionOf(made.id) });
    await customer.untilState(made.id, 'credited');
    await customer.untilBalance('0');
    await shop.settleDown();
    assert.equal((await customer.postings('top_up')).length, 1);
    assert.equal((await customer.postings('top_up_reversal')).length, 1);
  });

  describe('an event', () => {
    const eventText = (change: object = {}): string =>
      JSON.stringify({
        id: `evt_${uuidv7()}`,
        eventType: 'checkout.completed',
        created_at: Date.now(),
        object: { id: 'ch_of_nobody', object: 'checkout', mode: 'test', ...change },
      });

    async function deliver(body: string, headers: Record<string, string>): Promise<number> {
      const response = await fetch(`${shop.stack.baseUrl}/webhooks/creem`, {
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
      { secret = WEBHOOK_SECRETS[0], ageSeconds = 0 }: { secret?: string; ageSeconds?: number } = {},
    ): Record<string, string> =>
      signatureHeaders(form, {
        body: Buffer.from(body),
        messageId: 'msg_1',
        timestamp: Math.floor(Date.now() / 1000) - ageSeconds,
        secrets: [secret],
      });

    it('about another product, an unknown checkout or nothing that can be read is closed as foreign', async () => {
      const foreign = {
        unknown_at_provider: [{ object: 'dispute', id: 'dis_1', checkout: 'ch_ofnobody' }],
        nothing_of_ours: [
          { object: 'subscription', id: 'sub_1', status: 'active' },
          { object: 'checkout', id: 'ch_1', request_id: 'cart-17', order: { id: 'ord_of_others' } },
        ],
        unreadable: ['a text', 7, null, []],
      };
      const sent: [eventId: string, reason: string][] = [];
      for (const [reason, objects] of Object.entries(foreign)) {
        for (const object of objects) {
          const id = `evt_${uuidv7()}`;
          const body = JSON.stringify({ id, eventType: 'x.y', object });
          assert.equal(await deliver(body, sign(body, 'legacy')), 200);
          sent.push([id, reason]);
        }
      }
      for (const [id, reason] of sent) {
        const closed = await until(`${id} to be closed`, async () => {
          const { rows } = await shop.stack.admin.query<{ result: string | null }>(
            'select result from provider_event where event_id = $1',
            [id],
          );
          return rows[0]?.result ?? null;
        });
        assert.equal(closed, `foreign: ${reason}`);
      }
    });

    for (const form of ['legacy', 'standard', 'both'] as const) {
      it(`credits when it is signed in the ${form} form`, async () => {
        shop.twin.configureWebhooks({ form });
        const made = await customer.order('creem');
        await shop.pay(made.id);
        await customer.untilState(made.id, 'credited');
        const row = shop.twin.deliveries().at(-1)!;
        assert.deepEqual(row.attempts[0]?.answers, [200]);
      });

      it(`is taken with any of the secrets in the ${form} form, and refused with another or an altered byte`, async () => {
        for (const secret of WEBHOOK_SECRETS) {
          const body = eventText();
          assert.equal(await deliver(body, sign(body, form, { secret })), 200);
        }
        const body = eventText();
        const wrong = 'whsec_d3Jvbmctc2VjcmV0LW9mLXRlc3RzLg==';
        assert.equal(await deliver(body, sign(body, form, { secret: wrong })), 400);
        assert.equal(await deliver(`${body} `, sign(body, form)), 400);
        assert.equal(await deliver(body, {}), 400);
      });
    }

    it('in the standard form is refused when its time is too far from now in either direction', async () => {
      const body = eventText();
      assert.equal(await deliver(body, sign(body, 'standard', { ageSeconds: 310 })), 400);
      assert.equal(await deliver(body, sign(body, 'standard', { ageSeconds: -310 })), 400);
      assert.equal(await deliver(body, sign(body, 'both', { ageSeconds: 310 })), 400);
    });

    it('an event with a part of the standard headers is not verified by the older one', async () => {
      const body = eventText();
      const { 'webhook-id': messageId, ...rest } = sign(body, 'both');
      assert.ok(messageId !== undefined);
      assert.equal(await deliver(body, rest), 400);
      const { 'webhook-timestamp': timestamp, ...others } = sign(body, 'both', { ageSeconds: 310 });
      assert.ok(timestamp !== undefined);
      assert.equal(await deliver(body, others), 400);
    });

    it('of the older form is stored once, however often it is sent again', async () => {
      const body = eventText();
      const headers = { 'creem-signature': createHmac('sha256', WEBHOOK_SECRETS[0]).update(body).digest('hex') };
      assert.deepEqual([await deliver(body, headers), await deliver(body, headers)], [200, 200]);
      const { rows } = await shop.stack.admin.query(
        `select from provider_event where provider = 'creem' and event_id = $1`,
        [(JSON.parse(body) as { id: string }).id],
      );
      assert.equal(rows.length, 1);
    });

    it('an event with characters that PostgreSQL cannot store is stored without them, not refused forever', async () => {
      const body = eventText({ id: `ch_${uuidv7()}`, note: 'a\u0000b' });
      assert.equal(await deliver(body, sign(body, 'standard')), 200);
      const { id } = JSON.parse(body) as { id: string };
      const { rows } = await shop.stack.admin.query<{ note: string }>(
        `select payload #>> '{object,note}' as note from provider_event where event_id = $1`,
        [id],
      );
      assert.deepEqual(rows, [{ note: 'ab' }]);
    });

    it('of another kind that names an order of ours changes nothing about it', async () => {
      const made = await customer.order('creem');
      const body = eventText({ id: 'sub_1', object: 'subscription', request_id: made.id });
      assert.equal(await deliver(body, sign(body, 'standard')), 200);
      await shop.pay(made.id);
      await customer.untilState(made.id, 'credited');
      assert.equal(await customer.balance(), usd('10'));
    });

    it('about real money, without an id, or that is no JSON is refused', async () => {
      for (const body of [
        eventText({ mode: 'prod' }),
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
      await assert.rejects(
        shop.stack.startApi({ CREEM_WEBHOOK_SECRETS }),
        /CREEM_WEBHOOK_SECRETS: must name at least one/,
      );
    }
  });
});
