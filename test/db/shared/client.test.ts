/**
 * How a failed call is classified, with errors that a real server, a broken connection and a lost network produce: a
 * fault is repeated, anything else is not. And what a pool's sessions may do.
 */
import assert from 'node:assert/strict';
import pg from 'pg';
import {
  createPool,
  inTransaction,
  isFault,
  ledgerRefusal,
  query,
  queryOne,
  sqlState,
} from '../../../db/shared/client.ts';
import { placeHold } from '../../../db/requests/requests.ts';
import {
  createCustomer,
  createKey,
  createLedgerDatabase,
  holdOf,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { startTcpProxyFor, type TcpProxy } from '../../support/tcp-proxy.ts';

function serverError(code: string): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError('made for a test', 0, 'error'), { code });
}

async function errorOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => assert.fail('it did not fail'),
    (error: unknown) => error,
  );
}

describe('connections to PostgreSQL', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('client');
  });
  after(() => ledger.database.drop());

  const statement = (text: string) => ({ name: text, text, values: [] });
  const backendPid = async (pool: pg.Pool): Promise<number> =>
    (await queryOne<{ pid: number }>(pool, statement('select pg_backend_pid() as pid'))).pid;

  describe('a fault', () => {
    /** Produces the error with a pool of its own that is closed afterwards. */
    async function faultOf(
      options: { statementTimeoutMs?: number; queryTimeoutMs?: number },
      work: (pool: pg.Pool, proxy: TcpProxy) => Promise<unknown>,
    ): Promise<unknown> {
      const proxy = await startTcpProxyFor(ledger.database.url);
      const pool = createPool({ url: proxy.through(ledger.database.url), role: 'gateway', max: 2, ...options });
      try {
        return await errorOf(work(pool, proxy));
      } finally {
        proxy.cut();
        await pool.end();
        await proxy.close();
      }
    }
    /** A statement that never ends on its own, with a mark by which a test finds it running. */
    const sleep = (mark: string) => statement(`select pg_sleep(30) /* ${mark} */`);

    it('a statement that the server cancelled is a fault', async () => {
      const error = await faultOf({ statementTimeoutMs: 20 }, (pool) => query(pool, sleep('server')));
      assert.deepEqual([sqlState(error), isFault(error), ledgerRefusal(error)], ['57014', true, null]);
    });

    it('a statement that the client abandoned is a fault', async () => {
      const error = await faultOf({ queryTimeoutMs: 200 }, (pool) => query(pool, sleep('client')));
      assert.deepEqual([sqlState(error), isFault(error), ledgerRefusal(error)], [null, true, null]);
    });

    it('a connection that was cut while its statement ran is a fault', async () => {
      const error = await faultOf({}, async (pool, proxy) => {
        await backendPid(pool);
        const sleeping = query(pool, sleep('cut'));
        await untilActive('/* cut */');
        proxy.cut();
        await sleeping;
      });
      assert.equal(isFault(error), true, String(error));
    });

    it('a session that an administrator ended while its statement ran is a fault', async () => {
      const error = await faultOf({}, async (pool) => {
        const pid = await backendPid(pool);
        const sleeping = query(pool, sleep('ended'));
        // Nobody else waits for it meanwhile, so its failure must not count as unhandled.
        sleeping.catch(() => undefined);
        await untilActive('/* ended */');
        await ledger.admin.query('select pg_terminate_backend($1)', [pid]);
        await sleeping;
      });
      assert.equal(isFault(error), true, String(error));
    });

    it('a server that takes no connection is a fault', async () => {
      const error = await faultOf({}, async (pool, proxy) => {
        proxy.refuse();
        await backendPid(pool);
      });
      assert.equal(isFault(error), true, String(error));
    });

    it('an address where nobody listens is a fault', async () => {
      const proxy = await startTcpProxyFor(ledger.database.url);
      const url = proxy.through(ledger.database.url);
      await proxy.close();
      const pool = createPool({ url, role: 'gateway', max: 1 });
      assert.equal(isFault(await errorOf(backendPid(pool))), true);
      await pool.end();
    });

    it('a server that accepts and then stays silent is a fault', async () => {
      const error = await faultOf({ queryTimeoutMs: 200 }, async (pool, proxy) => {
        proxy.pause();
        await backendPid(pool);
      });
      assert.equal(isFault(error), true, String(error));
    });

    it('a deadlock is a fault', async () => {
      const rows = await Promise.all([createCustomer(ledger, '0'), createCustomer(ledger, '0')]);
      const [one, other] = await Promise.all([ledger.admin.connect(), ledger.admin.connect()]);
      const lock = (client: pg.PoolClient, id: string) =>
        client.query('select from account where id = $1 for update', [id]);
      try {
        for (const client of [one, other]) await client.query("begin; set local deadlock_timeout = '10ms'");
        await lock(one, rows[0]);
        await lock(other, rows[1]);
        const outcomes = await Promise.allSettled([lock(one, rows[1]), lock(other, rows[0])]);
        const failed = outcomes.find((outcome) => outcome.status === 'rejected');
        assert.deepEqual([sqlState(failed?.reason), isFault(failed?.reason)], ['40P01', true]);
      } finally {
        for (const client of [one, other]) {
          await client.query('rollback');
          client.release();
        }
      }
    });

    for (const code of ['08006', '40001', '53100', '53300', '55P03', '57P01', '57P02', '57P03', '58030', '25006']) {
      it(`is SQLSTATE ${code}`, () => assert.equal(isFault(serverError(code)), true));
    }
  });

  describe('no fault', () => {
    for (const code of ['23505', '23514', '22003', '22P02', '42501', '42883', 'HF006', 'HF900', 'XX000']) {
      it(`is SQLSTATE ${code}`, () => assert.equal(isFault(serverError(code)), false));
    }

    it('an error of our own code, or a thrown value that is no error, is no fault', () => {
      for (const error of [
        new Error('invariant broken'),
        new TypeError('x is not a function'),
        'text',
        null,
        undefined,
      ]) {
        assert.equal(isFault(error), false, String(error));
        assert.equal(ledgerRefusal(error), null);
      }
    });

    it('a violated constraint or a missing right is no fault', async () => {
      for (const text of ['select 1::usd / 0', "select 'NaN'::usd", 'select from account', 'select nothing()']) {
        assert.equal(isFault(await errorOf(query(ledger.gateway, statement(text)))), false, text);
      }
    });
  });

  describe('a connection', () => {
    it('a connection survives a refusal and an error of the statement', async () => {
      const pool = ledger.database.pool('gateway', { max: 1 });
      const accountId = await createCustomer(ledger, '0');
      const poor = holdOf({ accountId, keyId: await createKey(ledger, accountId) }, '1');
      const pid = await backendPid(pool);
      await assert.rejects(placeHold(pool, poor), withState('HF006'));
      await assert.rejects(query(pool, statement('select from account')), withState('42501'));
      assert.equal(await backendPid(pool), pid);
    });

    it('a connection is dropped after a fault, and the next call gets a new one', async () => {
      const pool = ledger.database.pool('gateway', { max: 1, statementTimeoutMs: 20 });
      const pid = await backendPid(pool);
      await assert.rejects(query(pool, statement('select pg_sleep(30)')), withState('57014'));
      assert.notEqual(await backendPid(pool), pid);
    });

    it('a connection that dies while idle is replaced, and ends nothing', async () => {
      const pool = ledger.database.pool('gateway', { max: 1 });
      const pid = await backendPid(pool);
      await ledger.admin.query('select pg_terminate_backend($1)', [pid]);
      await untilGone(pid);
      const after = await backendPid(pool).catch(async (error: unknown) => {
        assert.ok(isFault(error), String(error));
        return backendPid(pool);
      });
      assert.notEqual(after, pid);
    });

    for (const role of ['gateway', 'worker', 'management', 'reporter'] as const) {
      it(`a connection of the ${role} acts as that role, in the ledger’s schema, in UTC, with a limit per statement`, async () => {
        const pool = ledger.database.pool(role, { statementTimeoutMs: 1234 });
        const { rows } = await pool.query(
          `select current_user::text as role, current_schema as schema, current_setting('timezone') as timezone,
            current_setting('statement_timeout') as limit`,
        );
        assert.deepEqual(rows, [{ role: `holdfast_${role}`, schema: 'holdfast', timezone: 'UTC', limit: '1234ms' }]);
      });
    }
  });

  describe('a transaction', () => {
    const insert = (client: pg.PoolClient, name: string) =>
      client.query("insert into account (kind, name) values ('customer', $1)", [name]);
    const count = async (name: string): Promise<number> => {
      const { rows } = await ledger.admin.query('select from account where name = $1', [name]);
      return rows.length;
    };

    it('commits when its work returns, and hands the result on', async () => {
      const result = await inTransaction(ledger.management, async (client) => {
        await insert(client, 'kept');
        return 'done';
      });
      assert.deepEqual([result, await count('kept')], ['done', 1]);
    });

    it('a transaction leaves nothing behind when its work throws, and its connection stays usable', async () => {
      const pool = ledger.database.pool('management', { max: 1 });
      const pid = await backendPid(pool);
      const mistakes: ((client: pg.PoolClient) => Promise<unknown>)[] = [
        () => Promise.reject(new Error('our own')),
        (client) => client.query('select from nothing'),
      ];
      for (const mistake of mistakes) {
        await assert.rejects(
          inTransaction(pool, async (client) => {
            await insert(client, 'lost');
            await mistake(client);
          }),
        );
      }
      assert.deepEqual([await count('lost'), await backendPid(pool)], [0, pid]);
    });

    it('a transaction leaves nothing behind when its connection breaks, and drops it', async () => {
      const pool = ledger.database.pool('management', { max: 1 });
      const pid = await backendPid(pool);
      const error = await errorOf(
        inTransaction(pool, async (client) => {
          await insert(client, 'lost');
          await ledger.admin.query('select pg_terminate_backend($1)', [pid]);
          await client.query('select 1');
        }),
      );
      assert.equal(isFault(error), true, String(error));
      assert.equal(await count('lost'), 0);
      assert.notEqual(await backendPid(pool), pid);
    });
  });

  /** Waits until a statement that contains `text` is running in this database. */
  async function untilActive(text: string): Promise<void> {
    await until(
      `select from pg_stat_activity where datname = current_database() and state = 'active'
        and pid <> pg_backend_pid() and query like '%' || $1 || '%'`,
      [text],
      (rows) => rows > 0,
    );
  }

  async function untilGone(pid: number): Promise<void> {
    await until('select from pg_stat_activity where pid = $1', [pid], (rows) => rows === 0);
  }

  async function until(text: string, values: unknown[], done: (rows: number) => boolean): Promise<void> {
    for (const deadline = performance.now() + 5000; ;) {
      if (done((await ledger.admin.query(text, values)).rows.length)) return;
      assert.ok(performance.now() < deadline, `waited in vain: ${text}`);
    }
  }
});
