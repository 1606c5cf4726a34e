/**
 * Events of a Stripe account that serves more than us: connected accounts, other products, other environments, objects
 * that cannot be read. Each is closed as foreign and counted, keeps nothing unhealthy, and moves no money; an event
 * about a payment of ours counts whatever others have written into it.
 */
import assert from 'node:assert/strict';
import { webhookCounts } from '../../db/payments/webhook-counts.ts';
import { startCardStack, stripeEvent, type CardStack } from '../support/card-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { until } from '../support/until.ts';

describe('events of Stripe that are not ours', function () {
  this.timeout(60_000);
  let cards: CardStack;
  let customer: Customer;

  before(async () => {
    cards = await startCardStack({ name: 'top-ups-stripe-foreign', env: { SWEEP_INTERVAL_SECONDS: '1' } });
  });
  after(() => cards.stop());
  beforeEach(async () => {
    customer = await cards.people.customer();
  });
  afterEach('no rule is broken', async () => {
    cards.heal();
    // As it is an hour later, when an event that is still open is a breach.
    await cards.untilEventsAreHandled();
    assert.deepEqual(await brokenRules(cards.stack.admin), []);
  });

  const resultOf = (eventId: string): Promise<string> =>
    until(`${eventId} to be closed`, async () => {
      const { rows } = await cards.stack.admin.query<{ result: string | null }>(
        'select result from provider_event where event_id = $1',
        [eventId],
      );
      return rows[0]?.result ?? null;
    });
  const countOf = async (reason: string): Promise<number> => {
    const counts = await webhookCounts(cards.stack.admin);
    return counts.find((row) => row.kind === 'foreign' && row.reason === reason)?.count ?? 0;
  };
  const emit = (event: object) => cards.control.steer<{ id: string }>('events', event);
  const areClosed = async (reason: string, events: readonly object[]): Promise<void> => {
    const ids = await Promise.all(events.map(async (event) => (await emit(event)).id));
    for (const [n, id] of ids.entries()) {
      assert.equal(await resultOf(id), `foreign: ${reason}`, JSON.stringify(events[n]));
    }
  };

  it('of a connected account are acknowledged, closed and counted, though their object names our order', async () => {
    const made = await customer.order('card');
    const before = await countOf('other_account');
    const object = { object: 'payment_intent', id: 'pi_connected', metadata: { topup_id: made.id } };
    const types = ['payment_intent.succeeded', 'account.updated', 'payment_method.detached', 'x.y'];
    await areClosed(
      'other_account',
      types.map((type) => ({ type, object, account: 'acct_connected' })),
    );
    assert.equal(await countOf('other_account'), before + 4);
    assert.equal((await customer.view(made.id)).state, 'waiting');
  });

  it('about payments that our account does not have, at either end of an organisation, are closed', async () => {
    await areClosed('unknown_at_provider', [
      { type: 'payment_intent.succeeded', object: { object: 'payment_intent', id: 'pi_of_nobody' } },
      { type: 'refund.created', object: { object: 'refund', id: 're_1', payment_intent: 'pi_of_nobody' } },
      { type: 'charge.dispute.created', object: { object: 'dispute', id: 'du_1', payment_intent: { id: 'pi_x' } } },
      { type: 'payment_intent.succeeded', context: 'acct_1', object: { object: 'payment_intent', id: 'pi_other' } },
    ]);
  });

  it('of other products are closed: no payment, other metadata, an order of another environment', async () => {
    const intent = await cards.stripe.paymentIntents.create({
      ...{ amount: 500, currency: 'usd', payment_method: 'pm_card_visa', confirm: true },
      ...{ metadata: { topup_id: 'ticket 5' }, automatic_payment_methods: { enabled: true, allow_redirects: 'never' } },
    });
    await areClosed('nothing_of_ours', [
      { type: 'invoice.paid', object: { object: 'invoice', id: 'in_1' } },
      { type: 'charge.refunded', object: { object: 'charge', id: 'ch_1', payment_intent: null } },
      { type: 'checkout.session.completed', object: { object: 'checkout.session', client_reference_id: 'cart-17' } },
      { type: 'checkout.session.completed', object: { client_reference_id: `top_${'0'.repeat(32)}` } },
      { type: 'charge.updated', object: { object: 'charge', id: 'ch_2', payment_intent: intent.id } },
      { type: 'customer.deleted', object: { object: 'customer', id: 'cus_of_others' } },
    ]);
  });

  it('that cannot be read are closed', async () => {
    const objects = ['a text', 17, [], [{ object: 'refund' }]];
    await areClosed(
      'unreadable',
      objects.map((object) => ({ type: 'v9.thing', object })),
    );
    const { id, text } = stripeEvent('x');
    assert.equal(await cards.deliver(text.replace(/"data":.*$/, '"data":null}')), 200);
    assert.equal(await resultOf(id), 'foreign: unreadable');
  });

  it('are ours where the payment is, whatever somebody wrote into the metadata of its refund', async () => {
    const paid = await cards.paidOrder(customer);
    const payment_intent = await cards.paymentIntentOf(paid.id);
    cards.twin.configureWebhooks({ url: null });
    const refund = await cards.stripe.refunds.create({ payment_intent, metadata: { topup_id: 'ticket 5' } });
    cards.heal();
    const { id } = await emit({ type: 'refund.created', object: refund });
    await customer.untilBalance('0');
    assert.equal(await resultOf(id), 'credited');
  });

  it('are counted once however often they come', async () => {
    const before = await countOf('other_account');
    const { id, text } = stripeEvent('payment_intent.succeeded');
    const event = text.replace('{', '{"account":"acct_1",');
    for (let n = 0; n < 3; n++) assert.equal(await cards.deliver(event), 200);
    assert.equal(await resultOf(id), 'foreign: other_account');
    assert.equal(await cards.deliver(event), 200);
    await cards.settleDown();
    assert.equal(await countOf('other_account'), before + 1);
  });

  it('and calls that are refused are in the metrics of the api, with their reason', async () => {
    assert.equal(await cards.deliver('{}', cards.sign('{}', { secret: 'whsec_ffffffffffffffffffff' })), 400);
    await emit({ type: 'x', account: 'acct_1' }).then(({ id }) => resultOf(id));
    const metrics = await (await fetch(cards.stack.metricsUrl)).text();
    assert.match(metrics, /^holdfast_webhooks_refused_total\{.*reason="wrong_secret".*\} 1$/m);
    assert.match(metrics, /^holdfast_webhook_events_foreign\{.*reason="other_account".*\} \d+$/m);
    const line = cards.stack.api.log.find(({ msg }) => msg === 'webhook refused');
    assert.deepEqual([line?.['provider'], line?.['reason']], ['stripe', 'wrong_secret']);
  });
});
