/**
 * What a caller may read with its API key: models with prices, its key, its credits, and how a request ended. In the
 * shapes of OpenAI and OpenRouter, whose clients poll them; amounts are JSON numbers there, printed from the exact
 * decimals.
 */
import type pg from 'pg';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, parseId } from '../../../../domain/ids.ts';
import { addUsd, formatUsd, formatUsdShort, type PicoUsd } from '../../../../domain/money.ts';
import { tiersAt, type PriceRow } from '../../../../domain/requests/prices.ts';
import { isFreeModel } from '../../../../domain/requests/request.ts';
import { findBalance } from '../../../../db/accounts/accounts.ts';
import { findApiKey } from '../../../../db/accounts/api-keys.ts';
import { versionAt, type Model } from '../../../../db/requests/catalogue.ts';
import { listLogs } from '../../../../db/requests/logs.ts';
import type { Reporter } from '../../../../db/shared/reporter.ts';
import { findSpending } from '../../../../db/requests/spending.ts';
import type { Catalogue } from '../catalogue.ts';
import type { Caller } from '../keys/keys.ts';
import { modelNotFound } from '../refusals.ts';
import type { LookupLimit } from './lookup-limit.ts';

export interface Lookups {
  /** Connections that nothing else uses: a caller that polls slows only others that poll. */
  readonly management: pg.Pool;
  readonly reporter: Reporter;
  readonly catalogue: Catalogue;
  readonly limit: LookupLimit;
}

/** Names of OpenRouter's price object for our dimensions; per token or per unit, in USD. */
const PRICE_FIELDS = {
  prompt: 'input',
  completion: 'output',
  request: 'request',
  image: 'image',
  web_search: 'web_search',
  internal_reasoning: 'reasoning',
  input_cache_read: 'cached_input',
  input_cache_write: 'cache_write_5m',
  audio: 'audio_in',
} as const satisfies Record<string, keyof PriceRow>;

function number(amount: PicoUsd): unknown {
  return JSON.rawJSON(formatUsdShort(amount));
}

function renderModel(model: Model, now: Date): Record<string, unknown> {
  const version = versionAt(model, now);
  const row = version === null ? {} : tiersAt(version.prices, now)[0]!.prices;
  const priced = Object.entries(PRICE_FIELDS).flatMap(([field, dimension]) => {
    const price = row[dimension];
    return price === undefined ? [] : [[field, formatUsdShort(price)]];
  });
  return {
    id: model.id,
    object: 'model',
    created: Math.floor(model.createdAt.getTime() / 1000),
    owned_by: 'holdfast',
    context_length: model.contextLength,
    pricing: isFreeModel(model.id)
      ? { prompt: '0', completion: '0' }
      : { prompt: '0', completion: '0', ...Object.fromEntries(priced) },
  };
}

/** True for a model that the key may use and that has a price. */
function isVisible(model: Model, caller: Caller, now: Date): boolean {
  if (caller.models !== null && !caller.models.includes(model.id)) return false;
  return isFreeModel(model.id) || versionAt(model, now) !== null;
}

/** `GET /v1/models`: those the key may use and that have a price. */
export function listModels({ catalogue, limit }: Lookups, caller: Caller): unknown {
  limit.count(caller);
  const now = new Date();
  const models = catalogue.all().filter((model) => isVisible(model, caller, now));
  return { object: 'list', data: models.map((model) => renderModel(model, now)) };
}

/** `GET /v1/models/{id}`. */
export function showModel({ catalogue, limit }: Lookups, caller: Caller, modelId: string): unknown {
  limit.count(caller);
  const now = new Date();
  const model = catalogue.find(modelId);
  if (model === undefined || !isVisible(model, caller, now)) throw modelNotFound(modelId);
  return renderModel(model, now);
}

/** `GET /api/v1/key` (OpenRouter). */
export async function showKey({ management, reporter, limit }: Lookups, caller: Caller): Promise<unknown> {
  const [key, spending] = await limit.read(caller, () =>
    Promise.all([
      findApiKey(management, { id: caller.keyId, accountId: caller.accountId }),
      findSpending(reporter, { accountId: caller.accountId, keyId: caller.keyId }),
    ]),
  );
  if (key === null) throw new Refusal('invalid_api_key');
  return {
    data: {
      label: key.name,
      limit: key.limit === null ? null : number(key.limit),
      limit_reset: key.limitReset === 'none' ? null : key.limitReset,
      limit_remaining: key.remaining === null ? null : number(key.remaining),
      usage: number(spending.total),
      usage_daily: number(spending.today),
      usage_weekly: number(spending.thisWeek),
      usage_monthly: number(spending.thisMonth),
      expires_at: key.expiresAt?.toISOString() ?? null,
      is_free_tier: false,
    },
  };
}

/** `GET /api/v1/credits` (OpenRouter): `total_credits − total_usage` is the balance a customer sees everywhere else. */
export async function showCredits({ management, reporter, limit }: Lookups, caller: Caller): Promise<unknown> {
  const [balance, spending] = await limit.read(caller, () =>
    Promise.all([
      findBalance(management, caller.accountId),
      findSpending(reporter, { accountId: caller.accountId, keyId: null }),
    ]),
  );
  if (balance === null) throw new Refusal('invalid_api_key');
  return {
    data: { total_credits: number(addUsd(balance.balance, spending.total)), total_usage: number(spending.total) },
  };
}

/** `GET /api/v1/generation?id=` (OpenRouter): answers from the moment the response ends, provisional before. */
export async function showGeneration(
  { reporter, limit }: Lookups,
  caller: Caller,
  id: string | null,
): Promise<unknown> {
  if (id === null)
    throw new Refusal('invalid_field', {
      param: 'id',
      message: 'id is missing: the request id (req_…) of the answer.',
    });
  const requestId = parseId('request', id);
  if (requestId === null)
    throw new Refusal('invalid_field', { param: 'id', message: 'id must be a request id (req_…).' });
  const filter = { model: null, keyId: null, requestId, outcome: null, state: null, from: null, to: null };
  const { rows } = await limit.read(caller, () =>
    listLogs(reporter, caller.accountId, filter, { limit: 1, after: null }),
  );
  const row = rows[0];
  if (row === undefined) throw new Refusal('not_found', { param: 'id', message: 'There is no such request.' });
  return {
    data: {
      id: formatId('request', row.requestId),
      request_id: formatId('request', row.requestId),
      model: row.model,
      created_at: row.createdAt.toISOString(),
      total_cost: number(row.cost),
      total_cost_usd: formatUsd(row.cost),
      usage: number(row.cost),
      tokens_prompt: row.inputTokens,
      tokens_completion: row.outputTokens,
      native_tokens_prompt: row.inputTokens,
      native_tokens_completion: row.outputTokens,
      native_tokens_reasoning: row.reasoningTokens,
      native_tokens_cached: row.cachedInputTokens,
      latency: row.firstTokenMs,
      generation_time: row.latencyMs,
      streamed: row.stream,
      cancelled: row.outcome === 'client_disconnected',
      outcome: row.outcome,
      provisional: row.state === 'held' || row.state === 'finished',
      is_byok: false,
    },
  };
}
