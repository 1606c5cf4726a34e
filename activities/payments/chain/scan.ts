/**
 * Brings one vendor's cursor to that vendor's own head. Findings are stored with the cursor, range by range. Where the
 * vendor's chain has changed below the cursor, it is read again from the last block that stayed; until that has
 * succeeded, nothing that was known is touched. The newest blocks are read again at every look, since logs can be late.
 */
import type pg from 'pg';
import { uuidv7 } from 'uuidv7';
import { uuidOf } from '../../../domain/ids.ts';
import type { BlockRef, ChainHead } from '../../../domain/payments/deposit.ts';
import { requestBlockRescan } from '../../../db/payments/block-rescans.ts';
import {
  chainCursors,
  keepFindings,
  recordScan,
  type ChainCursor,
  type Finding,
} from '../../../db/payments/chain-cursors.ts';
import type { Chain } from '../../../providers/chain/settings.ts';
import { locate, type Place } from '../../../providers/chain/locate.ts';
import { ChainMoved, readTransfers, type Reading } from '../../../providers/chain/transfer-reader.ts';
import type { DepositAddresses } from './deposit-addresses.ts';
import { VendorError } from '../../../providers/chain/rpc-vendor.ts';
import type { WatchedVendor } from '../../../providers/chain/rpc-vendors.ts';

/** Number of latest new blocks that are compared with the promise of their headers; each takes one call. */
const PROMISED_BLOCKS = 64;
/** None of these may be left out, however many ranges operators have asked for. */
const UNREAD_OPEN_MAX = 2 ** 31 - 1;
/** Calls that reading again may take at one look, for a vendor that answers for few blocks. */
const OVERLAP_CALLS_MAX = 8;

export interface ScanDeps {
  readonly pool: pg.Pool;
  readonly chain: Chain;
  readonly addresses: DepositAddresses;
  /** All vendors of the chain. */
  readonly vendors: readonly WatchedVendor[];
}

export interface ScanResult {
  /** The last block that was read. */
  readonly readTo: number;
  readonly found: number;
  /** Transfers that the vendor's logs had left out when their blocks were read first, or still do. */
  readonly leftOut: number;
  /** The last block that stayed, where the chain had changed or the cursor was not on it. */
  readonly fork: number | null;
}

/**
 * `isOver` is asked between ranges: catching up may take longer than the caller has. Null where the vendor was only
 * asked for its head, because it refuses logs and is left alone with that for a while.
 */
export async function scanVendor(
  deps: ScanDeps,
  watched: WatchedVendor,
  isOver: () => boolean,
): Promise<ScanResult | null> {
  const { pool, chain, addresses } = deps;
  const head = await watched.ask();
  // After the head: an address that was paid below it had been given out before, so it is known by now.
  await addresses.refresh();
  const cursors = await chainCursors(pool, chain.chainId);
  const cursor = cursors.find((known) => known.vendor === watched.vendor.name);
  if (cursor === undefined) return begin(deps, watched, head, cursors);
  // A database that was restored under this process has not kept what this process remembers.
  if (cursor.block.height < (watched.readTo ?? 0)) watched.knownLogs.clear();
  const place = await locate(deps, watched, { head, cursor });
  watched.located(head);
  if (watched.isPaused) return null;
  if (place === null) return { readTo: cursor.block.height, found: 0, leftOut: 0, fork: null };
  return new Scan(deps, watched, { head, cursor, place, isOver }).run();
}

/** One look at a vendor whose place is known. */
class Scan {
  readonly #deps: ScanDeps;
  readonly #watched: WatchedVendor;
  readonly #head: ChainHead;
  readonly #cursor: ChainCursor;
  readonly #place: Place;
  readonly #isOver: () => boolean;
  /** Hash at which the cursor stands. */
  #expected: string;
  #base: Place['base'];
  /** Taken off the cursor with the first range that is stored after a change of the chain. */
  #fork: number | null;
  #readTo: number;
  #hasRead = false;
  #found = 0;
  #leftOut = 0;

  constructor(
    deps: ScanDeps,
    watched: WatchedVendor,
    look: {
      readonly head: ChainHead;
      readonly cursor: ChainCursor;
      readonly place: Place;
      readonly isOver: () => boolean;
    },
  ) {
    this.#deps = deps;
    this.#watched = watched;
    this.#head = look.head;
    this.#cursor = look.cursor;
    this.#place = look.place;
    this.#isOver = look.isOver;
    this.#expected = look.cursor.block.hash;
    this.#base = look.place.base;
    this.#fork = look.place.fork;
    this.#readTo = look.place.from - 1;
  }

