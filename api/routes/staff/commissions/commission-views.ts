/** The views of commission runs, their dry runs and replays, and the rules, for staff. */
import { z } from 'zod';
import type { CommissionCheck } from '../../../../db/commissions/commission-run-records.ts';
import type { CommissionRun } from '../../../../db/commissions/commission-runs.ts';
import type { PublishedRule } from '../../../../db/commissions/commissions.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { commissionDryRunWorkflowId, commissionReplayWorkflowId } from '../../../../contract/index.ts';
import { renderTime, timeText, usdText } from '../../../http/fields.ts';

export const runView = z.object({
  period: z.string(),
  state: z.enum(['posting', 'posted', 'done']),
  ends_at: timeText(),
  begun_by: z.string(),
  began_at: timeText(),
  finished_at: timeText().nullable(),
  accruals: z.number(),
  posted: z.number(),
  total_usd: usdText().meta({ description: 'Credits minus reversals.' }),
  csv_sha256: z.string().nullable(),
  file_url: z.string().nullable(),
  manifest_url: z.string().nullable(),
});

export const begunView = z.object({
  period: z.string(),
  dry_run: z.number().nullable().meta({ description: 'The number of the dry run; null: the run itself.' }),
  workflow_id: z.string(),
});

export const checkView = z.object({
  kind: z.enum(['dry_run', 'replay']),
  n: z.number(),
  requested_by: z.string(),
  requested_at: timeText(),
  finished_at: timeText().nullable(),
  accruals: z.number().nullable(),
  total_usd: usdText().nullable(),
  csv_sha256: z.string().nullable(),
  identical: z.boolean().nullable().meta({ description: 'True when a replay made the same bytes.' }),
  differences: z.array(z.string()),
  file_url: z.string().nullable(),
  manifest_url: z.string().nullable(),
  workflow_id: z.string(),
});

export const ruleView = z.object({
  version: z.number(),
  valid_from: timeText(),
  rate_ppm: z.number(),
  hold_days: z.number(),
  final_hold_days: z.number(),
  dispute_days: z.number(),
  created_by: z.string(),
  reason: z.string(),
});

export function renderRun(run: CommissionRun): z.output<typeof runView> {
  const isDone = run.state === 'done';
  return {
    period: run.period,
    state: run.state,
    ends_at: run.endsAt.toISOString(),
    begun_by: run.begunBy,
    began_at: run.beganAt.toISOString(),
    finished_at: renderTime(run.finishedAt),
    accruals: run.accruals,
    posted: run.posted,
    total_usd: formatUsd(run.total),
    csv_sha256: run.csvSha256,
    file_url: isDone ? `/admin/commission-runs/${run.period}/file.csv` : null,
    manifest_url: isDone ? `/admin/commission-runs/${run.period}/manifest.json` : null,
  };
}

export function renderCheck(check: CommissionCheck): z.output<typeof checkView> {
  const { kind, period: month, n, result } = check;
  const hasFile = kind === 'dry_run' && result !== null;
  return {
    kind,
    n,
    requested_by: check.requestedBy,
    requested_at: check.requestedAt.toISOString(),
    finished_at: renderTime(check.finishedAt),
    accruals: result?.accruals ?? null,
    total_usd: result?.totalUsd ?? null,
    csv_sha256: result?.csvSha256 ?? null,
    identical: result?.identical ?? null,
    differences: [...(result?.differences ?? [])],
    file_url: hasFile ? `/admin/commission-runs/${month}/file.csv?dry_run=${n}` : null,
    manifest_url: hasFile ? `/admin/commission-runs/${month}/manifest.json?dry_run=${n}` : null,
    workflow_id: kind === 'dry_run' ? commissionDryRunWorkflowId(month, n) : commissionReplayWorkflowId(month, n),
  };
}

export function renderRule(rule: PublishedRule): z.output<typeof ruleView> {
  return {
    version: rule.version,
    valid_from: rule.validFrom.toISOString(),
    rate_ppm: rule.ratePpm,
    hold_days: rule.holdDays,
    final_hold_days: rule.finalHoldDays,
    dispute_days: rule.disputeDays,
    created_by: rule.createdBy,
    reason: rule.reason,
  };
}
