/** Vouchers and their batches for reading: what was issued, what became of it, and which voucher a code is. */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { VoucherCode, VoucherState } from '../../domain/payments/voucher.ts';
import { query, type Session } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { hashSecret } from '../shared/secrets.ts';
import { toBatch, type BatchRow, type VoucherBatch } from './vouchers.ts';

export interface VoucherCounts {
  readonly redeemed: number;
  /** Neither redeemed nor void nor expired: what the batch may still cost, with the batch's amount. */
  readonly open: number;
  readonly expired: number;
  readonly void: number;
}

type CountRow = BatchRow & { redeemed: string; rest: Exclude<VoucherState, 'redeemed'> };

/** A batch with how many of its vouchers are redeemed; what all others are now follows from the batch alone. */
const BATCH_WITH_COUNTS = `
  select b.*, r.redeemed, voucher_state(null::voucher, b, now()) as rest
  from voucher_batch b
    cross join lateral (select count(*) as redeemed from voucher v where v.batch_id = b.id and v.redeemed_at is not null) r`;

export type CountedBatch = VoucherBatch & { readonly counts: VoucherCounts };

function toCounted(row: CountRow): CountedBatch {
  const redeemed = Number(row.redeemed);
  const rest = (...states: VoucherState[]): number => (states.includes(row.rest) ? row.count - redeemed : 0);
  return {
    ...toBatch(row),
    counts: { redeemed, open: rest('issued', 'waiting'), expired: rest('expired'), void: rest('void') },
  };
}

/** Null when there is no such batch. */
export async function findVoucherBatch(session: Session, id: Uuid<'voucherBatch'>): Promise<CountedBatch | null> {
  const [row] = await query<CountRow>(session, {
    name: 'find_voucher_batch',
    text: `${BATCH_WITH_COUNTS} where b.id = $1`,
    values: [id],
  });
  return row === undefined ? null : toCounted(row);
}

/** Batches, newest first. */
export async function listVoucherBatches(session: Session, page: PageRequest): Promise<Page<CountedBatch>> {
  const rows = await query<CountRow>(session, {
    name: 'list_voucher_batches',
    text: `${BATCH_WITH_COUNTS} where $1::uuid is null or b.id < $1 order by b.id desc limit $2`,
    values: [page.after, page.limit + 1],
  });
  return pageOf(rows.map(toCounted), page.limit, (batch) => batch.id);
}

export interface Voucher {
  readonly id: Uuid<'voucher'>;
  readonly batchId: Uuid<'voucherBatch'>;
  /** The first symbols of its code. */
  readonly prefix: string;
  readonly state: VoucherState;
  readonly amount: PicoUsd;
  readonly expiresAt: Date | null;
  readonly redeemedBy: AccountUuid | null;
  readonly redeemedAt: Date | null;
  readonly postingId: Uuid<'posting'> | null;
}

interface VoucherRow {
  id: string;
  batch_id: string;
  prefix: string;
  state: VoucherState;
  amount: string;
  expires_at: Date | null;
  redeemed_by: string | null;
  redeemed_at: Date | null;
  posting_id: string | null;
}

const toVoucher = (row: VoucherRow): Voucher => ({
  id: uuidOf('voucher', row.id),
  batchId: uuidOf('voucherBatch', row.batch_id),
  prefix: row.prefix,
  state: row.state,
  amount: usd(row.amount),
  expiresAt: row.expires_at,
  redeemedBy: row.redeemed_by === null ? null : uuidOf('account', row.redeemed_by),
  redeemedAt: row.redeemed_at,
  postingId: row.posting_id === null ? null : uuidOf('posting', row.posting_id),
});

const VOUCHERS = `
  select v.id, v.batch_id, v.prefix, voucher_state(v, b, now()) as state, b.amount, b.expires_at, v.redeemed_by, v.redeemed_at,
    v.posting_id
  from voucher v join voucher_batch b on b.id = v.batch_id`;

/** The vouchers of a batch, newest first; of one state unless null. */
export async function listVouchers(
  session: Session,
  filter: { readonly batchId: Uuid<'voucherBatch'>; readonly state: VoucherState | null },
  page: PageRequest,
): Promise<Page<Voucher>> {
  const rows = await query<VoucherRow>(session, {
    name: 'list_vouchers',
    text: `${VOUCHERS}
      where v.batch_id = $1 and ($2::text is null or voucher_state(v, b, now()) = $2) and ($3::uuid is null or v.id < $3)
      order by v.id desc limit $4`,
    values: [filter.batchId, filter.state, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toVoucher), page.limit, (voucher) => voucher.id);
}

/** The voucher of a code; null when there is none. */
export async function findVoucherByCode(session: Session, code: VoucherCode): Promise<Voucher | null> {
  const [row] = await query<VoucherRow>(session, {
    name: 'find_voucher_by_code',
    text: `${VOUCHERS} where v.hash = $1`,
    values: [hashSecret(code)],
  });
  return row === undefined ? null : toVoucher(row);
}
