/**
 * The activities of `watchChain`: polling a chain's vendors for a while, and reading old blocks again. Everything that is
 * remembered between two calls is in PostgreSQL; what this process keeps (addresses, learned ranges) only saves time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import { openCase } from '../../db/cases.ts';
import { chainCursors, keepFindings } from '../../db/chain-cursors.ts';
import { recheckDeposits, type OpenDeposit } from '../../db/deposits.ts';
import type { CryptoSettings } from '../../runtime/chains.ts';
import type { ChainSummary, RescanSummary } from '../../workflows/contract.ts';
import { judgeDeposits, type JudgeResult } from './judge.ts';
import { checkPrices, type TokenStanding } from './prices.ts';
import { ChainMoved, readTransfers } from './reader.ts';
import { scanVendor } from './scan.ts';
import { heightAt } from './times.ts';
import { Addresses } from './watch-list.ts';
import { VendorError } from './vendor.ts';
import { openChain, WrongVendor, type OpenChain, type WatchedVendor } from './vendors.ts';
import { problemsOf } from './problems.ts';
import { beating } from '../heartbeat.ts';

export interface ChainActivities {
  /** Looks at every vendor again and again for that long, once at least; says how things stand then. */
  pollChain(input: { readonly chainId: number; readonly seconds: number }): Promise<ChainSummary>;
  /** Reads blocks again, at every vendor that answers. */
  rescanChain(input: {
    readonly chainId: number;
    readonly range: { readonly from: number; readonly to: number } | { readonly backSeconds: number };
  }): Promise<RescanSummary>;
}

export interface ChainDeps {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  /** Null: no chain is configured. */
  readonly crypto: CryptoSettings | null;
  readonly tellTopUp: (topUpId: OpenDeposit['topUpId']) => Promise<void>;
  /** Aborted when the process stops: a poll then ends at once with what it has. */
  readonly stopping: AbortSignal;
}

