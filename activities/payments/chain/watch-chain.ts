/**
 * The activities of `watchChain`: polling a chain's vendors for a while, and reading old blocks again. Everything that
 * is remembered between two calls is in PostgreSQL; what this process keeps (addresses, learned ranges) only saves
 * time.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from 'pino';
import { ApplicationFailure } from '@temporalio/common';
import type { OpenDeposit } from '../../../db/payments/deposits.ts';
import type { CryptoSettings } from '../../../providers/chain/settings.ts';
import type { ChainSummary, RescanSummary } from '../../../contract/index.ts';
import { decideDeposits, type QuorumResult } from './quorum.ts';
import { checkPrices, type TokenStanding } from '../../../providers/chain/price-feeds.ts';
import { Rescans } from './rescans.ts';
import { scanVendor } from './scan.ts';
import { DepositAddresses } from './deposit-addresses.ts';
import { VendorError } from '../../../providers/chain/rpc-vendor.ts';
import { openChain, WrongVendor, type OpenChain, type WatchedVendor } from '../../../providers/chain/rpc-vendors.ts';
import { problemsOf } from './health.ts';
import { beating } from '../../shared/heartbeat.ts';

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
  readonly wakeTopUp: (topUpId: OpenDeposit['topUpId']) => Promise<void>;
  /** Aborted when the process stops: a poll then ends at once with what it has. */
  readonly stopping: AbortSignal;
}

export function createChainActivities({ pool, logger, crypto, wakeTopUp, stopping }: ChainDeps): ChainActivities {
  const addresses = new DepositAddresses(pool);
  const rescans = new Rescans({ pool, logger, addresses });
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

    rescanChain: ({ chainId, range }) =>
      beating((cancelled) => rescans.readNow(required(chainId), range, () => cancelled.aborted || stopping.aborted)),
  };

  /** Every vendor is read at its own pace: one that hangs must not keep the others from being heard. */
  async function poll(open: OpenChain, isOver: () => boolean): Promise<ChainSummary> {
    const { chain, vendors, watch } = open;
    for (const watched of vendors) watched.doubt();
    let decided: QuorumResult = { open: 0, disputed: [] };
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
    const decideAll = async (): Promise<void> => {
      const answering = vendors.filter(({ head, isOnChain }) => head !== null && isOnChain);
      // Prices first: what they say holds for what is decided now. Before anybody was heard they say nothing.
      const isHeard = answering.length > 0 || vendors.every(({ fault }) => fault !== null);
      if (isHeard && performance.now() - pricedAt >= watch.priceSeconds * 1000) {
        const asked = answering.map(({ vendor }) => vendor);
        tokens = await checkPrices(pool, chain, asked, Math.floor(Date.now() / 1000));
        pricedAt = performance.now();
      }
      const readers = answering.map(({ reader, head }) => {
        reader.turnTo(head!);
        return reader;
      });
      const { graceSeconds } = watch;
      decided = await decideDeposits({ pool, logger, chain, addresses, tell: wakeTopUp, graceSeconds }, readers);
    };
    await allOf([
      ...vendors.map((watched) => repeat(() => look(open, watched, isOver))),
      repeat(() => rescans.goOn(open, isOver)),
      repeat(decideAll),
    ]);
    // Findings of the last looks are decided before the summary is returned.
    if (!stopping.aborted) await decideAll();
    return summaryOf(open, decided, tokens);
  }

  /** One look at one vendor. A fault of the vendor is noted; only a fault of ours is thrown. */
  async function look({ chain, vendors }: OpenChain, watched: WatchedVendor, isOver: () => boolean): Promise<void> {
    const { vendor } = watched;
    const about = { chain_id: chain.chainId, vendor: vendor.name };
    watched.begin();
    try {
      await watched.identify();
      const scan = await scanVendor({ pool, chain, addresses, vendors }, watched, isOver);
      if (scan === null) return;
      watched.answered(scan.readTo);
      if (scan.fork !== null) logger.warn({ ...about, stayed: scan.fork }, 'chain has changed');
      if (scan.leftOut > 0) {
        watched.leftOutAt = new Date();
        logger.warn({ ...about, transfers: scan.leftOut }, 'logs had left transfers out');
      }
    } catch (error) {
      if (!(error instanceof VendorError || error instanceof WrongVendor)) throw error;
      if (watched.failed(error)) logger.warn({ ...about, error: watched.fault }, 'vendor does not answer');
    }
  }
}

/** All of them have ended when this does; the first error counts. */
async function allOf(work: readonly Promise<void>[]): Promise<void> {
  const results = await Promise.allSettled(work);
  const failed = results.find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** Notable facts about a vendor that answers as it should. */
function remarkOn({ chain }: OpenChain, watched: WatchedVendor): { remark?: string } {
  const { safe, final } = chain.depths;
  const remarks = [
    watched.isTagless &&
      `does not name safe and finalized blocks: ${safe} and ${final} blocks below its head count as such`,
    watched.leftOutAt !== null &&
      `at ${watched.leftOutAt.toISOString()} its logs had left transfers out, which its receipts or another reading showed`,
  ].filter((remark) => remark !== false);
  return remarks.length === 0 ? {} : { remark: remarks.join('; ') };
}

function summaryOf(open: OpenChain, decided: QuorumResult, tokens: readonly TokenStanding[]): ChainSummary {
  const heads = open.vendors.flatMap(({ head }) => (head === null ? [] : [head.latest.height])).sort((a, b) => b - a);
  return {
    head: heads[1] ?? null,
    vendors: open.vendors.map((watched) => ({
      name: watched.vendor.name,
      head: watched.head?.latest.height ?? null,
      readTo: watched.readTo,
      fault: watched.fault,
      ...remarkOn(open, watched),
    })),
    openDeposits: decided.open,
    problems: problemsOf(open, decided.disputed, tokens),
  };
}
