/**
 * Usage trends of an account: the hourly rollup of settled requests plus the rows that are finished and not settled
 * yet, read in one statement, so the sums are exact at every moment. Reads only.
 */
import { uuidOf, type AccountUuid, type KeyUuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { Reporter } from '../shared/reporter.ts';

export const USAGE_BUCKETS = ['hour', 'day'] as const;
export type UsageBucket = (typeof USAGE_BUCKETS)[number];

export const USAGE_GROUPS = ['model', 'key'] as const;
export type UsageGroup = (typeof USAGE_GROUPS)[number];

/** Usage and cost of the requests that began in one bucket, of one model or key where grouped. */
export interface UsageRow {
  /** Beginning of the bucket, UTC. */
  readonly start: Date;
  readonly model: string | null;
  readonly key: { readonly id: KeyUuid; readonly name: string } | null;
  readonly requests: number;
  /** The part of `requests` that was not billed because it failed. */
  readonly failed: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cachedInputTokens: number;
  readonly reasoningTokens: number;
  readonly cost: PicoUsd;
}

interface UsageColumns {
  start: Date;
  model_id: string | null;
  key_id: string | null;
  key_name: string | null;
  requests: string;
  failed: string;
  input_tokens: string;
  output_tokens: string;
  cached_input_tokens: string;
  reasoning_tokens: string;
  cost: string;
}

/** Buckets without a request have no row. `from` and `to` lie on bucket boundaries. */
export async function findUsage(
  reporter: Reporter,
  accountId: AccountUuid,
  { from, to, bucket, groupBy }: { from: Date; to: Date; bucket: UsageBucket; groupBy: UsageGroup | null },
): Promise<UsageRow[]> {
  const model = groupBy === 'model' ? reporter`model_id` : reporter`null::text`;
  const key = groupBy === 'key' ? reporter`key_id` : reporter`null::uuid`;
  const rows = await reporter<UsageColumns[]>`
    with part as (
      select hour, model_id, key_id, requests, failed, input_tokens, output_tokens, cached_input_tokens, reasoning_tokens, cost
      from usage_hour
      where account_id = ${accountId} and hour >= ${from} and hour < ${to}
      union all
      select date_trunc('hour', created_at, 'UTC'), model_id, key_id, 1, (not is_billed(outcome))::int,
        case when is_billed(outcome) then input_tokens end, case when is_billed(outcome) then output_tokens end,
        case when is_billed(outcome) then cached_input_tokens end, case when is_billed(outcome) then reasoning_tokens end, cost
      from request
      where account_id = ${accountId} and state = 'finished' and created_at >= ${from} and created_at < ${to}
    ), summed as (
      select date_trunc(${bucket}, hour, 'UTC') as start, ${model} as model_id, ${key} as key_id,
        sum(requests) as requests, sum(failed) as failed, coalesce(sum(input_tokens), 0) as input_tokens,
        coalesce(sum(output_tokens), 0) as output_tokens, coalesce(sum(cached_input_tokens), 0) as cached_input_tokens,
        coalesce(sum(reasoning_tokens), 0) as reasoning_tokens, sum(cost) as cost
      from part group by 1, 2, 3
    )
    select summed.*, api_key.name as key_name from summed left join api_key on api_key.id = summed.key_id
    order by start, model_id, key_id`;
  return rows.map((row) => ({
    start: row.start,
    model: row.model_id,
    key: row.key_id === null || row.key_name === null ? null : { id: uuidOf('key', row.key_id), name: row.key_name },
    requests: Number(row.requests),
    failed: Number(row.failed),
    inputTokens: Number(row.input_tokens),
    outputTokens: Number(row.output_tokens),
    cachedInputTokens: Number(row.cached_input_tokens),
    reasoningTokens: Number(row.reasoning_tokens),
    cost: usd(row.cost),
  }));
}
