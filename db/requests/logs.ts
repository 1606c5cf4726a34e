/**
 * The log: a customer's requests as rows to page through, to export, or to look one up. A row is the request itself
 * (there is no second usage table), so what is listed here is what the ledger charges from. Reads only.
 */
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../domain/ids.ts';
import { usd, ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import type { Outcome, RequestState } from '../../domain/requests/request.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import type { Reporter, ReporterSession } from '../shared/reporter.ts';

export interface LogRow {
  readonly requestId: RequestUuid;
  readonly createdAt: Date;
  readonly finishedAt: Date | null;
  readonly model: string;
  readonly keyId: KeyUuid;
  readonly keyName: string;
  readonly inputTokens: number | null;
  readonly outputTokens: number | null;
  readonly cachedInputTokens: number | null;
  readonly reasoningTokens: number | null;
  readonly held: PicoUsd;
  /** The cost by the price list; null while the request runs. */
  readonly listCost: PicoUsd | null;
  /** The cost to the customer so far: zero while it runs. */
  readonly cost: PicoUsd;
  readonly refunded: PicoUsd;
  readonly state: RequestState;
  readonly outcome: Outcome | null;
  readonly refusalCode: string | null;
  readonly estimated: boolean;
  readonly stream: boolean;
  readonly latencyMs: number | null;
  readonly firstTokenMs: number | null;
  readonly priceVersion: number | null;
  readonly workflowId: string | null;
}

/** Which rows; null filters nothing. */
export interface LogFilter {
  readonly model: string | null;
  readonly keyId: KeyUuid | null;
  readonly requestId: RequestUuid | null;
  readonly outcome: Outcome | null;
  readonly state: RequestState | null;
  /** Inclusive. */
  readonly from: Date | null;
  /** Exclusive. */
  readonly to: Date | null;
}

export interface LogColumns {
  request_id: string;
  created_at: Date;
  finished_at: Date | null;
  model_id: string;
  key_id: string;
  key_name: string;
  input_tokens: string | null;
  output_tokens: string | null;
  cached_input_tokens: string | null;
  reasoning_tokens: string | null;
  hold: string;
  list_cost: string | null;
  cost: string | null;
  refunded: string;
  state: RequestState;
  outcome: Outcome | null;
  refusal_code: string | null;
  estimated: boolean;
  stream: boolean;
  latency_ms: number | null;
  first_token_ms: number | null;
  price_version: number | null;
  workflow_id: string | null;
}

/**
 * A request's id carries the moment its gateway made it, `created_at` the database's clock when it was stored. Filters
 * by time are exact on `created_at`; this margin lets them also bound the id, which is what the index is on.
 */
const CLOCK_MARGIN_MS = 24 * 3600 * 1000;

/** The columns of a log row, from `request r` joined with its key `k`. */
export function logColumns(reporter: ReporterSession) {
  return reporter`
    r.id as request_id, r.created_at, r.finished_at, r.model_id, r.key_id, k.name as key_name, r.input_tokens, r.output_tokens,
    r.cached_input_tokens, r.reasoning_tokens, r.hold, r.list_cost, r.cost,
    (select coalesce(sum(f.amount), 0) from request_refund f where f.request_id = r.id and f.state = 'posted') as refunded,
    r.state, r.outcome, r.refusal_code, r.estimated, r.stream, r.latency_ms, r.first_token_ms, r.price_version, r.workflow_id`;
}

/** Token counts are whole numbers below 2^53 by the check at the edge, so a JS number carries them exactly. */
function tokens(text: string | null): number | null {
  return text === null ? null : Number(text);
}

export function toLogRow(row: LogColumns): LogRow {
  return {
    requestId: uuidOf('request', row.request_id),
    createdAt: row.created_at,
    finishedAt: row.finished_at,
    model: row.model_id,
    keyId: uuidOf('key', row.key_id),
    keyName: row.key_name,
    inputTokens: tokens(row.input_tokens),
    outputTokens: tokens(row.output_tokens),
    cachedInputTokens: tokens(row.cached_input_tokens),
    reasoningTokens: tokens(row.reasoning_tokens),
    held: usd(row.hold),
    listCost: row.list_cost === null ? null : usd(row.list_cost),
    cost: row.cost === null ? ZERO_USD : usd(row.cost),
    refunded: usd(row.refunded),
    state: row.state,
    outcome: row.outcome,
    refusalCode: row.refusal_code,
    estimated: row.estimated,
    stream: row.stream,
    latencyMs: row.latency_ms,
    firstTokenMs: row.first_token_ms,
    priceVersion: row.price_version,
    workflowId: row.workflow_id,
  };
}

function matching(reporter: ReporterSession, accountId: AccountUuid, filter: LogFilter) {
  const { model, keyId, requestId, outcome, state, from, to } = filter;
  return reporter`
    from request r join api_key k on k.id = r.key_id
    where r.account_id = ${accountId}
      ${model === null ? reporter`` : reporter`and r.model_id = ${model}`}
      ${keyId === null ? reporter`` : reporter`and r.key_id = ${keyId}`}
      ${requestId === null ? reporter`` : reporter`and r.id = ${requestId}`}
      ${outcome === null ? reporter`` : reporter`and r.outcome = ${outcome}`}
      ${state === null ? reporter`` : reporter`and r.state = ${state}`}
      ${createdBetween(reporter, from, to)}`;
}

/** The condition on `request r` that it was created in a time, exact, and bounded by the id for the index. */
export function createdBetween(reporter: ReporterSession, from: Date | null, to: Date | null) {
  return reporter`
    ${from === null ? reporter`` : reporter`and r.created_at >= ${from} and r.id >= v7_floor(${shifted(from, -CLOCK_MARGIN_MS)})`}
    ${to === null ? reporter`` : reporter`and r.created_at < ${to} and r.id < v7_floor(${shifted(to, CLOCK_MARGIN_MS)})`}`;
}

function shifted(at: Date, milliseconds: number): Date {
  return new Date(at.getTime() + milliseconds);
}

/** A page of an account's log, newest first. */
export async function listLogs(
  reporter: Reporter,
  accountId: AccountUuid,
  filter: LogFilter,
  page: PageRequest,
): Promise<Page<LogRow>> {
  const rows = await reporter<LogColumns[]>`
    select ${logColumns(reporter)} ${matching(reporter, accountId, filter)}
      ${page.after === null ? reporter`` : reporter`and r.id < ${page.after}`}
    order by r.id desc limit ${page.limit + 1}`;
  return pageOf(rows.map(toLogRow), page.limit, (row) => row.requestId);
}

const EXPORT_BATCH_ROWS = 500;
/** For one batch: rows that match a narrow filter may lie far apart. */
const EXPORT_BATCH_TIMEOUT = '60s';

/**
 * The whole log that matches, newest first, in batches through a cursor: one snapshot and bounded memory. The next
 * batch is fetched when `onRows` has settled; it bounds the time, because an open snapshot keeps old row versions alive
 * for everybody. Its errors end the export.
 */
export async function exportLogs(
  reporter: Reporter,
  accountId: AccountUuid,
  filter: LogFilter,
  onRows: (rows: LogRow[]) => Promise<void>,
): Promise<void> {
  await reporter.begin('read only', async (transaction) => {
    await transaction`select set_config('statement_timeout', ${EXPORT_BATCH_TIMEOUT}, true)`;
    const cursor = transaction<LogColumns[]>`
      select ${logColumns(transaction)} ${matching(transaction, accountId, filter)} order by r.id desc`;
    for await (const rows of cursor.cursor(EXPORT_BATCH_ROWS)) await onRows(rows.map(toLogRow));
  });
}
