/** A customer's usage over time, exact at every moment: settled requests from the rollup, the rest from their rows. */
import { z } from 'zod';
import {
  findUsage,
  USAGE_BUCKETS,
  USAGE_GROUPS,
  type UsageBucket,
  type UsageRow,
} from '../../../../db/requests/usage.ts';
import { formatId } from '../../../../domain/ids.ts';
import { addUsd, formatUsd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { idText, time, timeText, usdText } from '../../../http/fields.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

const MS_PER: Readonly<Record<UsageBucket, number>> = { hour: 3_600_000, day: 86_400_000 };
/** A month of hours, two years of days. */
const BUCKETS_MAX: Readonly<Record<UsageBucket, number>> = { hour: 744, day: 732 };
const BUCKETS_DEFAULT: Readonly<Record<UsageBucket, number>> = { hour: 24, day: 30 };

const sumFields = {
  requests: z.number(),
  failed: z.number().meta({ description: 'Requests that were not billed because they failed.' }),
  input_tokens: z.number(),
  output_tokens: z.number(),
  cached_input_tokens: z.number(),
  reasoning_tokens: z.number(),
  cost_usd: usdText(),
};
const sumView = z.object(sumFields);
type Sums = z.output<typeof sumView>;

const groupFields = {
  model: z.string().optional(),
  key_id: idText('key').optional(),
  key_name: z.string().optional(),
};
const groupView = z.object({ ...groupFields, ...sumFields });
type Group = z.output<typeof groupView>;

const usageView = z.object({
  bucket: z.enum(USAGE_BUCKETS),
  group_by: z.enum(USAGE_GROUPS).nullable(),
  from: timeText().meta({ description: 'Beginning of the first bucket, UTC.' }),
  to: timeText().meta({ description: 'End of the last bucket.' }),
  totals: sumView,
  groups: z.array(groupView).meta({ description: 'Totals by group, most expensive first; empty without `group_by`.' }),
  data: z.array(
    z.object({
      start: timeText(),
      ...sumFields,
      groups: z.array(groupView).meta({ description: 'Groups that were used in this bucket.' }),
    }),
  ),
});

const usageQuery = z.strictObject({
  from: time().optional().meta({ description: 'Rounded down to a bucket. Default: 24 hours or 30 days before `to`.' }),
  to: time().optional().meta({ description: 'Rounded up to a bucket. Default: now.' }),
  bucket: z.enum(USAGE_BUCKETS).optional().meta({ description: 'Default `day`.' }),
  group_by: z.enum(USAGE_GROUPS).optional(),
});

/** The whole buckets that a query asks for. Refuses a range that is empty or too long. */
function rangeOf(query: z.output<typeof usageQuery>, now: Date): { bucket: UsageBucket; from: Date; to: Date } {
  const bucket = query.bucket ?? 'day';
  const size = MS_PER[bucket];
  const to = Math.ceil((query.to ?? now).getTime() / size) * size;
  const from =
    query.from === undefined ? to - BUCKETS_DEFAULT[bucket] * size : Math.floor(query.from.getTime() / size) * size;
  if (from >= to)
    throw invalidField(query.to === undefined ? 'from' : 'to', 'must leave at least one bucket between from and to');
  if ((to - from) / size > BUCKETS_MAX[bucket]) {
    throw invalidField('from', `must be at most ${BUCKETS_MAX[bucket]} ${bucket}s before to`);
  }
  return { bucket, from: new Date(from), to: new Date(to) };
}

function costOf(rows: readonly UsageRow[]): PicoUsd {
  return rows.reduce((sum, row) => addUsd(sum, row.cost), ZERO_USD);
}

function sumOf(rows: readonly UsageRow[]): Sums {
  const count = (
    field: 'requests' | 'failed' | 'inputTokens' | 'outputTokens' | 'cachedInputTokens' | 'reasoningTokens',
  ) => rows.reduce((sum, row) => sum + row[field], 0);
  return {
    requests: count('requests'),
    failed: count('failed'),
    input_tokens: count('inputTokens'),
    output_tokens: count('outputTokens'),
    cached_input_tokens: count('cachedInputTokens'),
    reasoning_tokens: count('reasoningTokens'),
    cost_usd: formatUsd(costOf(rows)),
  };
}

function groupOf(row: UsageRow): Omit<Group, keyof Sums> {
  if (row.model !== null) return { model: row.model };
  return row.key === null ? {} : { key_id: formatId('key', row.key.id), key_name: row.key.name };
}

/** Sums by group, the most expensive first; none without grouping. */
function groupsOf(rows: readonly UsageRow[]): Group[] {
  const byGroup = Map.groupBy(
    rows.filter((row) => row.model !== null || row.key !== null),
    (row) => row.model ?? row.key?.id,
  );
  return [...byGroup.values()]
    .map((members) => ({ cost: costOf(members), group: { ...groupOf(members[0]!), ...sumOf(members) } }))
    .sort((a, b) => (a.cost === b.cost ? 0 : a.cost < b.cost ? 1 : -1))
    .map(({ group }) => group);
}

export function usageRoutes({ reporter }: ManagementDeps): Route[] {
  return [
    accountRoute({
      method: 'get',
      path: '/api/usage',
      scope: 'read',
      summary: 'Get requests, tokens and cost by hour or day',
      isReport: true,
      query: usageQuery,
      response: usageView,
      async handle({ accountId, query }) {
        const { bucket, from, to } = rangeOf(query, new Date());
        const rows = await findUsage(reporter, accountId, { from, to, bucket, groupBy: query.group_by ?? null });
        const byStart = Map.groupBy(rows, (row) => row.start.getTime());
        const starts = Array.from(
          { length: (to.getTime() - from.getTime()) / MS_PER[bucket] },
          (_, index) => from.getTime() + index * MS_PER[bucket],
        );
        return ok({
          bucket,
          group_by: query.group_by ?? null,
          from: from.toISOString(),
          to: to.toISOString(),
          totals: sumOf(rows),
          groups: groupsOf(rows),
          data: starts.map((start) => {
            const inBucket = byStart.get(start) ?? [];
            return { start: new Date(start).toISOString(), ...sumOf(inBucket), groups: groupsOf(inBucket) };
          }),
        });
      },
    }),
  ];
}