  async run(): Promise<ScanResult> {
    const { fork, from } = this.#place;
    // Findings of the blocks that have gone are read again where they come back.
    if (fork !== null) this.#watched.knownLogs.clear();
    try {
      const { range, overlap } = this.#watched;
      const again = fork === null ? Math.min(overlap.next(), OVERLAP_CALLS_MAX * range.blocks, from) : 0;
      // As many of them as the same call can hold; what is left is read after what is new.
      const together = Math.min(again, Math.max(0, range.blocks - (this.#head.latest.height - from + 1)));
      await this.#readOn(from - together);
      await this.#readAgain(from - again, from - together - 1);
      await this.#followBack();
    } catch (error) {
      // Its new form is read at the next look.
      if (!(error instanceof ChainMoved)) throw error;
    }
    await this.#noteHead();
    return { readTo: this.#readTo, found: this.#found, leftOut: this.#leftOut, fork };
  }

  /** To the head, range by range, with the cursor. */
  async #readOn(from: number): Promise<void> {
    const { latest } = this.#head;
    for (let next = from; next <= latest.height && this.#goesOn();) {
      const read = await this.#read(next, latest.height, this.#base);
      const [before, first] = [[] as Finding[], [] as Finding[]];
      for (const finding of read.findings) (finding.block.height < this.#place.from ? before : first).push(finding);
      await this.#keep(before);
      if (read.until.height < this.#place.from) this.#watched.remember(read.logs);
      else if (!(await this.#move(read.until, { ...read, findings: first }))) return;
      next = read.until.height + 1;
    }
  }

  /** Blocks that were read before, without the cursor. */
  async #readAgain(from: number, to: number): Promise<void> {
    for (let next = from; next <= to && this.#goesOn();) {
      const read = await this.#read(next, to, null);
      await this.#keep(read.findings);
      this.#watched.remember(read.logs);
      next = read.until.height + 1;
    }
  }

  /**
   * Where the chain now ends at the last block that stayed, there is nothing to read that would bring the cursor there.
   */
  async #followBack(): Promise<void> {
    const { base } = this.#place;
    if (this.#fork === null || base === null || this.#place.from <= this.#head.latest.height) return;
    const block = await this.#watched.vendor.block(base.height);
    if (block?.hash === base.hash) await this.#move(block, { findings: [], logs: [], leftOut: 0 });
  }

  #read(from: number, to: number, base: Place['base']): Promise<Reading> {
    const { chain, addresses } = this.#deps;
    const { vendor, range, knownLogs: known, receipts } = this.#watched;
    const promisedFrom = Math.max(this.#place.from, this.#head.latest.height - PROMISED_BLOCKS + 1);
    return readTransfers(vendor, {
      ...{ from, to, base, tokens: chain.tokens, watched: addresses, range, known, receipts, promisedFrom },
    });
  }

  /** False when another worker has gone on from here; what it has stored is as good. */
  async #move(block: BlockRef, read: Pick<Reading, 'findings' | 'logs' | 'leftOut'>): Promise<boolean> {
    const { pool, chain } = this.#deps;
    const isRecorded = await recordScan(pool, {
      chainId: chain.chainId,
      vendor: this.#watched.vendor.name,
      expected: this.#expected,
      fork: this.#fork,
      cursor: block,
      head: this.#head,
      findings: read.findings,
    });
    if (!isRecorded) return false;
    this.#watched.remember(read.logs);
    this.#base = block;
    this.#expected = block.hash;
    this.#readTo = block.height;
    this.#fork = null;
    this.#found += read.findings.length;
    this.#leftOut += read.leftOut;
    return true;
  }

  /** Findings in blocks that were read before: those that are new had been left out then. */
  async #keep(findings: readonly Finding[]): Promise<void> {
    if (findings.length === 0) return;
    const made = await keepFindings(this.#deps.pool, this.#deps.chain.chainId, findings);
    this.#found += made;
    this.#leftOut += made;
  }

  /** One range is read at every look, however little time there is. */
  #goesOn(): boolean {
    const isFirst = !this.#hasRead;
    this.#hasRead = true;
    return isFirst || !this.#isOver();
  }

  /** The head moves on where nothing was read with it. */
  async #noteHead(): Promise<void> {
    const { block, head, safe, finalized } = this.#cursor;
    const isNews = head !== this.#head.latest.height || safe !== this.#head.safe || finalized !== this.#head.finalized;
    if (this.#place.fork === null && this.#expected === block.hash && isNews) {
      await this.#move(block, { findings: [], logs: [], leftOut: 0 });
    }
  }
}

/**
 * The first look at a vendor: reading begins at what cannot change any more. Where no vendor was read so far, because
 * all of them were replaced while the chain was not watched, the blocks between are read beside the new ones.
 */
async function begin(
  { pool, chain }: ScanDeps,
  watched: WatchedVendor,
  head: ChainHead,
  cursors: readonly ChainCursor[],
): Promise<ScanResult> {
  const { vendor } = watched;
  const height = head.finalized ?? 0;
  const cursor = await vendor.block(height);
  if (cursor === null) throw new VendorError(vendor.name, `has no block ${height}, below its own head`);
  watched.located(head);
  const { chainId } = chain;
  const readTo = Math.max(...cursors.map(({ block }) => block.height));
  if (cursors.length > 0 && readTo < height) {
    const range = { from: readTo + 1, to: height };
    await requestBlockRescan(pool, {
      ...{ id: uuidOf('rescan', uuidv7()), chainId, range, openMax: UNREAD_OPEN_MAX, by: 'watcher' },
    });
  }
  await recordScan(pool, { chainId, vendor: vendor.name, expected: null, fork: null, cursor, head, findings: [] });
  return { readTo: height, found: 0, leftOut: 0, fork: null };
}
