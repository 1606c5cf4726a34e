/** The addresses that the crypto rail gives out: one per order, permanently, even after a loss of the database. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { HDNodeWallet, Mnemonic } from 'ethers';
import pg from 'pg';
import { uuidv7 } from 'uuidv7';
import { addressAt, depositPath, depositWallet } from '../../../providers/chain/wallet.ts';
import { createCryptoRail } from '../../../providers/chain/rail.ts';
import { createAccount } from '../../../db/accounts/accounts.ts';
import { createPool } from '../../../db/shared/client.ts';
import { assignDepositAddress } from '../../../db/payments/deposits.ts';
import { createTopUp, type TopUp } from '../../../db/payments/top-ups.ts';
import { formatId, uuidOf } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { parseCryptoSettings } from '../../../providers/chain/settings.ts';
import { WALLET_PHRASE, XPUB } from '../../support/crypto-stack.ts';
import { createTestDatabase, testServices, type TestDatabase } from '../../support/services.ts';

const ORDERS = 60;
const settings = parseCryptoSettings({ CRYPTO_XPUB: XPUB, CHAIN_1_RPC_URLS: 'https://a.test,https://b.test' })!;

describe('addresses of crypto top-ups', function () {
  this.timeout(60_000);
  let database: TestDatabase;

  before(async () => {
    database = await createTestDatabase('crypto_rail');
  });
  after(() => database.drop());

  async function order(management: pg.Pool): Promise<TopUp> {
    const { id: accountId } = await createAccount(management, { name: 'Customer', email: null });
    return createTopUp(management, {
      ...{ id: uuidOf('topUp', uuidv7()), accountId, method: 'crypto', provider: 'crypto', amount: usd('10') },
      ...{ fee: usd('0'), currency: 'usd', live: true, expiresInSeconds: 3600 },
    });
  }

  /** Orders in the database at an address, each with what its customer is shown. */
  async function giveOut(url: string): Promise<string[]> {
    const pools = [
      createPool({ url, role: 'management', max: 4 }),
      createPool({ url, role: 'worker', max: 4 }),
    ] as const;
    try {
      const rail = createCryptoRail({ settings, pool: pools[1] });
      const shown: string[] = [];
      for (let n = 0; n < ORDERS; n++) shown.push((await rail.openCheckout(await order(pools[0]))).providerId);
      return shown;
    } finally {
      await Promise.all(pools.map((pool) => pool.end()));
    }
  }

  it('are given to nobody else after a backup was restored: none of 60 that 60 customers were shown before', async () => {
    const { databaseUrl } = testServices();
    const admin = new pg.Client({ connectionString: databaseUrl });
    await admin.connect();
    const restored = `test_crypto_rail_restored_${randomBytes(4).toString('hex')}`;
    try {
      await admin.query(`create database ${restored} template ${new URL(database.url).pathname.slice(1)}`);
      const lost = await giveOut(database.url);
      const after = new URL(databaseUrl);
      after.pathname = `/${restored}`;
      const given = await giveOut(after.href);
      const twice = given.filter((address) => lost.includes(address));
      assert.deepEqual(twice, [], `${twice.length} of ${ORDERS} addresses belong to two customers`);
      assert.equal(new Set([...lost, ...given]).size, 2 * ORDERS);
    } finally {
      await admin.query(`drop database if exists ${restored} with (force)`);
      await admin.end();
    }
  });

  it('an order has the same address for every request, and the key is found by the order’s id alone', async () => {
    const [management, worker] = [database.pool('management'), database.pool('worker')];
    const rail = createCryptoRail({ settings, pool: worker });
    const made = await order(management);
    const asked = await Promise.all(Array.from({ length: 6 }, () => rail.openCheckout(made)));
    const address = asked[0]!.providerId;
    assert.equal(new Set(asked.map(({ providerId }) => providerId)).size, 1);
    const path = `m/44'/60'/0'/0/${depositPath(made.id, 0)}`;
    const own = HDNodeWallet.fromMnemonic(Mnemonic.fromPhrase(WALLET_PHRASE), path);
    assert.equal(own.address.toLowerCase(), address);
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['worker/deposit-address.ts', formatId('topUp', made.id)],
      { cwd: resolve(import.meta.dirname, '../../..'), env: { CRYPTO_XPUB: XPUB } },
    );
    assert.equal(stdout, `${address} ${depositPath(made.id, 0)}\n`);
  });

  it('two orders that met at one would each get their own: the second derives the next', async () => {
    const [management, worker] = [database.pool('management'), database.pool('worker')];
    const wallet = depositWallet(XPUB);
    const [first, second] = [await order(management), await order(management)];
    const path = depositPath(second.id, 0);
    const taken = { topUpId: first.id, path, wallet: wallet.fingerprint, address: addressAt(wallet, path) };
    assert.equal((await assignDepositAddress(worker, taken))?.topUpId, first.id);
    assert.equal(await assignDepositAddress(worker, { ...taken, topUpId: second.id }), null);
    const { providerId } = await createCryptoRail({ settings, pool: worker }).openCheckout(second);
    assert.equal(providerId, addressAt(wallet, depositPath(second.id, 1)));
  });

  it('have paths of two indexes that need no private key, different for every id and attempt', () => {
    const ids = Array.from({ length: 2000 }, () => uuidOf('topUp', uuidv7()));
    const paths = ids.flatMap((id) => [depositPath(id, 0), depositPath(id, 1)]);
    assert.equal(new Set(paths).size, paths.length);
    for (const path of paths) {
      const indexes = path.split('/').map(Number);
      assert.ok(indexes.length === 2 && indexes.every((index) => index >= 0 && index < 2 ** 31), path);
    }
    // What is derived must never change: customers were shown it.
    assert.equal(depositPath(uuidOf('topUp', '01980000-0000-7000-8000-000000000000'), 0), '2109343161/1016950641');
  });
});
