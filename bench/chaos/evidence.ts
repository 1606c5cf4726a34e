/**
 * Everything that a chaos run left behind, read at one moment: what the twin produced, and from one snapshot of the
 * database the log, the postings, the counters and the ledger's own list of broken invariants. Judging it is
 * `proof.ts`'s.
 */
import type pg from 'pg';
import { formatId, uuidOf, type AccountUuid, type KeyUuid, type RequestId } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import {
  compilePrices,
  isPriceProblem,
  type PriceVersion,
  type PriceVersionText,
} from '../../domain/requests/prices.ts';
import type { Outcome, RequestState } from '../../domain/requests/request.ts';
import { NO_USAGE, type Usage } from '../../domain/usage/usage.ts';
import { usageOfRow } from '../../db/requests/requests.ts';
import type { RequestPage, RequestRecord } from '../../twins/upstream/twin.ts';
import type { Rig } from '../rig.ts';

export type { RequestRecord } from '../../twins/upstream/twin.ts';

export interface LogRow {
  readonly id: RequestId;
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
  readonly model: string;
  readonly state: RequestState;
  readonly outcome: Outcome | null;
  readonly free: boolean;
  readonly estimated: boolean;
  readonly hold: PicoUsd;
  readonly listCost: PicoUsd | null;
  readonly cost: PicoUsd | null;
  readonly usage: Usage;
  readonly priceVersion: number | null;
  /** The key's limit window that it was held in, as text. */
  readonly window: string;
  readonly workflowId: string | null;
  readonly settleError: string | null;
}

export interface PlatformCost {
  readonly requestId: RequestId;
  readonly reason: string;
  readonly usage: Usage;
  readonly listCost: PicoUsd;
  readonly estimated: boolean;
}

export interface Posting {
  readonly businessId: string;
  readonly kind: string;
  readonly debit: string;
  readonly credit: string;
  readonly amount: PicoUsd;
}

export interface Evidence {
  readonly served: readonly RequestRecord[];
  readonly log: readonly LogRow[];
  readonly platformCosts: readonly PlatformCost[];
  readonly postings: readonly Posting[];
  readonly accounts: readonly { readonly id: AccountUuid; readonly balance: PicoUsd; readonly held: PicoUsd }[];
  readonly keys: readonly KeyCounters[];
  readonly usageHours: readonly {
    readonly accountId: AccountUuid;
    readonly requests: number;
    readonly cost: PicoUsd;
  }[];
  /** Compiled prices by `model@version`. */
  readonly prices: ReadonlyMap<string, PriceVersion>;
  /** Models whose output may be produced unseen: an estimate takes what was held for it. */
  readonly hiddenOutputModels: ReadonlySet<string>;
  readonly violations: readonly Readonly<Record<string, unknown>>[];
}

export interface KeyCounters {
  readonly id: KeyUuid;
  readonly held: PicoUsd;
  readonly spentTotal: PicoUsd;
  readonly window: string;
  readonly windowHeld: PicoUsd;
  readonly windowSpent: PicoUsd;
}

export async function collectEvidence(rig: Rig): Promise<Evidence> {
  const served = await readTwin(rig);
  const client = await rig.audit.connect();
  try {
    // One snapshot: the log, the postings and the counters must agree at every moment, not only when nothing moves.
    await client.query('begin isolation level repeatable read read only');
    const evidence: Evidence = {
      served,
      log: await readLog(client),
      platformCosts: await readPlatformCosts(client),
      postings: await readPostings(client),
      accounts: await readAccounts(client),
      keys: await readKeys(client),
      usageHours: await readUsageHours(client),
      prices: await readPrices(client),
      hiddenOutputModels: await readHiddenOutputModels(client),
      violations: (await client.query<Record<string, unknown>>('select * from violations')).rows,
    };
    await client.query('commit');
    client.release();
    return evidence;
  } catch (error) {
    client.release(true);
    throw error;
  }
}

const PAGE = 10_000;

async function readHiddenOutputModels(client: pg.PoolClient): Promise<Set<string>> {
  const { rows } = await client.query<{ id: string }>(
    `select id from model where coalesce((traits->>'hidden_output')::boolean, true)`,
  );
  return new Set(rows.map(({ id }) => id));
}

async function readTwin(rig: Rig): Promise<RequestRecord[]> {
  const records: RequestRecord[] = [];
  for (let since: number | null = 0; since !== null;) {
    const page = (await rig.twin('GET', `requests?since_ordinal=${since}&limit=${PAGE}`)) as RequestPage;
    records.push(...page.data);
    since = page.next_ordinal;
  }
  return records;
}

