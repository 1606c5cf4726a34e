/**
 * Connections to PostgreSQL for everything that writes money (`pg`; reports use db/shared/reporter.ts).
 *
 * Each pool sets the role of its process at connect, so the login's own rights are never used. Owns how a failed
 * call is classified: a refusal (our SQLSTATEs HF…), a fault (connection, lock, time-out: the answer is unknown,
 * repeat it) or a deterministic error (a bug or bad data: repeating cannot help).
 */
import pg from 'pg';

export type DatabaseRole = 'gateway' | 'worker' | 'management' | 'reporter';

export interface PoolOptions {
  readonly url: string;
  readonly role: DatabaseRole;
  readonly max: number;
  /** Server-side limit per statement, in milliseconds. */
  readonly statementTimeoutMs?: number;
  /** Client-side limit after which the answer counts as unknown and the connection is given up, in milliseconds. */
  readonly queryTimeoutMs?: number;
  /** `default`: the statements read whole tables, and PostgreSQL plans each as it sees fit. Else the role decides. */
  readonly planner?: 'default';
}

/** The connection options of a role: `-c role` makes every statement of the session run as that role. */
export function sessionOptions(
  role: DatabaseRole,
  statementTimeoutMs: number,
  { planner }: Pick<PoolOptions, 'planner'> = {},
): string {
  const isLookup = planner !== 'default' && (role === 'gateway' || role === 'worker');
  return [
    `role=holdfast_${role}`,
    'search_path=holdfast',
    'timezone=UTC',
    `statement_timeout=${statementTimeoutMs}`,
    'idle_in_transaction_session_timeout=10000',
    ...(isLookup ? LOOKUP_PLANS : []),
  ]
    .map((setting) => `-c ${setting}`)
    .join(' ');
}

/**
 * Gateway and worker only look rows up by key, so one plan fits every call. Planning again costs more than the call
 * (three times the server's CPU, by `npm run bench:ledger`), and a plan made while a table was empty must not become
 * its scan. The review of the whole ledger is the exception: without hash joins and scans it would take hours instead
 * of minutes.
 */
const LOOKUP_PLANS = [
  'plan_cache_mode=force_generic_plan',
  'enable_seqscan=off',
  'enable_hashjoin=off',
  'enable_mergejoin=off',
  'jit=off',
];

/** A pool whose sessions act as one role. Idle connections that break are dropped; the next call makes a new one. */
export function createPool({
  url,
  role,
  max,
  statementTimeoutMs = 2000,
  queryTimeoutMs = 5000,
  ...plans
}: PoolOptions): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    options: sessionOptions(role, statementTimeoutMs, plans),
    application_name: `holdfast_${role}`,
    connectionTimeoutMillis: queryTimeoutMs,
    query_timeout: queryTimeoutMs,
    idleTimeoutMillis: 60_000,
    keepAlive: true,
  });
  // A connection that dies raises an error event, on the pool while it is idle and on itself while it is in use (where
  // the call fails as well). Without a listener on both, losing the database would end the process.
  pool.on('error', () => undefined);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return pool;
}

/** A statement with a name is parsed once per connection. */
export interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

/** A pool, where each statement is a transaction of its own, or the connection of an open transaction. */
export type Session = pg.Pool | pg.PoolClient;

/**
 * Runs one statement. A pooled connection survives an error that the server itself reported and is dropped after any
 * other (`pool.query` would drop it after every refusal).
 */
export async function query<Row extends pg.QueryResultRow>(session: Session, statement: Statement): Promise<Row[]> {
  if (!(session instanceof pg.Pool)) {
    return (await session.query<Row>(statement as pg.QueryConfig)).rows;
  }
  const client = await session.connect();
  let broken = true;
  try {
    const result = await client.query<Row>(statement as pg.QueryConfig);
    broken = false;
    return result.rows;
  } catch (error) {
    broken = isFault(error);
    throw error;
  } finally {
    client.release(broken);
  }
}

/** `run` for a statement that returns exactly one row. */
export async function queryOne<Row extends pg.QueryResultRow>(session: Session, statement: Statement): Promise<Row> {
  const rows = await query<Row>(session, statement);
  const row = rows[0];
  if (row === undefined || rows.length > 1)
    throw new Error(`invariant broken: ${statement.name} returned ${rows.length} rows`);
  return row;
}

/** Runs `work` in one transaction on one connection; rolls back on any error. */
export async function inTransaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken = true;
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    broken = false;
    return result;
  } catch (error) {
    // After a fault the session's state is unknown, so the connection goes; else a rollback makes it usable again.
    if (!isFault(error))
      broken = !(await client.query('rollback').then(
        () => true,
        () => false,
      ));
    throw error;
  } finally {
    client.release(broken);
  }
}

/**
 * Runs `work` behind a savepoint, so that an error of it undoes only `work` and the transaction can go on. After a
 * fault the transaction is lost and nothing is attempted.
 */
export async function behindSavepoint<T>(client: pg.PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query('savepoint before_work');
  try {
    return await work();
  } catch (error) {
    if (!isFault(error)) await client.query('rollback to savepoint before_work');
    throw error;
  }
}

function isServerError(error: unknown): error is pg.DatabaseError {
  return error instanceof pg.DatabaseError;
}

/** The SQLSTATE of a server-reported error, else null. */
export function sqlState(error: unknown): string | null {
  return isServerError(error) ? (error.code ?? null) : null;
}

