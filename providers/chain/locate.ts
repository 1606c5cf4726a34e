/**
 * Where reading a vendor goes on. A vendor's cursor holds as long as its block is on the vendor's chain. Where it is
 * not, the chain has changed, or the vendor is on another one: for a while its address may be answered by a node of
 * another network, and what it says then must neither be read nor move the cursor. Known blocks tie a vendor to this
 * chain: the vendor's own, else another's; only two vendors together can say that all of them are gone.
 */
import type pg from 'pg';
import type { ChainHead } from '../../domain/payments/deposit.ts';
import { chainCheckpoints, type ChainCursor } from '../../db/payments/chain-cursors.ts';
import type { Chain } from './settings.ts';
import { findFork } from './transfer-reader.ts';
import { WrongVendor, type WatchedVendor } from './rpc-vendors.ts';

/** How far to go back where a chain has changed below everything that is known of it. */
const REWIND_BLOCKS = 1000;
/** A node behind a balancer may be a few blocks behind another for this long, before the cursor follows it back. */
const SHORT_MS = 20_000;
/** A head that falls this far below what was read is no lag. */
const SHORT_BLOCKS = 1000;

/** Blocks are read from `from` on. */
export interface Place {
  readonly from: number;
  /** A block that is on the vendor's chain, and below everything that is read next; null where none is known. */
  readonly base: { readonly height: number; readonly hash: string } | null;
  /** The last block that stayed, where the chain has changed or the cursor was not on it; null where nothing has. */
  readonly fork: number | null;
}

type Known = readonly { readonly height: number; readonly hash: string }[];

export interface LocateDeps {
  readonly pool: pg.Pool;
  readonly chain: Chain;
  /** All vendors of the chain. */
  readonly vendors: readonly WatchedVendor[];
}

/**
 * Null while the vendor is only a little behind what was read of it. Throws `WrongVendor` when it is on another chain
 * or shows nothing that is known of this one.
 */
export async function locate(
  { pool, chain, vendors }: LocateDeps,
  watched: WatchedVendor,
  { head, cursor }: { readonly head: ChainHead; readonly cursor: ChainCursor },
): Promise<Place | null> {
  const { vendor } = watched;
  const { latest } = head;
  const { block } = cursor;
  const isReached = latest.height >= block.height;
  if (latest.hash === block.hash || (isReached && (await vendor.block(block.height))?.hash === block.hash)) {
    watched.shortSince = null;
    return { from: block.height + 1, base: block, fork: null };
  }
  // Another node may answer than the node that was identified before.
  watched.doubt();
  await watched.identify();
  const own = (await chainCheckpoints(pool, chain.chainId, vendor.name)).filter(isAtMost(latest.height));
  const highest = await findFork(vendor, own);
  const shared = highest ?? (await sharedWithOthers());
  if (shared === null) return startAgain();
  if (highest !== null && block.height - latest.height < SHORT_BLOCKS && (await isOnlyLate(highest.height))) {
    watched.shortSince ??= performance.now();
    if (performance.now() - watched.shortSince < SHORT_MS) return null;
  }
  watched.shortSince = null;
  return { from: shared.height + 1, base: shared, fork: shared.height };

  /**
   * Nothing above that block is another one there: what is known above it is not there yet, whatever head was named.
   */
  async function isOnlyLate(height: number): Promise<boolean> {
    const above = own.findLast((known) => known.height > height);
    return above === undefined ? !isReached : (await vendor.block(above.height)) === null;
  }

  /** A block at which another vendor was read and that this one shows as well. */
  async function sharedWithOthers(): Promise<Known[number] | null> {
    let highest: Known[number] | null = null;
    for (const other of vendors) {
      if (other === watched) continue;
      const known = await chainCheckpoints(pool, chain.chainId, other.vendor.name);
      const found = await findFork(vendor, known.filter(isAtMost(latest.height)));
      if (found !== null && found.height > (highest?.height ?? -1)) highest = found;
    }
    return highest;
  }

  /** Nothing that is known is on its chain. Another vendor that shows the same blocks now vouches for them. */
  async function startAgain(): Promise<Place> {
    for (const other of vendors) {
      if (other === watched || other.head === null) continue;
      const height = Math.min(latest.height, other.head.latest.height);
      const [here, there] = await Promise.all([vendor.block(height), other.vendor.block(height).catch(() => null)]);
      if (here === null || here.hash !== there?.hash) continue;
      const lowest = own.at(-1)?.height ?? block.height;
      const from = Math.max(0, Math.min(lowest, latest.height + 1) - REWIND_BLOCKS);
      return { from, base: null, fork: from - 1 };
    }
    const words = `${vendor.name} shows none of the blocks that are known of ${chain.name}, and no other vendor shows what it does`;
    throw new WrongVendor('wrong_chain', words);
  }
}

const isAtMost =
  (height: number) =>
  (known: Known[number]): boolean =>
    known.height <= height;