async function readLog(client: pg.PoolClient): Promise<LogRow[]> {
  const { rows } = await client.query<
    Parameters<typeof usageOfRow>[0] & {
      id: string;
      account_id: string;
      key_id: string;
      model_id: string;
      state: RequestState;
      outcome: Outcome | null;
      free: boolean;
      estimated: boolean;
      hold: string;
      list_cost: string | null;
      cost: string | null;
      price_version: number | null;
      window_start: string;
      workflow_id: string | null;
      settle_error: string | null;
    }
  >(`select id, account_id, key_id, model_id, state, outcome, free, estimated, hold, list_cost, cost, input_tokens, output_tokens,
      cached_input_tokens, reasoning_tokens, usage_detail, price_version, window_start::text, workflow_id, settle_error
    from request order by id`);
  return rows.map((row) => ({
    id: requestId(row.id),
    accountId: uuidOf('account', row.account_id),
    keyId: uuidOf('key', row.key_id),
    model: row.model_id,
    state: row.state,
    outcome: row.outcome,
    free: row.free,
    estimated: row.estimated,
    hold: usd(row.hold),
    listCost: row.list_cost === null ? null : usd(row.list_cost),
    cost: row.cost === null ? null : usd(row.cost),
    usage: usageOfRow(row),
    priceVersion: row.price_version,
    window: row.window_start,
    workflowId: row.workflow_id,
    settleError: row.settle_error,
  }));
}

async function readPlatformCosts(client: pg.PoolClient): Promise<PlatformCost[]> {
  const { rows } = await client.query<{
    request_id: string;
    reason: string;
    usage: Record<string, unknown>;
    list_cost: string;
    estimated: boolean;
  }>('select request_id, reason, usage, list_cost, estimated from platform_cost order by request_id, reason');
  return rows.map((row) => ({
    requestId: requestId(row.request_id),
    reason: row.reason,
    usage: storedUsage(row.usage),
    listCost: usd(row.list_cost),
    estimated: row.estimated,
  }));
}

/** Booked by the ledger's functions under the log's column names, by the worker as a whole `Usage`. */
function storedUsage(stored: Record<string, unknown>): Usage {
  const count = (...names: string[]): number => Number(names.map((name) => stored[name]).find(isSet) ?? 0);
  return {
    ...NO_USAGE,
    inputTokens: count('inputTokens', 'input_tokens'),
    outputTokens: count('outputTokens', 'output_tokens'),
    cachedInputTokens: count('cachedInputTokens', 'cached_input_tokens'),
    reasoningTokens: count('reasoningTokens', 'reasoning_tokens'),
  };
}

function isSet(value: unknown): boolean {
  return value !== undefined && value !== null;
}

async function readPostings(client: pg.PoolClient): Promise<Posting[]> {
  const { rows } = await client.query<{
    business_id: string;
    kind: string;
    debit: string;
    credit: string;
    amount: string;
  }>('select business_id, kind, debit, credit, amount from posting order by business_id, kind');
  return rows.map((row) => ({
    businessId: row.business_id,
    kind: row.kind,
    debit: row.debit,
    credit: row.credit,
    amount: usd(row.amount),
  }));
}

async function readAccounts(client: pg.PoolClient): Promise<Evidence['accounts']> {
  const { rows } = await client.query<{ id: string; balance: string; held: string }>(
    "select id, balance, held from account where kind = 'customer' order by id",
  );
  return rows.map((row) => ({ id: uuidOf('account', row.id), balance: usd(row.balance), held: usd(row.held) }));
}

async function readKeys(client: pg.PoolClient): Promise<KeyCounters[]> {
  const { rows } = await client.query<{
    id: string;
    held: string;
    spent_total: string;
    window_start: string;
    window_held: string;
    window_spent: string;
  }>('select id, held, spent_total, window_start::text, window_held, window_spent from api_key order by id');
  return rows.map((row) => ({
    id: uuidOf('key', row.id),
    held: usd(row.held),
    spentTotal: usd(row.spent_total),
    window: row.window_start,
    windowHeld: usd(row.window_held),
    windowSpent: usd(row.window_spent),
  }));
}

async function readUsageHours(client: pg.PoolClient): Promise<Evidence['usageHours']> {
  const { rows } = await client.query<{ account_id: string; requests: string; cost: string }>(
    'select account_id, sum(requests) as requests, sum(cost) as cost from usage_hour group by account_id order by account_id',
  );
  return rows.map((row) => ({
    accountId: uuidOf('account', row.account_id),
    requests: Number(row.requests),
    cost: usd(row.cost),
  }));
}

async function readPrices(client: pg.PoolClient): Promise<Map<string, PriceVersion>> {
  const { rows } = await client.query<{ model_id: string; version: number; prices: PriceVersionText }>(
    'select model_id, version, prices from price_version',
  );
  return new Map(
    rows.map(({ model_id, version, prices }) => {
      const compiled = compilePrices(prices);
      if (isPriceProblem(compiled)) throw new Error(`stored price ${model_id}@${version} does not compile`);
      return [priceKey(model_id, version), compiled];
    }),
  );
}

export function priceKey(model: string, version: number): string {
  return `${model}@${version}`;
}

function requestId(uuid: string): RequestId {
  return formatId('request', uuidOf('request', uuid));
}
