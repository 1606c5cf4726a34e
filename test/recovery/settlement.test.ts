/**
 * Between a recorded end and its charge: starts of settlements that look failed and are not, batches with a row that
 * cannot be settled, workers that die at the worst moment or are away for long. Each request is charged once.
 */
import assert from 'node:assert/strict';
import type { Client } from '@temporalio/client';
import { createAccessToken } from '../../db/accounts/access-tokens.ts';
import { settleAccount } from '../../db/requests/settlement.ts';
import { formatId, uuidOf } from '../../domain/ids.ts';
import {
  meterWorkflowId,
  sweepMeterWorkflowId,
  WORKFLOW_TYPES,
  type MeterInput,
  type MeterResult,
} from '../../contract/index.ts';
import { testServices } from '../support/services.ts';
import { SHORT_DURATIONS, startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { endAfterTests } from './at-end.ts';
import { Chat } from './chat.ts';
import {
  assertLedgerSound,
  balanceAfter,
  balanceOf,
  lockRow,
  metric,
  rowOf,
  rowsOf,
  untilSettled,
  untilSwept,
  untilWorkflowEnded,
  uuidOfRequest,
  withTemporal,
} from './evidence.ts';
import { startMuteProxy, type MuteProxy } from './mute-proxy.ts';
import { until } from '../support/until.ts';

/** The most requests that one settlement takes. */
const BATCH_MAX = 256;

describe('settlement', function () {
  this.timeout(90_000);
  const atEnd = endAfterTests();
  let stack: TestStack;
  let temporalProxy: MuteProxy;
  let workerProxy: TcpProxy;
  let account: TestAccount;
  let client: { baseUrl: string; secret: string };
  let operatorToken: string;

  before(async () => {
    stack = await startTestStack({ name: 'settlement', api: false, worker: false });
    atEnd(() => stack.stop());
    temporalProxy = await startMuteProxy(testServices().temporalAddress);
    atEnd(() => temporalProxy.close());
    workerProxy = await startTcpProxyFor(stack.database.url);
    atEnd(() => workerProxy.close());
    await Promise.all([stack.startApi({ TEMPORAL_ADDRESS: temporalProxy.address }), startWorker()]);
    const token = await createAccessToken(stack.admin, { role: 'operator', accountId: null, name: 'test' });
    operatorToken = token.secret;
  });
  beforeEach(() => fund('5'));
  afterEach(async () => {
    temporalProxy.speak();
    await assertLedgerSound(stack);
  });

  function startWorker(): Promise<unknown> {
    return stack.startWorker({ DATABASE_URL: workerProxy.through(stack.database.url) });
  }

  async function fund(amount: string): Promise<void> {
    account = await stack.createAccount(amount);
    client = { baseUrl: stack.baseUrl, secret: (await stack.createKey(account)).secret };
  }

  /** A whole answer; resolves with its request id. */
  async function ask(secret = client.secret): Promise<string> {
    const end = await new Chat({ ...client, secret }, { stream: false }).ended;
    assert.deepEqual([end.status, end.isWhole], [200, true], JSON.stringify(end));
    return end.requestId ?? '';
  }

  const queued = (): Promise<number> => metric(stack, 'holdfast_gateway_settle_queue');

  /** Calls the management interface as an operator. */
  function operate(method: 'GET' | 'POST', path: string): Promise<Response> {
    return fetch(`${stack.baseUrl}${path}`, { method, headers: { authorization: `Bearer ${operatorToken}` } });
  }

  /** Makes the gateway's starts of settlements hang although they are accepted, and both of its slots be taken. */
  async function muteStarts(): Promise<string[]> {
    const first = await ask();
    await untilSettled(stack, first);
    // The api asks Temporal on the connection that starts go over: with this answer those to earlier starts are there.
    await until('the first settlement to be seen as completed', async () => {
      const { workflows } = (await (await operate('GET', `/admin/requests/${first}`)).json()) as {
        workflows: { status: string }[];
      };
      return workflows.some(({ status }) => status === 'completed');
    });
    temporalProxy.mute();
    const inSlots: string[] = [];
    while (inSlots.length < 2) {
      inSlots.push(await ask());
      await until('a slot to be taken', async () => (await queued()) === 0);
    }
    return inSlots;
  }

  async function runsOf(temporal: Client, workflowId: string): Promise<number> {
    let runs = 0;
    for await (const run of temporal.workflow.list({ query: `WorkflowId = "${workflowId}"` })) {
      assert.equal(run.workflowId, workflowId);
      runs++;
    }
    return runs;
  }

  it('a start that times out though it was accepted counts as started: one run, one charge, and the settle queue goes on', async () => {
    const inSlots = await muteStarts();
    const notStarted = (requestId: string): boolean =>
      stack.api.log.some(
        ({ msg, workflow_id }) =>
          msg === 'settlement not started; repeating' && workflow_id === meterWorkflowId(requestId),
      );
    for (const requestId of inSlots) {
      const row = await untilSettled(stack, requestId);
      assert.deepEqual([row.state, row.workflow_id], ['charged', meterWorkflowId(requestId)]);
      await until('the start to time out', () => notStarted(requestId));
    }
    temporalProxy.speak();
    const later = await untilSettled(stack, await ask());
    assert.equal(later.workflow_id, meterWorkflowId(formatId('request', uuidOf('request', later.id))));
    await withTemporal(stack, async (temporal) => {
      for (const requestId of inSlots) {
        const workflowId = meterWorkflowId(requestId);
        await until('the run to be listed', async () => (await runsOf(temporal, workflowId)) > 0);
        assert.equal(await runsOf(temporal, workflowId), 1);
      }
    });
    const rows = await rowsOf(stack, account);
    assert.equal(rows.length, 4);
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', ...rows.map((row) => row.cost)));
  });

  it(`one row that cannot be settled in a batch of ${BATCH_MAX} keeps its hold and becomes a case; the others are charged, and it is, once repaired`, async () => {
    const poisonKey = await stack.createKey(account);
    await muteStarts();
    const asked = Array.from({ length: BATCH_MAX }, (_, n) =>
      ask(n === BATCH_MAX / 2 ? poisonKey.secret : client.secret),
    );
    const ids = await Promise.all(asked);
    const poisoned = ids[BATCH_MAX / 2] ?? '';
    assert.equal(await queued(), BATCH_MAX, 'they wait for one start');
    const { hold } = await rowOf(stack, poisoned);
    // A counter that does not cover the hold: no repetition can make this row's settlement succeed.
    await stack.admin.query('update api_key set held = 0 where id = $1', [poisonKey.key.id]);
    temporalProxy.speak();

    const setAside = await until('the row to be set aside', async () => {
      const row = await rowOf(stack, poisoned);
      return row.settle_error !== null && row;
    });
    assert.match(setAside.settle_error ?? '', /amount_not_negative/);
    const workflowIds = new Set<string | null>();
    for (const id of ids.filter((other) => other !== poisoned)) {
      const row = await untilSettled(stack, id);
      assert.equal(row.state, 'charged');
      workflowIds.add(row.workflow_id);
    }
    assert.equal(workflowIds.size, 1, 'one settlement took them all');
    const result = await untilWorkflowEnded<MeterResult>(stack, [...workflowIds][0] ?? '');
    assert.deepEqual(result, { settled: BATCH_MAX - 1, settleErrors: 1 });

    await untilSwept(stack, 3);
    assert.equal(await settleAccount(stack.database.pool('gateway', { max: 1 }), account.uuid), 0);
    const skipped = await rowOf(stack, poisoned);
    assert.deepEqual([skipped.state, skipped.hold, skipped.workflow_id], ['finished', hold, null]);
    const { rows: held } = await stack.admin.query<{ is_held: boolean }>(
      'select held = $2::numeric as is_held from account where id = $1',
      [account.uuid, hold],
    );
    assert.equal(held[0]?.is_held, true, 'its hold stays on the account, and no other');
    const { rows: cases } = await stack.admin.query(
      "select closed_at from review_case where kind = 'settle_error' and subject = $1",
      [poisoned],
    );
    assert.deepEqual(cases, [{ closed_at: null }]);

    await stack.admin.query('update api_key set held = $2 where id = $1', [poisonKey.key.id, hold]);
    const answer = await operate('POST', `/admin/requests/${poisoned}/retry-settlement`);
    assert.equal(answer.status, 200, await answer.text());
    const repaired = await untilSettled(stack, poisoned);
    assert.deepEqual([repaired.state, repaired.settle_error], ['charged', null]);
    assert.match(repaired.workflow_id ?? '', /^meter\/sweep\//);
  });

  it('a worker that loses its database in the middle of a settlement repeats it and goes on, charging once', async () => {
    const lost = workerProxy.loseAnswerTo('settle_requests');
    const requestId = await ask();
    await lost;
    const result = await untilWorkflowEnded<MeterResult>(stack, meterWorkflowId(requestId));
    assert.deepEqual(result, { settled: 0, settleErrors: 0 }, 'the repetition found it charged');
    const row = await rowOf(stack, requestId);
    assert.deepEqual([row.state, row.workflow_id], ['charged', meterWorkflowId(requestId)]);
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('5', row.cost));
  });

  it('a worker killed between the charge and the end of its run: the next one writes the notice, once, and charges nothing twice', async () => {
    await fund('0.9');
    const lost = workerProxy.loseAnswerTo('settle_requests');
    const requestId = await ask();
    await lost;
    stack.worker.signal('SIGKILL');
    await stack.worker.exited;
    const charged = await rowOf(stack, requestId);
    assert.deepEqual([charged.state, charged.workflow_id], ['charged', meterWorkflowId(requestId)]);
    const { status } = await withTemporal(stack, (temporal) =>
      temporal.workflow.getHandle(meterWorkflowId(requestId)).describe(),
    );
    assert.equal(status.name, 'RUNNING');
    assert.equal(await notices(), 0);

    await startWorker();
    assert.deepEqual(await untilWorkflowEnded<MeterResult>(stack, meterWorkflowId(requestId)), {
      settled: 0,
      settleErrors: 0,
    });
    await until('the notice', async () => (await notices()) === 1);
    await untilSettled(stack, await ask());
    await untilSwept(stack, 2);
    assert.equal(await notices(), 1, 'a later charge below the threshold writes no second one');
    const costs = (await rowsOf(stack, account)).map((row) => row.cost);
    assert.equal((await balanceOf(stack, account)).balance, balanceAfter('0.9', ...costs));
  });

  async function notices(): Promise<number> {
    const { rowCount } = await stack.admin.query("select from notice where account_id = $1 and kind = 'low_balance'", [
      account.uuid,
    ]);
    return rowCount ?? 0;
  }

  it('a worker away for long delays charges, not answers; then settle queue, sweep and gateway settle the same requests at once, each once', async () => {
    stack.worker.signal('SIGTERM');
    assert.equal(await stack.worker.exited, 0);
    const ids = await Promise.all(Array.from({ length: 40 }, () => ask()));
    const finished = await rowsOf(stack, account);
    assert.deepEqual([...new Set(finished.map(({ state }) => state))], ['finished']);
    const balance = balanceAfter('5', ...finished.map((row) => row.cost));
    assert.deepEqual(
      await balanceOf(stack, account),
      { balance, held: '0.000000000000' },
      'the customer sees what was spent',
    );

    await until('the settle queue to have handed all of them over', async () => (await queued()) === 0);
    // Old enough for the sweep, so that with the worker everybody comes at the same time.
    await until('the rows to be old enough for the sweep', async () => {
      const { rows } = await stack.admin.query<{ old: boolean }>(
        'select max(finished_at) < clock_timestamp() - make_interval(secs => $2) as old from request where account_id = $1',
        [account.uuid, Number(SHORT_DURATIONS.SWEEP_FINISHED_AGE_SECONDS)],
      );
      return rows[0]!.old;
    });
    await withTemporal(stack, async (temporal) => {
      for (const [n, requestIds] of [ids, ids.toReversed(), ids.toSorted()].entries()) {
        await temporal.workflow.start(WORKFLOW_TYPES.meterRequests, {
          workflowId: sweepMeterWorkflowId('test', n),
          taskQueue: stack.namespaces.requests,
          args: [{ requestIds } satisfies MeterInput],
        });
      }
    });
    const release = await lockRow(stack, 'account', account.uuid);
    await startWorker();
    const gateway = stack.database.pool('gateway', { max: 2, statementTimeoutMs: 20_000, queryTimeoutMs: 20_000 });
    const byGateway = [settleAccount(gateway, account.uuid), settleAccount(gateway, account.uuid)];
    await until('settlements of queue, sweep and gateway to wait for the same rows', async () => {
      const { rowCount } = await stack.admin.query(
        "select from pg_stat_activity where datname = current_database() and query like 'select settle_%' and wait_event_type = 'Lock'",
      );
      return (rowCount ?? 0) >= 5;
    });
    await release();
    await Promise.all(byGateway);
    await Promise.all(ids.map((id) => untilSettled(stack, id)));
    assert.deepEqual(await balanceOf(stack, account), { balance, held: '0.000000000000' });
    const { rows: postings } = await stack.admin.query(
      "select business_id from posting where kind = 'charge' and business_id = any ($1::uuid[])",
      [ids.map(uuidOfRequest)],
    );
    assert.equal(postings.length, ids.length);
  });
});
