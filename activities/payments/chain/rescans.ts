/**
 * Reading old blocks again, at every vendor that answers: once a day on the chain's own account, and whenever somebody
 * wants it, a range of blocks or an order's own address in its own time. Adds what was missed, has what is known asked
 * for again, takes nothing away. Requested ranges are in PostgreSQL and read in pieces beside the polling, so that it
 * survives restarts and never keeps new blocks waiting.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { openCase } from '../../../db/accounts/cases.ts';
import {
  advanceBlockRescan,
  nextBlockRescan,
  type BlockRange,
  type OpenRescan,
} from '../../../db/payments/block-rescans.ts';
import { chainCursors, keepFindings } from '../../../db/payments/chain-cursors.ts';
import { recheckDeposits } from '../../../db/payments/deposits.ts';
import type { RescanSummary } from '../../../contract/index.ts';
import { ChainMoved, readTransfers, type WatchedAddresses } from '../../../providers/chain/transfer-reader.ts';
import { heightAt } from '../../../providers/chain/block-times.ts';
import type { DepositAddresses } from './deposit-addresses.ts';
import { VendorError } from '../../../providers/chain/rpc-vendor.ts';
import { WrongVendor, type OpenChain, type WatchedVendor } from '../../../providers/chain/rpc-vendors.ts';

/** An order's clock and its chain's need not agree. */
const BEFORE_SECONDS = 600;
/** Most that pay late pay within a day; who comes later is found by the range of blocks that an operator names. */
const AFTER_SECONDS = 86_400;
const MOVED_TRIES = 5;

export interface RescanDeps {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly addresses: DepositAddresses;
}

export class Rescans {
  readonly #deps: RescanDeps;

  constructor(deps: RescanDeps) {
    this.#deps = deps;
  }

