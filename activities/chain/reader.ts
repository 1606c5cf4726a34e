/**
 * Reads the transfers to our addresses out of one vendor's chain. What it returns is consistent in itself: every log is in
 * the block that the vendor shows at its height, in the receipt that he shows for its transaction, and on the chain whose
 * first and last blocks were the same before and after. Whether it is true is for two vendors together to say.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { BlockRef } from '../../domain/deposit.ts';
import { usdOfUnits } from '../../domain/deposit.ts';
import type { Finding } from '../../db/chain-cursors.ts';
import type { ChainToken } from '../../runtime/chains.ts';
import { VendorError, type ChainLog, type ChainVendor, type Receipt } from './vendor.ts';

/** Topic of `Transfer(address,address,uint256)`. */
export const TRANSFER_TOPIC = '0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef';

/** Vendors refuse longer lists of topics, or answer them slowly. */
export const ADDRESSES_PER_CALL = 1000;
const RANGE_GROWTH = 2;
/** How long a vendor is left alone that says "too many requests", before this read is given up. */
const THROTTLED_MS = 250;
const THROTTLED_TRIES = 3;

/** Addresses that are watched, ready for the filter. Grows only. */
export interface WatchList {
  has(address: string): boolean;
  /** Lists of padded addresses, each short enough for one call. */
  readonly chunks: readonly (readonly string[])[];
}

/** How many blocks a vendor has last answered for; learned anew by every process. */
export class LogRange {
  #blocks: number;
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
    this.#blocks = most;
  }

  get blocks(): number {
    return this.#blocks;
  }

  answered(): void {
    this.#blocks = Math.min(this.#most, Math.ceil(this.#blocks * RANGE_GROWTH));
  }

  /** Fewer blocks next time: as many as the vendor suggests, or half. False when there are no fewer. */
  refused(asked: number, suggested: number | null): boolean {
    if (asked <= 1) return false;
    this.#blocks = suggested !== null && suggested < asked ? suggested : Math.ceil(asked / 2);
    return true;
  }
}

/** The chain has changed while it was read: nothing of it counts, it is read again. */
export class ChainMoved extends Error {}

/**
 * All transfers in one range, at most as long as the vendor can answer; `until` is the last block that was read. Throws
 * `ChainMoved` when it changed meanwhile, and whatever the vendor threw.
 */
export async function readTransfers(
  vendor: ChainVendor,
  options: {
    readonly from: number;
    readonly to: number;
    /** The block before `from` as it is known; null where nothing was read before. */
    readonly base: { readonly height: number; readonly hash: string } | null;
    readonly tokens: readonly ChainToken[];
    readonly watched: WatchList;
    readonly range: LogRange;
  },
): Promise<{ readonly findings: Finding[]; readonly until: BlockRef }> {
  const { from, base, tokens, watched, range } = options;
  for (;;) {
    const to = Math.min(options.to, from + range.blocks - 1);
    const until = await vendor.block(to);
    if (until === null) throw new VendorError(vendor.name, `has no block ${to}, below its own head`);
    let logs: ChainLog[];
    try {
      logs = await readLogs(vendor, { from, to, tokens, watched });
    } catch (error) {
      const said = error instanceof VendorError ? error.said : null;
      if (said === null || !range.refused(to - from + 1, suggestedBlocks(said, from))) throw error;
      continue;
    }
    const findings = await verified(vendor, logs, { from, to, tokens, watched });
    if ((await vendor.block(to))?.hash !== until.hash) throw new ChainMoved();
    // The last block is what it was, so its ancestors are; this one must be among them, or blocks between were never read.
    if (base !== null && (await vendor.block(base.height))?.hash !== base.hash) throw new ChainMoved();
    range.answered();
    return { findings, until };
  }
}

interface Wanted {
  readonly from: number;
  readonly to: number;
  readonly tokens: readonly ChainToken[];
  readonly watched: WatchList;
}

