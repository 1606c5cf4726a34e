/**
 * The subject of events, with any content: an account serves other products and other people's
 * accounts, and an event that cannot be read must be closed, not retried without end.
 */
import assert from 'node:assert/strict';
import { subjectOfCreemEvent } from '../../../providers/creem/events.ts';
import { subjectOfStripeEvent } from '../../../providers/stripe/events.ts';

const NOTHING = { reversalId: null, topUpId: null, paymentId: null };
const ODD = [null, undefined, 0, 1.5, true, '', 'text', [], [{}], {}, { id: 1 }, { id: null }, { id: {} }];

describe('the subject of an event of Stripe', () => {
  const event = (object: unknown, more: object = {}): unknown => ({
    id: 'evt_1',
    type: 't',
    data: { object },
    ...more,
  });

  it('a Stripe event that names another account is about that, even if its object names an order', () => {
    const object = { object: 'payment_intent', id: 'pi_1', metadata: { topup_id: 'top_1' } };
    const foreign = { ...NOTHING, foreign: 'other_account' };
    assert.deepEqual(subjectOfStripeEvent(event(object, { account: 'acct_1' })), foreign);
    for (const account of ['', 0, false, {}]) {
      assert.deepEqual(subjectOfStripeEvent(event(object, { account })), foreign, JSON.stringify(account));
    }
    for (const account of [null, undefined]) {
      assert.equal(subjectOfStripeEvent(event(object, { account })).paymentId, 'pi_1');
    }
  });

  it('a Stripe event without an object is unreadable', () => {
    const unreadable = { ...NOTHING, foreign: 'unreadable' };
    for (const odd of ODD) {
      assert.deepEqual(subjectOfStripeEvent(odd), unreadable);
      assert.deepEqual(subjectOfStripeEvent({ data: odd }), unreadable);
      if (typeof odd !== 'object' || odd === null || Array.isArray(odd)) {
        assert.deepEqual(subjectOfStripeEvent(event(odd)), unreadable, JSON.stringify(odd));
      }
    }
  });

  it('a Stripe event whose fields have another form than ours is about nothing, and never throws', () => {
    for (const field of ['id', 'object', 'payment_intent', 'metadata', 'client_reference_id', 'customer']) {
      for (const odd of ODD) {
        for (const kind of ['payment_intent', 'refund', 'dispute', 'charge', 'radar.early_fraud_warning', 'x']) {
          const object = { object: kind, [field]: odd };
          for (const type of ['payment_method.detached', 'customer.deleted', 1, null]) {
            const { topUpId, paymentId, reversalId } = subjectOfStripeEvent(event(object, { type }));
            for (const id of [paymentId, reversalId]) assert.equal(id, null, JSON.stringify(object));
            assert.ok(topUpId === null || topUpId === 'text');
          }
        }
      }
    }
    for (const id of ['pi_/../v1', 'pi_ 1', `pi_${'x'.repeat(300)}`, 'pi_1?x=y', 'pi']) {
      assert.deepEqual(subjectOfStripeEvent(event({ object: 'payment_intent', id })), NOTHING);
    }
    assert.deepEqual(subjectOfStripeEvent(event({ object: 'charge', metadata: { topup_id: 17 } })), NOTHING);
  });

  it('a Stripe event is about the payment, the order, the reversal or the warning that it names', () => {
    assert.deepEqual(
      subjectOfStripeEvent(event({ object: 'refund', id: 're_1', payment_intent: { id: 'pi_1' }, metadata: {} })),
      { reversalId: 're_1', topUpId: null, paymentId: 'pi_1' },
    );
    const warning = { object: 'radar.early_fraud_warning', id: 'issfr_1', fraud_type: 'misc', payment_intent: 'pi_1' };
    assert.deepEqual(subjectOfStripeEvent(event(warning)), {
      ...{ reversalId: null, topUpId: null, paymentId: 'pi_1' },
      warning: { objectId: 'issfr_1', fraudType: 'misc' },
    });
  });
});

describe('the subject of an event of Creem', () => {
  it('a Creem event is unreadable without an object, about nothing where fields have another form, and never throws', () => {
    for (const odd of ODD) {
      if (typeof odd !== 'object' || odd === null || Array.isArray(odd)) {
        const unreadable = { ...NOTHING, foreign: 'unreadable' };
        assert.deepEqual(subjectOfCreemEvent(odd), unreadable);
        assert.deepEqual(subjectOfCreemEvent({ object: odd, data: odd }), unreadable);
      }
      for (const field of ['id', 'object', 'order', 'checkout', 'transaction', 'metadata', 'request_id']) {
        const { reversalId } = subjectOfCreemEvent({ object: { object: 'x', [field]: odd } });
        assert.equal(reversalId, null);
        assert.doesNotThrow(() => subjectOfCreemEvent({ object: { object: 'refund', [field]: odd } }));
      }
    }
  });

  it('a Creem event is about the order that it names, in either form of an event', () => {
    const checkout = { object: 'checkout', id: 'ch_1', request_id: 'top_1', order: { id: 'ord_1' } };
    for (const event of [{ object: checkout }, { data: checkout }, { object: null, data: checkout }]) {
      assert.deepEqual(subjectOfCreemEvent(event), { reversalId: null, topUpId: 'top_1', paymentId: 'ord_1' });
    }
  });
});
