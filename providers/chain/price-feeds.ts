/**
 * Whether a chain's tokens still count as dollars, by the price feeds on that chain. A feed that no vendor can read is
 * as bad as a feed that says no: a token without a price is not credited until it has one.
 */
import type pg from 'pg';
import { pegFaultOf, type FeedRound, type PegFault } from '../../domain/payments/deposit.ts';
import { noteToken } from '../../db/payments/deposits.ts';
import type { Chain } from './settings.ts';
import type { ChainVendor } from './rpc-vendor.ts';

export interface TokenStanding {
  readonly symbol: string;
  readonly fault: PegFault | null;
}

/** Reads every feed that is configured and writes down what follows. Tokens without a feed are taken at par. */
export async function checkPrices(
  pool: pg.Pool,
  chain: Chain,
  vendors: readonly ChainVendor[],
  now: number,
): Promise<TokenStanding[]> {
  const standings: TokenStanding[] = [];
  const sequencer = chain.sequencerFeed === null ? null : await readRound(vendors, chain.sequencerFeed);
  for (const { symbol, contract, feed } of chain.tokens) {
    const fault = await faultOf(feed);
    await noteToken(pool, chain.chainId, contract, fault);
    standings.push({ symbol, fault });
  }
  return standings;

  async function faultOf(feed: Chain['tokens'][number]['feed']): Promise<PegFault | null> {
    if (sequencer === 'unreadable') return 'price_unreadable';
    if (feed === null) return pegFaultOf(now, null, sequencer);
    const round = await readRound(vendors, feed.address);
    if (round === 'unreadable') return 'price_unreadable';
    return pegFaultOf(now, { round, heartbeatSeconds: feed.heartbeatSeconds }, sequencer);
  }
}

/**
 * The newest round that the vendors show: a lagging vendor shows an old price, which must not stop quoting. A price
 * that is made up could only be too good; the credit itself still needs two vendors.
 */
async function readRound(vendors: readonly ChainVendor[], feed: string): Promise<FeedRound | 'unreadable'> {
  const rounds = await Promise.all(
    vendors.map((vendor) =>
      vendor.latestRound(feed).catch(() => {
        return null;
      }),
    ),
  );
  const newest = rounds
    .filter((round) => round !== null)
    .sort((a, b) => b.updatedAt - a.updatedAt)
    .at(0);
  return newest ?? 'unreadable';
}
