/**
 * Automatic top-up of a customer: how it stands, ordering it with consent, ending it. Deciding and charging is the
 * run's doing (workflows/payments/auto-top-up.ts); an order only asks it to look at once.
 */
import { z } from 'zod';
import {
  autoTopUpOf,
  endAutoTopUp,
  FREEZE_CAUSES,
  setAutoTopUp,
  type AutoTopUp,
} from '../../../../db/payments/auto-top-ups.ts';
import { inTransaction } from '../../../../db/shared/client.ts';
import { CONSENT, PAUSE_REASONS } from '../../../../domain/payments/auto-top-up.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type AccountUuid, type Id } from '../../../../domain/ids.ts';
import { formatUsdShort, type PicoUsd } from '../../../../domain/money.ts';
import { centsOf } from '../../../../domain/payments/top-up.ts';
import { startAutoTopUp } from '../../../processes/auto-top-ups.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { amount, idText, renderTime, renderUsd, timeText, usdText } from '../../../http/fields.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

export const autoTopUpView = z.object({
  state: z
    .enum(['active', 'paused', 'frozen', 'off'])
    .meta({ description: '`frozen`: support must review it first; `paused`: order it again to continue.' }),
  pause_reason: z.enum(PAUSE_REASONS).nullable(),
  frozen_for: z
    .array(z.object({ reason: z.enum([...FREEZE_CAUSES, 'account_frozen']), since: timeText().nullable() }))
    .meta({
      description:
        'Why it is frozen: a dispute or fraud warning of a payment, a full refund, or the account as a whole. ' +
        'A won dispute unfreezes it automatically; every other cause needs staff.',
    }),
  threshold_usd: usdText().nullable(),
  amount_usd: usdText().nullable(),
  monthly_cap_usd: usdText().nullable(),
  spent_this_month_usd: usdText().meta({
    description: 'Credited by it since the UTC month began, including the charge in progress.',
  }),
  card: z.object({ brand: z.string(), last4: z.string(), exp_month: z.number(), exp_year: z.number() }).nullable(),
  consent: z.object({
    version: z.string(),
    text: z.string().meta({ description: 'The terms to show before the order.' }),
    given_version: z.string().nullable(),
    given_at: timeText().nullable(),
  }),
  declines_in_a_row: z.number(),
  last_attempt: z
    .object({
      top_up_id: idText('topUp'),
      at: timeText(),
      state: z.enum(['open', 'succeeded', 'failed', 'abandoned']),
      failure: z.string().nullable(),
    })
    .nullable(),
  next_attempt_at: timeText().nullable().meta({ description: 'No charge before this time; null: no such limit.' }),
});

export function renderAutoTopUp(rule: AutoTopUp): z.output<typeof autoTopUpView> {
  const { card, consent, last } = rule;
  const isFrozen = rule.frozenReason !== null || rule.isAccountFrozen;
  const isWaiting = rule.state === 'active' && rule.nextAttemptAt !== null && rule.nextAttemptAt.getTime() > Date.now();
  return {
    state: isFrozen ? 'frozen' : rule.state,
    pause_reason: PAUSE_REASONS.find((reason) => reason === rule.pauseReason) ?? null,
    frozen_for: [
      ...rule.freezes.map(({ kind, at }) => ({ reason: kind, since: at.toISOString() })),
      ...(rule.isAccountFrozen ? [{ reason: 'account_frozen' as const, since: null }] : []),
    ],
    threshold_usd: renderUsd(rule.threshold),
    amount_usd: renderUsd(rule.amount),
    monthly_cap_usd: renderUsd(rule.monthlyCap),
    spent_this_month_usd: renderUsd(rule.spentThisMonth)!,
    card:
      card === null ? null : { brand: card.brand, last4: card.last4, exp_month: card.expMonth, exp_year: card.expYear },
    consent: {
      ...CONSENT,
      given_version: consent?.version ?? null,
      given_at: renderTime(consent?.at ?? null),
    },
    declines_in_a_row: rule.consecutiveDeclines,
    last_attempt:
      last === null
        ? null
        : {
            top_up_id: formatId('topUp', last.topUpId),
            at: last.at.toISOString(),
            state: ATTEMPT_STATES.find((state) => state === last.state)!,
            failure: last.failure,
          },
    next_attempt_at: isWaiting ? renderTime(rule.nextAttemptAt) : null,
  };
}

