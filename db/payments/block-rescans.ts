/** Blocks that are to be read again, for staff and for orders (db/functions/payments/block-rescans.sql). */
import type pg from 'pg';
import { uuidOf, type Uuid } from '../../domain/ids.ts';
import { query, type Session } from '../shared/client.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';

export interface BlockRescan {
  readonly id: Uuid<'rescan'>;
  readonly chainId: number;
  /** The order whose address alone is scanned, in the blocks of its time; null: all watched addresses. */
  readonly topUpId: Uuid<'topUp'> | null;
  /** Null until an order's time is known in blocks. */
  readonly range: BlockRange | null;
  /** The next block to read; null before it has begun. */
  readonly next: number | null;
  /** Deposits that were not known before. */
  readonly found: number;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly doneAt: Date | null;
  /** Why it has not come further, as last seen. */
  readonly fault: string | null;
}

export interface BlockRange {
  readonly from: number;
  /** Below `from` where there is nothing to read. */
  readonly to: number;
}

interface RescanRow {
  id: string;
  chain_id: bigint;
  top_up_id: string | null;
  from_block: bigint | null;
  to_block: bigint | null;
  next_block: bigint | null;
  found: number;
  requested_by: string;
  requested_at: Date;
  done_at: Date | null;
  fault: string | null;
}

const rangeOf = (from: bigint | null, to: bigint | null): BlockRange | null =>
  from === null || to === null ? null : { from: Number(from), to: Number(to) };

function toRescan(row: RescanRow): BlockRescan {
  return {
    id: uuidOf('rescan', row.id),
    chainId: Number(row.chain_id),
    topUpId: row.top_up_id === null ? null : uuidOf('topUp', row.top_up_id),
    range: rangeOf(row.from_block, row.to_block),
    next: row.next_block === null ? null : Number(row.next_block),
    found: row.found,
    requestedBy: row.requested_by,
    requestedAt: row.requested_at,
    doneAt: row.done_at,
    fault: row.fault,
  };
}

/**
 * Has a range of blocks read again; while the same range waits, it is that rescan. Null when `openMax` others of the
 * chain wait.
 */
export async function requestBlockRescan(
  session: Session,
  wanted: {
    readonly id: Uuid<'rescan'>;
    readonly chainId: number;
    readonly range: BlockRange;
    readonly openMax: number;
    readonly by: string;
  },
): Promise<BlockRescan | null> {
  const { id, chainId, range, openMax, by } = wanted;
  const [row] = await query<RescanRow>(session, {
    name: 'request_block_rescan',
    text: 'select * from request_block_rescan($1, $2, $3, $4, $5, $6)',
    values: [id, chainId, range.from, range.to, openMax, by],
  });
  return row === undefined ? null : toRescan(row);
}

/** Has an order's own address read again in its own time, on each chain; does nothing where that waits already. */
export async function requestOrderRescans(
  pool: pg.Pool,
  topUpId: Uuid<'topUp'>,
  chainIds: readonly number[],
  by: string,
): Promise<void> {
  await query(pool, {
    name: 'request_order_rescans',
    text: 'select request_order_rescans($1, $2, $3)',
    values: [topUpId, chainIds, by],
  });
}

/** The rescan that a chain's watch goes on with. */
export interface OpenRescan {
  readonly id: Uuid<'rescan'>;
  readonly range: BlockRange | null;
  readonly next: number | null;
  /** An order's address, and its time in seconds since 1970; null: everything that is watched. */
  readonly order: { readonly address: string; readonly since: number; readonly until: number } | null;
}

/** Null when none waits. */
export async function nextBlockRescan(pool: pg.Pool, chainId: number): Promise<OpenRescan | null> {
  const [row] = await query<{
    id: string;
    from_block: bigint | null;
    to_block: bigint | null;
    next_block: bigint | null;
    address: string | null;
    since: number | null;
    until: number | null;
  }>(pool, { name: 'next_block_rescan', text: 'select * from next_block_rescan($1)', values: [chainId] });
  if (row === undefined) return null;
  const { address, since, until } = row;
  return {
    id: uuidOf('rescan', row.id),
    range: rangeOf(row.from_block, row.to_block),
    next: row.next_block === null ? null : Number(row.next_block),
    order: address === null || since === null || until === null ? null : { address, since, until },
  };
}

/** Writes down how far a rescan has come; it is done when `next` is beyond its range. */
export async function advanceBlockRescan(
  pool: pg.Pool,
  id: Uuid<'rescan'>,
  step: {
    readonly range: BlockRange | null;
    readonly next: number | null;
    readonly found: number;
    readonly fault: string | null;
  },
): Promise<void> {
  const { range, next, found, fault } = step;
  await query(pool, {
    name: 'advance_block_rescan',
    text: 'select advance_block_rescan($1, $2, $3, $4, $5, $6)',
    values: [id, range?.from ?? null, range?.to ?? null, next, found, fault],
  });
}

/** Rescans of a chain, newest first. */
export async function listBlockRescans(
  session: Session,
  chainId: number,
  page: PageRequest,
): Promise<Page<BlockRescan>> {
  const rows = await query<RescanRow>(session, {
    name: 'list_block_rescans',
    text: `select * from block_rescan where chain_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3`,
    values: [chainId, page.after, page.limit + 1],
  });
  return pageOf(rows.map(toRescan), page.limit, ({ id }) => id);
}

/** The highest block that a vendor of the chain has shown; null while none was heard. */
export async function chainHead(session: Session, chainId: number): Promise<number | null> {
  const [row] = await query<{ head: bigint | null }>(session, {
    name: 'chain_head',
    text: 'select max(head) as head from chain_cursor where chain_id = $1',
    values: [chainId],
  });
  return row?.head === null || row === undefined ? null : Number(row.head);
}
