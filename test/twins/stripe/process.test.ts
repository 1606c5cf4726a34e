/** The Stripe twin as a process of its own: what it keeps when it is killed, and what it does not start with. */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

import type Stripe from 'stripe';

import { TwinControl } from '../../support/twin-control.ts';
import { complaintOf, TwinProcesses, type TwinProcess } from '../../support/twin-process.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, OLD_SECRET, order, paid, SECRET, signatureOf, untilReceived } from './fixture.ts';

/** All that the twin knows, of which these tests look only into the clock. */
interface State {
  readonly clock: { readonly now: number };
}

describe('stripe twin as a process', () => {
  let twins: TwinProcesses;
  let endpoint: WebhookEndpoint;
  const control = new TwinControl(() => twins.latest.url);

  beforeEach(async () => {
    twins = new TwinProcesses('stripe');
    endpoint = await WebhookEndpoint.start();
  });
  afterEach(async () => {
    await twins.end();
    await endpoint.close();
  });

  /** A delayed payment that has succeeded, by a customer who has since been deleted. */
  async function settledPayment(twin: TwinProcess): Promise<string> {
    const { customers } = clientOf(twin);
    const customer = await customers.create({ email: 'a@example.com' });
    const { id, payment_intent } = await paid(twin, 'async_success', { customer: customer.id });
    await control.steer(`async/${id}`, { succeed: true });
    await customers.del(customer.id);
    return payment_intent;
  }

  it('keeps everything through kill -9, and delivers what was not delivered', async () => {
    endpoint.answer = () => 500;
    const dataFile = join(twins.folder, 'twin.jsonl');
    const environment = {
      TWIN_DATA_FILE: dataFile,
      TWIN_WEBHOOK_URL: endpoint.url,
      TWIN_WEBHOOK_SECRETS: `${SECRET}, ${OLD_SECRET}`,
      TWIN_PUBLIC_URL: 'http://pay.test/',
    };
    const killed = await twins.start(environment);
    const session = await clientOf(killed).checkout.sessions.create(order(), { idempotencyKey: 'k' });
    assert.equal(session.url, `http://pay.test/pay/${session.id}`);
    const paymentId = await settledPayment(killed);
    await control.steer(`sessions/${session.id}/pay`, { card: 'decline' });
    await control.steer('refunds', { payment_intent: paymentId, amount: 100, status: 'pending' });
    const dispute = await control.steer<Stripe.Dispute>('disputes', { payment_intent: paymentId, withdraw: false });
    await control.steer(`disputes/${dispute.id}`, { status: 'won' });
    await control.steer('clock', { advance_seconds: 600 });
    const { clock, ...state } = await control.show<State>('state');
    await killed.stop('SIGKILL');
    appendFileSync(dataFile, '["sessions","cs_test_half');
    endpoint.answer = () => 200;
    endpoint.received.length = 0;

    const again = await twins.start(environment);
    const { clock: clockNow, ...stateNow } = await control.show<State>('state');
    assert.deepEqual(stateNow, state);
    assert.ok(clockNow.now >= clock.now);
    const { checkout, webhooks } = clientOf(again);
    const replayed = await checkout.sessions.create(order(), { idempotencyKey: 'k' });
    assert.equal(replayed.id, session.id);
    const [delivered] = await untilReceived(endpoint, 'payment_intent.succeeded');
    assert.ok(delivered);
    for (const secret of [SECRET, OLD_SECRET]) {
      webhooks.constructEvent(delivered.body, signatureOf(delivered), secret, undefined, undefined, clockNow.now);
    }
    assert.equal(await again.stop('SIGTERM'), 0);
  });

  it('exits with 1 and names every bad variable', async () => {
    const complaint = await complaintOf('stripe', { TWIN_PORT: '70000', TWIN_WEBHOOK_URL: 'nowhere' });
    assert.match(complaint, /TWIN_PORT.*TWIN_WEBHOOK_URL/);
  });
});
