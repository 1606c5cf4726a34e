/** Management tokens in use are bounded: those of an account, and those that one member of staff made. */
import assert from 'node:assert/strict';
import {
  createAccessToken,
  findAccessToken,
  revokeAccessToken,
  type AccessToken,
} from '../../../db/accounts/access-tokens.ts';
import { createCustomer, createLedgerDatabase, withState, type LedgerDatabase } from '../../support/ledger-database.ts';

describe('access tokens', () => {
  let ledger: LedgerDatabase;
  let operator: AccessToken;

  before(async () => {
    ledger = await createLedgerDatabase('access_tokens', 8);
    const given = { role: 'operator', accountId: null, name: 'carol' } as const;
    operator = (await createAccessToken(ledger.management, given)).token;
  });
  after(() => ledger.database.drop());

  it('the tokens of an account are bounded under parallel requests; revoked and expired ones make room', async () => {
    const accountId = await createCustomer(ledger, '0');
    const make = (expiresAt: Date | null = null) =>
      createAccessToken(ledger.management, {
        role: 'account',
        accountId,
        name: 'key',
        createdBy: operator.id,
        expiresAt,
        most: 3,
      });
    const made = await Promise.allSettled(Array.from({ length: 10 }, () => make()));
    const tokens = made.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    assert.equal(tokens.length, 3);
    await assert.rejects(make(), withState('HF036'));
    await revokeAccessToken(ledger.management, { id: tokens[0]!.token.id, keys: false });
    await make(new Date(Date.now() - 1000));
    await make();
    await assert.rejects(make(), withState('HF036'));
    assert.equal((await findAccessToken(ledger.management, tokens[1]!.secret))?.accountId, accountId);
  });

  it('the tokens of staff are bounded per person, over all their tokens', async () => {
    const make = (createdBy: AccessToken) =>
      createAccessToken(ledger.management, {
        role: 'operator',
        accountId: null,
        name: 'helper',
        createdBy: createdBy.id,
        most: 3,
      });
    const second = (await make(operator)).token;
    // The first one, made on the machine, is in use as well.
    await make(second);
    await assert.rejects(make(operator), withState('HF036'));
    await assert.rejects(make(second), withState('HF036'));
    const other = await createAccessToken(ledger.management, { role: 'operator', accountId: null, name: 'dave' });
    await make(other.token);
  });
});