async function readLogs(vendor: ChainVendor, { from, to, tokens, watched }: Wanted): Promise<ChainLog[]> {
  const logs: ChainLog[] = [];
  const contracts = tokens.map(({ contract }) => contract);
  for (const recipients of watched.chunks) {
    const filter = { from, to, contracts, topics: [TRANSFER_TOPIC, null, recipients] };
    logs.push(...(await patiently(() => vendor.logs(filter))));
  }
  return logs;
}

/** Asks again after a short pause where the vendor only says that it was too much at once. */
async function patiently<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof VendorError && error.isThrottled) || attempt === THROTTLED_TRIES) throw error;
      await delay(THROTTLED_MS * attempt);
    }
  }
}

/** Infura and Alchemy name the range that would do: `[0x…, 0x…]`. */
function suggestedBlocks(message: string, from: number): number | null {
  const match = /\[(0x[0-9a-f]+),\s*(0x[0-9a-f]+)\]/i.exec(message);
  if (match === null) return null;
  const [start, end] = [Number(match[1]), Number(match[2])];
  return start === from && end >= start ? end - start + 1 : null;
}

/** Holds every log against the block at its height and the receipt of its transaction. */
async function verified(vendor: ChainVendor, logs: readonly ChainLog[], wanted: Wanted): Promise<Finding[]> {
  const blocks = new Map<number, BlockRef | null>();
  const receipts = new Map<string, Receipt | null>();
  const findings = new Map<string, Finding>();
  for (const log of logs) {
    const token = wanted.tokens.find(({ contract }) => contract === log.contract);
    const transfer = transferOf(log);
    if (log.isRemoved || token === undefined || transfer === null || transfer.units === 0n) continue;
    if (!wanted.watched.has(transfer.to) || log.height < wanted.from || log.height > wanted.to) continue;
    if (!blocks.has(log.height)) blocks.set(log.height, await vendor.block(log.height));
    const block = blocks.get(log.height);
    if (block?.hash !== log.blockHash) throw new ChainMoved();
    if (!receipts.has(log.txHash)) receipts.set(log.txHash, await vendor.receipt(log.txHash));
    const receipt = receipts.get(log.txHash);
    if (receipt === null || receipt === undefined) {
      throw new VendorError(vendor.name, `shows a log of ${log.txHash}, but no receipt`);
    }
    if (receipt.blockHash !== block.hash) throw new ChainMoved();
    const ordinal = receipt.logs.findIndex(({ index }) => index === log.index);
    if (!receipt.isSuccess || ordinal === -1) continue;
    const { symbol, decimals } = token;
    const finding = {
      txHash: log.txHash,
      ordinal,
      transfer,
      symbol,
      amount: usdOfUnits(transfer.units, decimals),
      block,
    };
    findings.set(`${log.txHash}/${ordinal}`, finding);
  }
  return [...findings.values()];
}

/** The transfer that a log tells of; null where it is another event. The value is the log's, whatever the call had asked for. */
export function transferOf(log: ChainLog): Finding['transfer'] | null {
  const [topic, from, to] = log.topics;
  if (topic !== TRANSFER_TOPIC || log.topics.length !== 3 || from?.length !== 66 || to?.length !== 66) return null;
  if (!/^0x[0-9a-f]{64}$/.test(log.data)) return null;
  return { token: log.contract, from: addressIn(from), to: addressIn(to), units: BigInt(log.data) };
}

/** An address as a topic holds it, filled up to 32 bytes. */
function addressIn(topic: string): string {
  return `0x${topic.slice(26)}`;
}

/** The highest of the known blocks that is still on the vendor's chain; null when none is. */
export async function findFork(
  vendor: ChainVendor,
  checkpoints: readonly { readonly height: number; readonly hash: string }[],
): Promise<{ readonly height: number; readonly hash: string } | null> {
  for (const checkpoint of checkpoints) {
    const block = await vendor.block(checkpoint.height);
    if (block?.hash === checkpoint.hash) return checkpoint;
  }
  return null;
}
