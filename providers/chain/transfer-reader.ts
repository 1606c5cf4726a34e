/**
 * Reads the transfers to our addresses out of one vendor's chain. Its result is consistent in itself: every log is in
 * the block that the vendor shows at its height, in the receipt that it shows for its transaction, and on the chain
 * whose first and last blocks were the same before and after. Whether it is true is for two vendors together to say.
 *
 * After any refusal of a range of blocks, fewer blocks are requested next.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { BlockRef } from '../../domain/payments/deposit.ts';
import { usdOfUnits } from '../../domain/payments/deposit.ts';
import type { Finding } from '../../db/payments/chain-cursors.ts';
import type { ChainToken } from './settings.ts';
import { suggestedBlocks, type LogRange } from './log-range.ts';
import { movesOurTokens } from './own-transfers.ts';
import { PROMISED_ADDRESSES, promisesTransfer, receiptsOf } from './promised-logs.ts';
import { TRANSFER_TOPIC, transferOf } from './transfer-logs.ts';
import { VendorError, type ChainLog, type ChainVendor, type Receipt } from './rpc-vendor.ts';

export { LogRange } from './log-range.ts';

/** How long a vendor is left alone that says "too many requests", before this read is given up. */
const THROTTLED_MS = 250;
const THROTTLED_TRIES = 3;
/** A refusal that took longer came from a vendor that tried: it is asked for less at the next turn, not at once. */
const SLOW_REFUSAL_MS = 2000;

/** Addresses that are watched, ready for the filter. Grows only. */
export interface WatchedAddresses {
  has(address: string): boolean;
  /** Lists of padded addresses, in the order in which they were given out. */
  readonly chunks: readonly (readonly string[])[];
}

/** The chain has changed while it was read: nothing of it counts, it is read again. */
export class ChainMoved extends Error {}

/**
 * A vendor that names a head does not show the block that is to be read next: it will, or its chain becomes another.
 */
export class BlockMissing extends ChainMoved {}

export interface ReadOptions {
  readonly from: number;
  readonly to: number;
  /** A block as it is known, which must be on the same chain; null where nothing was read before. */
  readonly base: { readonly height: number; readonly hash: string } | null;
  readonly tokens: readonly ChainToken[];
  readonly watched: WatchedAddresses;
  readonly range: LogRange;
  /** Logs that were read and kept before, by `keyOfLog`: they are left out. */
  readonly known?: ReadonlySet<string>;
  /**
   * Receipts that earlier readings have seen and that are not kept yet, by transaction: a reading that failed goes on
   * from them.
   */
  readonly receipts?: Map<string, Receipt>;
  /** From this height on, blocks are held against what their headers promise. Not given: none is. */
  readonly promisedFrom?: number;
}

export interface Reading {
  readonly findings: Finding[];
  /** The last block that was read. */
  readonly until: BlockRef;
  /** All logs that the findings are made of, by `keyOfLog`. */
  readonly logs: readonly string[];
  /** Transfers that only receipts show: the vendor's logs leave them out. */
  readonly leftOut: number;
}

/**
 * All transfers in one range, at most as long as the vendor can answer; `until` is the last block that was read. Throws
 * `ChainMoved` when it changed meanwhile, `BlockMissing` when the vendor does not show the first block, and whatever
 * the vendor threw; the next call then asks for less.
 */
export async function readTransfers(vendor: ChainVendor, options: ReadOptions): Promise<Reading> {
  const { from, base, tokens, watched, range, known, receipts, promisedFrom = Infinity } = options;
  let last = options.to;
  for (;;) {
    const to = Math.min(last, from + range.blocks - 1);
    const asked = to - from + 1;
    const until = await vendor.block(to);
    if (until === null) {
      // Another node behind the same address has named the head: what this one has is read.
      if (to === from) throw new BlockMissing(`${vendor.name} has no block ${to}, below its own head`);
      last = from + Math.ceil(asked / 2) - 1;
      continue;
    }
    const wanted: Wanted = { from, to, tokens, watched, recipientsMax: range.recipients };
    const logs = await logsOrFewer(vendor, wanted, range);
    if (logs === null) continue;
    if (asked > 1 && logs.length >= range.logsMax) {
      range.refused(asked, null);
      continue;
    }
    const unknown = known === undefined ? logs : logs.filter((log) => !known.has(keyOfLog(log)));
    const evidence = new Evidence(vendor, receipts);
    const [findings, promised] = await orLessNextTime(range, asked, async () => [
      await verified(evidence, unknown, logs, wanted),
      await leftOutOf(evidence, logs, { ...wanted, from: Math.max(from, promisedFrom) }),
    ]);
    if ((await vendor.block(to))?.hash !== until.hash) throw new ChainMoved();
    // The last block is what it was, so its ancestors are; this one must be among them, or blocks between were never
    // read.
    if (base !== null && (await vendor.block(base.height))?.hash !== base.hash) throw new ChainMoved();
    range.answered(asked);
    return {
      findings: [...findings, ...promised],
      until,
      // A log marked as removed may come back under the same key.
      logs: unknown.filter(({ isRemoved }) => !isRemoved).map(keyOfLog),
      leftOut: promised.length,
    };
  }
}

