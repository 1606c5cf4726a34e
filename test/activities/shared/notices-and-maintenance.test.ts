/**
 * The small activities on a real database: the low-balance notice is written once per occasion, upkeep is repeatable.
 */
import assert from 'node:assert/strict';
import { createMaintenanceActivities } from '../../../activities/requests/maintenance.ts';
import { createNoticeActivities, type NoticeActivities } from '../../../activities/accounts/notices.ts';
import { listUnreadNotices } from '../../../db/accounts/notices.ts';
import { formatId, type AccountUuid } from '../../../domain/ids.ts';
import { createLogger } from '../../../runtime/logger.ts';
import { createCustomer, createLedgerDatabase, credit, type LedgerDatabase } from '../../support/ledger-database.ts';

describe('notice activity', () => {
  let ledger: LedgerDatabase;
  let activities: NoticeActivities;
  before(async () => {
    ledger = await createLedgerDatabase('notice-activity');
    activities = createNoticeActivities({ pool: ledger.worker, logger: createLogger('test', 'silent') });
  });
  after(() => ledger.database.drop());

  const write = (id: AccountUuid): Promise<boolean> => activities.writeLowBalanceNotice(formatId('account', id));

  it('writes the notice once, with balance and threshold, however often it is asked', async () => {
    const id = await createCustomer(ledger, '0.4');
    assert.deepEqual(await Promise.all([write(id), write(id), write(id)]).then((answers) => answers.sort()), [
      false,
      false,
      true,
    ]);
    const notices = await listUnreadNotices(ledger.management, id, 10);
    assert.deepEqual(
      notices.map(({ kind, details }) => ({ kind, details })),
      [{ kind: 'low_balance', details: { balance_usd: '0.400000000000', threshold_usd: '1.000000000000' } }],
    );
  });

  it('writes none where the balance recovered before it came to it', async () => {
    const id = await createCustomer(ledger, '0.4');
    await credit(ledger.management, id, '5');
    assert.equal(await write(id), false);
    assert.deepEqual(await listUnreadNotices(ledger.management, id, 10), []);
  });

  it('writes another one when the balance falls again after a credit had lifted it', async () => {
    const id = await createCustomer(ledger, '0.4');
    assert.equal(await write(id), true);
    await credit(ledger.management, id, '0.1');
    assert.equal(await write(id), false, 'a credit that leaves it below the threshold is no new occasion');
    await credit(ledger.management, id, '5');
    await credit(ledger.management, id, '-5');
    assert.equal(await write(id), true);
  });

  it('takes an id that is none for a bug', async () => {
    await assert.rejects(activities.writeLowBalanceNotice('acct_nonsense'), /invariant broken/);
  });
});

describe('maintenance activity', () => {
  let ledger: LedgerDatabase;
  before(async () => {
    ledger = await createLedgerDatabase('maintenance-activity');
  });
  after(() => ledger.database.drop());

  it('makes the partitions that are missing three months ahead, and none when it is repeated', async () => {
    const activities = createMaintenanceActivities({ pool: ledger.worker });
    assert.equal(await activities.ensurePartitions(), 0, 'the migration made them');
    const { rows } = await ledger.admin.query<{ name: string }>(
      `select inhrelid::regclass::text as name from pg_inherits where inhparent = 'request'::regclass order by 1 desc limit 2`,
    );
    assert.equal(rows.length, 2);
    for (const { name } of rows) await ledger.admin.query(`drop table ${name}`);
    assert.equal(await activities.ensurePartitions(), 2);
    assert.equal(await activities.ensurePartitions(), 0);
  });
});
