/**
 * Brings one vendor's cursor to that vendor's own head. What is found on the way is stored with the cursor, range by range.
 * Where the vendor's chain has changed below the cursor, it is read again from the last block that stayed; until that has
 * succeeded, nothing that was known is touched.
 */
import type pg from 'pg';
import type { ChainHead } from '../../domain/deposit.ts';
import { chainCheckpoints, chainCursors, recordScan, type ChainCursor } from '../../db/chain-cursors.ts';
import type { Chain } from '../../runtime/chains.ts';
import { ChainMoved, findFork, readTransfers, type LogRange } from './reader.ts';
import type { Addresses } from './watch-list.ts';
import { VendorError, type ChainVendor } from './vendor.ts';

/** How far to go back where a chain has changed below everything that is known of it. */
const REWIND_BLOCKS = 1000;

export interface ScanDeps {
  readonly pool: pg.Pool;
  readonly chain: Chain;
  readonly addresses: Addresses;
}

export interface ScanResult {
  readonly head: ChainHead;
  /** The last block that was read. */
  readonly readTo: number;
  readonly found: number;
  /** The last block that stayed, where the chain had changed. */
  readonly fork: number | null;
}

/** `isOver` is asked between ranges: catching up may take longer than the caller has. */
export async function scanVendor(
  { pool, chain, addresses }: ScanDeps,
  vendor: ChainVendor,
  range: LogRange,
  isOver: () => boolean,
): Promise<ScanResult> {
  const { chainId, tokens } = chain;
  const head = await vendor.head();
  // After the head: an address that was paid below it had been given out before, so it is known by now.
  await addresses.refresh();
  const cursor = (await chainCursors(pool, chainId)).find((known) => known.vendor === vendor.name);
  if (cursor === undefined) return begin({ pool, chain, vendor, head });
  if (head.latest.height < cursor.block.height) {
    return { head, readTo: cursor.block.height, found: 0, fork: null };
  }

  let expected = cursor.block.hash;
  let base: { readonly height: number; readonly hash: string } | null = cursor.block;
  let from = cursor.block.height + 1;
  let fork: number | null = null;
  const isAtHead = head.latest.hash === cursor.block.hash;
  if (!isAtHead && (await vendor.block(cursor.block.height))?.hash !== cursor.block.hash) {
    const checkpoints = await chainCheckpoints(pool, chainId, vendor.name);
    base = await findFork(vendor, checkpoints);
    const lowest = checkpoints.at(-1)?.height ?? cursor.block.height;
    from = base === null ? Math.max(0, lowest - REWIND_BLOCKS) : base.height + 1;
    fork = from - 1;
  }
  let readTo = from - 1;
  let found = 0;
  const forkedAt = fork;
  try {
    while (from <= head.latest.height && !isOver()) {
      const read = await readTransfers(vendor, {
        from,
        to: head.latest.height,
        base,
        tokens,
        watched: addresses,
        range,
      });
      const scan = { chainId, vendor: vendor.name, expected, fork, cursor: read.until, head, findings: read.findings };
      // Another worker has gone on from here; what he has stored is as good.
      if (!(await recordScan(pool, scan))) break;
      base = read.until;
      expected = read.until.hash;
      readTo = read.until.height;
      from = readTo + 1;
      found += read.findings.length;
      fork = null;
    }
  } catch (error) {
    // Its new form is read at the next turn.
    if (!(error instanceof ChainMoved)) throw error;
  }
  if (expected === cursor.block.hash && hasNews(cursor, head)) {
    await recordScan(pool, {
      chainId,
      vendor: vendor.name,
      expected,
      fork: null,
      cursor: cursor.block,
      head,
      findings: [],
    });
  }
  return { head, readTo, found, fork: forkedAt };
}

function hasNews(cursor: ChainCursor, head: ChainHead): boolean {
  return cursor.head !== head.latest.height || cursor.safe !== head.safe || cursor.finalized !== head.finalized;
}

/** The first look at a vendor: reading begins at what cannot change any more. */
async function begin({
  pool,
  chain: { chainId },
  vendor,
  head,
}: {
  pool: pg.Pool;
  chain: Chain;
  vendor: ChainVendor;
  head: ChainHead;
}): Promise<ScanResult> {
  const height = head.finalized ?? head.latest.height;
  const cursor = await vendor.block(height);
  if (cursor === null) throw new VendorError(vendor.name, `has no block ${height}, below its own head`);
  await recordScan(pool, { chainId, vendor: vendor.name, expected: null, fork: null, cursor, head, findings: [] });
  return { head, readTo: height, found: 0, fork: null };
}
