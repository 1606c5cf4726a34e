/**
 * Evidence for recovery tests: rows, money, the upstream's own count, metrics, settlement workflows; and the one
 * check that closes every test: after any failure, the ledger is whole and agrees with the answers of the upstream.
 */
import assert from 'node:assert/strict';
import { Client, Connection, WorkflowNotFoundError } from '@temporalio/client';
import { formatId, parseId, uuidOf, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, usd } from '../../domain/money.ts';
import { isBilled, type Outcome, type RequestState } from '../../domain/requests/request.ts';
import type { RequestRecord } from '../../twins/upstream/twin.ts';
import { testServices } from '../support/services.ts';
import type { TestAccount, TestStack } from '../support/stack.ts';
import { until } from '../support/until.ts';

export interface RequestRow {
  readonly id: string;
  readonly account_id: string;
  readonly state: RequestState;
  readonly outcome: Outcome | null;
  readonly free: boolean;
  readonly estimated: boolean;
  readonly hold: string;
  readonly cost: string | null;
  readonly list_cost: string | null;
  readonly input_tokens: string | null;
  readonly output_tokens: string | null;
  readonly client_left_at: Date | null;
  readonly created_at: Date;
  readonly finished_at: Date | null;
  readonly gateway_id: string;
  readonly workflow_id: string | null;
  readonly settle_error: string | null;
}

export interface PlatformCostRow {
  readonly reason: string;
  readonly usage: Readonly<Record<string, number>>;
  readonly list_cost: string;
}

/** Long enough for the slowest recovery here, a workflow task that died with its worker (10 s), on a busy machine. */
const SETTLED_TIMEOUT_MS = 40_000;

export async function allRows(stack: TestStack): Promise<RequestRow[]> {
  return (await stack.admin.query<RequestRow>('select * from request order by id')).rows;
}

export async function rowsOf(stack: TestStack, account: TestAccount): Promise<RequestRow[]> {
  return (
    await stack.admin.query<RequestRow>('select * from request where account_id = $1 order by id', [account.uuid])
  ).rows;
}

/** The row of a request by its wire id (`req_…`). */
export async function rowOf(stack: TestStack, requestId: string | null): Promise<RequestRow> {
  const { rows } = await stack.admin.query<RequestRow>('select * from request where id = $1', [
    uuidOfRequest(requestId),
  ]);
  assert.equal(rows.length, 1, `one row for ${requestId}`);
  return rows[0]!;
}

export function uuidOfRequest(requestId: string | null): RequestUuid {
  const uuid = parseId('request', requestId ?? '');
  assert.ok(uuid !== null, `a request id, not ${requestId}`);
  return uuid;
}

/** Waits for a request to be settled: charged or given back, and named by a workflow unless it is free. */
export function untilSettled(
  stack: TestStack,
  requestId: string | null,
  timeoutMs = SETTLED_TIMEOUT_MS,
): Promise<RequestRow> {
  return until(
    `${requestId} to be settled`,
    async () => {
      const row = await rowOf(stack, requestId);
      return isSettled(row) && row;
    },
    timeoutMs,
  );
}

function isSettled(row: RequestRow): boolean {
  return (
    (row.state === 'charged' || row.state === 'released') &&
    (row.free || row.outcome === 'refused' || row.workflow_id !== null)
  );
}

/** Waits until no request is open, save those set aside for a person. */
export async function untilAllSettled(stack: TestStack, timeoutMs = SETTLED_TIMEOUT_MS): Promise<RequestRow[]> {
  return until(
    'every request to be settled',
    async () => {
      const rows = await allRows(stack);
      return rows.every((row) => isSettled(row) || row.settle_error !== null) && rows;
    },
    timeoutMs,
  );
}

/** The customer's view: ledger minus finished requests, and holds of running ones. Decimal USD strings. */
export async function balanceOf(stack: TestStack, account: TestAccount): Promise<{ balance: string; held: string }> {
  const { rows } = await stack.admin.query<{ balance: string; held: string }>(
    'select balance::numeric(38,12)::text, held::numeric(38,12)::text from account_balance where account_id = $1',
    [account.uuid],
  );
  return rows[0]!;
}

