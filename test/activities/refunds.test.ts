/** The refund activity on a real ledger: one posting however often it is asked, and refusals that end a workflow's retries. */
import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import { createRefundActivities, type RefundActivities } from '../../activities/refunds.ts';
import { requestRefund } from '../../db/refunds.ts';
import { finishRequests, placeHold } from '../../db/requests.ts';
import { settleRequests } from '../../db/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, usd } from '../../domain/money.ts';
import { createLogger } from '../../runtime/logger.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  newRequestId,
  type LedgerDatabase,
} from '../support/ledger-database.ts';

describe('refund activity', () => {
  let ledger: LedgerDatabase;
  let activities: RefundActivities;
  let customer: { accountId: AccountUuid; keyId: KeyUuid };

  before(async () => {
    ledger = await createLedgerDatabase('refund-activity');
    activities = createRefundActivities({ pool: ledger.worker, logger: createLogger('test', 'silent') });
  });
  beforeEach(async () => {
    const accountId = await createCustomer(ledger, '10');
    customer = { accountId, keyId: await createKey(ledger, accountId) };
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  /** A request that cost 0.40, with a refund of 0.15 asked for. */
  async function waiting(): Promise<{ requestId: RequestUuid; wireId: string }> {
    const hold = holdOf(customer, '0.5');
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.4')]);
    await settleRequests(ledger.worker, [hold.requestId], 'meter/test');
    await requestRefund(ledger.management, {
      requestId: hold.requestId,
      n: 1,
      amount: usd('0.15'),
      reason: 'answer was cut',
      requestedBy: 'ada',
    });
    return { requestId: hold.requestId, wireId: formatId('request', hold.requestId) };
  }

  async function balance(): Promise<string> {
    const { rows } = await ledger.admin.query<{ balance: string }>('select balance from account where id = $1', [
      customer.accountId,
    ]);
    return formatUsd(usd(rows[0]!.balance));
  }

  it('posts an approved refund once, and a repeat or a later rejection returns what was decided first', async () => {
    const { wireId } = await waiting();
    const approval = { requestId: wireId, n: 1, approve: true, decidedBy: 'grace' };
    const posted = await activities.decideRefund(approval);
    assert.match(posted.postingId ?? '', /^pst_[0-9a-f]{32}$/);
    assert.deepEqual(posted, {
      state: 'posted',
      amountUsd: '0.150000000000',
      reason: 'answer was cut',
      requestedBy: 'ada',
      decidedBy: 'grace',
      postingId: posted.postingId,
    });
    assert.deepEqual(await activities.decideRefund(approval), posted);
    assert.deepEqual(await activities.decideRefund({ ...approval, approve: false, decidedBy: 'hedy' }), posted);
    assert.equal(await balance(), '9.750000000000');
  });

  it('posts once when ten decisions arrive at the same moment', async () => {
    const { wireId } = await waiting();
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        activities.decideRefund({ requestId: wireId, n: 1, approve: true, decidedBy: `person ${index}` }),
      ),
    );
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    assert.equal(await balance(), '9.750000000000');
  });

  it('closes a rejected refund without money', async () => {
    const { wireId } = await waiting();
    const rejected = await activities.decideRefund({ requestId: wireId, n: 1, approve: false, decidedBy: 'grace' });
    assert.equal(rejected.state, 'rejected');
    assert.equal(rejected.postingId, null);
    const later = await activities.decideRefund({ requestId: wireId, n: 1, approve: true, decidedBy: 'hedy' });
    assert.deepEqual(later, rejected);
    assert.equal(await balance(), '9.600000000000');
  });

  it('turns a refusal of the ledger into a failure that is not repeated and whose type is the code', async () => {
    const { wireId } = await waiting();
    await assert.rejects(
      activities.decideRefund({ requestId: wireId, n: 1, approve: true, decidedBy: 'ADA' }),
      (error: unknown) => error instanceof ApplicationFailure && error.type === 'second_person_needed',
    );
    for (const unknown of [
      { requestId: wireId, n: 2 },
      { requestId: formatId('request', newRequestId()), n: 1 },
    ]) {
      await assert.rejects(
        activities.decideRefund({ ...unknown, approve: true, decidedBy: 'grace' }),
        (error: unknown) => {
          assert.ok(error instanceof ApplicationFailure);
          assert.deepEqual([error.type, error.nonRetryable], ['request_ended', true]);
          return true;
        },
      );
    }
  });

  it('throws a fault as it is, so that it is repeated', async () => {
    const { requestId, wireId } = await waiting();
    const impatient = createRefundActivities({
      pool: ledger.database.pool('worker', { max: 1, statementTimeoutMs: 150 }),
      logger: createLogger('test', 'silent'),
    });
    const decision = { requestId: wireId, n: 1, approve: true, decidedBy: 'grace' };
    const other = await ledger.admin.connect();
    try {
      await other.query('begin');
      await other.query('select from request_refund where request_id = $1 for update', [requestId]);
      await assert.rejects(
        impatient.decideRefund(decision),
        (error: unknown) => error instanceof Error && !(error instanceof ApplicationFailure),
      );
    } finally {
      await other.query('rollback');
      other.release();
    }
    assert.equal((await impatient.decideRefund(decision)).state, 'posted');
  });

  it('takes an id that is none for a bug', async () => {
    await assert.rejects(
      activities.decideRefund({ requestId: 'req_nonsense', n: 1, approve: true, decidedBy: 'grace' }),
      /invariant broken/,
    );
  });
});
