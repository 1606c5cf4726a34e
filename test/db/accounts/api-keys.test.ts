/**
 * Keys and accounts as people manage them: secrets are stored as hashes only, settings never touch counters, and
 * gateways hear of each change that matters to them at once, and of nothing else.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import pg from 'pg';
import {
  createAccount,
  findAccount,
  findBalance,
  FREEZE_KINDS,
  freezeAccount,
  unfreezeAccount,
  type FreezeKind,
  updateAccount,
} from '../../../db/accounts/accounts.ts';
import {
  createApiKey,
  findApiKey,
  findKeyByHash,
  revokeApiKey,
  updateApiKey,
  type KeySettings,
} from '../../../db/accounts/api-keys.ts';
import { createAccessToken } from '../../../db/accounts/access-tokens.ts';
import { noticeLowBalance } from '../../../db/accounts/notices.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { hashSecret } from '../../../db/shared/secrets.ts';
import { ledgerRefusal, violatedConstraint } from '../../../db/shared/client.ts';
import { uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import {
  createCustomer,
  createLedgerDatabase,
  endOf,
  holdOf,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

const SETTINGS: KeySettings = {
  name: 'Production',
  expiresAt: new Date('2031-01-02T03:04:05.678Z'),
  limit: usd('12.5'),
  limitReset: 'weekly',
  models: ['demo/model', 'demo/other'],
  ipAllowlist: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7'],
};

describe('keys and accounts', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;

  before(async () => {
    ledger = await createLedgerDatabase('api_keys');
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '10');
  });

  describe('a key', () => {
    it('a key is returned with its secret once; only its hash is stored', async () => {
      const { key, secret } = await createApiKey(ledger.management, { ...SETTINGS, accountId });
      assert.match(secret, /^sk-hf-[0-9a-f]{48}$/);
      const { rows } = await ledger.admin.query<{ hash: Buffer; row: string }>(
        'select hash, to_jsonb(k)::text as row from api_key k where id = $1',
        [key.id],
      );
      assert.deepEqual(rows[0]!.hash, createHash('sha256').update(secret).digest());
      assert.ok(!rows[0]!.row.includes(secret.slice(0, 20)));
      assert.equal(key.prefix, secret.slice(0, 12));
    });

    it('a key above the limit is refused, under parallel requests too; a revoked key makes room', async () => {
      const make = () => createApiKey(ledger.management, { ...SETTINGS, accountId, most: 3 });
      const made = await Promise.allSettled(Array.from({ length: 12 }, make));
      const keys = made.flatMap((result) => (result.status === 'fulfilled' ? [result.value.key] : []));
      assert.equal(keys.length, 3);
      for (const result of made) {
        if (result.status === 'rejected') assert.equal(ledgerRefusal(result.reason)?.code, 'too_many_keys');
      }
      await revokeApiKey(ledger.management, { id: keys[0]!.id, accountId });
      await make();
      await assert.rejects(make(), withState('HF035'));
      accountId = await createCustomer(ledger, '0');
      await make();
    });

    it('creating and revoking keys is refused after ten times the limit within a day: their rows stay', async () => {
      const make = () => createApiKey(ledger.management, { ...SETTINGS, accountId, most: 1 });
      for (let n = 0; n < 10; n++) await revokeApiKey(ledger.management, { id: (await make()).key.id, accountId });
      await assert.rejects(make(), withState('HF037'));
    });

    it('a key keeps its settings as given', async () => {
      const { key } = await createApiKey(ledger.management, { ...SETTINGS, accountId });
      const { name, expiresAt, limit, limitReset, models, ipAllowlist } = key;
      assert.deepEqual(
        { name, expiresAt, limit, limitReset, models, ipAllowlist },
        { ...SETTINGS, ipAllowlist: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7/32'] },
      );
    });

    it('a key is found by its secret’s hash with all fields for authentication, also when revoked or of a frozen account', async () => {
      const { key, secret } = await createApiKey(ledger.management, { ...SETTINGS, accountId });
      const found = (await findKeyByHash(ledger.gateway, hashSecret(secret)))!;
      assert.deepEqual(found, {
        keyId: key.id,
        accountId,
        name: 'Production',
        expiresAt: SETTINGS.expiresAt,
        revokedAt: null,
        models: SETTINGS.models,
        ipAllowlist: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7/32'],
        accountFrozenAt: null,
      });
      await revokeApiKey(ledger.management, { id: key.id, accountId });
      await freezeAccount(ledger.management, accountId, { kind: 'fraud', reason: 'fraud' });
      const stopped = (await findKeyByHash(ledger.gateway, hashSecret(secret)))!;
      assert.ok(stopped.revokedAt instanceof Date && stopped.accountFrozenAt instanceof Date);
      assert.equal(await findKeyByHash(ledger.gateway, hashSecret(`${secret}0`)), null);
    });

    it('a key keeps its counters when its settings change', async () => {
      const { key } = await createApiKey(ledger.management, { ...SETTINGS, expiresAt: null, accountId });
      const which = { id: key.id, accountId };
      const [charged, running] = [holdOf({ accountId, keyId: key.id }, '3'), holdOf({ accountId, keyId: key.id }, '2')];
      await placeHold(ledger.gateway, charged);
      await placeHold(ledger.gateway, running);
      await finishRequests(ledger.gateway, [endOf(charged.requestId, '1')]);
      await settleRequests(ledger.worker, [charged.requestId], 'meter/keys');
      assert.equal(await updateApiKey(ledger.management, which, { ...SETTINGS, limit: usd('4'), name: 'New' }), true);
      const { name, limit, spentTotal, windowSpent, held, remaining } = (await findApiKey(ledger.management, which))!;
      assert.deepEqual(
        { name, limit, spentTotal, windowSpent, held, remaining },
        {
          name: 'New',
          limit: usd('4'),
          spentTotal: usd('1'),
          windowSpent: usd('1'),
          held: usd('2'),
          remaining: usd('1'),
        },
      );
    });

    it('a key is revoked once and permanently', async () => {
      const { key } = await createApiKey(ledger.management, { ...SETTINGS, accountId });
      const which = { id: key.id, accountId };
      assert.equal(await revokeApiKey(ledger.management, which), true);
      const first = (await findApiKey(ledger.management, which))!.revokedAt;
      assert.equal(await revokeApiKey(ledger.management, which), true);
      assert.deepEqual((await findApiKey(ledger.management, which))!.revokedAt, first);
      assert.equal(await updateApiKey(ledger.management, which, SETTINGS), false);
    });

    it('a key of another account is neither found, changed nor revoked', async () => {
      const { key } = await createApiKey(ledger.management, { ...SETTINGS, accountId });
      const which = { id: key.id, accountId: uuidOf('account', uuidAt(Date.now())) };
      assert.equal(await findApiKey(ledger.management, which), null);
      assert.equal(await updateApiKey(ledger.management, which, SETTINGS), false);
      assert.equal(await revokeApiKey(ledger.management, which), false);
    });
  });

  describe('an account', () => {
    it('a new account is empty, and shows its balance', async () => {
      const { id, email } = await createAccount(ledger.management, { name: 'New', email: 'new@example.com' });
      assert.equal(email, 'new@example.com');
      assert.deepEqual(await findBalance(ledger.management, id), { balance: 0n, held: 0n, available: 0n });
      assert.equal(await findBalance(ledger.management, uuidOf('account', uuidAt(Date.now()))), null);
    });

    it('the e-mail address of an account is unique, ignoring case', async () => {
      await createAccount(ledger.management, { name: 'One', email: 'Same@Example.com' });
      const second = createAccount(ledger.management, { name: 'Two', email: 'same@example.COM' });
      await assert.rejects(second, (error) => violatedConstraint(error) === 'account_email');
    });

    it('a system account is no customer account', async () => {
      const { rows } = await ledger.admin.query<{ id: string }>("select id from account where kind = 'system'");
      for (const { id } of rows) {
        const account = uuidOf('account', id);
        assert.equal(await findAccount(ledger.management, account), null);
        assert.equal(await findBalance(ledger.management, account), null);
        assert.equal(await freezeAccount(ledger.management, account, { kind: 'fraud', reason: 'no' }), false);
      }
    });

    it('an account is frozen with a reason and unfrozen, each once', async () => {
      const freeze = (kind: FreezeKind, reason: string) =>
        freezeAccount(ledger.management, accountId, { kind, reason });
      const state = async () => {
        const { frozenKind, frozenReason, frozenAt } = (await findAccount(ledger.management, accountId))!;
        return [frozenKind, frozenReason, frozenAt instanceof Date];
      };
      assert.equal(await freeze('operator', 'odd'), true);
      assert.deepEqual(await state(), ['operator', 'odd', true]);
      assert.equal(await freeze('operator', 'again'), false);
      assert.equal(await freeze('support', 'less'), false);
      assert.equal(await unfreezeAccount(ledger.management, accountId, ['operator']), true);
      assert.deepEqual(await state(), [null, null, false]);
      assert.equal(await unfreezeAccount(ledger.management, accountId, FREEZE_KINDS), false);
    });

    it('support cannot lift a freeze of its own that a fraud freeze has replaced', async () => {
      await freezeAccount(ledger.management, accountId, { kind: 'support', reason: 'on request' });
      assert.equal(await freezeAccount(ledger.management, accountId, { kind: 'fraud', reason: 'a warning' }), true);
      assert.equal(await unfreezeAccount(ledger.management, accountId, ['support']), false);
      const account = (await findAccount(ledger.management, accountId))!;
      assert.deepEqual([account.frozenKind, account.frozenReason], ['fraud', 'a warning (before: on request)']);
      assert.equal(await unfreezeAccount(ledger.management, accountId, FREEZE_KINDS), true);
    });

    it('an account takes a new name and threshold; a threshold at or below the balance arms the notice again', async () => {
      const noticed = async (): Promise<boolean> => {
        const { rows } = await ledger.admin.query<{ noticed: boolean }>(
          'select low_balance_noticed_at is not null as noticed from account where id = $1',
          [accountId],
        );
        return rows[0]!.noticed;
      };
      await updateAccount(ledger.management, accountId, { name: 'Renamed', lowBalance: usd('10.000000000001') });
      assert.equal(await noticeLowBalance(ledger.worker, accountId), true);
      const same = (await updateAccount(ledger.management, accountId, { name: 'Again' }))!;
      assert.deepEqual([same.name, same.lowBalance, await noticed()], ['Again', usd('10.000000000001'), true]);
      await updateAccount(ledger.management, accountId, { lowBalance: usd('10') });
      assert.equal(await noticed(), false);
    });
  });

  describe('gateways', () => {
    let listener: pg.Client;
    let heard: string[];

    before(async () => {
      listener = new pg.Client({ connectionString: ledger.database.url });
      await listener.connect();
      listener.on('notification', ({ payload }) => heard.push(payload ?? ''));
      await listener.query('listen holdfast_changed');
    });
    after(() => listener.end());
    beforeEach(() => {
      heard = [];
    });

    /** What was heard once everything that was sent before has arrived: a message of our own comes after it. */
    async function heardSoFar(): Promise<string[]> {
      const mark = uuidAt(Date.now());
      const arrived = new Promise<void>((resolve) => {
        listener.on('notification', ({ payload }) => payload === mark && resolve());
      });
      await ledger.admin.query('select pg_notify($1, $2)', ['holdfast_changed', mark]);
      await arrived;
      return heard.filter((payload) => payload !== mark);
    }

    it('hear of a new key, changed settings, a revocation and a freeze', async () => {
      const { key } = await createApiKey(ledger.management, { ...SETTINGS, accountId });
      const which = { id: key.id, accountId };
      await updateApiKey(ledger.management, which, { ...SETTINGS, models: null });
      await revokeApiKey(ledger.management, which);
      await freezeAccount(ledger.management, accountId, { kind: 'fraud', reason: 'fraud' });
      await unfreezeAccount(ledger.management, accountId, FREEZE_KINDS);
      const expected = [`key:${key.id}`, `key:${key.id}`, `account:${accountId}`, `account:${accountId}`];
      assert.deepEqual(await heardSoFar(), ['key_created:', ...expected]);
    });

    it('hear of a new management token', async () => {
      await createAccessToken(ledger.management, { role: 'account', accountId, name: 'token' });
      assert.deepEqual(await heardSoFar(), ['token_created:']);
    });

    it('hear nothing of holds, charges and notices: the hot path sends no message', async () => {
      const { key } = await createApiKey(ledger.management, { ...SETTINGS, expiresAt: null, accountId });
      const hold = holdOf({ accountId, keyId: key.id }, '9.5');
      await placeHold(ledger.gateway, hold);
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '9.5')]);
      await settleRequests(ledger.worker, [hold.requestId], 'meter/keys');
      assert.equal(await noticeLowBalance(ledger.worker, accountId), true);
      assert.deepEqual(await heardSoFar(), ['key_created:']);
    });
  });
});