/** `credited` minus `costs`, exact. */
export function balanceAfter(credited: string, ...costs: (string | null)[]): string {
  const rest = costs.reduce((sum, cost) => sum - usd(cost ?? '0'), usd(credited) as bigint);
  return formatUsd(usd(`${rest < 0n ? '-' : ''}${decimal(rest < 0n ? -rest : rest)}`));
}

function decimal(pico: bigint): string {
  const text = pico.toString().padStart(13, '0');
  return `${text.slice(0, -12)}.${text.slice(-12)}`;
}

export async function platformCosts(stack: TestStack, requestId: string | null): Promise<PlatformCostRow[]> {
  return (
    await stack.admin.query<PlatformCostRow>(
      'select reason, usage, list_cost from platform_cost where request_id = $1 order by reason',
      [uuidOfRequest(requestId)],
    )
  ).rows;
}

/** How often the sweep has looked at the database; grows with every run. */
export async function sweepMark(stack: TestStack): Promise<Date> {
  const { rows } = await stack.admin.query<{ seen_at: Date }>('select seen_at from database_reachability');
  return rows[0]!.seen_at;
}

/** Waits until the sweep has begun `count` more runs from now. */
export async function untilSwept(stack: TestStack, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    const before = (await sweepMark(stack)).getTime();
    await until('the next sweep', async () => (await sweepMark(stack)).getTime() > before, 20_000);
  }
}

/** Waits until the sweep has reached the database for `seconds` without a gap: only then does silence mean "gone". */
export function untilReachableFor(stack: TestStack, seconds: number): Promise<boolean> {
  return until('the sweep to have seen the database for a while', async () => {
    const { rows } = await stack.admin.query<{ long: boolean }>(
      'select seen_at - since > make_interval(secs => $1) as long from database_reachability',
      [seconds],
    );
    return rows[0]!.long;
  });
}

/** Locks one row, so that its writers wait, as behind a long transaction. Call the result to let go. */
export async function lockRow(
  stack: TestStack,
  table: 'request' | 'account',
  id: string,
): Promise<() => Promise<void>> {
  const session = await stack.admin.connect();
  await session.query('begin');
  await session.query(`select from ${table} where id = $1 for update`, [id]);
  return async () => {
    await session.query('rollback');
    session.release();
  };
}

/** The value of one series of the api's metrics; 0 while it has not been counted. */
export async function metric(
  stack: TestStack,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<number> {
  const text = await (await fetch(stack.metricsUrl)).text();
  const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
  const line = text
    .split('\n')
    .find((candidate) => candidate.startsWith(`${name}{`) && wanted.every((label) => candidate.includes(label)));
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(' ') + 1));
}

/** Works with a client of the stack's request namespace; `address` defaults to the shared Temporal server's. */
export async function withTemporal<T>(
  stack: TestStack,
  work: (client: Client) => Promise<T>,
  address = testServices().temporalAddress,
): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await work(new Client({ connection, namespace: stack.namespaces.requests }));
  } finally {
    await connection.close();
  }
}

/** Waits for a workflow of the request namespace to complete, started or not yet, and returns its result. */
export function untilWorkflowEnded<Result>(stack: TestStack, workflowId: string): Promise<Result> {
  return withTemporal(stack, async (client) => {
    const handle = client.workflow.getHandle(workflowId);
    await until(`${workflowId} to be started`, () =>
      handle.describe().catch((error: unknown) => {
        if (error instanceof WorkflowNotFoundError) return null;
        throw error;
      }),
    );
    return (await handle.result()) as Result;
  });
}

/**
 * Proves that the ledger is whole once nothing is open: no invariant is broken, and what was charged is what the log,
 * the counters and the roll-up say. Returns the log.
 */
