/** A posting explains itself: who paid whom how much, and what it came from, whatever kind it is. */
import assert from 'node:assert/strict';
import { decideManualCredit, requestManualCredit } from '../../../../../db/payments/manual-credits.ts';
import { notePayments } from '../../../../../db/payments/known-payments.ts';
import { decideRefund, requestRefund } from '../../../../../db/requests/refunds.ts';
import { createVoucherBatch, redeemVoucher } from '../../../../../db/payments/vouchers.ts';
import { formatId, uuidOf } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import { credit, uuidAt } from '../../../../support/ledger-database.ts';
import { creditedTopUp, reverse, waitingTopUp } from '../../../../support/paid-top-ups.ts';
import { pick, settledRequest, startManagement, type Management } from '../../management.ts';
import { ANN, BOB, upTo } from '../../../../support/staff.ts';

interface Source {
  readonly type: string;
  readonly page: string | null;
  readonly facts: Readonly<Record<string, unknown>>;
}

describe('/admin/postings/{id}', () => {
  let management: Management;
  let account: string;
  before(async () => {
    management = await startManagement('routes_postings');
    account = formatId('account', management.accountId);
  });
  after(() => management.stop());

  /** The posting of a kind about a business id, as staff see it. */
  async function explained(kind: string, businessId: string) {
    const { rows } = await management.admin.query<{ id: string }>(
      'select id from posting where kind = $1 and business_id = $2',
      [kind, businessId],
    );
    const answer = await management.call(
      'GET',
      `/admin/postings/${formatId('posting', uuidOf('posting', rows[0]!.id))}`,
      {
        token: management.tokens.support,
      },
    );
    assert.equal(answer.status, 200);
    const { debit, credit: credited, amount_usd: amount, source } = answer.body;
    const name = (end: unknown): unknown =>
      (end as { id: string | null; name: string }).id ?? (end as { name: string }).name;
    return {
      businessId: answer.body['business_id'],
      moved: `${String(name(debit))} → ${String(name(credited))} ${String(amount)}`,
      source: source as Source | null,
    };
  }

  it('the source of a charge is the request with its price version', async () => {
    const requestId = await settledRequest(management, '0.25');
    const { businessId, moved, source } = await explained('charge', requestId);
    const id = formatId('request', requestId);
    assert.deepEqual([businessId, moved], [id, `${account} → revenue 0.250000000000`]);
    assert.deepEqual([source!.type, source!.page], ['request', `/admin/requests/${id}`]);
    assert.deepEqual(
      pick(source!.facts, 'request_id', 'account_id', 'key_id', 'model', 'outcome', 'cost_usd', 'price_version'),
      [id, account, formatId('key', management.keyId), 'demo/model', 'completed', '0.250000000000', 1],
    );
  });

  it('the source of a refund has the request, the reason and both people', async () => {
    const requestId = await settledRequest(management, '0.5');
    const refund = await requestRefund(management.management, {
      requestId,
      n: 1,
      amount: usd('0.2'),
      reason: 'bad answer',
      requestedBy: ANN,
    });
    await decideRefund(management.management, { requestId, n: 1, approve: true, decidedBy: BOB });
    const { moved, source } = await explained('request_refund', refund.id);
    assert.equal(moved, `revenue → ${account} 0.200000000000`);
    assert.deepEqual(
      [source!.type, ...pick(source!.facts, 'request_id', 'reason', 'requested_by', 'decided_by')],
      ['refund', formatId('request', requestId), 'bad answer', ANN, BOB],
    );
  });

  it('the source of an adjustment has the reason and the person', async () => {
    await credit(management.management, management.accountId, '-0.125');
    const { rows } = await management.admin.query<{ id: string }>('select id from adjustment order by id desc limit 1');
    const { moved, source } = await explained('adjustment', rows[0]!.id);
    assert.equal(moved, `${account} → adjustment 0.125000000000`);
    assert.deepEqual(
      [source!.type, ...pick(source!.facts, 'amount_usd', 'reason', 'requested_by')],
      ['adjustment', '-0.125000000000', 'for a test', ANN],
    );
  });

  it('the source of a payment in another currency has the paid sum in it, and only the credit in USD', async () => {
    const order = await waitingTopUp(management, { accountId: management.accountId });
    const yen = { status: 'paid', received: usd('1500'), currency: 'jpy', live: true } as const;
    await notePayments(management.worker, order.id, [{ ...yen, paymentId: `pi_${order.id}` }]);
    const wanted = { action: order.id, topUpId: order.id, paymentId: `pi_${order.id}`, amount: usd('9.75') };
    const asked = { ...wanted, reason: 'rate of the day', requestedBy: ANN, limits: upTo('100') };
    const { id } = await requestManualCredit(management.management, asked);
    await decideManualCredit(management.management, { id, approve: true, decidedBy: BOB });
    const { rows } = await management.admin.query<{ id: string }>('select id from payment where top_up_id = $1', [
      order.id,
    ]);
    const { source } = await explained('top_up', rows[0]!.id);
    assert.deepEqual(pick(source!.facts, 'received_usd', 'paid_amount', 'paid_currency', 'credited_usd'), [
      null,
      '1500',
      'jpy',
      '9.750000000000',
    ]);
  });

  it('the source of a top-up and of its reversals has the order, the payment and the provider’s ids', async () => {
    const { order, paymentId } = await creditedTopUp(management, { accountId: management.accountId });
    await reverse(management, order, { objectId: 'dp_1', kind: 'dispute', direction: 'out', amount: '10' });
    await reverse(management, order, { objectId: 'dp_1', kind: 'dispute', direction: 'in', amount: '10' });
    const { rows: payments } = await management.admin.query<{ id: string }>(
      'select id from payment where top_up_id = $1',
      [order.id],
    );
    const page = `/admin/top-ups/${formatId('topUp', order.id)}`;
    const paid = await explained('top_up', payments[0]!.id);
    assert.equal(paid.businessId, formatId('payment', uuidOf('payment', payments[0]!.id)));
    assert.equal(paid.moved, `cash:stripe → ${account} 10.000000000000`);
    assert.deepEqual([paid.source!.type, paid.source!.page], ['payment', page]);
    assert.deepEqual(
      pick(paid.source!.facts, 'provider_payment_id', 'provider_checkout_id', 'received_usd', 'fee_usd'),
      [paymentId, order.providerId, '10.500000000000', '0.500000000000'],
    );
    const { rows: steps } = await management.admin.query<{ id: string; direction: string }>(
      'select id, direction from payment_reversal where payment = $1 order by id',
      [payments[0]!.id],
    );
    for (const [kind, step, moved] of [
      ['top_up_reversal', steps[0]!, `${account} → cash:stripe 10.000000000000`],
      ['top_up_reversal_undone', steps[1]!, `cash:stripe → ${account} 10.000000000000`],
    ] as const) {
      const reversal = await explained(kind, step.id);
      assert.deepEqual([reversal.moved, reversal.source!.type, reversal.source!.page], [moved, 'reversal', page]);
      assert.deepEqual(pick(reversal.source!.facts, 'kind', 'direction', 'provider_object_id', 'provider_payment_id'), [
        'dispute',
        step.direction,
        'dp_1',
        paymentId,
      ]);
    }
  });

  it('the source of a voucher has its batch and reason', async () => {
    const { codes, batch } = await createVoucherBatch(management.management, {
      id: uuidOf('voucherBatch', uuidAt(Date.now())),
      name: 'Fair',
      count: 1,
      amount: usd('3'),
      expiresAt: null,
      reason: 'a gift',
      requestedBy: ANN,
      limits: upTo('3'),
    });
    const redeemed = await redeemVoucher(management.management, codes[0]!, management.accountId);
    assert.ok(redeemed.verdict === 'redeemed');
    const { moved, source } = await explained('voucher', redeemed.voucherId);
    assert.equal(moved, `promo:voucher → ${account} 3.000000000000`);
    const batchId = formatId('voucherBatch', batch.id);
    assert.deepEqual([source!.type, source!.page], ['voucher', `/admin/voucher-batches/${batchId}`]);
    assert.deepEqual(pick(source!.facts, 'batch_id', 'batch_name', 'reason', 'account_id'), [
      batchId,
      'Fair',
      'a gift',
      account,
    ]);
  });

  it('a posting of an unknown kind, or whose source is gone, is shown without a source', async () => {
    const businessId = uuidAt(Date.now());
    for (const kind of ['mystery', 'adjustment']) {
      await management.admin.query(
        `select post_transfer($1, $2, system_account('adjustment'), system_account('revenue'), 1, null, true)`,
        [kind, businessId],
      );
    }
    const mystery = await explained('mystery', businessId);
    assert.deepEqual([mystery.businessId, mystery.source], [businessId, null]);
    const gone = await explained('adjustment', businessId);
    assert.deepEqual([gone.businessId, gone.source], [formatId('adjustment', uuidOf('adjustment', businessId)), null]);
  });
});
