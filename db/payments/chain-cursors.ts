/** How far each RPC vendor's chain has been read. Findings are stored in the same transaction. */
import type pg from 'pg';
import type { BlockRef, ChainHead, Transfer } from '../../domain/payments/deposit.ts';
import { formatUsd, type PicoUsd } from '../../domain/money.ts';
import { query, queryOne } from '../shared/client.ts';

export interface ChainCursor {
  readonly vendor: string;
  /** The last block that was read. */
  readonly block: BlockRef;
  readonly head: number;
  readonly safe: number | null;
  readonly finalized: number | null;
}

/** A transfer to an address of ours, as a vendor shows it. */
export interface Finding {
  readonly txHash: string;
  /** The position of its log in the transaction's receipt. */
  readonly ordinal: number;
  readonly transfer: Transfer;
  readonly symbol: string;
  readonly amount: PicoUsd;
  readonly block: BlockRef;
  /** Its transaction moves tokens of our own addresses: whatever arrives is no deposit. */
  readonly isOwn: boolean;
}

export async function chainCursors(pool: pg.Pool, chainId: number): Promise<ChainCursor[]> {
  const rows = await query<{
    vendor: string;
    height: bigint;
    hash: string;
    block_time: Date;
    head: bigint;
    safe: bigint | null;
    finalized: bigint | null;
  }>(pool, { name: 'chain_cursors', text: 'select * from chain_cursors($1)', values: [chainId] });
  return rows.map((row) => ({
    vendor: row.vendor,
    block: { height: Number(row.height), hash: row.hash, time: row.block_time.getTime() / 1000 },
    head: Number(row.head),
    safe: row.safe === null ? null : Number(row.safe),
    finalized: row.finalized === null ? null : Number(row.finalized),
  }));
}

/** Blocks at which a vendor's cursor stood, the highest first. */
export async function chainCheckpoints(
  pool: pg.Pool,
  chainId: number,
  vendor: string,
): Promise<{ readonly height: number; readonly hash: string }[]> {
  const rows = await query<{ height: bigint; hash: string }>(pool, {
    name: 'chain_checkpoints',
    text: 'select height, hash from chain_checkpoints($1, $2)',
    values: [chainId, vendor],
  });
  return rows.map(({ height, hash }) => ({ height: Number(height), hash }));
}

/** Stores cursor and findings together; false when somebody else has moved the cursor from `expected` meanwhile. */
export async function recordScan(
  pool: pg.Pool,
  scan: {
    readonly chainId: number;
    readonly vendor: string;
    /** Hash at which the cursor stood; null where there is none yet. */
    readonly expected: string | null;
    /** After a change of the chain, the last block that stayed. */
    readonly fork: number | null;
    readonly cursor: BlockRef;
    readonly head: ChainHead;
    readonly findings: readonly Finding[];
  },
): Promise<boolean> {
  const { chainId, vendor, expected, fork, cursor, head } = scan;
  const row = await queryOne<{ recorded: boolean }>(pool, {
    name: 'record_scan',
    text: 'select record_scan($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) as recorded',
    values: [
      chainId,
      vendor,
      expected,
      fork,
      cursor.height,
      cursor.hash,
      cursor.time,
      head.latest.height,
      head.latest.time,
      head.safe,
      head.finalized,
      findingsJson(scan.findings),
    ],
  });
  return row.recorded;
}

/** Stores what was found without moving a cursor; returns how many deposits were not known. */
export async function keepFindings(pool: pg.Pool, chainId: number, findings: readonly Finding[]): Promise<number> {
  const row = await queryOne<{ made: number }>(pool, {
    name: 'keep_findings',
    text: 'select keep_findings($1, $2) as made',
    values: [chainId, findingsJson(findings)],
  });
  return row.made;
}

const findingsJson = (findings: readonly Finding[]): string =>
  JSON.stringify(
    findings.map(({ txHash, ordinal, transfer, symbol, amount, block, isOwn }) => ({
      tx_hash: txHash,
      ordinal,
      sender: transfer.from,
      address: transfer.to,
      token: transfer.token,
      symbol,
      units: transfer.units.toString(),
      amount: formatUsd(amount),
      height: block.height,
      block_hash: block.hash,
      block_time: block.time,
      own: isOwn,
    })),
  );