/** Tells a log from all others, on whatever fork they are. */
export function keyOfLog({ blockHash, index }: Pick<ChainLog, 'blockHash' | 'index'>): string {
  return `${blockHash}/${index}`;
}

interface Wanted {
  readonly from: number;
  readonly to: number;
  readonly tokens: readonly ChainToken[];
  readonly watched: WatchedAddresses;
  readonly recipientsMax: number;
}

/** Null where the vendor refused and fewer blocks or addresses are to be asked for at once. */
async function logsOrFewer(vendor: ChainVendor, wanted: Wanted, range: LogRange): Promise<ChainLog[] | null> {
  const { from, to, watched } = wanted;
  const begun = performance.now();
  try {
    return await readLogs(vendor, wanted);
  } catch (error) {
    if (!(error instanceof VendorError)) throw error;
    const recipients = Math.min(range.recipients, Math.max(...watched.chunks.map(({ length }) => length)));
    const isCostly = error.isSilent || error.isThrottled || performance.now() - begun > SLOW_REFUSAL_MS;
    const isLess =
      range.refused(to - from + 1, suggestedBlocks(error.said ?? '', wanted)) ||
      // More calls for fewer addresses each are no help against a vendor that is slow or has had too many.
      (!isCostly && range.refusedRecipients(recipients));
    if (!isLess) {
      const words = error.message.replace(`${vendor.name}: `, '');
      throw new VendorError(vendor.name, `refuses the logs of even one block (${from}): ${words}`, {
        ...{ said: error.said, isThrottled: error.isThrottled, isSilent: error.isSilent, isRefusal: true },
      });
    }
    if (isCostly) throw error;
    return null;
  }
}

async function readLogs(
  vendor: ChainVendor,
  { from, to, tokens, watched, recipientsMax }: Wanted,
): Promise<ChainLog[]> {
  const logs: ChainLog[] = [];
  const contracts = tokens.map(({ contract }) => contract);
  for (const chunk of watched.chunks) {
    for (let n = 0; n < chunk.length; n += recipientsMax) {
      const filter = { from, to, contracts, topics: [TRANSFER_TOPIC, null, chunk.slice(n, n + recipientsMax)] };
      logs.push(...(await retryThrottled(() => vendor.logs(filter))));
    }
  }
  return logs;
}

/** Asks again after a short pause where the vendor only says that it was too much at once. */
async function retryThrottled<T>(call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof VendorError && error.isThrottled) || attempt === THROTTLED_TRIES) throw error;
      await delay(THROTTLED_MS * attempt);
    }
  }
}

/**
 * Runs the look-ups that a range takes. Each log takes some, and a vendor that lets only so many pass at a time refuses
 * a whole range that has more: then it is read in shorter ones.
 */
async function orLessNextTime<T>(range: LogRange, asked: number, lookUps: () => Promise<T>): Promise<T> {
  try {
    return await lookUps();
  } catch (error) {
    if (error instanceof VendorError) range.refused(asked, null);
    throw error;
  }
}

/** A vendor's blocks and transactions during one reading, each requested once. */
class Evidence {
  readonly vendor: ChainVendor;
  readonly #blocks = new Map<number, BlockRef | null>();
  readonly #receipts: Map<string, Receipt>;

  constructor(vendor: ChainVendor, receipts = new Map<string, Receipt>()) {
    this.vendor = {
      ...vendor,
      contents: (height) => retryThrottled(() => vendor.contents(height)),
      receipt: (txHash) => retryThrottled(() => vendor.receipt(txHash)),
    };
    this.#receipts = receipts;
  }

  async block(height: number): Promise<BlockRef | null> {
    if (!this.#blocks.has(height)) {
      this.#blocks.set(height, await retryThrottled(() => this.vendor.block(height)));
    }
    return this.#blocks.get(height)!;
  }

  /** The receipt of a transaction that is said to be in that block; an earlier one of the same block is as good. */
  async receipt(txHash: string, blockHash: string): Promise<Receipt | null> {
    const known = this.#receipts.get(txHash);
    if (known?.blockHash === blockHash) return known;
    const receipt = await this.vendor.receipt(txHash);
    if (receipt !== null) this.#receipts.set(txHash, receipt);
    return receipt;
  }
}

/**
 * Holds every log against the block at its height and the receipt of its transaction. `all` are those that are known,
 * too.
 */
