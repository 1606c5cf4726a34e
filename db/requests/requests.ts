/**
 * The statements of a metered request's life until it is settled: hold, extend, finish. One function per SQL function
 * of db/functions/requests; parameters and results are domain types, conversion happens only here.
 */
import type pg from 'pg';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { AccountUuid, KeyUuid, RequestUuid } from '../../domain/ids.ts';
import type { FinishOutcome } from '../../domain/requests/request.ts';
import type { UpstreamEvidence } from '../../domain/requests/upstream-evidence.ts';
import { DETAIL_FIELDS, type Usage } from '../../domain/usage/usage.ts';
import type { ErrorCode } from '../../domain/errors.ts';
import { refusalOfVerdict, query, queryOne, type LedgerRefusal } from '../shared/client.ts';

/** Units charged per answer or per search. No provider reports them: they follow from the request's body. */
export type AskedUnits = Required<Pick<Usage, 'furtherAnswers' | 'webSearches'>>;

export interface HoldRequest {
  readonly requestId: RequestUuid;
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
  readonly modelId: string;
  /** The hold that covers the request, and the smallest that is enough to begin. */
  readonly wanted: PicoUsd;
  readonly least: PicoUsd;
  readonly priceVersion: number;
  readonly stream: boolean;
  readonly gatewayId: string;
  /** After this many seconds a hold that nobody ended is an orphan. */
  readonly ttlSeconds: number;
  /** For rating what an orphan consumed. Absent: one answer, no search. */
  readonly askedUnits?: AskedUnits;
}

function storedUnits({ askedUnits }: HoldRequest): string | null {
  const isPlain = askedUnits === undefined || Object.values(askedUnits).every((count) => count === 0);
  return isPlain ? null : JSON.stringify(askedUnits);
}

/**
 * Takes one hold; returns what was granted. Throws the refusals of 0003 (read them with `ledgerRefusal`). Repeatable.
 */
export async function placeHold(pool: pg.Pool, hold: HoldRequest): Promise<PicoUsd> {
  const row = await queryOne<{ granted: string }>(pool, {
    name: 'place_hold',
    text: 'select place_hold($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as granted',
    values: [
      hold.requestId,
      hold.accountId,
      hold.keyId,
      formatUsd(hold.wanted),
      formatUsd(hold.least),
      hold.modelId,
      hold.priceVersion,
      hold.stream,
      hold.gatewayId,
      hold.ttlSeconds,
      storedUnits(hold),
    ],
  });
  return usd(row.granted);
}

/**
 * Takes many holds at once (`pg` would parse a numeric[] into floats, hence text). Null for an item that needs
 * `placeHold` for its exact verdict. Repeatable.
 */
export async function placeHolds(pool: pg.Pool, holds: readonly HoldRequest[]): Promise<(PicoUsd | null)[]> {
  const row = await queryOne<{ granted: (string | null)[] }>(pool, {
    name: 'place_holds',
    text:
      'select place_holds($1::uuid[], $2::uuid[], $3::uuid[], $4::text[]::usd[], $5::text[], $6::int[], $7::boolean[], $8, ' +
      '$9::numeric[], $10::jsonb[])::text[] as granted',
    values: [
      holds.map((hold) => hold.requestId),
      holds.map((hold) => hold.accountId),
      holds.map((hold) => hold.keyId),
      holds.map((hold) => formatUsd(hold.wanted)),
      holds.map((hold) => hold.modelId),
      holds.map((hold) => hold.priceVersion),
      holds.map((hold) => hold.stream),
      holds[0]?.gatewayId,
      holds.map((hold) => hold.ttlSeconds),
      holds.map(storedUnits),
    ],
  });
  return row.granted.map((granted) => (granted === null ? null : usd(granted)));
}

export type FreeHoldRequest = Omit<HoldRequest, 'wanted' | 'least' | 'priceVersion' | 'askedUnits'>;

/** The quota of `:free` models of one account, over all its keys and all gateways. */
export interface FreeQuota {
  /** Input and output tokens of a UTC day, counted when requests end. */
  readonly tokensPerDay: number;
  /** Requests that begin in one UTC minute. */
  readonly requestsPerMinute: number;
  /** Requests at once. */
  readonly open: number;
}

/**
 * Records the start of `:free` requests; element n is null when item n may go on, else why not. Repeatable: what is in
 * place is not counted again. Without a quota nothing is bounded.
 */
