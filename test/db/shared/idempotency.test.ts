/** Idempotency keys are kept for a day, but never more of one token than the table can bear. */
import assert from 'node:assert/strict';
import { claimIdempotencyKey, storeAnswer, type Claim } from '../../../db/shared/idempotency.ts';
import { inTransaction } from '../../../db/shared/client.ts';
import { createLedgerDatabase, type LedgerDatabase } from '../../support/ledger-database.ts';

const KEPT_MAX = 10_000;

describe('idempotency keys', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('idempotency');
  });
  after(() => ledger.database.drop());

  const claim = (scope: string, key: string): Promise<Claim['kind']> =>
    inTransaction(ledger.management, async (client) => {
      const { kind } = await claimIdempotencyKey(client, { scope, key, bodyHash: Buffer.alloc(32, 1) });
      if (kind === 'new') await storeAnswer(client, { scope, key }, { status: 200, body: {} });
      return kind;
    });

  it('the keys of one token are bounded; known keys are still answered, and other tokens have their own', async () => {
    assert.equal(await claim('tok_a', 'first'), 'new');
    await ledger.admin.query(
      `insert into idempotency_key (scope, key, body_hash) select 'tok_a', 'k' || n, $1 from generate_series(3, $2::int) n`,
      [Buffer.alloc(32), KEPT_MAX],
    );
    assert.equal(await claim('tok_a', 'last'), 'new');
    assert.equal(await claim('tok_a', 'one too many'), 'too many');
    assert.equal(await claim('tok_a', 'first'), 'repeat');
    assert.equal(await claim('tok_b', 'first'), 'new');
    await ledger.admin.query(`update idempotency_key set created_at = created_at - interval '25 hours'`);
    assert.equal(await claim('tok_a', 'one too many'), 'new', 'what is over makes room');
  });
});
