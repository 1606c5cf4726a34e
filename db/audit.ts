/** What proves the books: single postings, the invariants' breaches, and what the platform paid itself. Reads only. */
import { uuidOf, type Uuid } from '../domain/ids.ts';
import { usd, type PicoUsd } from '../domain/money.ts';
import type { Reporter } from './reporter.ts';

/** One end of a posting. A customer's id is what matters, a system account's name is. */
export interface PostingAccount {
  readonly id: string;
  readonly kind: 'customer' | 'system';
  readonly name: string;
}

export interface Posting {
  readonly id: Uuid<'posting'>;
  readonly kind: string;
  /** UUID of the request, adjustment, refund or top-up the money belongs to. */
  readonly businessId: string;
  readonly debit: PostingAccount;
  readonly credit: PostingAccount;
  readonly amount: PicoUsd;
  readonly memo: unknown;
  readonly createdAt: Date;
}

/** Null when there is no such posting. */
export async function findPosting(reporter: Reporter, id: Uuid<'posting'>): Promise<Posting | null> {
  const [row] = await reporter<
    {
      id: string;
      kind: string;
      business_id: string;
      amount: string;
      memo: unknown;
      created_at: Date;
      debit: string;
      debit_kind: PostingAccount['kind'];
      debit_name: string;
      credit: string;
      credit_kind: PostingAccount['kind'];
      credit_name: string;
    }[]
  >`
    select p.id, p.kind, p.business_id, p.amount, p.memo, p.created_at,
      d.id as debit, d.kind as debit_kind, d.name as debit_name, c.id as credit, c.kind as credit_kind, c.name as credit_name
    from posting p join account d on d.id = p.debit join account c on c.id = p.credit
    where p.id = ${id}`;
  if (row === undefined) return null;
  return {
    id: uuidOf('posting', row.id),
    kind: row.kind,
    businessId: row.business_id,
    debit: { id: row.debit, kind: row.debit_kind, name: row.debit_name },
    credit: { id: row.credit, kind: row.credit_kind, name: row.credit_name },
    amount: usd(row.amount),
    memo: row.memo,
    createdAt: row.created_at,
  };
}

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