export async function placeFreeHolds(
  pool: pg.Pool,
  holds: readonly FreeHoldRequest[],
  quota: FreeQuota | null = null,
): Promise<(LedgerRefusal | null)[]> {
  const row = await queryOne<{ verdicts: (string | null)[] }>(pool, {
    name: 'place_free_holds',
    text:
      'select place_free_holds($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::boolean[], $6, $7::numeric[], ' +
      '$8, $9, $10) as verdicts',
    values: [
      holds.map((hold) => hold.requestId),
      holds.map((hold) => hold.accountId),
      holds.map((hold) => hold.keyId),
      holds.map((hold) => hold.modelId),
      holds.map((hold) => hold.stream),
      holds[0]?.gatewayId,
      holds.map((hold) => hold.ttlSeconds),
      quota?.tokensPerDay ?? null,
      quota?.requestsPerMinute ?? null,
      quota?.open ?? null,
    ],
  });
  return row.verdicts.map((verdict) => (verdict === null ? null : refusalOfVerdict(verdict)));
}

/** Raises a hold to `total` (absolute; a repeat changes nothing). Throws the refusals of 0003. */
export async function extendHold(pool: pg.Pool, requestId: RequestUuid, total: PicoUsd): Promise<PicoUsd> {
  const row = await queryOne<{ hold: string }>(pool, {
    name: 'extend_hold',
    text: 'select extend_hold($1, $2) as hold',
    values: [requestId, formatUsd(total)],
  });
  return usd(row.hold);
}

/** Notes when the client left while its answer was still coming, with the tokens counted until then. */
export async function noteClientLeft(
  pool: pg.Pool,
  requestId: RequestUuid,
  counted: { inputTokens: number; outputTokens: number },
): Promise<void> {
  await query(pool, {
    name: 'note_client_left',
    text: 'select note_client_left($1, $2, $3)',
    values: [requestId, counted.inputTokens, counted.outputTokens],
  });
}

export interface FinishRecord {
  readonly requestId: RequestUuid;
  readonly outcome: FinishOutcome;
  /** The rated cost of `usage`, paid by anyone; the ledger decides what is charged. */
  readonly listCost: PicoUsd;
  readonly usage: Usage;
  /** True when `usage` was counted here because the upstream's was missing or unusable. */
  readonly estimated: boolean;
  /** The usage as reported, stored where it was unusable; null elsewhere. */
  readonly rawUsage: unknown;
  readonly latencyMs: number;
  readonly firstTokenMs: number | null;
  /** Failures at the provider; null for a plain answer of the model's first upstream, and where none was called. */
  readonly upstream: UpstreamEvidence | null;
  /** Unpaid output beside a billed end: booked as platform cost with it. */
  readonly undelivered?: { readonly usage: Usage; readonly listCost: PicoUsd };
}

export type FinishVerdict = 'finished' | 'replayed' | 'late' | 'unknown';

/**
 * Records how requests ended: outcome, usage and exact cost, durable when this returns. Touches only their own rows.
 * The first outcome wins; `late` means the hold had ended otherwise, the usage became platform cost, nothing is
 * charged.
 */
export async function finishRequests(pool: pg.Pool, records: readonly FinishRecord[]): Promise<FinishVerdict[]> {
  if (records.length === 0) return [];
  if (records.length === 1) return [await finishRequest(pool, records[0]!)];
  const rows = records.map(finishValues);
  const row = await queryOne<{ verdicts: FinishVerdict[] }>(pool, {
    name: 'finish_requests',
    text:
      'select finish_requests($1::uuid[], $2::text[], $3::text[]::usd[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], ' +
      '$8::jsonb[], $9::jsonb[], $10::boolean[], $11::int[], $12::int[], $13::jsonb[], $14::jsonb[]) as verdicts',
    values: rows[0]!.map((_, column) => rows.map((values) => values[column])),
  });
  return row.verdicts;
}

/** The same for one, at about two thirds of the server's time. */
async function finishRequest(pool: pg.Pool, record: FinishRecord): Promise<FinishVerdict> {
  const row = await queryOne<{ verdict: FinishVerdict }>(pool, {
    name: 'finish_request',
    text: 'select finish_request($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) as verdict',
    values: finishValues(record),
  });
  return row.verdict;
}

/** In the order of the SQL functions' parameters. */
function finishValues({ usage, undelivered, ...record }: FinishRecord): unknown[] {
  return [
    record.requestId,
    record.outcome,
    formatUsd(record.listCost),
    usage.inputTokens,
    usage.outputTokens,
    usage.cachedInputTokens,
    usage.reasoningTokens,
    usageDetail(usage),
    record.rawUsage === null ? null : jsonForStorage(record.rawUsage),
    record.estimated,
    Math.round(record.latencyMs),
    record.firstTokenMs === null ? null : Math.round(record.firstTokenMs),
    record.upstream === null ? null : jsonForStorage(record.upstream),
    undelivered === undefined
      ? null
      : `{"usage":${platformUsage(undelivered.usage)},"list_cost":"${formatUsd(undelivered.listCost)}"}`,
  ];
}

