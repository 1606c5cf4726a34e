/**
 * Forbidden writes: each role is held to the functions and columns it needs, records of money cannot be
 * changed even by the owner of the tables, and a settled request is frozen.
 */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { sqlState } from '../../../db/shared/client.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { finishRequests, logRefusals, placeFreeHolds, placeHold } from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid, RequestUuid } from '../../../domain/ids.ts';
import {
  behindTheGuards,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  GATEWAY_ID,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { snapshotOfDatabase } from '../../support/ledger-snapshot.ts';
import { ANN, BOB } from '../../support/staff.ts';

/** Tables whose rows say where money is or went. */
const MONEY_TABLES = [
  'account',
  'api_key',
  'request',
  'posting',
  'platform_cost',
  'usage_hour',
  'request_refund',
  'adjustment',
  'voucher',
  'voucher_batch',
];
/** Roles that act, with the columns of money tables they may write; everything else is done by functions. */
const WRITABLE: Record<string, readonly string[]> = {
  gateway: [],
  worker: [],
  management: [
    'account.email',
    'account.low_balance_noticed_at',
    'account.low_balance_usd',
    'account.name',
    'api_key.expires_at',
    'api_key.ip_allowlist',
    'api_key.limit_reset',
    'api_key.limit_usd',
    'api_key.models',
    'api_key.name',
    'api_key.revoked_at',
    'request.settle_error',
  ],
  reporter: [],
  auditor: [],
};

describe('guards of the ledger', () => {
  let ledger: LedgerDatabase;
  let key: { accountId: AccountUuid; keyId: KeyUuid };
  /** A charged request that was settled without a workflow. */
  let charged: RequestUuid;

  before(async () => {
    ledger = await createLedgerDatabase('guards');
    const accountId = await createCustomer(ledger, '10');
    key = { accountId, keyId: await createKey(ledger, accountId) };
    charged = await chargedRequest();
    await requestRefund(ledger.management, {
      requestId: charged,
      n: 1,
      amount: null,
      reason: 'test',
      requestedBy: ANN,
    });
    await decideRefund(ledger.management, { requestId: charged, n: 1, approve: true, decidedBy: BOB });
  });
  after(() => ledger.database.drop());

  /** A request with an overrun that nobody pays, so that every money table has a row. */
  async function chargedRequest(workflowId: string | null = null): Promise<RequestUuid> {
    const hold = holdOf(key, '1');
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '100')]);
    if (workflowId === null) await settleAccount(ledger.gateway, key.accountId);
    else await settleRequests(ledger.worker, [hold.requestId], workflowId);
    return hold.requestId;
  }

  /** Runs a statement as a role, in a transaction that never commits; the SQLSTATE of its error, null when it works. */
  async function stateAs(role: string, statement: string): Promise<string | null> {
    const client = await ledger.admin.connect();
    try {
      await client.query('begin');
      await client.query(`set local role holdfast_${role}`);
      await client.query(statement);
      return null;
    } catch (error) {
      return sqlState(error) ?? String(error);
    } finally {
      await client.query('rollback');
      client.release();
    }
  }

  describe('privileges', () => {
    for (const [role, writable] of Object.entries(WRITABLE)) {
      it(`${role} can write ${writable.length === 0 ? 'no column' : 'only people’s columns'} of a money table`, async () => {
        const { rows } = await ledger.admin.query<{ at: string }>(
          `select c.relname || '.' || a.attname as at
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          where c.relnamespace = 'holdfast'::regnamespace and c.relname = any ($2)
            and has_column_privilege($1, c.oid, a.attnum, 'update')
          order by 1`,
          [`holdfast_${role}`, MONEY_TABLES],
        );
        assert.deepEqual(
          rows.map((row) => row.at),
          writable,
        );
      });

      it(`${role} can neither insert, delete nor truncate rows of a money table or of a partition`, async () => {
        const { rows } = await ledger.admin.query<{ may: string }>(
          `select c.relname || ' ' || privilege as may
          from pg_class c cross join unnest(array['insert', 'delete', 'truncate', 'trigger', 'references']) privilege
          where c.relnamespace = 'holdfast'::regnamespace and c.relkind in ('r', 'p')
            and (c.relname = any ($2) or c.relispartition) and has_table_privilege($1, c.oid, privilege)`,
          [`holdfast_${role}`, MONEY_TABLES],
        );
        assert.deepEqual(rows, []);
      });

      it(`${role} owns nothing, is no superuser and cannot become another role of ours`, async () => {
        const { rows } = await ledger.admin.query(
          `select r.rolsuper, r.rolcreaterole, r.rolcreatedb, r.rolbypassrls,
            (select count(*)::int from pg_class where relowner = r.oid) as owned,
            (select count(*)::int from pg_auth_members where member = r.oid) as memberships
          from pg_roles r where rolname = $1`,
          [`holdfast_${role}`],
        );
        assert.deepEqual(rows, [
          { rolsuper: false, rolcreaterole: false, rolcreatedb: false, rolbypassrls: false, owned: 0, memberships: 0 },
        ]);
      });
    }

    it('inserting a customer or a key cannot set a balance or a counter', async () => {
      for (const statement of [
        "insert into account (kind, name, balance) values ('customer', 'Rich', 1000)",
        "insert into account (kind, name, held) values ('customer', 'Rich', 1)",
        `insert into api_key (account_id, name, hash, prefix, spent_total)
          values ('${key.accountId}', 'Key', sha256('x'), 'sk-hf-x', -1)`,
        `insert into api_key (account_id, name, hash, prefix, window_start)
          values ('${key.accountId}', 'Key', sha256('x'), 'sk-hf-x', 'infinity')`,
      ]) {
        assert.equal(await stateAs('management', statement), '42501', statement);
      }
    });

    it('gateway and worker read and write no table at all', async () => {
      for (const role of ['gateway', 'worker']) {
        for (const statement of [
          'select from account',
          'select from request',
          'update account set balance = 1000000',
          'insert into posting (business_id, kind, debit, credit, amount) select uuidv7(), $$gift$$, id, id, 1 from account',
          'delete from request',
          'truncate posting',
        ]) {
          assert.equal(await stateAs(role, statement), '42501', `${role}: ${statement}`);
        }
      }
    });

    const MONEY_FUNCTIONS = {
      'post_transfer($$gift$$, uuidv7(), uuidv7(), uuidv7(), 1, null, true)': [],
      'post_adjustment(uuidv7())': [],
      'roll_up(array[uuidv7()])': [],
      'overrun_costs(array[uuidv7()])': [],
      'place_hold(uuidv7(), uuidv7(), uuidv7(), 1, 1, $$m$$, 1, false, uuidv7(), 1)': ['gateway'],
      'extend_hold(uuidv7(), 1)': ['gateway'],
      'settle_account(uuidv7())': ['gateway'],
      'settle_requests(array[uuidv7()], null)': ['worker'],
      'mark_settle_error(uuidv7(), $$x$$)': ['worker'],
      'decide_refund(uuidv7(), 1, false, $$x$$)': ['management'],
      'request_refund(uuidv7(), 1, null, $$x$$, $$x$$)': ['management'],
      'request_adjustment(uuidv7(), uuidv7(), 1, $$x$$, $$x$$, null)': ['management'],
      'decide_adjustment(uuidv7(), false, $$x$$)': ['management'],
      'post_refund(uuidv7())': [],
      'post_hand_credit(uuidv7())': [],
      'approve($$x$$, uuidv7(), null, $$x$$)': [],
      'count_hand_money($$x$$, uuidv7(), $$x$$, null, 1, null)': [],
      'ask_hand_credit($$x$$, uuidv7(), $$x$$, 1, $$x$$)': ['worker'],
      'request_hand_credit($$x$$, uuidv7(), $$x$$, 1, $$x$$, $$x$$, null)': ['management'],
      'decide_hand_credit(uuidv7(), false, $$x$$)': ['management'],
      'decide_change(uuidv7(), false, $$x$$)': ['management'],
      'revoke_access_token(uuidv7(), false)': ['management'],
    };
    for (const [call, allowed] of Object.entries(MONEY_FUNCTIONS)) {
      const who = allowed.length === 0 ? 'nobody from outside' : allowed.join(', ');
      it(`${call.slice(0, call.indexOf('('))} may be called by ${who}`, async () => {
        const denied = [];
        for (const role of Object.keys(WRITABLE)) {
          if ((await stateAs(role, `select ${call}`)) === '42501') denied.push(role);
        }
        assert.deepEqual(
          denied,
          Object.keys(WRITABLE).filter((role) => !(allowed as readonly string[]).includes(role)),
        );
      });
    }

    it('no function can be called by everybody', async () => {
      const { rows } = await ledger.admin.query<{ proname: string }>(
        `select proname from pg_proc where pronamespace = 'holdfast'::regnamespace and has_function_privilege('public', oid, 'execute')`,
      );
      assert.deepEqual(rows, []);
    });

    it('every function that acts with the owner’s rights pins its search path', async () => {
      const { rows } = await ledger.admin.query<{ proname: string }>(
        `select proname from pg_proc where pronamespace = 'holdfast'::regnamespace and prosecdef
          and not coalesce(proconfig, '{}') @> array['search_path=holdfast, pg_temp']`,
      );
      assert.deepEqual(rows, []);
    });

    it('reporter and auditor read every table and view of the ledger', async () => {
      for (const role of ['reporter', 'auditor']) {
        for (const name of [...MONEY_TABLES, 'account_balance', 'key_spending', 'entry', 'refunded', 'violations']) {
          assert.equal(await stateAs(role, `select count(*) from ${name}`), null, `${role}: ${name}`);
        }
      }
    });
  });

  describe('append-only tables', () => {
    /** Statements of one guarded table that must fail even for the owner and the administrator. */
    const attempts = (table: string, column: string): string[] => [
      `update ${table} set ${column} = ${column}`,
      `delete from ${table}`,
      `truncate ${table}`,
      `truncate ${table} cascade`,
    ];
    const TABLES = {
      posting: 'amount',
      platform_cost: 'list_cost',
      price_version: 'prices',
      operator_action: 'details',
    };

    before(() =>
      behindTheGuards(ledger.admin, async (client) => {
        await client.query(`insert into model (id, dialect, context_length, default_output_tokens, upstreams)
          values ('demo/model', 'openai', 1000, 100, '[]')`);
        await client.query(`insert into price_version (model_id, version, valid_from, prices, created_by)
          values ('demo/model', 1, now(), '{}', 'test')`);
        await client.query(
          `insert into operator_action (actor, action, subject, details) values ('test', 'test', 'test', '{}')`,
        );
      }),
    );

    for (const [table, column] of Object.entries(TABLES)) {
      it(`${table}: nobody updates, deletes or truncates`, async () => {
        const { rows } = await ledger.admin.query<{ rows: number }>(`select count(*)::int as rows from ${table}`);
        assert.ok(rows[0]!.rows > 0, 'the table must have a row, or row triggers are not tried');
        for (const statement of attempts(table, column)) {
          assert.equal(await ownerState(statement), 'HF900', statement);
          assert.equal(await adminState(statement), 'HF900', statement);
        }
      });
    }

    it('every partition of request and posting has its own guard, also later ones', async () => {
      await ledger.worker.query("select ensure_partitions(1, now() + interval '20 years')");
      const { rows } = await ledger.admin.query<{ name: string; parent: string }>(
        `select c.relname as name, p.relname as parent from pg_inherits i join pg_class c on c.oid = i.inhrelid
        join pg_class p on p.oid = i.inhparent where p.relname in ('request', 'posting') and c.relkind = 'r'`,
      );
      assert.ok(rows.length >= 10, `${rows.length} partitions`);
      for (const { name } of rows) assert.equal(await adminState(`truncate ${name}`), 'HF900', name);
      const current = new Date().toISOString().slice(0, 7).replace('-', '_');
      for (const statement of [
        `delete from request_${current}`,
        `update posting_${current} set amount = amount`,
        `delete from posting_${current}`,
      ]) {
        assert.equal(await adminState(statement), 'HF900', statement);
      }
    });

    it('a request is never deleted or truncated, in whatever state it is', async () => {
      const hold = holdOf(key, '0.01');
      await placeHold(ledger.gateway, hold);
      for (const requestId of [hold.requestId, charged]) {
        assert.equal(await adminState(`delete from request where id = '${requestId}'`), 'HF900');
      }
      assert.equal(await adminState('truncate request'), 'HF900');
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.01')]);
    });

    async function adminState(statement: string): Promise<string | null> {
      return ledger.admin.query(statement).then(
        () => null,
        (error: unknown) => sqlState(error),
      );
    }

    function ownerState(statement: string): Promise<string | null> {
      return stateAs('owner', statement);
    }
  });

  describe('a settled request', () => {
    /** A new value for each column, different from any that a test request has. */
    const OTHER_VALUE: Record<string, string> = {
      uuid: 'uuidv7()',
      text: "'completely other'",
      request_state: "'held'",
      request_outcome: "'orphaned'",
      usd: '0.000777',
      usd_not_negative: '0.000777',
      token_count: '777',
      boolean: 'null',
      bigint: '777',
      integer: '777',
      'timestamp with time zone': "'2001-02-03'",
      jsonb: `'{"other": true}'`,
    };

    async function columns(): Promise<{ name: string; other: string }[]> {
      const { rows } = await ledger.admin.query<{ name: string; type: string }>(
        `select attname as name, format_type(atttypid, null) as type from pg_attribute
        where attrelid = 'request'::regclass and attnum > 0 and not attisdropped`,
      );
      return rows.map(({ name, type }) => ({
        name,
        other: type === 'boolean' ? `not ${name}` : OTHER_VALUE[type.replace('holdfast.', '')]!,
      }));
    }

    async function change(client: pg.Pool, requestId: RequestUuid, set: string): Promise<string | null> {
      return client.query(`update request set ${set} where id = $1`, [requestId]).then(
        () => null,
        (error: unknown) => sqlState(error),
      );
    }

    it('a settled request changes in no column, for any role; only a missing workflow id can be written, once', async () => {
      const before = await snapshotOfDatabase(ledger.admin);
      for (const { name, other } of await columns()) {
        if (name === 'workflow_id') continue;
        assert.equal(await change(ledger.admin, charged, `${name} = ${other}`), 'HF900', name);
        assert.equal(await change(ledger.admin, charged, `workflow_id = 'meter/x', ${name} = ${other}`), 'HF900', name);
      }
      assert.deepEqual(await snapshotOfDatabase(ledger.admin), before);
      assert.equal(await change(ledger.admin, charged, "workflow_id = 'meter/late'"), null);
      for (const value of ["'meter/other'", 'null', "'meter/late'"]) {
        assert.equal(await change(ledger.admin, charged, `workflow_id = ${value}`), 'HF900', value);
      }
    });

    it('settled by a workflow keeps that workflow’s id', async () => {
      const requestId = await chargedRequest('meter/first');
      assert.equal(await change(ledger.admin, requestId, "workflow_id = 'meter/second'"), 'HF900');
      await settleRequests(ledger.worker, [requestId], 'meter/second');
      const { rows } = await ledger.admin.query('select workflow_id from request where id = $1', [requestId]);
      assert.deepEqual(rows, [{ workflow_id: 'meter/first' }]);
    });

    it('a `:free` or refused request is frozen too', async () => {
      const free = { ...holdOf(key, '0'), modelId: 'demo/model:free' };
      await placeFreeHolds(ledger.gateway, [free]);
      await finishRequests(ledger.gateway, [endOf(free.requestId, '0')]);
      const refused = { ...holdOf(key, '0'), code: 'key_limit_exceeded', latencyMs: 3 } as const;
      await logRefusals(ledger.gateway, GATEWAY_ID, [refused]);
      for (const { requestId } of [free, refused]) {
        assert.equal(await change(ledger.admin, requestId, 'latency_ms = 1'), 'HF900');
        assert.equal(await change(ledger.management, requestId, "settle_error = 'x'"), 'HF900');
      }
    });

    it('a `:free` or refused request names no workflow', async () => {
      const free = { ...holdOf(key, '0'), modelId: 'demo/model:free' };
      await placeFreeHolds(ledger.gateway, [free]);
      await finishRequests(ledger.gateway, [endOf(free.requestId, '0')]);
      const refused = { ...holdOf(key, '0'), code: 'key_limit_exceeded', latencyMs: 3 } as const;
      await logRefusals(ledger.gateway, GATEWAY_ID, [refused]);
      const ids = [free.requestId, refused.requestId];
      assert.equal(await settleRequests(ledger.worker, ids, 'meter/none'), 0);
      const { rows } = await ledger.admin.query('select workflow_id from request where id = any($1)', [ids]);
      assert.deepEqual(rows, [{ workflow_id: null }, { workflow_id: null }]);
    });
  });
});
