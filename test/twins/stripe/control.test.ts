/** The Stripe twin's control interface: it refuses by name what it does not know, so that a misspelt fault shows. */
import assert from 'node:assert/strict';

import type Stripe from 'stripe';

import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { clientOf, order, paid, startTwin } from './fixture.ts';

describe('stripe twin: control', () => {
  let twin: StripeTwin;
  let stripe: Stripe;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startTwin();
    stripe = clientOf(twin);
  });
  afterEach(() => twin.close());

  it('names the bad field of a control call', async () => {
    const { id } = await stripe.checkout.sessions.create(order());
    const session = await paid(twin);
    const bad: [string, unknown, string][] = [
      [`sessions/${id}/pay`, { card: 'gold' }, 'card'],
      [`sessions/${id}/pay`, { amount_totl: 5 }, 'amount_totl'],
      [`sessions/${id}/pay`, { amount_total: '5' }, 'amount_total'],
      [`async/${id}`, {}, 'succeed'],
      ['refunds', { payment_intent: session.payment_intent, status: 'lost' }, 'status'],
      ['disputes', {}, 'payment_intent'],
      ['clock', { advance_seconds: -1 }, 'advance_seconds'],
      ['webhooks', { url: 'nowhere' }, 'url'],
      ['faults', { on: 'both', fault: {} }, 'on'],
      ['faults', { on: 'api', fault: { fail_status: 200 } }, 'fault.fail_status'],
      ['faults', { on: 'delivery', fault: { hang_ms: 1 } }, 'hang_ms'],
    ];
    for (const [path, body, field] of bad) {
      const answer = await control.call<{ error: { message: string; field: string } }>('POST', path, body);
      assert.deepEqual([path, answer.status, answer.body.error.field], [path, 400, field]);
      assert.ok(answer.body.error.message.includes(field));
    }
    assert.equal((await control.call('POST', 'nothing')).status, 404);
    assert.equal((await control.call('POST', 'sessions/cs_test_none/pay')).status, 404);
  });
});
