/**
 * The cache of keys: what is in use is renewed in one statement before it ends, and nothing that changed comes back by
 * it.
 */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { FailedAttempts } from '../../../../../api/http/failed-attempts.ts';
import { KeyDirectory } from '../../../../../api/gateway/core/keys/keys.ts';
import { revokeApiKey } from '../../../../../db/accounts/api-keys.ts';
import { createPool } from '../../../../../db/shared/client.ts';
import type { AccountUuid, KeyUuid } from '../../../../../domain/ids.ts';
import {
  createCustomer,
  createKeyWithSecret,
  createLedgerDatabase,
  type LedgerDatabase,
} from '../../../../support/ledger-database.ts';
import { until } from '../../../../support/until.ts';

const AGE_SECONDS = 0.4;
const addressOf = (): string => '192.0.2.1';

describe('gateway: the cache of keys', function () {
  this.timeout(20_000);
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  /** One connection, so that a test can hold up whatever the directory asks next. */
  let pool: pg.Pool;
  let directory: KeyDirectory;
  let asked = 0;

  before(async () => {
    ledger = await createLedgerDatabase('key_cache');
    accountId = await createCustomer(ledger, '1');
    pool = createPool({ url: ledger.database.url, role: 'gateway', max: 1 });
    pool.on('acquire', () => asked++);
  });
  after(async () => {
    await pool.end();
    await ledger.database.drop();
  });
  afterEach(() => directory.stop());

  function open(ageSeconds: number): void {
    const failures = new FailedAttempts({ logger: pino({ level: 'silent' }), registry: new Registry() });
    directory = new KeyDirectory(pool, { ageSeconds, timeoutSeconds: 5, failures });
    directory.start();
    asked = 0;
  }

  const createKey = (): Promise<{ id: KeyUuid; secret: string }> => createKeyWithSecret(ledger, accountId);

  it('asks once per renewal for all keys in use, not once per key', async () => {
    open(2);
    const keys = await Promise.all(Array.from({ length: 20 }, createKey));
    for (const { secret } of keys) assert.notEqual(await directory.find([secret], addressOf), null);
    assert.equal(asked, keys.length);
    for (let n = 0; n < 60; n++) {
      await delay(50);
      for (const { secret } of keys) assert.notEqual(await directory.find([secret], addressOf), null);
    }
    // Three seconds are an age and a half: without renewals each key would have been looked up once more.
    assert.ok(asked > keys.length && asked < 2 * keys.length, `${asked} calls`);
  });

  it('shows a change without a notification within the age, also of a key in use', async () => {
    open(AGE_SECONDS);
    const { id, secret } = await createKey();
    assert.equal((await directory.find([secret], addressOf))!.revokedAt, null);
    await revokeApiKey(ledger.management, { id, accountId });
    await until('the change', async () => (await directory.find([secret], addressOf))!.revokedAt !== null);
  });

  it('does not bring back what was forgotten while it was being renewed', async () => {
    open(AGE_SECONDS);
    const { id, secret } = await createKey();
    await directory.find([secret], addressOf);
    const connection = await pool.connect();
    await until('a renewal that waits for the connection', () => pool.waitingCount === 1);
    directory.forget({ keyId: id });
    directory.stop();
    connection.release();
    await until('the renewal to end', () => pool.idleCount === 1);
    asked = 0;
    await directory.find([secret], addressOf);
    assert.equal(asked, 1);
  });

  it('asks no more for keys that are not used', async () => {
    open(AGE_SECONDS);
    const { secret } = await createKey();
    await directory.find([secret], addressOf);
    await delay(AGE_SECONDS * 1000 * 7);
    asked = 0;
    await delay(AGE_SECONDS * 1000);
    assert.equal(asked, 0);
  });
});