export function createChainActivities({ pool, logger, crypto, tellTopUp, stopping }: ChainDeps): ChainActivities {
  const addresses = new Addresses(pool);
  const chains = new Map(
    (crypto?.chains ?? []).map((chain) => [chain.chainId, openChain(chain, crypto!.watch)] as const),
  );
  const required = (chainId: number): OpenChain => {
    const open = chains.get(chainId);
    if (open === undefined) {
      throw ApplicationFailure.nonRetryable(`chain ${chainId} is not configured on this worker`, 'not_configured');
    }
    return open;
  };

  return {
    pollChain: ({ chainId, seconds }) =>
      beating((cancelled) => {
        const open = required(chainId);
        const until = performance.now() + seconds * 1000;
        return poll(open, () => performance.now() >= until || cancelled.aborted || stopping.aborted);
      }),

    rescanChain: ({ chainId, range }) => beating((cancelled) => rescan(required(chainId), range, cancelled)),
  };

  /** Every vendor is read at his own pace: one that hangs must not keep the others from being heard. */
  async function poll(open: OpenChain, isOver: () => boolean): Promise<ChainSummary> {
    const { chain, vendors, watch } = open;
    for (const watched of vendors) watched.doubt();
    let judged: JudgeResult = { open: 0, disputed: [] };
    let tokens: readonly TokenStanding[] = [];
    let pricedAt = -Infinity;
    let isFailed = false;
    const repeat = async (turn: () => Promise<void>): Promise<void> => {
      try {
        do {
          await turn();
          if (isFailed || isOver()) return;
          await delay(watch.roundSeconds * 1000, undefined, { signal: stopping }).catch(() => undefined);
        } while (!isFailed && !isOver());
      } catch (error) {
        isFailed = true;
        throw error;
      }
    };
    const judgeAll = async (): Promise<void> => {
      const answering = vendors.filter(({ head, fault }) => head !== null && fault === null);
      // Prices first: what they say holds for what is judged now. Before anybody was heard they say nothing.
      const isHeard = answering.length > 0 || vendors.every(({ fault }) => fault !== null);
      if (isHeard && performance.now() - pricedAt >= watch.priceSeconds * 1000) {
        const asked = answering.map(({ vendor }) => vendor);
        tokens = await checkPrices(pool, chain, asked, Math.floor(Date.now() / 1000));
        pricedAt = performance.now();
      }
      const witnesses = answering.map(({ witness, head }) => {
        witness.turnTo(head!);
        return witness;
      });
      const { patienceSeconds } = watch;
      judged = await judgeDeposits({ pool, logger, chain, addresses, tell: tellTopUp, patienceSeconds }, witnesses);
    };
    await allOf([...vendors.map((watched) => repeat(() => look(open, watched, isOver))), repeat(judgeAll)]);
    // What the last looks have found is judged before anybody is told how things stand.
    if (!stopping.aborted) await judgeAll();
    return summaryOf(open, judged, tokens);
  }

  /** One look at one vendor. What is wrong with him is noted; only what is wrong with us is thrown. */
  async function look({ chain }: OpenChain, watched: WatchedVendor, isOver: () => boolean): Promise<void> {
    const { vendor } = watched;
    try {
      await watched.identify();
      const scan = await scanVendor({ pool, chain, addresses }, vendor, watched.range, isOver);
      watched.answered(scan.head, scan.readTo);
      if (scan.fork !== null) {
        logger.warn({ chain_id: chain.chainId, vendor: vendor.name, stayed: scan.fork }, 'chain has changed');
      }
    } catch (error) {
      if (!(error instanceof VendorError || error instanceof WrongVendor)) throw error;
      if (watched.failed(error)) {
        logger.warn({ chain_id: chain.chainId, vendor: vendor.name, error: watched.fault }, 'vendor does not answer');
      }
    }
  }

  async function rescan(
    open: OpenChain,
    wanted: { readonly from: number; readonly to: number } | { readonly backSeconds: number },
    cancelled: AbortSignal,
  ): Promise<RescanSummary> {
    const { chain, vendors } = open;
    let found = 0;
    let range: { from: number; to: number } | null = null;
    let lastError: Error = new Error('no vendor has answered');
    for (const watched of vendors) {
      const { vendor } = watched;
      try {
        await watched.identify();
        const head = (await vendor.head()).latest;
        await addresses.refresh();
        const from = 'from' in wanted ? wanted.from : await heightAt(vendor, head, head.time - wanted.backSeconds);
        const to = Math.min('from' in wanted ? wanted.to : await readByAll(chain.chainId), head.height);
        for (let next = from; next <= to && !cancelled.aborted && !stopping.aborted;) {
          const read = await untilStill(() =>
            readTransfers(vendor, {
              from: next,
              to,
              base: null,
              tokens: chain.tokens,
              watched: addresses,
              range: watched.range,
            }),
          );
          found += await keepFindings(pool, chain.chainId, read.findings);
          next = read.until.height + 1;
        }
        range ??= { from, to };
      } catch (error) {
        if (!(error instanceof VendorError || error instanceof WrongVendor || error instanceof ChainMoved)) throw error;
        lastError = error;
        logger.warn({ chain_id: chain.chainId, vendor: vendor.name, error: String(error) }, 're-scan stopped');
      }
    }
    if (range === null) throw lastError;
    if (cancelled.aborted || stopping.aborted) throw new Error('stopped before the end');
    await recheckDeposits(pool, chain.chainId, range);
    if (found > 0) {
      logger.warn({ chain_id: chain.chainId, ...range, found }, 'transfers had been missed');
      const subject = `chain ${chain.chainId}, blocks ${range.from} to ${range.to}`;
      const evidence = { chain: chain.name, found, what: 'no vendor had shown them when these blocks were read first' };
      await openCase(pool, { kind: 'reconcile/transfers_missed', subject, evidence });
    }
    return { ...range, found };
  }

  /** Up to where every vendor has been read: what is new below that had been missed, above it it is only early. */
  async function readByAll(chainId: number): Promise<number> {
    const heights = (await chainCursors(pool, chainId)).map(({ block }) => block.height);
    return heights.length === 0 ? -1 : Math.min(...heights);
  }
}

/** Reads again what has changed while it was read. */
async function untilStill<T>(read: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof ChainMoved) || attempt === 5) throw error;
    }
  }
}

/** All of them have ended when this does; the first error counts. */
async function allOf(work: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

function summaryOf(open: OpenChain, judged: JudgeResult, tokens: readonly TokenStanding[]): ChainSummary {
  const heads = open.vendors.flatMap(({ head }) => (head === null ? [] : [head.latest.height])).sort((a, b) => b - a);
  return {
    head: heads[1] ?? null,
    vendors: open.vendors.map(({ vendor, head, readTo, fault }) => ({
      name: vendor.name,
      head: head?.latest.height ?? null,
      readTo,
      fault,
    })),
    openDeposits: judged.open,
    problems: problemsOf(open, judged.disputed, tokens),
  };
}