const ATTEMPT_STATES = ['open', 'succeeded', 'failed', 'abandoned'] as const;

export function autoTopUpRoutes(deps: ManagementDeps): Route[] {
  const { management, settings } = deps;
  const { stripe, methods } = settings.payments;

  const shown = async (accountId: AccountUuid) => {
    const rule = await autoTopUpOf(management, accountId, new Date());
    if (rule === null) throw new Refusal('not_found');
    return ok(renderAutoTopUp(rule));
  };

  return [
    accountRoute({
      method: 'get',
      path: '/api/auto-top-up',
      scope: 'read',
      summary: 'Show automatic top-up: state, settings and the reason for a pause',
      response: autoTopUpView,
      handle: ({ accountId }) => shown(accountId),
    }),
    accountRoute({
      method: 'put',
      path: '/api/auto-top-up',
      scope: 'money',
      summary: 'Charge the saved card automatically whenever the balance is below a threshold',
      body: z.strictObject({
        threshold_usd: amount().meta({ description: 'Charged when the balance is below.' }),
        amount_usd: amount().meta({ description: 'The amount credited each time; the fee is added.' }),
        monthly_cap_usd: amount().meta({ description: 'Upper limit for a UTC month.' }),
        consent: z.literal(true, 'must be true: the customer agrees to the text of `consent`'),
      }),
      response: autoTopUpView,
      async handle({ accountId, actor, body, log }) {
        const method = methods.find(({ provider }) => provider === 'stripe');
        if (stripe === null || method === undefined) {
          throw new Refusal('conflict', { message: 'Cards are not configured here.' });
        }
        const { threshold_usd: threshold, amount_usd: charged, monthly_cap_usd: cap } = body;
        requireWithin('amount_usd', charged, { min: method.min, max: method.max });
        if (centsOf(charged) === null) throw invalidField('amount_usd', 'must be whole cents');
        requireWithin('threshold_usd', threshold, { min: null, max: method.max });
        if (threshold === 0n) throw invalidField('threshold_usd', 'must be above zero');
        requireWithin('monthly_cap_usd', cap, { min: charged, max: stripe.autoTopUp.monthlyMax });
        await inTransaction(management, (client) =>
          setAutoTopUp(client, {
            ...{ accountId, threshold, amount: charged, monthlyCap: cap },
            consentVersion: CONSENT.version,
            givenBy: actor,
          }),
        );
        const wireId: Id<'account'> = formatId('account', accountId);
        log.info({ account_id: wireId, consent: CONSENT.version }, 'automatic top-up ordered');
        // Later is soon enough: the next charge of the account asks as well.
        await startAutoTopUp(deps, accountId).catch((error: unknown) => {
          log.warn({ account_id: wireId, error: String(error) }, 'automatic top-up not started; the next charge will');
        });
        return shown(accountId);
      },
    }),
    accountRoute({
      method: 'delete',
      path: '/api/auto-top-up',
      scope: 'money',
      summary: 'End automatic top-up; a charge not sent yet is cancelled',
      response: autoTopUpView,
      async handle({ accountId, log }) {
        await endAutoTopUp(management, accountId);
        log.info({ account_id: formatId('account', accountId) }, 'automatic top-up ended');
        return shown(accountId);
      },
    }),
  ];
}

function requireWithin(
  field: string,
  value: PicoUsd,
  { min, max }: { readonly min: PicoUsd | null; readonly max: PicoUsd },
): void {
  if (min !== null && value < min) throw invalidField(field, `must be at least ${formatUsdShort(min)}`);
  if (value > max) throw invalidField(field, `must be at most ${formatUsdShort(max)}`);
}