async function verified(
  evidence: Evidence,
  logs: readonly ChainLog[],
  all: readonly ChainLog[],
  wanted: Wanted,
): Promise<Finding[]> {
  const findings = new Map<string, Finding>();
  for (const log of logs) {
    if (log.isRemoved || log.height < wanted.from || log.height > wanted.to || !isWanted(log, wanted)) continue;
    const block = await evidence.block(log.height);
    if (block?.hash !== log.blockHash) throw new ChainMoved();
    const receipt = await evidence.receipt(log.txHash, block.hash);
    if (receipt === null) {
      throw new VendorError(evidence.vendor.name, `shows a log of ${log.txHash}, but no receipt`);
    }
    if (receipt.blockHash !== block.hash) throw new ChainMoved();
    if (!receipt.isSuccess) continue;
    const ordinal = placeIn(receipt, log, all);
    if (ordinal === null) {
      throw new VendorError(evidence.vendor.name, `shows a log of ${log.txHash} that its receipt does not have`);
    }
    findings.set(`${log.txHash}/${ordinal}`, findingOf(log, { ordinal, block, receipt }, wanted));
  }
  return [...findings.values()];
}

/**
 * The place of a log in its receipt; null where it is not there. Nodes have counted the same log in its block in one
 * answer and in its transaction in the other, so an index counts only where it leads to the same log. Where it does
 * not, what the log says is looked for, and of several that say the same the first belongs to the first.
 */
function placeIn(receipt: Receipt, log: ChainLog, all: readonly ChainLog[]): number | null {
  const places = [...receipt.logs.entries()].filter(([, other]) => isSameEvent(other, log));
  const byIndex = places.find(([, other]) => other.index === log.index);
  if (byIndex !== undefined) return byIndex[0];
  const indexes = all
    .filter((other) => other.txHash === log.txHash && isSameEvent(other, log))
    .map(({ index }) => index);
  const before = new Set(indexes.filter((index) => index < log.index)).size;
  return places[before]?.[0] ?? null;
}

function isSameEvent(a: ChainLog, b: ChainLog): boolean {
  return a.contract === b.contract && a.data === b.data && a.topics.join() === b.topics.join();
}

/** Transfers that the headers of the range promise, no log shows, and receipts have. */
async function leftOutOf(evidence: Evidence, logs: readonly ChainLog[], wanted: Wanted): Promise<Finding[]> {
  const { from, to, tokens, watched } = wanted;
  const recipients = watched.chunks.slice(-2).flat().slice(-PROMISED_ADDRESSES);
  if (recipients.length === 0) return [];
  const contracts = tokens.map(({ contract }) => contract);
  const findings: Finding[] = [];
  for (let height = from; height <= to; height++) {
    const contents = await evidence.vendor.contents(height);
    if (contents === null) throw new ChainMoved();
    const shown = logs.filter((log) => log.height === height);
    const paid = new Set(shown.map(({ topics }) => topics[2]));
    const others = recipients.filter((recipient) => !paid.has(recipient));
    if (!promisesTransfer(contents, { contracts, topic: TRANSFER_TOPIC, recipients: others })) continue;
    for (const receipt of await receiptsOf(evidence.vendor, contents)) {
      for (const [ordinal, log] of receipt.logs.entries()) {
        const isShown = shown.some(({ index, txHash }) => index === log.index && txHash === log.txHash);
        if (!receipt.isSuccess || isShown || !isWanted(log, wanted)) continue;
        findings.push(findingOf(log, { ordinal, block: contents.block, receipt }, wanted));
      }
    }
  }
  return findings;
}

/** A transfer above zero of a token of ours to an address of ours. */
function isWanted(log: ChainLog, { tokens, watched }: Wanted): boolean {
  const transfer = transferOf(log);
  return (
    transfer !== null &&
    transfer.units > 0n &&
    watched.has(transfer.to) &&
    tokens.some(({ contract }) => contract === log.contract)
  );
}

/** The finding of a wanted log. */
function findingOf(
  log: ChainLog,
  place: { readonly ordinal: number; readonly block: BlockRef; readonly receipt: Receipt },
  { tokens, watched }: Wanted,
): Finding {
  const { ordinal, block, receipt } = place;
  const transfer = transferOf(log)!;
  const { symbol, decimals } = tokens.find(({ contract }) => contract === log.contract)!;
  const amount = usdOfUnits(transfer.units, decimals);
  const isOwn = movesOurTokens(receipt, { tokens, has: (address) => watched.has(address) });
  return { txHash: log.txHash, ordinal, transfer, symbol, amount, block, isOwn };
}

/**
 * The highest of the known blocks (given highest first) that is on the vendor's chain; null when none is. Whatever is
 * above a block that is not there is not there either, so few of them are asked for.
 */
export async function findFork(
  vendor: ChainVendor,
  checkpoints: readonly { readonly height: number; readonly hash: string }[],
): Promise<{ readonly height: number; readonly hash: string } | null> {
  const isShown = async ({ height, hash }: { readonly height: number; readonly hash: string }): Promise<boolean> =>
    (await vendor.block(height))?.hash === hash;
  const lowest = checkpoints.at(-1);
  if (lowest === undefined || !(await isShown(lowest))) return null;
  // `shown` is on its chain, everything before `gone` is not.
  let gone = 0;
  let shown = checkpoints.length - 1;
  while (gone < shown) {
    const middle = Math.floor((gone + shown) / 2);
    if (await isShown(checkpoints[middle]!)) shown = middle;
    else gone = middle + 1;
  }
  return checkpoints[shown]!;
}
