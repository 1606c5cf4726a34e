/**
 * The spending of a key or an account, exact at the moment of the statement: the hourly rollup plus what is finished
 * and not settled.
 */
import type { AccountUuid, KeyUuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { Reporter } from '../shared/reporter.ts';

export interface Spending {
  readonly total: PicoUsd;
  readonly today: PicoUsd;
  readonly thisWeek: PicoUsd;
  readonly thisMonth: PicoUsd;
}

/** Spending in total and in the current UTC day, week (from Monday) and month, of one key or of the whole account. */
export async function findSpending(
  reporter: Reporter,
  which: { accountId: AccountUuid; keyId: KeyUuid | null },
): Promise<Spending> {
  const { accountId, keyId } = which;
  const [row] = await reporter<{ total: string; today: string; week: string; month: string }[]>`
    select coalesce(sum(cost), 0) as total,
      coalesce(sum(cost) filter (where hour >= date_trunc('day', now(), 'UTC')), 0) as today,
      coalesce(sum(cost) filter (where hour >= date_trunc('week', now(), 'UTC')), 0) as week,
      coalesce(sum(cost) filter (where hour >= date_trunc('month', now(), 'UTC')), 0) as month
    from (
      select hour, key_id, cost from usage_hour where account_id = ${accountId}
      union all
      select created_at, key_id, cost from request where account_id = ${accountId} and state = 'finished'
    ) spent
    where ${keyId}::uuid is null or key_id = ${keyId}`;
  if (row === undefined) throw new Error('invariant broken: an aggregate returned no row');
  return { total: usd(row.total), today: usd(row.today), thisWeek: usd(row.week), thisMonth: usd(row.month) };
}
