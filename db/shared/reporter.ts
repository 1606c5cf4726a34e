/**
 * The read-only connection for logs, reports and exports (`postgres` library, role holdfast_reporter). It cannot write:
 * the role has no right to, and every session defaults to read-only transactions. Money stays text until it is parsed.
 * Why it has a driver of its own: docs/decisions/0015-reports-have-a-driver-of-their-own.md.
 */
import postgres from 'postgres';
import { sessionOptions } from './client.ts';

export type Reporter = postgres.Sql;

/** The reporter itself, or a transaction of it. */
export type ReporterSession = postgres.ISql;

export interface ReporterOptions {
  readonly url: string;
  readonly max: number;
  /** Server-side limit per statement, in milliseconds. A report that needs longer is refused rather than a burden. */
  readonly statementTimeoutMs?: number;
}

/** Opens the pool lazily. `max_pipeline: 1`: never two statements on the wire of one connection. */
export function createReporter({ url, max, statementTimeoutMs = 15_000 }: ReporterOptions): Reporter {
  return postgres(url, {
    ...PIPELINE,
    max,
    fetch_types: false,
    idle_timeout: 60,
    connect_timeout: 5,
    onnotice: () => undefined,
    connection: {
      application_name: 'holdfast_reporter',
      options: `${sessionOptions('reporter', statementTimeoutMs)} -c default_transaction_read_only=on`,
    },
  });
}

/** The option exists in the library and is missing from its types. */
const PIPELINE = { max_pipeline: 1 };

/** SQLSTATE classes after which the same report may succeed: connection, resources, operator intervention, system. */
const FAULT_CLASSES = ['08', '53', '57', '58', '40'];

/** True when a report failed because the database could not be reached or did not answer in time. */
export function isReporterFault(error: unknown): boolean {
  if (error instanceof postgres.PostgresError) {
    const { code } = error;
    return FAULT_CLASSES.some((prefix) => code.startsWith(prefix));
  }
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' && /^(CONNECT|E[A-Z]+$)/.test(code);
}