/** The name of the constraint that a failed statement violated, else null. */
export function violatedConstraint(error: unknown): string | null {
  return isServerError(error) ? (error.constraint ?? null) : null;
}

/** SQLSTATE classes and codes after which the same call may succeed. */
const FAULT_CLASSES = ['08', '53', '57', '58'];
const FAULT_CODES = [
  '40001', // serialization failure
  '40P01', // deadlock
  '55P03', // lock not available
  '25006', // read-only: the primary moved
  '25P03', // idle in transaction timeout
];

/** How `pg` words a lost connection or a client-side time-out; it gives these no code. */
const CONNECTION_TROUBLE =
  /connection (terminated|timeout|error)|query read timeout|timeout exceeded|not queryable|closed/i;

/**
 * True when the answer is unknown or the server asks to try again: connection lost, time-out, lock trouble, shutdown.
 */
export function isFault(error: unknown): boolean {
  const state = sqlState(error);
  if (state === null) {
    if (!(error instanceof Error)) return false;
    const systemCode = (error as NodeJS.ErrnoException).code;
    return (typeof systemCode === 'string' && /^E[A-Z]+$/.test(systemCode)) || CONNECTION_TROUBLE.test(error.message);
  }
  return FAULT_CLASSES.some((prefix) => state.startsWith(prefix)) || FAULT_CODES.includes(state);
}

/**
 * SQLSTATE classes that the contents of a row can cause: data, integrity, raised by a function, internal, our refusals.
 */
const ROW_ERROR_CLASSES = ['22', '23', 'P0', 'XX', 'HF'];

/**
 * True when a call failed for what it was about. All other server errors (missing privileges or functions while a
 * deployment is half done, a changed password) would fail every row alike and say nothing about any.
 */
export function liesInARow(error: unknown): boolean {
  const state = sqlState(error);
  return state !== null && ROW_ERROR_CLASSES.some((prefix) => state.startsWith(prefix));
}

/**
 * A refusal of a function (db/functions/shared/refusals.sql): SQLSTATE HF… (HF900, append-only, is a bug and none of
 * these).
 */
export interface LedgerRefusal {
  readonly code: LedgerRefusalCode;
  /** Decimal USD strings where the refusal is about money. */
  readonly remaining: string | null;
  readonly required: string | null;
  /** True while finished requests of the account wait for settlement, which may free enough to change the answer. */
  readonly unsettled: boolean;
  /** Until a bound that is used up begins again; null where that cannot be told. */
  readonly retryAfterSeconds: number | null;
}

const REFUSAL_NAMES = {
  HF001: 'not_found',
  HF002: 'key_revoked',
  HF003: 'key_expired',
  HF004: 'account_frozen',
  HF005: 'key_limit',
  HF006: 'insufficient_quota',
  HF007: 'model_not_allowed',
  HF008: 'request_ended',
  HF009: 'id_reused',
  HF010: 'valid_from_too_soon',
  HF011: 'valid_from_not_after_last',
  HF012: 'refund_too_large',
  HF013: 'request_not_charged',
  HF014: 'second_person_needed',
  HF015: 'not_a_person',
  HF017: 'token_revoked',
  HF020: 'free_tokens_used_up',
  HF021: 'free_requests_used_up',
  HF022: 'free_requests_open',
  HF030: 'no_saved_card',
  HF031: 'auto_top_up_frozen',
  HF032: 'payment_credited',
  HF033: 'credit_waits',
  HF034: 'too_many_open_top_ups',
  HF035: 'too_many_keys',
  HF036: 'too_many_tokens',
  HF037: 'too_many_new_keys',
  HF038: 'too_many_new_tokens',
  HF040: 'period_not_ended',
  HF041: 'run_not_done',
  HF050: 'payment_unknown',
  HF051: 'payment_of_another_order',
} as const;

export type LedgerRefusalCode = (typeof REFUSAL_NAMES)[keyof typeof REFUSAL_NAMES];

/** Reads a thrown error as a ledger refusal; null when it is a fault or a bug. */
export function ledgerRefusal(error: unknown): LedgerRefusal | null {
  const state = sqlState(error);
  if (state === null || !(state in REFUSAL_NAMES)) return null;
  const detail = parseDetail((error as pg.DatabaseError).detail);
  return { code: REFUSAL_NAMES[state as keyof typeof REFUSAL_NAMES], ...detail };
}

/** The refusal that a result column stands for: a SQLSTATE, with the seconds to wait where they are known. */
export function refusalOfVerdict(verdict: string): LedgerRefusal {
  const [state = '', seconds] = verdict.split(' ');
  const code = REFUSAL_NAMES[state as keyof typeof REFUSAL_NAMES];
  if (code === undefined) throw new Error(`invariant broken: unknown refusal ${verdict}`);
  const retryAfterSeconds = seconds === undefined ? null : Number(seconds);
  return { code, remaining: null, required: null, unsettled: false, retryAfterSeconds };
}

function parseDetail(detail: string | undefined): Omit<LedgerRefusal, 'code'> {
  const parsed = JSON.parse(detail ?? '{}') as Partial<Omit<LedgerRefusal, 'code' | 'retryAfterSeconds'>>;
  return {
    remaining: parsed.remaining ?? null,
    required: parsed.required ?? null,
    unsettled: parsed.unsettled ?? false,
    retryAfterSeconds: null,
  };
}
