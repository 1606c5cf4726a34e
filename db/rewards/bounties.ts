/** Bug reports: what was reported, what it is worth, who decided. The money of one is a reward of kind `bounty`. */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { BountyState, BountyStep } from '../../domain/rewards/bounty.ts';
import type { BountySeverity, RewardRules } from '../../domain/rewards/reward.ts';
import { query, queryOne, type Session, type Statement } from '../shared/client.ts';
import { limitsText, type ManualLimitSums } from '../accounts/manual-limits.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { rulesOf } from './rewards.ts';

export interface Bounty {
  readonly id: Uuid<'bounty'>;
  readonly accountId: AccountUuid;
  readonly title: string;
  readonly description: string;
  readonly state: BountyState;
  readonly severity: BountySeverity | null;
  readonly amount: PicoUsd | null;
  /** Why it was closed without money, in the words of who closed it. */
  readonly reason: string | null;
  readonly duplicateOf: Uuid<'bounty'> | null;
  readonly reportedBy: string;
  readonly reportedAt: Date;
  readonly triagedBy: string | null;
  readonly severityBy: string | null;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
  readonly rewardId: Uuid<'reward'> | null;
}

interface BountyRow {
  id: string;
  account_id: string;
  title: string;
  description: string;
  state: BountyState;
  severity: BountySeverity | null;
  amount: string | null;
  reason: string | null;
  duplicate_of: string | null;
  reported_by: string;
  reported_at: Date;
  triaged_by: string | null;
  severity_by: string | null;
  decided_by: string | null;
  decided_at: Date | null;
  reward_id: string | null;
}

function toBounty(row: BountyRow): Bounty {
  return {
    id: uuidOf('bounty', row.id),
    accountId: uuidOf('account', row.account_id),
    title: row.title,
    description: row.description,
    state: row.state,
    severity: row.severity,
    amount: row.amount === null ? null : usd(row.amount),
    reason: row.reason,
    duplicateOf: row.duplicate_of === null ? null : uuidOf('bounty', row.duplicate_of),
    reportedBy: row.reported_by,
    reportedAt: row.reported_at,
    triagedBy: row.triaged_by,
    severityBy: row.severity_by,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
    rewardId: row.reward_id === null ? null : uuidOf('reward', row.reward_id),
  };
}

/** Records a report; a repeat with the same id returns it, with other content it is refused (`id_reused`). */
export async function createBounty(
  session: Session,
  report: Pick<Bounty, 'id' | 'accountId' | 'title' | 'description' | 'reportedBy' | 'reportedAt'>,
): Promise<Bounty> {
  const row = await queryOne<BountyRow>(session, {
    name: 'create_bounty',
    text: 'select * from create_bounty($1, $2, $3, $4, $5, $6)',
    values: [report.id, report.accountId, report.title, report.description, report.reportedBy, report.reportedAt],
  });
  return toBounty(row);
}

/** Null when there is no such report. */
export async function bountyById(session: Session, id: Uuid<'bounty'>): Promise<Bounty | null> {
  const [row] = await query<BountyRow>(session, {
    name: 'bounty_of',
    text: 'select * from bounty_of($1)',
    values: [id],
  });
  return row === undefined ? null : toBounty(row);
}

/** A report whose row is held until the transaction's end; null when there is none. For roles that may read tables. */
export async function lockedBounty(session: Session, id: Uuid<'bounty'>): Promise<Bounty | null> {
  await query(session, {
    name: 'lock_bounty',
    text: `select pg_advisory_xact_lock(hashtextextended('holdfast.bounty/' || $1::uuid, 0))`,
    values: [id],
  });
  return bountyById(session, id);
}

/**
 * Takes a step, once: a repeat changes nothing. Approving refuses `second_person_needed` to the one who set the
 * severity. Returns the report as it then is.
 */
export async function takeBountyStep(
  session: Session,
  input: {
    id: Uuid<'bounty'>;
    step: BountyStep;
    duplicateOf: Uuid<'bounty'> | null;
    rules: RewardRules;
    sums: ManualLimitSums;
    at: Date;
  },
): Promise<Bounty> {
  return toBounty(await queryOne<BountyRow>(session, statementOf(input)));
}

function statementOf({ id, step, duplicateOf, rules, sums, at }: Parameters<typeof takeBountyStep>[1]): Statement {
  const close = (state: string, reason: string): Statement => ({
    name: 'close_bounty',
    text: 'select * from close_bounty($1, $2, $3, $4, $5, $6)',
    values: [id, state, reason, duplicateOf, step.by, at],
  });
  switch (step.kind) {
    case 'triage':
      return { name: 'triage_bounty', text: 'select * from triage_bounty($1, $2)', values: [id, step.by] };
    case 'accept':
      return {
        name: 'accept_bounty',
        text: 'select * from accept_bounty($1, $2, $3, $4, $5, $6, $7)',
        values: [
          id,
          step.severity,
          limitsText({ ...sums, movement: rules.bountyApprovalAbove }),
          formatUsd(rules.bountyMonthlyBudget),
          rulesOf(rules, 'bounty', rules.bountyAmounts[step.severity]),
          step.by,
          at,
        ],
      };
    case 'approve':
      return { name: 'approve_bounty', text: 'select * from approve_bounty($1, $2, $3)', values: [id, step.by, at] };
    case 'duplicate':
      return close('duplicate', step.reason);
    case 'reject':
      return close('rejected', step.reason);
  }
}

/** Reports, newest first; `open` true only those that wait for somebody. */
export async function listBounties(
  session: Session,
  filter: { readonly open: boolean; readonly accountId: AccountUuid | null },
  page: PageRequest,
): Promise<Page<Bounty>> {
  const rows = await query<BountyRow>(session, {
    name: 'list_bounties',
    text: `select * from bounty_report
      where (not $1 or state in ('submitted', 'triaged', 'accepted')) and ($2::uuid is null or account_id = $2)
        and ($3::uuid is null or id < $3)
      order by id desc limit $4`,
    values: [filter.open, filter.accountId, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toBounty), page.limit, (bounty) => bounty.id);
}
