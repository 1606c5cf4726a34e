/** The account as an affiliate: its code and link, what it has earned and what became of it, when the rest is paid. */
import { z } from 'zod';
import { ensureAffiliate, type Affiliate } from '../../../../db/commissions/affiliates.ts';
import {
  commissionRateNow,
  commissionSummary,
  listCommissionEntries,
  type CommissionEntry,
  type CommissionSummary,
} from '../../../../db/commissions/commissions.ts';
import { periodEnd, periodOf } from '../../../../domain/commissions/commission.ts';
import { formatId } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import {
  idText,
  listOf,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { referralLink } from './referral-link.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

/** Why an accrual waits or will never be paid, in words for who earned it. */
const HELD_WORDS: Readonly<Record<string, string>> = {
  review: 'A person checks whether this top-up is your own.',
  denied: 'A person has decided that this top-up earns no commission.',
  affiliate_blocked: 'Your affiliate account is blocked.',
  fraud_warning: 'The payment is under suspicion of fraud.',
  dispute: 'The payment is disputed.',
};

const STATES = ['pending', 'matured', 'credited', 'reversed', 'review', 'held', 'denied'] as const;

export const commissionEntryView = z.object({
  id: idText('accrual'),
  kind: z.enum(['earned', 'reversed', 'restored', 'correction']),
  amount_usd: usdText().meta({ description: 'Negative: a reversal.' }),
  base_usd: usdText().nullable().meta({ description: 'The amount credited for the top-up.' }),
  rate_ppm: z.number().nullable(),
  rule_version: z.number(),
  state: z.enum(STATES),
  reason: z.string().nullable().meta({ description: 'The reason why it waits or is denied.' }),
  accrued_at: timeText(),
  matures_at: timeText().nullable().meta({ description: 'null until the payment is final.' }),
  run: z.string().nullable().meta({ description: 'The month of the run that paid it.' }),
  posting_id: idText('posting').nullable(),
});

export function renderCommissionEntry(entry: CommissionEntry): z.output<typeof commissionEntryView> {
  return {
    id: formatId('accrual', entry.id),
    kind: entry.kind,
    amount_usd: formatUsd(entry.amount),
    base_usd: entry.base === null ? null : formatUsd(entry.base),
    rate_ppm: entry.ratePpm,
    rule_version: entry.ruleVersion,
    state: entry.isReversed ? 'reversed' : entry.phase,
    reason: entry.heldBy === null ? null : (HELD_WORDS[entry.heldBy] ?? entry.heldBy),
    accrued_at: entry.accruedAt.toISOString(),
    matures_at: renderTime(entry.maturesAt),
    run: entry.run,
    posting_id: entry.postingId === null ? null : formatId('posting', entry.postingId),
  };
}

export const summaryFields = {
  referrals: z.number().meta({ description: 'Number of referred accounts.' }),
  pending_usd: usdText().meta({ description: 'Not matured yet.' }),
  matured_usd: usdText().meta({ description: 'Paid by the next run.' }),
  credited_usd: usdText(),
  review_usd: usdText().meta({ description: 'Waits for a decision by staff.' }),
  held_usd: usdText().meta({ description: 'Waits for the end of a dispute, a fraud warning or a block.' }),
  denied_usd: usdText(),
};

export function renderSummary({ referrals, sums }: CommissionSummary) {
  return {
    referrals,
    pending_usd: formatUsd(sums.pending),
    matured_usd: formatUsd(sums.matured),
    credited_usd: formatUsd(sums.credited),
    review_usd: formatUsd(sums.review),
    held_usd: formatUsd(sums.held),
    denied_usd: formatUsd(sums.denied),
  };
}

const affiliateView = z.object({
  code: z.string(),
  link: z.string().nullable().meta({ description: 'null where links are not configured.' }),
  rate_ppm: z.number().meta({ description: 'Parts per million of the credit of referred top-ups.' }),
  blocked: z.boolean(),
  blocked_reason: z.string().nullable(),
  ...summaryFields,
  next_payout: z.object({
    period: z.string().meta({ description: 'The month, UTC.' }),
    after: timeText().meta({ description: 'Paid soon after this.' }),
    amount_usd: usdText().meta({ description: 'If nothing changes until then.' }),
  }),
  entries: listOf(commissionEntryView),
});

export function affiliateRoutes({ management, settings }: ManagementDeps): Route[] {
  const linkOf = ({ code, blockedAt }: Affiliate): string | null =>
    settings.referralKey === null || blockedAt !== null ? null : referralLink(settings.payments.publicUrl, code);

  return [
    accountRoute({
      method: 'get',
      path: '/api/affiliate',
      scope: 'read',
      summary: 'Show your affiliate code, its earnings entry by entry, and their payment dates',
      query: z.strictObject(pageById),
      response: affiliateView,
      async handle({ accountId, query }) {
        const affiliate = await ensureAffiliate(management, accountId);
        const at = new Date();
        const period = periodOf(at);
        const endsAt = periodEnd(period);
        const summary = await commissionSummary(management, { accountId, at, endsAt });
        const entries = await listCommissionEntries(management, { accountId, at }, pageOfQuery(query));
        return ok({
          code: affiliate.code,
          link: linkOf(affiliate),
          rate_ppm: affiliate.ratePpm ?? (await commissionRateNow(management)),
          blocked: affiliate.blockedAt !== null,
          blocked_reason: affiliate.blockedReason,
          ...renderSummary(summary),
          next_payout: { period, after: endsAt.toISOString(), amount_usd: formatUsd(summary.nextPayout) },
          entries: renderPage(entries, renderCommissionEntry),
        });
      },
    }),
  ];
}
