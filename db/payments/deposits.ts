/**
 * Deposits and the addresses they come to. One function per SQL function of db/functions/payments; see also
 * db/payments/chain-cursors.ts.
 */
import type pg from 'pg';
import type { DepositRecord, DepositState, PegFault, Transfer } from '../../domain/payments/deposit.ts';
import { uuidOf, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { query, queryOne, type Session } from '../shared/client.ts';

export interface DepositAddress {
  /** Dense, in the order in which addresses became visible. */
  readonly position: number;
  /** Below the wallet's extended public key, as `<index>/<index>`. */
  readonly path: string;
  readonly address: string;
  readonly topUpId: Uuid<'topUp'>;
}

interface AddressRow {
  position: number;
  path: string;
  address: string;
  top_up_id: string;
}

const toAddress = (row: AddressRow): DepositAddress => ({
  position: row.position,
  path: row.path,
  address: row.address,
  topUpId: uuidOf('topUp', row.top_up_id),
});

/**
 * The address of a top-up: the given one, or that of an earlier attempt. Null when the given one is another
 * top-up's.
 */
export async function assignDepositAddress(
  pool: pg.Pool,
  given: {
    readonly topUpId: Uuid<'topUp'>;
    readonly path: string;
    readonly wallet: string;
    readonly address: string;
  },
): Promise<DepositAddress | null> {
  const [row] = await query<AddressRow>(pool, {
    name: 'assign_deposit_address',
    text: 'select * from assign_deposit_address($1, $2, $3, $4)',
    values: [given.topUpId, given.path, given.wallet, given.address],
  });
  return row === undefined ? null : toAddress(row);
}

/** Null while a top-up has none. */
export async function depositAddressOf(pool: pg.Pool, topUpId: Uuid<'topUp'>): Promise<DepositAddress | null> {
  const [row] = await query<AddressRow>(pool, {
    name: 'deposit_address_of',
    text: 'select * from deposit_address_of($1)',
    values: [topUpId],
  });
  return row === undefined ? null : toAddress(row);
}

/** Addresses after a position, in order. A reader that knows all up to a position misses none this way. */
export async function watchedAddresses(pool: pg.Pool, after: number, limit: number): Promise<DepositAddress[]> {
  const rows = await query<AddressRow>(pool, {
    name: 'watched_addresses',
    text: 'select * from watched_addresses($1, $2)',
    values: [after, limit],
  });
  return rows.map(toAddress);
}

/** A deposit that has to be asked for, or whose state has to be reported to its top-up. */
export interface OpenDeposit extends DepositRecord {
  readonly id: string;
  readonly topUpId: Uuid<'topUp'>;
  readonly txHash: string;
  readonly ordinal: number;
  readonly symbol: string;
  /** Blocks at its height have changed: it has to be asked for, final or not. */
  readonly isRecheck: boolean;
  /** Since when vendors contradict each other about it; null while they do not. */
  readonly disputedSeconds: number | null;
  /** The last state reported to its top-up. */
  readonly reported: DepositState | null;
}

export async function openDeposits(pool: pg.Pool, chainId: number): Promise<OpenDeposit[]> {
  const rows = await query<{
    id: string;
    top_up_id: string;
    tx_hash: string;
    ordinal: number;
    address: string;
    token: string;
    sender: string;
    symbol: string;
    units: string;
    amount: string;
    state: DepositState;
    height: bigint;
    block_hash: string;
    recheck: boolean;
    disputed_seconds: number | null;
    told: DepositState | null;
  }>(pool, { name: 'open_deposits', text: 'select * from open_deposits($1)', values: [chainId] });
  return rows.map((row) => ({
    id: row.id,
    topUpId: uuidOf('topUp', row.top_up_id),
    txHash: row.tx_hash,
    ordinal: row.ordinal,
    symbol: row.symbol,
    state: row.state,
    block: { height: Number(row.height), hash: row.block_hash },
    transfer: { token: row.token, from: row.sender, to: row.address, units: BigInt(row.units) },
    amount: usd(row.amount),
    isRecheck: row.recheck,
    disputedSeconds: row.disputed_seconds,
    reported: row.told,
  }));
}

/** Moves a deposit to what was agreed on; false when its row has changed since it was judged. */
export async function moveDeposit(
  pool: pg.Pool,
  from: OpenDeposit,
  to: {
    readonly state: DepositState;
    readonly block: { readonly height: number; readonly hash: string; readonly time: number | null };
    readonly transfer: Transfer;
    readonly symbol: string;
    readonly amount: PicoUsd;
  },
): Promise<boolean> {
  const row = await queryOne<{ moved: boolean }>(pool, {
    name: 'move_deposit',
    text: 'select move_deposit($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) as moved',
    values: [
      from.id,
      from.state,
      from.block.hash,
      to.state,
      to.block.height,
      to.block.hash,
      to.block.time,
      to.transfer.from,
      to.transfer.to,
      to.transfer.token,
      to.symbol,
      to.transfer.units.toString(),
      formatUsd(to.amount),
    ],
  });
  return row.moved;
}

/** Notes since when vendors contradict each other about a deposit, or that they do not any more. */
export async function noteDepositDispute(pool: pg.Pool, id: string, isDisputed: boolean): Promise<void> {
  await query(pool, {
    name: 'note_deposit_dispute',
    text: 'select note_deposit_dispute($1, $2)',
    values: [id, isDisputed],
  });
}

/** Records that a deposit's state was reported to its top-up. */
export async function noteDepositReported(pool: pg.Pool, { id, state }: OpenDeposit): Promise<void> {
  await query(pool, { name: 'note_deposit_told', text: 'select note_deposit_told($1, $2)', values: [id, state] });
}

/** Has everything in a range of heights asked for again, final or not. */
export async function recheckDeposits(
  pool: pg.Pool,
  chainId: number,
  range: { readonly from: number; readonly to: number },
): Promise<void> {
  await query(pool, {
    name: 'recheck_deposits',
    text: 'select recheck_deposits($1, $2, $3)',
    values: [chainId, range.from, range.to],
  });
}

/** Writes down whether a token counts as a dollar now; null when it does. */
export async function noteToken(pool: pg.Pool, chainId: number, token: string, fault: PegFault | null): Promise<void> {
  await query(pool, { name: 'note_token', text: 'select note_token($1, $2, $3)', values: [chainId, token, fault] });
}

/** A deposit as its order shows it. */
export interface Deposit {
  readonly chainId: number;
  readonly txHash: string;
  readonly ordinal: number;
  readonly token: string;
  readonly symbol: string;
  readonly amount: PicoUsd;
  readonly state: DepositState;
  readonly height: number;
  readonly blockTime: Date;
  /** Was made spendable and has not been lost since. */
  readonly counted: boolean;
  /** How often it was lost after it had counted. */
  readonly losses: number;
  readonly seenAt: Date;
  readonly disputedSince: Date | null;
  readonly credited: boolean;
  /** The height that two vendors have reached; null while it is not known. */
  readonly head: number | null;
  /** Why the token does not count as a dollar now; null when it does. */
  readonly tokenFault: PegFault | null;
}

interface DepositRow {
  chain_id: bigint;
  tx_hash: string;
  ordinal: number;
  token: string;
  symbol: string;
  amount: string;
  state: DepositState;
  height: bigint;
  block_time: Date;
  counted: boolean;
  losses: number;
  seen_at: Date;
  disputed_since: Date | null;
  credited: boolean;
  head: bigint | null;
  token_fault: PegFault | null;
}

const toDeposit = (row: DepositRow): Deposit => ({
  chainId: Number(row.chain_id),
  txHash: row.tx_hash,
  ordinal: row.ordinal,
  token: row.token,
  symbol: row.symbol,
  amount: usd(row.amount),
  state: row.state,
  height: Number(row.height),
  blockTime: row.block_time,
  counted: row.counted,
  losses: row.losses,
  seenAt: row.seen_at,
  disputedSince: row.disputed_since,
  credited: row.credited,
  head: row.head === null ? null : Number(row.head),
  tokenFault: row.token_fault,
});

/** The deposits of an order, in the order in which they were seen. */
export async function depositsOf(pool: pg.Pool, topUpId: Uuid<'topUp'>): Promise<Deposit[]> {
  const rows = await query<DepositRow>(pool, {
    name: 'deposits_of',
    text: 'select * from deposits_of($1)',
    values: [topUpId],
  });
  return rows.map(toDeposit);
}

/** `depositsOf` for roles that may read tables. */
export async function listDeposits(session: Session, topUpId: Uuid<'topUp'>): Promise<Deposit[]> {
  const rows = await query<DepositRow>(session, {
    name: 'list_deposits',
    text: 'select * from deposit_standing where top_up_id = $1 order by id',
    values: [topUpId],
  });
  return rows.map(toDeposit);
}

/** Tokens that do not count as a dollar now, by `<chain id>/<contract>`. For roles that may read tables. */
export async function faultyTokens(session: Session): Promise<ReadonlyMap<string, PegFault>> {
  const rows = await query<{ chain_id: bigint; token: string; fault: PegFault }>(session, {
    name: 'faulty_tokens',
    text: 'select chain_id, token, fault from chain_token where fault is not null',
    values: [],
  });
  return new Map(rows.map(({ chain_id, token, fault }) => [`${chain_id}/${token}`, fault]));
}

/** Up to when each of the chains has been read; null while one has not been read at all. */
export async function chainsReadUntil(pool: pg.Pool, chainIds: readonly number[]): Promise<Date | null> {
  const row = await queryOne<{ until: Date | null }>(pool, {
    name: 'chains_read_until',
    text: 'select chains_read_until($1) as until',
    values: [chainIds],
  });
  return row.until;
}

/** A page of the transfers that count and whose blocks were made in the time, by their payment keys. */
export async function depositsCountedBetween(
  pool: pg.Pool,
  { since, until }: { readonly since: Date; readonly until: Date },
  { after, limit }: { readonly after: string | null; readonly limit: number },
): Promise<{ id: string; paymentId: string; topUpId: Uuid<'topUp'>; amount: PicoUsd }[]> {
  const rows = await query<{ id: string; payment_id: string; top_up_id: string; amount: string }>(pool, {
    name: 'deposits_counted_between',
    text: 'select * from deposits_counted_between($1, $2, $3, $4)',
    values: [since, until, after, limit],
  });
  return rows.map((row) => ({
    id: row.id,
    paymentId: row.payment_id,
    topUpId: uuidOf('topUp', row.top_up_id),
    amount: usd(row.amount),
  }));
}
