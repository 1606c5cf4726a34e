/**
 * Redeeming a voucher. A code has 95 random bits, so guessing is hopeless; the limit on attempts keeps it from being
 * tried at our cost. It is counted in the database: api processes share it, and a restart does not forget it.
 */
import { z } from 'zod';
import {
  countVoucherAttempt,
  forgetVoucherAttempt,
  redeemVoucher,
  type Redemption,
} from '../../../../db/payments/vouchers.ts';
import { Refusal, type ErrorCode } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { parseVoucherCode, type VoucherCode } from '../../../../domain/payments/voucher.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { idText, timeText, usdText } from '../../../http/fields.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';
import { recordWriteOnce } from '../../../http/writes.ts';

/** Attempts of one account that redeem nothing: more than anybody mistypes, far fewer than a search needs. */
const ATTEMPT_LIMIT = { attempts: 20, windowSeconds: 3600 };

/** A voucher's code as it was typed; a malformed code is told apart from an unknown one. */
export function voucherCode() {
  return z
    .string()
    .max(100, 'must have at most 100 characters')
    .transform((value, context): VoucherCode => {
      const code = parseVoucherCode(value);
      if (code !== null) return code;
      context.issues.push({ code: 'custom', input: value, message: 'is mistyped: it has 20 letters and digits' });
      return z.NEVER;
    })
    .meta({ description: 'Hyphens, blanks and case do not matter.', example: '7KQ2M-V0R4X-9TBHC-1WJ5N' });
}

const redemptionView = z.object({
  voucher_id: idText('voucher'),
  amount_usd: usdText(),
  redeemed_at: timeText(),
  posting_id: idText('posting'),
});

/** The redeemer of a used voucher is confidential. */
const REFUSALS = {
  unknown: 'voucher_unknown',
  waiting: 'voucher_not_active',
  expired: 'voucher_expired',
  void: 'voucher_void',
  taken: 'voucher_redeemed',
  beyond_sums: 'voucher_held_back',
} as const satisfies Record<Exclude<Redemption['verdict'], 'redeemed'>, ErrorCode>;

export function voucherRoutes({ management }: ManagementDeps): Route[] {
  return [
    accountRoute({
      method: 'post',
      path: '/api/vouchers/redeem',
      scope: 'money',
      summary: 'Redeem a voucher; a repeat by the same account returns the same response',
      movesMoney: true,
      body: z.strictObject({ code: voucherCode() }),
      response: redemptionView,
      async handle(call) {
        const { accountId } = call;
        // Outside of what an Idempotency-Key repeats: "too many" must not be the key's answer for a day.
        const waitSeconds = await countVoucherAttempt(management, accountId, ATTEMPT_LIMIT);
        if (waitSeconds !== null) {
          throw new Refusal('rate_limit_exceeded', {
            message: 'Too many invalid voucher codes.',
            retryAfterSeconds: waitSeconds,
          });
        }
        const { reply } = await recordWriteOnce(management, call, async (client) => {
          const redemption = await redeemVoucher(client, call.body.code, accountId);
          if (redemption.verdict !== 'redeemed') throw new Refusal(REFUSALS[redemption.verdict], { param: 'code' });
          const view = {
            voucher_id: formatId('voucher', redemption.voucherId),
            amount_usd: formatUsd(redemption.amount),
            redeemed_at: redemption.redeemedAt.toISOString(),
            posting_id: formatId('posting', redemption.postingId),
          };
          return { reply: ok(view), made: redemption, action: null };
        });
        if (reply.status === 200) {
          await forgetVoucherAttempt(management, accountId);
          call.log.info({ account_id: formatId('account', accountId), ...reply.body }, 'voucher redeemed');
        }
        return reply;
      },
    }),
  ];
}