export async function assertLedger(stack: TestStack): Promise<RequestRow[]> {
  const rows = await untilAllSettled(stack);
  const { rows: violations } = await stack.admin.query('select * from violations');
  assert.deepEqual(violations, [], 'no invariant is broken');
  await assertSums(stack);
  return rows;
}

/**
 * {@link assertLedger}, and each request that the upstream served is one log row whose usage is billed or booked as
 * platform cost, once. Closes every test in which all requests came through the gateway.
 */
export async function assertLedgerSound(stack: TestStack): Promise<void> {
  await assertServed(stack, await assertLedger(stack));
}

async function assertSums(stack: TestStack): Promise<void> {
  const { rows } = await stack.admin.query<Record<string, string>>(`
    with log as (select account_id, sum(cost) filter (where state = 'charged') as cost from request group by account_id)
    select a.id,
      a.balance::numeric(38,12)::text as balance,
      (coalesce((select sum(amount) from posting where credit = a.id), 0) - coalesce(log.cost, 0))::numeric(38,12)::text as credits_minus_log,
      coalesce(log.cost, 0)::numeric(38,12)::text as log_cost,
      coalesce((select sum(amount) from posting where debit = a.id and kind = 'charge'), 0)::numeric(38,12)::text as charges,
      coalesce((select sum(spent_total) from api_key where account_id = a.id), 0)::numeric(38,12)::text as keys_spent,
      coalesce((select sum(cost) from usage_hour where account_id = a.id), 0)::numeric(38,12)::text as rolled_up
    from account a left join log on log.account_id = a.id where a.kind = 'customer'`);
  for (const row of rows) {
    assert.equal(row['balance'], row['credits_minus_log'], `balance of ${row['id']}`);
    for (const sum of ['charges', 'keys_spent', 'rolled_up'])
      assert.equal(row[sum], row['log_cost'], `${sum} of ${row['id']}`);
  }
}

/** True for rows that no upstream need have seen: refused, or given back before the call. */
function mayBeUnserved({ outcome, cost }: RequestRow): boolean {
  return outcome === 'refused' || outcome === 'orphaned' || (outcome === 'client_disconnected' && Number(cost) === 0);
}

async function assertServed(stack: TestStack, rows: readonly RequestRow[]): Promise<void> {
  const served = servedBy(stack);
  const { rows: costs } = await stack.admin.query<PlatformCostRow & { request_id: string }>(
    "select request_id, reason, usage, list_cost from platform_cost where reason not in ('overrun', 'free')",
  );
  const byId = new Map(rows.map((row) => [formatId('request', uuidOf('request', row.id)) as string, row]));
  for (const row of rows) {
    const id = formatId('request', uuidOf('request', row.id));
    assert.ok(served.has(id) || mayBeUnserved(row), `${id} (${row.outcome}) was served`);
  }
  for (const [id, record] of served) {
    const row = byId.get(id);
    assert.ok(row !== undefined, `${id}, which the upstream served, is in the log`);
    assert.equal(record.attempts, 1, `${id} reached the upstream once`);
    const booked = costs.filter((cost) => cost.request_id === row.id);
    const isPaid = row.outcome !== null && isBilled(row.outcome);
    assert.ok(
      booked.length + (isPaid ? 1 : 0) <= 1,
      `${id}: its usage counts once, not as ${JSON.stringify(booked)} too`,
    );
    if (isPaid && !row.estimated) {
      assert.deepEqual(
        [Number(row.input_tokens), Number(row.output_tokens)],
        [record.prompt_tokens, record.completion_tokens],
        `${id} is billed for what the upstream produced`,
      );
    }
  }
}

/** Everything the upstream twin served, by request id. */
export function servedBy(stack: TestStack): Map<string, RequestRecord> {
  const served = new Map<string, RequestRecord>();
  for (let since: number | null = 0; since !== null;) {
    const page = stack.twin.requests({ sinceOrdinal: since });
    for (const record of page.data) served.set(record.request_id, record);
    since = page.next_ordinal;
  }
  return served;
}