function usageDetail(usage: Usage): string | null {
  const entries = DETAIL_FIELDS.filter((field) => (usage[field] ?? 0) !== 0).map((field) => [field, usage[field]]);
  return entries.length === 0 ? null : JSON.stringify(Object.fromEntries(entries));
}

/**
 * Usage as `platform_cost` stores it, for every writer: the request's columns by their names, and details that are not
 * 0.
 */
function platformUsage(usage: Usage): string {
  return JSON.stringify({
    input_tokens: usage.inputTokens,
    output_tokens: usage.outputTokens,
    cached_input_tokens: usage.cachedInputTokens,
    reasoning_tokens: usage.reasoningTokens,
    ...Object.fromEntries(
      DETAIL_FIELDS.filter((field) => (usage[field] ?? 0) !== 0).map((field) => [field, usage[field]]),
    ),
  });
}

const RAW_USAGE_MAX_CHARS = 4000;

/**
 * Evidence as jsonb takes it, and small enough that it cannot fill the table. It comes from outside: whatever it holds,
 * it must not keep the request from being recorded.
 */
function jsonForStorage(value: unknown): string {
  const text = withoutBrokenCharacters(printed(value));
  if (text.length <= RAW_USAGE_MAX_CHARS) return text;
  return withoutBrokenCharacters(JSON.stringify({ truncated: text.slice(0, RAW_USAGE_MAX_CHARS) }));
}

function printed(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'null';
  } catch (error) {
    // JSON that was read can only fail to be written again by being nested deeper than the stack.
    if (!(error instanceof RangeError)) throw error;
    return JSON.stringify({ unprintable: 'nested too deeply' });
  }
}

/** Escapes are read in pairs of backslash and what follows, so that an escaped backslash never begins one. */
const ESCAPE = /\\(?:u([0-9a-f]{4})|.)/g;

/** Drops what jsonb refuses and `JSON.stringify` escapes: NUL and the halves of surrogate pairs. */
function withoutBrokenCharacters(json: string): string {
  return json.replace(ESCAPE, (escape, code: string | undefined) =>
    code !== undefined && /^(0000|d[89a-f]..)$/.test(code) ? '' : escape,
  );
}

/** The usage of a row as it was recorded; the inverse of what `finishRequests` stores. */
export function usageOfRow(row: {
  input_tokens: string | null;
  output_tokens: string | null;
  cached_input_tokens: string | null;
  reasoning_tokens: string | null;
  usage_detail: Partial<Record<(typeof DETAIL_FIELDS)[number], number>> | null;
}): Usage {
  const detail = (field: (typeof DETAIL_FIELDS)[number]): number => row.usage_detail?.[field] ?? 0;
  return {
    inputTokens: Number(row.input_tokens ?? 0),
    outputTokens: Number(row.output_tokens ?? 0),
    cachedInputTokens: Number(row.cached_input_tokens ?? 0),
    reasoningTokens: Number(row.reasoning_tokens ?? 0),
    cacheWrite5mTokens: detail('cacheWrite5mTokens'),
    cacheWrite1hTokens: detail('cacheWrite1hTokens'),
    audioInputTokens: detail('audioInputTokens'),
    imageInputTokens: detail('imageInputTokens'),
    audioOutputTokens: detail('audioOutputTokens'),
    imageOutputTokens: detail('imageOutputTokens'),
    furtherAnswers: detail('furtherAnswers'),
    images: detail('images'),
    webSearches: detail('webSearches'),
    seconds: detail('seconds'),
  };
}

export interface RefusalRecord {
  readonly requestId: RequestUuid;
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
  readonly modelId: string;
  readonly code: ErrorCode;
  readonly stream: boolean;
  readonly latencyMs: number;
}

/** Logs refused requests. */
export async function logRefusals(pool: pg.Pool, gatewayId: string, records: readonly RefusalRecord[]): Promise<void> {
  await query(pool, {
    name: 'log_refusals',
    text: 'select log_refusals($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::boolean[], $7::int[], $8)',
    values: [
      records.map((record) => record.requestId),
      records.map((record) => record.accountId),
      records.map((record) => record.keyId),
      records.map((record) => record.modelId),
      records.map((record) => record.code),
      records.map((record) => record.stream),
      records.map((record) => Math.round(record.latencyMs)),
      gatewayId,
    ],
  });
}

/** Books usage that nobody pays, once per request and reason. */
export async function bookPlatformCost(
  pool: pg.Pool,
  cost: { requestId: RequestUuid; reason: string; usage: Usage; listCost: PicoUsd; estimated: boolean },
): Promise<void> {
  await query(pool, {
    name: 'book_platform_cost',
    text: 'select book_platform_cost($1, $2, $3, $4, $5)',
    values: [cost.requestId, cost.reason, platformUsage(cost.usage), formatUsd(cost.listCost), cost.estimated],
  });
}
