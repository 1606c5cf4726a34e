/** Paying at the Creem twin: checkouts and their product, and the page that a browser is sent to. */
import assert from 'node:assert/strict';

import type { Creem } from 'creem';

import type { CreemTwin } from '../../../twins/creem/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { clientOf, isRefused, order, PRODUCT, startTwin } from './fixture.ts';

describe('creem twin: checkout', () => {
  let twin: CreemTwin;
  let creem: Creem;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startTwin();
    creem = clientOf(twin);
  });
  afterEach(() => twin.close());

  describe('checkouts', () => {
    it('begin pending, and have an order with the tax on top once they are paid', async () => {
      const made = await order(creem);
      assert.deepEqual([made.status, made.mode, made.requestId, made.order], ['pending', 'test', 'order-1', undefined]);
      await control.steer(`checkouts/${made.id}/pay`);
      const { status, order: sold, metadata } = await creem.checkouts.retrieve(made.id);
      assert.equal(status, 'completed');
      assert.deepEqual([sold?.subTotal, sold?.taxAmount, sold?.amountPaid, sold?.currency], [2_000, 420, 2_420, 'USD']);
      assert.deepEqual([sold?.status, sold?.type, metadata], ['paid', 'onetime', { where: 'checkout' }]);
    });

    it('have an order without any of the fields that Creem leaves out, and a transaction likewise', async () => {
      const made = await order(creem);
      await control.steer(`checkouts/${made.id}/pay`, { without: ['order.sub_total', 'transaction.tax_amount'] });
      const { order: sold } = await creem.checkouts.retrieve(made.id);
      assert.deepEqual([sold?.subTotal, sold?.taxAmount, sold?.amount], [undefined, 420, 2_000]);
      const { result } = await creem.transactions.search();
      assert.deepEqual([result.items[0]?.taxAmount, result.items[0]?.amountPaid], [undefined, 2_420]);
      const wrong = await control.call('POST', `checkouts/${made.id}/pay`, { without: ['order.id'] });
      assert.equal(wrong.status, 400);
    });

    it('of a product whose price has the tax inside come to that price', async () => {
      await control.steer('product', { tax_mode: 'inclusive' });
      const made = await order(creem);
      await control.steer(`checkouts/${made.id}/pay`);
      const { order: sold } = await creem.checkouts.retrieve(made.id);
      assert.deepEqual([sold?.subTotal, sold?.taxAmount, sold?.amountPaid], [1_653, 347, 2_000]);
    });

    it('are two when the same call is made twice: there is no idempotency', async () => {
      const [first, second] = [await order(creem), await order(creem)];
      assert.notEqual(first.id, second.id);
      assert.deepEqual([first.requestId, second.requestId], ['order-1', 'order-1']);
    });

    it('expire on request, and cannot be paid afterwards', async () => {
      const { id } = await order(creem);
      await control.steer(`checkouts/${id}/expire`);
      assert.equal((await creem.checkouts.retrieve(id)).status, 'expired');
      assert.equal((await control.call('POST', `checkouts/${id}/pay`)).status, 409);
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
    const made = await order(creem);
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
});
