/** Refunds of single requests on a real ledger: decided once, posted in the transaction that decides. */
import assert from 'node:assert/strict';
import { isFault, ledgerRefusal } from '../../../db/shared/client.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid, RequestUuid } from '../../../domain/ids.ts';
import { formatUsd, usd } from '../../../domain/money.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  newRequestId,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ADA, BOB, EVE } from '../../support/staff.ts';

describe('refunds', () => {
  let ledger: LedgerDatabase;
  let customer: { accountId: AccountUuid; keyId: KeyUuid };

  before(async () => {
    ledger = await createLedgerDatabase('refunds');
  });
  beforeEach(async () => {
    const accountId = await createCustomer(ledger, '10');
    customer = { accountId, keyId: await createKey(ledger, accountId) };
  });
  afterEach(async () => assert.deepEqual(await brokenRules(ledger.admin), []));
  after(() => ledger.database.drop());

  /** A request that cost 0.40, with a refund of 0.15 asked for. */
  async function waiting(): Promise<RequestUuid> {
    const hold = holdOf(customer, '0.5');
    const { requestId } = hold;
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(requestId, '0.4')]);
    await settleRequests(ledger.worker, [requestId], 'meter/test');
    const wanted = { amount: usd('0.15'), reason: 'answer was cut', requestedBy: ADA };
    await requestRefund(ledger.management, { requestId, n: 1, ...wanted });
    return requestId;
  }

  const decide = (requestId: RequestUuid, approve: boolean, decidedBy: string, n = 1) =>
    decideRefund(ledger.management, { requestId, n, approve, decidedBy });

  async function balance(): Promise<string> {
    const { rows } = await ledger.admin.query<{ balance: string }>('select balance from account where id = $1', [
      customer.accountId,
    ]);
    return formatUsd(usd(rows[0]!.balance));
  }

  it('an approved refund is posted once; a repeat or a later rejection returns the first decision', async () => {
    const requestId = await waiting();
    const { decidedNow, ...posted } = await decide(requestId, true, BOB);
    assert.deepEqual([decidedNow, posted.state, posted.decidedBy], [true, 'posted', BOB]);
    assert.notEqual(posted.postingId, null);
    assert.deepEqual(await decide(requestId, true, BOB), { ...posted, decidedNow: false });
    assert.deepEqual(await decide(requestId, false, EVE), { ...posted, decidedNow: false });
    assert.equal(await balance(), '9.750000000000');
  });

  it('a refund is posted once when ten decisions arrive at the same moment', async () => {
    const requestId = await waiting();
    const answers = await Promise.all(Array.from({ length: 10 }, (_, n) => decide(requestId, true, n < 5 ? BOB : EVE)));
    assert.equal(answers.filter(({ decidedNow }) => decidedNow).length, 1);
    assert.equal(new Set(answers.map(({ decidedBy }) => decidedBy)).size, 1);
    assert.equal(await balance(), '9.750000000000');
  });

  it('a rejected refund is closed without money, also by its requester', async () => {
    const requestId = await waiting();
    const rejected = await decide(requestId, false, ADA);
    assert.deepEqual([rejected.state, rejected.postingId], ['rejected', null]);
    assert.equal((await decide(requestId, true, BOB)).state, 'rejected');
    assert.equal(await balance(), '9.600000000000');
  });

  it('a refund that was not requested cannot be decided', async () => {
    const requestId = await waiting();
    const isUnknown = (error: unknown) => ledgerRefusal(error)?.code === 'request_ended';
    await assert.rejects(decide(requestId, true, BOB, 2), isUnknown);
    await assert.rejects(decide(newRequestId(), true, BOB), isUnknown);
  });

  it('a refund whose row is locked fails with a fault, which may be retried', async () => {
    const requestId = await waiting();
    const impatient = ledger.database.pool('management', { max: 1, statementTimeoutMs: 150 });
    const decision = { requestId, n: 1, approve: true, decidedBy: BOB };
    const other = await ledger.admin.connect();
    try {
      await other.query('begin');
      await other.query('select from request_refund where request_id = $1 for update', [requestId]);
      await assert.rejects(decideRefund(impatient, decision), isFault);
    } finally {
      await other.query('rollback');
      other.release();
    }
    assert.equal((await decideRefund(impatient, decision)).state, 'posted');
  });
});
