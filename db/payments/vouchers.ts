/**
 * Vouchers: batches of codes that an operator makes, and their redemption. Codes are made here, handed out once and
 * kept only as SHA-256; with 95 random bits there is nothing to guess. One function per SQL function of
 * db/functions/payments/vouchers.sql.
 */
import { randomBytes } from 'node:crypto';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import {
  shownVoucherPrefix,
  voucherCodeOf,
  VOUCHER_CODE_BITS,
  type VoucherBatchState,
  type VoucherCode,
  type VoucherState,
} from '../../domain/payments/voucher.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { decideOnce, type SecondDecision } from '../accounts/decisions.ts';
import { limitsText, type ManualLimits } from '../accounts/manual-limits.ts';
import { hashSecret } from '../shared/secrets.ts';

export interface VoucherBatch {
  readonly id: Uuid<'voucherBatch'>;
  readonly name: string;
  readonly state: VoucherBatchState;
  /** The number of its vouchers. */
  readonly count: number;
  /** The amount of each voucher. */
  readonly amount: PicoUsd;
  readonly expiresAt: Date | null;
  readonly reason: string;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
  readonly voidedBy: string | null;
  readonly voidedAt: Date | null;
  readonly voidReason: string | null;
}

export interface BatchRow {
  id: string;
  name: string;
  state: VoucherBatchState;
  count: number;
  amount: string;
  expires_at: Date | null;
  reason: string;
  requested_by: string;
  requested_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
  voided_by: string | null;
  voided_at: Date | null;
  void_reason: string | null;
}

export function toBatch(row: BatchRow): VoucherBatch {
  return {
    id: uuidOf('voucherBatch', row.id),
    name: row.name,
    state: row.state,
    count: row.count,
    amount: usd(row.amount),
    expiresAt: row.expires_at,
    reason: row.reason,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    decidedBy: row.decided_by,
    decidedAt: row.decided_at,
    voidedBy: row.voided_by,
    voidedAt: row.voided_at,
    voidReason: row.void_reason,
  };
}

/** A new random code. */
export function newVoucherCode(): VoucherCode {
  for (;;) {
    const random = BigInt(`0x${randomBytes(12).toString('hex')}`) & ((1n << BigInt(VOUCHER_CODE_BITS)) - 1n);
    const code = voucherCodeOf(random);
    if (code !== null) return code;
  }
}

export interface NewVoucherBatch {
  /** Chosen by the caller; a second batch under the same id fails. */
  readonly id: Uuid<'voucherBatch'>;
  readonly name: string;
  readonly count: number;
  readonly amount: PicoUsd;
  readonly expiresAt: Date | null;
  readonly reason: string;
  readonly requestedBy: string;
  /** In total beyond these, a second person must approve before a code is worth anything. */
  readonly limits: ManualLimits | null;
}

/** Makes a batch and its codes, which nobody can read again. */
export async function createVoucherBatch(
  session: Session,
  batch: NewVoucherBatch,
): Promise<{ readonly batch: VoucherBatch; readonly codes: readonly VoucherCode[] }> {
  const codes = Array.from({ length: batch.count }, newVoucherCode);
  const row = await queryOne<BatchRow>(session, {
    name: 'create_voucher_batch',
    text: 'select * from create_voucher_batch($1, $2, $3, $4, $5, $6, $7, $8, $9)',
    values: [
      batch.id,
      batch.name,
      formatUsd(batch.amount),
      batch.expiresAt,
      batch.reason,
      batch.requestedBy,
      limitsText(batch.limits),
      codes.map(hashSecret),
      codes.map(shownVoucherPrefix),
    ],
  });
  return { batch: toBatch(row), codes };
}

/**
 * Decides a waiting batch and says whether this call did; a batch that one person issued alone may be approved later.
 * Refuses an approval by its requester (`second_person_needed`) and an unknown batch; one that does not wait stays as
 * it is.
 */
export async function decideVoucherBatch(
  session: Session,
  decision: SecondDecision<Uuid<'voucherBatch'>>,
): Promise<VoucherBatch & { readonly decidedNow: boolean }> {
  return decideOnce(session, 'decide_voucher_batch', [decision.id, decision.approve, decision.decidedBy], toBatch);
}

/**
 * Ends an issued batch: what is not redeemed yet never will be. Says whether this call did; refuses an unknown batch.
 */
export async function voidVoucherBatch(
  session: Session,
  order: { readonly id: Uuid<'voucherBatch'>; readonly reason: string; readonly voidedBy: string },
): Promise<VoucherBatch & { readonly voidedNow: boolean }> {
  const row = await queryOne<BatchRow & { voided_now: boolean }>(session, {
    name: 'void_voucher_batch',
    text: 'select *, coalesce(voided_at = now(), false) as voided_now from void_voucher_batch($1, $2, $3)',
    values: [order.id, order.reason, order.voidedBy],
  });
  return { ...toBatch(row), voidedNow: row.voided_now };
}

export interface Redeemed {
  readonly voucherId: Uuid<'voucher'>;
  readonly amount: PicoUsd;
  readonly redeemedAt: Date;
  readonly postingId: Uuid<'posting'>;
}

export type Redemption =
  | ({ readonly verdict: 'redeemed' } & Redeemed)
  /**
   * `taken` by another account; `beyond_sums`: a second person has to approve its batch first; the others as they
   * are.
   */
  | { readonly verdict: 'unknown' | 'taken' | 'beyond_sums' | Exclude<VoucherState, 'issued' | 'redeemed'> };

/**
 * Redeems a voucher for an account: its exact amount, once. A repeat by the same account gets what the first call got.
 * Refuses `account_frozen`.
 */
export async function redeemVoucher(session: Session, code: VoucherCode, accountId: AccountUuid): Promise<Redemption> {
  const [row] = await query<{
    verdict: Exclude<Redemption['verdict'], 'unknown'>;
    id: string;
    amount: string;
    redeemed_at: Date;
    posting_id: string;
  }>(session, {
    name: 'redeem_voucher',
    text: 'select * from redeem_voucher($1, $2)',
    values: [hashSecret(code), accountId],
  });
  if (row === undefined) return { verdict: 'unknown' };
  if (row.verdict !== 'redeemed') return { verdict: row.verdict };
  return {
    verdict: 'redeemed',
    voucherId: uuidOf('voucher', row.id),
    amount: usd(row.amount),
    redeemedAt: row.redeemed_at,
    postingId: uuidOf('posting', row.posting_id),
  };
}

/** Counts an attempt before it is made; null when it may be made, else how many seconds to wait. */
export async function countVoucherAttempt(
  session: Session,
  accountId: AccountUuid,
  limit: { readonly attempts: number; readonly windowSeconds: number },
): Promise<number | null> {
  const { wait } = await queryOne<{ wait: string | null }>(session, {
    name: 'count_voucher_attempt',
    text: 'select count_voucher_attempt($1, $2, $3) as wait',
    values: [accountId, limit.attempts, limit.windowSeconds],
  });
  return wait === null ? null : Math.ceil(Number(wait));
}

/** An attempt that redeemed something does not count. */
export async function forgetVoucherAttempt(session: Session, accountId: AccountUuid): Promise<void> {
  await query(session, {
    name: 'forget_voucher_attempt',
    text: 'select forget_voucher_attempt($1)',
    values: [accountId],
  });
}
