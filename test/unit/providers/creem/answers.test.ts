/**
 * Creem's answers in every form that its documentation and its SDK show: objects inside objects, or their ids alone.
 */
import assert from 'node:assert/strict';
import { readCheckout, readTransactions } from '../../../../providers/creem/answers.ts';

const CHECKOUT = { id: 'ch_1', mode: 'prod', status: 'completed', requestId: 'top_1', checkoutUrl: null };

const orderIn = async (order: unknown) => (await readCheckout(() => Promise.resolve({ ...CHECKOUT, order }))).order;

describe("Creem's answers", () => {
  it('a checkout has its order with its fields, and the checkout’s fields where the order has none', async () => {
    const bare = await orderIn({ id: 'ord_1', amount: 1050, currency: 'USD', status: 'paid', type: 'onetime' });
    assert.deepEqual(
      [bare?.id, bare?.mode, bare?.status, bare?.currency, bare?.amountCents, bare?.subTotalCents, bare?.discountCents],
      ['ord_1', 'prod', 'paid', 'usd', 1050, null, 0],
    );
    const own = await orderIn({ id: 'ord_1', mode: 'test', status: 'pending', transaction: { id: 'tran_1' } });
    assert.deepEqual([own?.mode, own?.status, own?.transactionId, own?.currency], ['test', 'pending', 'tran_1', null]);
  });

  it('a checkout may have its order by its id alone', async () => {
    const order = await orderIn('ord_1');
    assert.deepEqual([order?.id, order?.mode, order?.status, order?.amountCents], ['ord_1', 'prod', 'paid', null]);
  });

  it('an unpaid checkout has no order', async () => {
    for (const none of [undefined, null, '', {}]) assert.equal(await orderIn(none), null);
  });

  it('a sum that is not a whole number of cents is refused', async () => {
    const order = await orderIn({
      id: 'ord_1',
      amount: 10.5,
      subTotal: '10.50',
      taxAmount: null,
      discountAmount: -500,
    });
    assert.deepEqual(
      [order?.amountCents, order?.subTotalCents, order?.taxCents, order?.discountCents],
      [null, null, null, 500],
    );
  });

  it('a number that comes as a text is read: else a refund of 5.00 would stay credited', async () => {
    const item = { id: 'tran_1', order: 'ord_1', status: 'paid', amountPaid: '1050', refundedAmount: '500' };
    const { transactions } = await readTransactions(() =>
      Promise.resolve({ result: { items: [{ ...item, createdAt: '1732442400000' }] } }),
    );
    const [read] = transactions;
    assert.deepEqual(
      [read?.paidCents, read?.refundedCents, read?.createdAt?.getTime()],
      [1050, 500, 1_732_442_400_000],
    );
  });

  it('a transaction names its order by id or as an object', async () => {
    const items = ['ord_1', { id: 'ord_1' }, null].map((order) => ({ id: 'tran_1', status: 'paid', order }));
    const { transactions } = await readTransactions(() => Promise.resolve({ result: { items } }));
    assert.deepEqual(
      transactions.map(({ orderId }) => orderId),
      ['ord_1', 'ord_1', null],
    );
  });
});
