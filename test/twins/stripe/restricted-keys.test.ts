/**
 * Restricted keys of the twin: refused call by call and expansion by expansion, with the error that Stripe's SDK makes
 * of it.
 */
import assert from 'node:assert/strict';
import Stripe from 'stripe';
import type { StripeTwin } from '../../../twins/stripe/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { clientOf, failureOf, paid, startTwin } from './fixture.ts';

describe('stripe twin: restricted keys', () => {
  let twin: StripeTwin;
  let control: TwinControl;
  let restricted: Stripe;

  before(async () => {
    twin = await startTwin();
    control = new TwinControl(() => twin.url);
    restricted = new Stripe('rk_test_twin', {
      host: '127.0.0.1',
      port: twin.port,
      protocol: 'http',
      maxNetworkRetries: 0,
    });
  });
  after(() => twin.close());

  it('may do everything until they are restricted, and secret keys always may', async () => {
    const { id } = await paid(twin);
    assert.equal((await restricted.checkout.sessions.retrieve(id)).payment_status, 'paid');
    await control.steer('permissions', { granted: [] });
    assert.equal((await clientOf(twin).checkout.sessions.retrieve(id)).payment_status, 'paid');
    assert.ok(
      (await failureOf(restricted.checkout.sessions.retrieve(id))) instanceof Stripe.errors.StripePermissionError,
    );
  });

  it('name the permission that is missing; writing takes another one than reading', async () => {
    await control.steer('permissions', { granted: ['rak_customer_read'] });
    const error = await failureOf(restricted.customers.create({}));
    assert.equal(error.statusCode, 403);
    assert.match(error.message, /Having the 'rak_customer_write' permission would allow this request to continue/);
    await control.steer('permissions', { granted: ['rak_customer_write'] });
    const { id } = await restricted.customers.create({});
    assert.equal((await restricted.customers.retrieve(id)).id, id);
  });

  it('expand only what they may read', async () => {
    const { id } = await paid(twin);
    await control.steer('permissions', { granted: ['rak_checkout_session_read', 'rak_payment_intent_read'] });
    const expanding = (expand: string[]) => restricted.checkout.sessions.retrieve(id, { expand });
    assert.equal(typeof (await expanding(['payment_intent'])).payment_intent, 'object');
    assert.match((await failureOf(expanding(['payment_intent.latest_charge']))).message, /rak_charge_read/);
  });

  it('are told apart by their prefix, and unknown permissions are refused', async () => {
    const { status } = await control.call('POST', 'permissions', { granted: ['rak_everything_write'] });
    assert.equal(status, 400);
    await control.steer('permissions', { granted: null });
    assert.deepEqual(await control.show('permissions'), { granted: null });
  });
});
