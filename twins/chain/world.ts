/** State shared by the twin's server, its control API and its page: the chains that it offers. */
import type { ChainFault, Invented } from './faults.ts';
import type { RunningChain } from './handle.ts';
import type { ChainNode } from './node.ts';
import { BadInput } from '../kit/input.ts';

export interface ChainWorld {
  readonly vendors: readonly string[];
  readonly chains: ReadonlyMap<number, OfferedChain>;
  rpcUrl(chainId: number, vendor: string): string;
}

export interface OfferedChain {
  readonly handle: RunningChain;
  readonly node: ChainNode;
  readonly blockSeconds: number | null;
  readonly slotsInAnEpoch: number;
  /** By vendor. */
  readonly faults: Map<string, { readonly fault: ChainFault; readonly invented: Invented | null }>;
}

/** Throws `BadInput` for a chain that is not there. */
export function chainOf({ chains }: ChainWorld, chainId: unknown): OfferedChain {
  const chain = typeof chainId === 'number' ? chains.get(chainId) : undefined;
  if (chain === undefined)
    throw new BadInput(`'chain_id' must be one of ${[...chains.keys()].join(', ')}.`, 'chain_id');
  return chain;
}
