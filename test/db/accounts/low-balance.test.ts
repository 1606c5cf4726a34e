/** The notice of a low balance: due by level, written once, armed again by money. */
import assert from 'node:assert/strict';
import { noticeLowBalance } from '../../../db/accounts/notices.ts';
import { accountsToFollowUp, settleRequests } from '../../../db/requests/settlement.ts';
import type { RequestUuid } from '../../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../../domain/money.ts';
import { customerWithKey, finished, type CustomerKey } from '../../support/finished-requests.ts';
import { brokenRules, createLedgerDatabase, credit, type LedgerDatabase } from '../../support/ledger-database.ts';

describe('low-balance notice', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('low-balance');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function chargedDownTo(balance: string): Promise<{ key: CustomerKey; id: RequestUuid }> {
    const key = await customerWithKey(ledger, '3');
    const cost = formatUsd((usd('3') - usd(balance)) as PicoUsd);
    const [id] = await finished(ledger, key, [{ hold: '3', cost }]);
    await settleRequests(ledger.worker, [id!], 'meter/notice');
    return { key, id: id! };
  }

  it('a notice is due by level: below the threshold and not written yet, for any number of calls', async () => {
    const { key, id } = await chargedDownTo('0.999999999999');
    for (let n = 0; n < 2; n++)
      assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, [key.accountId]);
    assert.equal(await noticeLowBalance(ledger.worker, key.accountId), true);
    assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, []);
    assert.equal(await noticeLowBalance(ledger.worker, key.accountId), false);
  });

  it('a notice is not due at the threshold', async () => {
    const { key, id } = await chargedDownTo('1');
    assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, []);
    assert.equal(await noticeLowBalance(ledger.worker, key.accountId), false);
  });

  it('a notice is written once when many workflows write it at once', async () => {
    const { key } = await chargedDownTo('0.5');
    const written = await Promise.all(Array.from({ length: 12 }, () => noticeLowBalance(ledger.worker, key.accountId)));
    assert.equal(written.filter(Boolean).length, 1);
    const { rows } = await ledger.admin.query('select details from notice where account_id = $1', [key.accountId]);
    assert.deepEqual(rows, [{ details: { balance_usd: '0.500000000000', threshold_usd: '1.000000000000' } }]);
  });

  it('a notice is armed again by money that lifts the balance to the threshold, not by less', async () => {
    const { key, id } = await chargedDownTo('0.5');
    await noticeLowBalance(ledger.worker, key.accountId);
    await credit(ledger.management, key.accountId, '0.4');
    assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, []);
    await credit(ledger.management, key.accountId, '0.1');
    await credit(ledger.management, key.accountId, '-0.2');
    assert.deepEqual((await accountsToFollowUp(ledger.worker, [id])).toNotify, [key.accountId]);
  });
});
