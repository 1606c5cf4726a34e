/**
 * Everything the ledger says about itself, as one comparable object: read from a database in one statement (so also
 * correct under traffic), or taken from the model. Amounts are decimal USD strings, ids are the keys.
 */
import type pg from 'pg';
import { formatUsd, picoUsd } from '../../domain/money.ts';
import type { LedgerModel } from './ledger-model.ts';

type Section = Record<string, Record<string, unknown>>;

export interface LedgerSnapshot {
  readonly accounts: Section;
  readonly keys: Section;
  readonly requests: Section;
  readonly postings: Section;
  readonly platformCosts: Section;
  readonly usage: Section;
  readonly refunds: Section;
  readonly adjustments: Section;
}

const MONEY = 'numeric(38, 12)';
const WINDOW = (column: string): string => `(extract(epoch from ${column}) * 1000)::text`;

const QUERY = `
  select
    (select jsonb_object_agg(a.id, jsonb_build_object(
        'balance', a.balance::${MONEY}::text, 'held', a.held::${MONEY}::text, 'frozen', a.frozen_at is not null,
        'shown', jsonb_build_object('balance', b.balance::${MONEY}::text, 'held', b.held::${MONEY}::text,
          'available', b.available::${MONEY}::text)))
      from account a join account_balance b on b.account_id = a.id) as accounts,
    (select jsonb_object_agg(k.id, jsonb_build_object(
        'held', k.held::${MONEY}::text, 'spentTotal', k.spent_total::${MONEY}::text, 'windowStart', ${WINDOW('k.window_start')},
        'windowSpent', k.window_spent::${MONEY}::text, 'windowHeld', k.window_held::${MONEY}::text,
        'limit', k.limit_usd::${MONEY}::text, 'limitReset', k.limit_reset, 'revoked', k.revoked_at is not null,
        'shown', jsonb_build_object('spentTotal', s.spent_total::${MONEY}::text, 'windowSpent', s.window_spent::${MONEY}::text,
          'held', s.held::${MONEY}::text, 'remaining', s.remaining::${MONEY}::text)))
      from api_key k join key_spending s on s.key_id = k.id) as keys,
    (select jsonb_object_agg(id, jsonb_build_object(
        'accountId', account_id, 'keyId', key_id, 'modelId', model_id, 'free', free, 'state', state, 'outcome', outcome,
        'hold', hold::${MONEY}::text, 'listCost', list_cost::${MONEY}::text, 'cost', cost::${MONEY}::text,
        'inputTokens', input_tokens, 'outputTokens', output_tokens, 'windowStart', ${WINDOW('window_start')},
        'clientLeft', client_left_at is not null, 'settleError', settle_error, 'workflowId', workflow_id,
        'refusalCode', refusal_code, 'finished', finished_at is not null, 'settled', settled_at is not null))
      from request) as requests,
    (select jsonb_object_agg(coalesce(f.request_id || '#' || f.n, p.business_id::text) || '/' || p.kind, jsonb_build_object(
        'debit', case d.kind when 'system' then d.name else d.id::text end,
        'credit', case c.kind when 'system' then c.name else c.id::text end, 'amount', p.amount::${MONEY}::text))
      from posting p join account d on d.id = p.debit join account c on c.id = p.credit
      left join request_refund f on f.id = p.business_id) as postings,
    (select jsonb_object_agg(request_id || '/' || reason, jsonb_build_object('listCost', list_cost::${MONEY}::text))
      from platform_cost) as platform_costs,
    (select jsonb_object_agg(at, totals) from (
      select account_id || '/' || model_id || '/' || key_id as at, jsonb_build_object('requests', sum(requests), 'failed', sum(failed),
        'inputTokens', sum(input_tokens), 'outputTokens', sum(output_tokens), 'cost', sum(cost)::${MONEY}::text) as totals
      from usage_hour group by account_id, model_id, key_id) hours) as usage,
    (select jsonb_object_agg(request_id || '#' || n, jsonb_build_object('amount', amount::${MONEY}::text, 'state', state))
      from request_refund) as refunds,
    (select jsonb_object_agg(id, jsonb_build_object('amount', amount::${MONEY}::text, 'state', state)) from adjustment) as adjustments`;

export async function snapshotOfDatabase(admin: pg.Pool): Promise<LedgerSnapshot> {
  const { rows } = await admin.query<Record<string, Section | null>>({ name: 'ledger_snapshot', text: QUERY });
  const row = rows[0]!;
  const withWindow = (section: Section): Section =>
    mapSection(section, (entry) => ({ ...entry, windowStart: Number(entry['windowStart']) }));
  return {
    accounts: row['accounts'] ?? {},
    keys: withWindow(row['keys'] ?? {}),
    requests: withWindow(row['requests'] ?? {}),
    postings: row['postings'] ?? {},
    platformCosts: row['platform_costs'] ?? {},
    usage: row['usage'] ?? {},
    refunds: row['refunds'] ?? {},
    adjustments: row['adjustments'] ?? {},
  };
}

export function snapshotOfModel(model: LedgerModel, atMs: number): LedgerSnapshot {
  return {
    accounts: section(model.accounts, ({ id, balance, held, frozen }) => ({
      balance,
      held,
      frozen,
      shown: model.balanceOf(id),
    })),
    keys: section(model.keys, (key) => ({
      held: key.held,
      spentTotal: key.spentTotal,
      windowStart: key.windowStart,
      windowSpent: key.windowSpent,
      windowHeld: key.windowHeld,
      limit: key.limit,
      limitReset: key.limitReset,
      revoked: key.revoked,
      shown: model.spendingOf(key.id, atMs),
    })),
    requests: section(model.requests, (request) => ({
      ...omit(request, 'id', 'gatewayId', 'finishedAs'),
      finished: request.state !== 'held',
      settled: request.state === 'charged' || request.state === 'released',
    })),
    postings: section(model.postings, (posting) => ({ ...posting })),
    platformCosts: section(model.platformCosts, (listCost) => ({ listCost })),
    usage: section(model.usageTotals(), (total) => ({ ...total })),
    refunds: section(model.refunds, ({ amount, state }) => ({ amount, state })),
    adjustments: section(model.adjustments, ({ amount, state }) => ({ amount, state })),
  };
}

function section<T>(entries: ReadonlyMap<string, T>, toEntry: (value: T) => Record<string, unknown>): Section {
  return Object.fromEntries([...entries].map(([id, value]) => [id, printed(toEntry(value))]));
}

/** Amounts as text, at any depth. */
function printed(entry: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(entry).map(([name, value]) => {
      if (typeof value === 'bigint') return [name, formatUsd(picoUsd(value))];
      return [name, value !== null && typeof value === 'object' ? printed(value as Record<string, unknown>) : value];
    }),
  );
}

function omit<T extends object>(whole: T, ...names: readonly (keyof T & string)[]): Record<string, unknown> {
  return Object.fromEntries(Object.entries(whole).filter(([name]) => !(names as readonly string[]).includes(name)));
}

function mapSection(entries: Section, change: (entry: Record<string, unknown>) => Record<string, unknown>): Section {
  return Object.fromEntries(Object.entries(entries).map(([id, entry]) => [id, change(entry)]));
}