  /** All of it at once. Throws when no vendor has answered, or it was stopped before the end. */
  async readNow(
    open: OpenChain,
    wanted: BlockRange | { readonly backSeconds: number },
    isOver: () => boolean,
  ): Promise<RescanSummary> {
    let found = 0;
    let range: BlockRange | null = null;
    const errors = await this.#atEveryVendor(open, async (watched) => {
      const { vendor } = watched;
      const head = (await vendor.head()).latest;
      const from = 'from' in wanted ? wanted.from : await heightAt(vendor, head, head.time - wanted.backSeconds);
      const to = Math.min('from' in wanted ? wanted.to : await this.#readToOf(open, vendor.name), head.height);
      found += await this.#read(open, watched, { from, to }, this.#deps.addresses, isOver);
      range = range === null ? { from, to } : { from: Math.min(range.from, from), to: Math.max(range.to, to) };
    });
    if (range === null) throw errors[0] ?? new Error('no vendor has answered');
    if (isOver()) throw new Error('stopped before the end');
    return this.#finish(open, range, found);
  }

  /**
   * Goes on with what is wanted of the chain, piece by piece, until there is nothing, no vendor answers or it is over.
   */
  async goOn(open: OpenChain, isOver: () => boolean): Promise<void> {
    do {
      const rescan = await nextBlockRescan(this.#deps.pool, open.chain.chainId);
      if (rescan === null || !(await this.#step(open, rescan, isOver))) return;
    } while (!isOver());
  }

  /** One piece; false when it could not be read now. */
  async #step(open: OpenChain, rescan: OpenRescan, isOver: () => boolean): Promise<boolean> {
    const { pool, addresses } = this.#deps;
    const { id, order } = rescan;
    const watching = order === null ? addresses : only(addresses, order.address);
    const piece = { range: rescan.range, found: 0, until: Infinity };
    const errors = await this.#atEveryVendor(open, async (watched) => {
      piece.range ??= order === null ? null : await timeOf(watched, order);
      if (piece.range === null) return;
      const head = (await watched.vendor.head()).latest.height;
      const from = rescan.next ?? piece.range.from;
      const to = Math.min(piece.range.to, from + open.watch.logRange - 1, head);
      piece.found += await this.#read(open, watched, { from, to }, watching, isOver);
      // Blocks beyond a vendor's head are read as its new blocks.
      piece.until = Math.min(piece.until, to === head ? piece.range.to : to);
    });
    const { range, found, until } = piece;
    const isRead = until < Infinity && !isOver();
    const next = isRead ? until + 1 : rescan.next;
    const fault = isRead || isOver() ? null : (errors[0]?.message ?? 'no vendor has answered');
    await advanceBlockRescan(pool, id, { range, next, found, fault });
    if (range !== null && isRead && until >= range.to && order === null) await this.#finish(open, range, found);
    else if (range !== null && found > 0) await this.#report(open, range, found);
    return isRead;
  }

  /** Runs `work` at every vendor that answers for this chain; returns what was wrong with the others. */
  async #atEveryVendor(
    { chain, vendors }: OpenChain,
    work: (watched: WatchedVendor) => Promise<void>,
  ): Promise<readonly Error[]> {
    const errors: Error[] = [];
    await this.#deps.addresses.refresh();
    for (const watched of vendors) {
      try {
        await watched.identify();
        await work(watched);
      } catch (error) {
        if (!(error instanceof VendorError || error instanceof WrongVendor || error instanceof ChainMoved)) throw error;
        errors.push(error);
        const { name: vendor } = watched.vendor;
        this.#deps.logger.warn({ chain_id: chain.chainId, vendor, error: String(error) }, 're-scan stopped');
      }
    }
    return errors;
  }

  /** Returns how many transfers were not known. */
  async #read(
    { chain }: OpenChain,
    { vendor, range, receipts }: WatchedVendor,
    { from, to }: BlockRange,
    watched: WatchedAddresses,
    isOver: () => boolean,
  ): Promise<number> {
    let found = 0;
    for (let next = from; next <= to && !isOver();) {
      const read = await untilStill(() =>
        readTransfers(vendor, { from: next, to, base: null, tokens: chain.tokens, watched, range, receipts }),
      );
      found += await keepFindings(this.#deps.pool, chain.chainId, read.findings);
      next = read.until.height + 1;
    }
    return found;
  }

  async #finish(open: OpenChain, range: BlockRange, found: number): Promise<RescanSummary> {
    await recheckDeposits(this.#deps.pool, open.chain.chainId, range);
    if (found > 0) await this.#report(open, range, found);
    return { ...range, found };
  }

  async #report({ chain }: OpenChain, range: BlockRange, found: number): Promise<void> {
    this.#deps.logger.warn({ chain_id: chain.chainId, ...range, found }, 'transfers had been missed');
    const subject = `chain ${chain.chainId}, blocks ${range.from} to ${range.to}`;
    const evidence = { chain: chain.name, found, what: 'no vendor had shown them when these blocks were read first' };
    await openCase(this.#deps.pool, { kind: 'reconcile/transfers_missed', subject, evidence });
  }

  /**
   * Up to where this vendor has been read: what is new below that had been missed, above it it is only early. Where
   * others stand does not count: one that is away for days, or not asked any more, would keep all of them from being
   * read again.
   */
  async #readToOf({ chain }: OpenChain, vendor: string): Promise<number> {
    const cursors = await chainCursors(this.#deps.pool, chain.chainId);
    return cursors.find((cursor) => cursor.vendor === vendor)?.block.height ?? -1;
  }
}

/** The blocks of an order's time. */
async function timeOf({ vendor }: WatchedVendor, order: NonNullable<OpenRescan['order']>): Promise<BlockRange> {
  const head = (await vendor.head()).latest;
  const from = await heightAt(vendor, head, order.since - BEFORE_SECONDS);
  return { from, to: await heightAt(vendor, head, order.until + AFTER_SECONDS) };
}

/** One of the addresses, beside which the others are still known as ours. */
function only(addresses: DepositAddresses, address: string): WatchedAddresses {
  return { has: (other) => addresses.has(other), chunks: [[`0x${address.slice(2).padStart(64, '0')}`]] };
}

/** Reads again what has changed while it was read. */
async function untilStill<T>(read: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof ChainMoved) || attempt === MOVED_TRIES) throw error;
    }
  }
}
