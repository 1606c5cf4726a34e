/** Sales of the Creem twin and their reversals: refunds of the API and of the dashboard, and disputes. */
import assert from 'node:assert/strict';

import type { Creem } from 'creem';

import type { CreemTwin } from '../../../twins/creem/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { WebhookEndpoint } from '../../support/webhook-endpoint.ts';
import { clientOf, isRefused, paid, PRODUCT, startTwin, typesAt, untilReceived } from './fixture.ts';

describe('creem twin: transactions', () => {
  let endpoint: WebhookEndpoint;
  let twin: CreemTwin;
  let creem: Creem;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    endpoint = await WebhookEndpoint.start();
    twin = await startTwin(endpoint);
    creem = clientOf(twin);
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  it('are found by order, by page, and show what was refunded', async () => {
    const first = await paid(twin);
    await paid(twin);
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
    const transaction = await paid(twin);
    await control.steer(`transactions/${transaction}/refund`, { amount: 400 });
    const part = await creem.transactions.getById(transaction);
    assert.deepEqual([part.status, part.refundedAmount], ['partialRefund', 400]);
    assert.equal((await control.call('POST', `transactions/${transaction}/refund`, { amount: 2_021 })).status, 400);
    assert.deepEqual(await creem.transactions.refund({ transactionId: transaction }), { status: 'succeeded' });
    const whole = await creem.transactions.getById(transaction);
    assert.deepEqual([whole.status, whole.refundedAmount], ['refunded', 2_420]);
    await assert.rejects(creem.transactions.refund({ transactionId: transaction }), isRefused(400));
    await untilReceived(endpoint, 3);
    assert.deepEqual(typesAt(endpoint), ['checkout.completed', 'refund.created', 'refund.created']);
  });

  it('move by a refund only once it is through, and back when it fails', async () => {
    const transaction = await paid(twin);
    const { id } = await control.steer<{ id: string }>(`transactions/${transaction}/refund`, { status: 'pending' });
    assert.equal((await creem.transactions.getById(transaction)).status, 'paid');
    await control.steer(`refunds/${id}/end`, { status: 'succeeded' });
    assert.equal((await creem.transactions.getById(transaction)).status, 'refunded');
    await control.steer(`refunds/${id}/end`, { status: 'failed' });
    assert.equal((await creem.transactions.getById(transaction)).status, 'paid');
    await untilReceived(endpoint, 2);
    assert.deepEqual(typesAt(endpoint), ['checkout.completed', 'refund.created'], 'the end has no event');
  });

  it('are charged back by a dispute; winning has no event, becoming a refund has one', async () => {
    const transaction = await paid(twin);
    const first = await control.steer<{ id: string }>(`transactions/${transaction}/dispute`);
    assert.equal((await creem.transactions.getById(transaction)).status, 'chargedBack');
    await control.steer(`disputes/${first.id}/end`, { outcome: 'won' });
    const won = await creem.transactions.getById(transaction);
    assert.deepEqual([won.status, won.refundedAmount], ['paid', 0]);
    const second = await control.steer<{ id: string }>(`transactions/${transaction}/dispute`);
    await control.steer(`disputes/${second.id}/end`, { outcome: 'refunded' });
    assert.equal((await creem.transactions.getById(transaction)).status, 'refunded');
    await untilReceived(endpoint, 4);
    assert.deepEqual(typesAt(endpoint).sort(), [
      'checkout.completed',
      'dispute.created',
      'dispute.created',
      'refund.created',
    ]);
  });
});
