/** Audit of the ledger: violations of the invariants, and platform cost. Reads only. */
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { Reporter } from '../shared/reporter.ts';

/** A breach of one of the ledger's invariants; there are none in a healthy database. */
export interface Violation {
  readonly rule: string;
  readonly subject: string;
  readonly stored: string | null;
  readonly expected: string | null;
}

/** At most `limit` breaches of the invariants, from one snapshot. Reads every open row: not for a tight loop. */
export async function listViolations(reporter: Reporter, limit: number): Promise<Violation[]> {
  return reporter<
    Violation[]
  >`select rule, subject, stored, expected from violations order by rule, subject limit ${limit}`;
}

/** Unbilled usage of one reason in a period. */
export interface PlatformCostSum {
  readonly reason: string;
  readonly requests: number;
  readonly listCost: PicoUsd;
}

/** Sums of platform cost by reason for what was booked from `from` (inclusive) to `to` (exclusive). */
export async function sumPlatformCosts(
  reporter: Reporter,
  period: { from: Date; to: Date },
): Promise<PlatformCostSum[]> {
  const rows = await reporter<{ reason: string; requests: string; list_cost: string }[]>`
    select reason, count(*) as requests, sum(list_cost) as list_cost from platform_cost
    where created_at >= ${period.from} and created_at < ${period.to}
    group by reason order by reason`;
  return rows.map((row) => ({ reason: row.reason, requests: Number(row.requests), listCost: usd(row.list_cost) }));
}
