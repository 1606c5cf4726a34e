/**
 * Fairness among callers of the management interface: none may take all connections, all reports, or webhooks'
 * places.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request as httpRequest, type ClientRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type pg from 'pg';
import { createManagementApp } from '../../../api/routes/app.ts';
import { createPool } from '../../../db/shared/client.ts';
import { formatId } from '../../../domain/ids.ts';
import { createCustomer } from '../../support/ledger-database.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import { until } from '../../support/until.ts';
import { refusal, startManagement, tokenOf, type Management } from './management.ts';

describe('fairness of the management interface', () => {
  let management: Management;
  let other: string;

  before(async () => {
    management = await startManagement('routes_fairness');
    other = await tokenOf(management, 'account', await createCustomer(management, '1'));
  });
  after(() => management.stop());

  /** Runs `work` while a statement of `lock` holds what others wait for. */
  async function whileLocked<T>(lock: string, work: () => Promise<T>): Promise<T> {
    const session = await management.admin.connect();
    try {
      await session.query('begin');
      await session.query(lock);
      return await work();
    } finally {
      await session.query('rollback');
      session.release();
    }
  }

  it('reports of one account wait for each other: others and staff get theirs, and its own calls go on', async () => {
    const asked = 2 + 32 + 6;
    let reports: Promise<Awaited<ReturnType<Management['call']>>>[] = [];
    await whileLocked('lock table usage_hour in access exclusive mode', async () => {
      reports = Array.from({ length: asked }, () => management.call('GET', '/api/usage'));
      const refused = await Promise.race(reports);
      assert.deepEqual(refusal(refused), { status: 429, code: 'rate_limit_exceeded', param: null });
      assert.equal(refused.headers.get('retry-after'), '5');
      assert.equal((await management.call('GET', '/api/logs', { token: other })).status, 200);
      assert.equal((await management.call('GET', '/admin/approvals')).status, 200);
      assert.equal((await management.call('GET', '/api/account')).status, 200);
    });
    const statuses = (await Promise.all(reports)).map(({ status }) => status);
    assert.equal(statuses.filter((status) => status === 200).length, asked - 6);
    assert.equal(statuses.filter((status) => status === 429).length, 6);
  });

  it('calls of one account that the database holds up leave a connection to everybody else', async () => {
    const account = formatId('account', management.accountId);
    await whileLocked(`select from account where id = '${management.accountId}' for update`, async () => {
      const held = Array.from({ length: 20 }, () =>
        management.call('PATCH', '/api/account', { body: { name: 'Held up' } }),
      );
      await until('connections to be waited with', async () => {
        const { rows } = await management.admin.query(
          `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
        );
        return rows.length === 3;
      });
      assert.equal((await management.call('GET', '/api/account', { token: other })).status, 200);
      assert.equal((await management.call('GET', `/admin/accounts/${account}`)).status, 200);
      void Promise.allSettled(held);
    });
  });

  describe('webhooks', () => {
    const SECRET = 'secret-of-the-directory';
    let server: Server;
    let url: string;
    /** The only connections of other calls. */
    let taken: pg.PoolClient[];
    let busy: pg.Pool;

    before(async () => {
      busy = createPool({ url: management.database.url, role: 'management', max: 2 });
      taken = [await busy.connect(), await busy.connect()];
      const { deps } = management;
      const rewards = rewardSettingsOf({ VOTE_TOPGG_V0_SECRET: SECRET });
      const app = createManagementApp({ ...deps, management: busy, settings: { ...deps.settings, rewards } });
      server = createServer(app);
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    after(async () => {
      server.closeAllConnections();
      server.close();
      for (const client of taken) client.release();
      await busy.end();
    });

    const site = (): string => {
      const [first] = rewardSettingsOf({ VOTE_TOPGG_V0_SECRET: SECRET }).votes.sites;
      return `/webhooks/votes/${first!.name}`;
    };
    const deliver = (signature: string): Promise<Response> =>
      fetch(url + site(), {
        method: 'POST',
        headers: { authorization: signature, 'content-type': 'application/json' },
        // Genuine, and about nothing that would be passed on to Temporal, which is not there.
        body: '{}',
      });

    const failures = async (): Promise<number> => {
      const metric = management.registry.getSingleMetric('holdfast_authentication_failures_total')!;
      const { values } = await metric.get();
      return values.find(({ labels }) => labels['kind'] === 'webhook_signature')?.value ?? 0;
    };

    /** Begins a delivery and never ends it. */
    function begin(headers: Record<string, string>): { call: ClientRequest; ended: Promise<number | null> } {
      const call = httpRequest(url + site(), { method: 'POST', headers: { 'content-length': '60000', ...headers } });
      call.write('{');
      const ended = new Promise<number | null>((resolve) => {
        call.on('response', ({ statusCode }) => resolve(statusCode ?? null));
        call.on('error', () => resolve(null));
      });
      return { call, ended };
    }

    it('are stored while all connections of customers and staff are taken', async () => {
      const response = await deliver(SECRET);
      assert.deepEqual([response.status, await response.json()], [200, { received: true, duplicate: false }]);
    });

    it('without any signature are answered before their body has come, and with a wrong one without a look at the database', async () => {
      const before = await failures();
      assert.equal(await begin({}).ended, 401);
      assert.equal((await deliver('wrong')).status, 401);
      assert.equal((await failures()) - before, 2);
      const { rows } = await management.admin.query<{ events: number }>(
        'select count(*)::int as events from provider_event',
      );
      assert.equal(rows[0]!.events, 1);
    });

    it('that a hundred slow senders hold open keep none out: the oldest make room', async () => {
      const slow = Array.from({ length: 100 }, () => begin({ authorization: SECRET }));
      const cut = slow.map(({ ended }) => ended);
      assert.equal(await Promise.race(cut), null);
      for (let n = 0; n < 5; n++) assert.equal((await deliver(SECRET)).status, 200);
      for (const { call } of slow) call.destroy();
      assert.deepEqual(new Set(await Promise.all(cut)), new Set([null]));
    });
  });
});
