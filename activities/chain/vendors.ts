/** A chain's vendors as this process knows them: what each last showed, and what is wrong with him. */
import type { ChainHead } from '../../domain/deposit.ts';
import type { Chain, ChainWatch } from '../../runtime/chains.ts';
import { LogRange } from './reader.ts';
import { Witness } from './sights.ts';
import { createChainVendor, vendorNames, type ChainVendor, type VendorError } from './vendor.ts';

/** A vendor of another chain, or a token that is not what it was configured to be: no waiting helps. */
export class WrongVendor extends Error {
  readonly code: 'wrong_chain' | 'wrong_decimals';

  constructor(code: WrongVendor['code'], message: string) {
    super(message);
    this.name = 'WrongVendor';
    this.code = code;
  }
}

export class WatchedVendor {
  readonly vendor: ChainVendor;
  readonly range: LogRange;
  readonly witness: Witness;
  /** What he last showed; kept while he does not answer. */
  head: ChainHead | null = null;
  readTo: number | null = null;
  /** Why he does not answer as he should, without his address, which may hold a key. */
  fault: string | null = null;
  code: WrongVendor['code'] | null = null;
  failingSince: number | null = null;
  /** Since when he has not been read to his own end. */
  behindSince: number | null = null;
  readonly #chain: Chain;
  #isIdentified = false;

  constructor(chain: Chain, vendor: ChainVendor, range: LogRange) {
    this.#chain = chain;
    this.vendor = vendor;
    this.range = range;
    this.witness = new Witness(vendor);
  }

  /** Makes sure that he speaks of this chain, and that its tokens have the decimals that they are configured with. */
  async identify(): Promise<void> {
    if (this.#isIdentified) return;
    await checkIdentity(this.#chain, this.vendor);
    this.#isIdentified = true;
  }

  /** Asks who he is at the next look: behind one address another node may answer by now. */
  doubt(): void {
    this.#isIdentified = false;
  }

  answered(head: ChainHead, readTo: number): void {
    this.head = head;
    this.readTo = readTo;
    this.behindSince = readTo < head.latest.height ? (this.behindSince ?? performance.now()) : null;
    this.fault = null;
    this.code = null;
    this.failingSince = null;
  }

  /** True when he answered before: the first failure is worth a line in the log. */
  failed(error: VendorError | WrongVendor): boolean {
    const isFirst = this.fault === null;
    this.fault = error.message;
    this.code = error instanceof WrongVendor ? error.code : null;
    this.failingSince ??= performance.now();
    this.#isIdentified = false;
    return isFirst;
  }
}

export interface OpenChain {
  readonly chain: Chain;
  readonly vendors: readonly WatchedVendor[];
  readonly watch: ChainWatch;
}

export function openChain(chain: Chain, watch: ChainWatch): OpenChain {
  const names = vendorNames(chain.rpcUrls);
  const vendors = chain.rpcUrls.map((url, n) => {
    const { chainId } = chain;
    const vendor = createChainVendor({ url, name: names[n]!, chainId, timeoutSeconds: watch.rpcTimeoutSeconds });
    return new WatchedVendor(chain, vendor, new LogRange(watch.logRange));
  });
  return { chain, vendors, watch };
}

/** Throws `WrongVendor` when a vendor speaks of another chain, or a token has other decimals than it is configured with. */
export async function checkIdentity(chain: Chain, vendor: ChainVendor): Promise<void> {
  const chainId = await vendor.chainId();
  if (chainId !== chain.chainId) {
    throw new WrongVendor(
      'wrong_chain',
      `${vendor.name} is on chain ${chainId}, not on ${chain.chainId} (${chain.name})`,
    );
  }
  for (const { symbol, contract, decimals: expected } of chain.tokens) {
    const decimals = await vendor.decimals(contract);
    if (decimals !== expected) {
      const words = `${symbol} (${contract}) on ${chain.name} has ${decimals} decimals, not ${expected}`;
      throw new WrongVendor('wrong_decimals', words);
    }
  }
}

/**
 * What is wrong with the vendors of all chains before anything is watched: one line each. A vendor that does not answer is
 * none of it; he is asked again when his chain is watched.
 */
export async function wrongVendors(chains: readonly Chain[], watch: ChainWatch): Promise<string[]> {
  const checks = chains.flatMap((chain) =>
    openChain(chain, watch).vendors.map(async ({ vendor }) => {
      try {
        await checkIdentity(chain, vendor);
        return [];
      } catch (error) {
        return error instanceof WrongVendor ? [`CHAIN_${chain.chainId}_RPC_URLS: ${error.message}`] : [];
      } finally {
        vendor.close();
      }
    }),
  );
  return (await Promise.all(checks)).flat();
}
