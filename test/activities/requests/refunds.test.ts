/**
 * The refund activity on a real ledger: it tells how the row stands, and there is nothing by which it could change it.
 */
import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import { createRefundActivities, type RefundActivities } from '../../../activities/requests/refunds.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { formatId } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import {
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  newRequestId,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ADA, BOB } from '../../support/staff.ts';

describe('refund activity', () => {
  let ledger: LedgerDatabase;
  let activities: RefundActivities;

  before(async () => {
    ledger = await createLedgerDatabase('refund-activity');
    activities = createRefundActivities({ pool: ledger.worker });
  });
  after(() => ledger.database.drop());

  it('tells how a refund stands, before and after the interface has decided', async () => {
    const accountId = await createCustomer(ledger, '10');
    const hold = holdOf({ accountId, keyId: await createKey(ledger, accountId) }, '0.5');
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.4')]);
    await settleRequests(ledger.worker, [hold.requestId], 'meter/test');
    const which = { requestId: hold.requestId, n: 1 };
    const wanted = { ...which, amount: usd('0.15'), reason: 'answer was cut', requestedBy: ADA };
    await requestRefund(ledger.management, wanted);
    const read = () => activities.readRefund({ requestId: formatId('request', hold.requestId), n: 1 });
    const told = { amountUsd: '0.150000000000', reason: 'answer was cut', requestedBy: ADA };
    assert.deepEqual(await read(), { ...told, state: 'waiting', decidedBy: null, postingId: null });
    await decideRefund(ledger.management, { ...which, approve: true, decidedBy: BOB });
    const posted = await read();
    assert.match(posted.postingId ?? '', /^pst_[0-9a-f]{32}$/);
    assert.deepEqual(posted, { ...told, state: 'posted', decidedBy: BOB, postingId: posted.postingId });
  });

  it('fails for good where there is no such refund, and takes an id that is none for a bug', async () => {
    await assert.rejects(
      activities.readRefund({ requestId: formatId('request', newRequestId()), n: 1 }),
      (error: unknown) =>
        error instanceof ApplicationFailure && error.type === 'not_found' && error.nonRetryable === true,
    );
    await assert.rejects(activities.readRefund({ requestId: 'req_nonsense', n: 1 }), /invariant broken/);
  });

  it('no function that decides about money may be executed by the worker', async () => {
    const id = newRequestId();
    for (const call of [
      `decide_refund('${id}', 1, true, '${BOB}')`,
      `request_refund('${id}', 1, 1, 'because', '${BOB}', null)`,
      `request_hand_credit('a', '${id}', 'pi_1', 1, 'because', '${BOB}', null)`,
      `decide_hand_credit('${id}', true, '${BOB}')`,
      `request_adjustment('${id}', '${id}', 1, 'because', '${BOB}', null)`,
      `decide_adjustment('${id}', true, '${BOB}')`,
      `accept_bounty('${id}', 'low', null, 1, '{}', '${BOB}', now())`,
      `approve_bounty('${id}', '${BOB}', now())`,
      `decide_reward('${id}', true, '${BOB}', null, now())`,
      `decide_commission_review('${id}', 'approved', 'because', '${BOB}', null)`,
      `decide_commission_correction('${id}', true, '${BOB}')`,
      `decide_voucher_batch('${id}', true, '${BOB}')`,
      `decide_change('${id}', true, '${BOB}')`,
      `abandon_top_up('${id}', 'because', '${BOB}')`,
      `approve('adjustment', '${id}', null, '${BOB}')`,
      `count_hand_money('adjustment', '${id}', '${BOB}', null, 1, '{}')`,
    ]) {
      await assert.rejects(ledger.worker.query(`select ${call}`), withState('42501'), call);
    }
  });
});
