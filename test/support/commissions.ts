/**
 * A ledger with an affiliate and accounts that it referred, for tests of commissions; payments as the product makes
 * them.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { createAccount } from '../../db/accounts/accounts.ts';
import { ensureAffiliate, type Affiliate } from '../../db/commissions/affiliates.ts';
import { creditPayment, finalizePayment, paymentsOf, reversePayment } from '../../db/payments/payments.ts';
import { createTopUp, type TopUp } from '../../db/payments/top-ups.ts';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, picoUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { ReversalFacts } from '../../domain/payments/top-up.ts';
import { behindTheGuards, createCustomer, uuidAt, type LedgerPools } from './ledger-database.ts';

export interface PaidTopUp {
  readonly topUpId: Uuid<'topUp'>;
  /** The payment's row. */
  readonly id: string;
  readonly paymentId: string;
  readonly credited: PicoUsd;
}

/** An account with a code of its own. */
export async function createAffiliate(ledger: LedgerPools): Promise<Affiliate> {
  return ensureAffiliate(ledger.management, await createCustomer(ledger, '0'));
}

/** An account that came by an affiliate's code. */
export async function createReferred({ management }: LedgerPools, { code }: Affiliate): Promise<AccountUuid> {
  const { id } = await createAccount(management, {
    name: 'Referred',
    email: null,
    referral: { code, clickedAt: new Date('2026-01-02T03:04:05Z') },
  });
  return id;
}

/** A top-up that is ordered and paid; `amount` is what is credited, in decimal USD. */
export async function payTopUp(
  ledger: LedgerPools,
  accountId: AccountUuid,
  amount: string,
  { provider = 'stripe', fee = '0.50', isFinal = true }: { provider?: string; fee?: string; isFinal?: boolean } = {},
): Promise<PaidTopUp> {
  const order = await createTopUp(ledger.management, {
    id: uuidOf('topUp', uuidAt(Date.now())),
    accountId,
    method: provider === 'crypto' ? 'crypto' : 'card',
    provider,
    amount: usd(amount),
    fee: usd(fee),
    currency: 'usd',
    live: false,
    expiresInSeconds: 3600,
  });
  const paymentId = provider === 'crypto' ? await depositFor(ledger, order) : `pi_${randomUUID()}`;
  await creditPayment(ledger.worker, {
    topUpId: order.id,
    paymentId,
    received: picoUsd(usd(amount) + usd(fee)),
    credit: usd(amount),
    isFinal,
    creditedBy: 'provider',
  });
  const [paid] = await paymentsOf(ledger.worker, order.id);
  return { topUpId: order.id, id: paid!.id, paymentId, credited: paid!.credited };
}

/** The owner of the paying tokens. */
const PAYER = `0x${'5e'.repeat(20)}`;

/** The transfer on a chain behind a payment; returns the payment's id. */
async function depositFor({ admin }: LedgerPools, { id, amount, fee }: TopUp): Promise<string> {
  const hex = randomBytes(32).toString('hex');
  const address = `0x${hex.slice(0, 40)}`;
  await admin.query(
    `insert into deposit_address (position, path, wallet, address, top_up_id)
      select coalesce(max(position), 0) + 1, '0/' || (coalesce(max(position), 0) + 1), 'test', $1, $2 from deposit_address`,
    [address, id],
  );
  await admin.query(
    `insert into deposit (chain_id, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash, block_time)
      values (1, $1, 0, $4, $2, $2, 'USDC', 1, $3, 1, $1, now())`,
    [`0x${hex}`, address, formatUsd(picoUsd(amount + fee)), PAYER],
  );
  return `1/0x${hex}/0`;
}

/** Takes credit of a payment back, or gives it again. */
export async function moveReversal(
  { worker, admin }: LedgerPools,
  payment: Pick<PaidTopUp, 'id'>,
  step: { direction: 'out' | 'in'; amount: string; kind?: ReversalFacts['kind']; objectId?: string },
): Promise<void> {
  const { rows } = await admin.query<{ reversed: string }>('select reversed from payment where id = $1', [payment.id]);
  const { direction, amount, kind = 'refund', objectId = `re_${randomUUID()}` } = step;
  await reversePayment(worker, payment.id, { objectId, kind, direction, amount: usd(amount) }, usd(rows[0]!.reversed));
}

export const finalize = ({ worker }: LedgerPools, { id }: Pick<PaidTopUp, 'id'>): Promise<void> =>
  finalizePayment(worker, id);

/** Moves the day on which accruals mature, behind the guard that freezes it: what takes two months happens now. */
export async function matureAt(ledger: LedgerPools, at: Date, affiliateId?: AccountUuid): Promise<void> {
  await behindTheGuards(ledger.admin, (client) =>
    client.query(
      `update commission_accrual set matures_at = $1
        where run is null and matures_at is not null and ($2::uuid is null or affiliate_id = $2)`,
      [at, affiliateId ?? null],
    ),
  );
}

export interface AccrualRow {
  readonly kind: string;
  readonly amount: PicoUsd;
  readonly run: string | null;
  readonly maturesAt: Date | null;
}

/** An affiliate's accruals, oldest first. */
export async function accrualsOf({ admin }: LedgerPools, affiliateId: AccountUuid): Promise<AccrualRow[]> {
  const { rows } = await admin.query<{ kind: string; amount: string; run: string | null; matures_at: Date | null }>(
    'select kind, amount, run, matures_at from commission_accrual where affiliate_id = $1 order by id',
    [affiliateId],
  );
  return rows.map((row) => ({ kind: row.kind, amount: usd(row.amount), run: row.run, maturesAt: row.matures_at }));
}

export async function balanceOf({ admin }: LedgerPools, accountId: AccountUuid): Promise<PicoUsd> {
  const { rows } = await admin.query<{ balance: string }>('select balance from account where id = $1', [accountId]);
  return usd(rows[0]!.balance);
}
