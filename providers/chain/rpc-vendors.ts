/** A chain's vendors as this process knows them: what each last showed, and what is wrong with it. */
import { withFinality, type ChainHead } from '../../domain/payments/deposit.ts';
import type { Chain, ChainWatch } from './settings.ts';
import { LogRange } from './log-range.ts';
import { Overlap } from './overlap.ts';
import { VendorViewReader } from './vendor-view.ts';
import { createChainVendor, vendorNames, VendorError, type ChainVendor, type Receipt } from './rpc-vendor.ts';

/** A vendor of another chain, or a token that is not what it was configured to be: no waiting helps. */
export class WrongVendor extends Error {
  readonly code: 'wrong_chain' | 'wrong_decimals';

  constructor(code: WrongVendor['code'], message: string) {
    super(message);
    this.name = 'WrongVendor';
    this.code = code;
  }
}

/** Logs that are known are forgotten together when there are more; reading them again costs only time. */
const KNOWN_LOGS_MAX = 10_000;
/** A vendor that refuses even one block's logs is asked again after ever longer pauses, up to so many rounds. */
const PAUSE_ROUNDS_MAX = 32;

export class WatchedVendor {
  readonly vendor: ChainVendor;
  readonly range: LogRange;
  readonly overlap: Overlap;
  readonly reader: VendorViewReader;
  /** Logs that were kept, by `keyOfLog`: what is read again and known already is not held against receipts again. */
  readonly knownLogs = new Set<string>();
  /** Receipts of logs that are not kept yet, by transaction. */
  readonly receipts = new Map<string, Receipt>();
  /** The last head it showed; kept while it does not answer. */
  head: ChainHead | null = null;
  readTo: number | null = null;
  /**
   * Whether its last head was one of this chain, as far as that is known: only then do its headers and receipts count.
   */
  isOnChain = false;
  /** Why it does not answer as it should, without its address, which may hold a key. */
  fault: string | null = null;
  code: WrongVendor['code'] | null = null;
  /** The fault is that it refuses logs, however few are asked for. */
  isRefusing = false;
  failingSince: number | null = null;
  /** Since when it has not been read to its own end. */
  behindSince: number | null = null;
  /** Since when its head has been below what was read of it. */
  shortSince: number | null = null;
  /** When its logs last left out what was found otherwise: by its receipts, or by reading again. */
  leftOutAt: Date | null = null;
  /** It does not say which blocks are safe or final. */
  isTagless = false;
  readonly #chain: Chain;
  readonly #roundMs: number;
  #isIdentified = false;
  #isLocated = false;
  #pauses = 0;
  #pausedUntil = 0;

  constructor(
    chain: Chain,
    vendor: ChainVendor,
    watch: Pick<ChainWatch, 'logRange' | 'overlapBlocks' | 'roundSeconds'>,
  ) {
    this.#chain = chain;
    this.#roundMs = watch.roundSeconds * 1000;
    this.vendor = vendor;
    this.range = new LogRange(watch.logRange);
    this.overlap = new Overlap(watch.overlapBlocks);
    this.reader = new VendorViewReader(vendor);
  }

  /** A look at it begins: what the last one showed holds until this one has failed. */
  begin(): void {
    this.#isLocated = false;
  }

  /** Makes sure that it speaks of this chain, and that its tokens have the decimals that they are configured with. */
  async identify(): Promise<void> {
    if (this.#isIdentified) return;
    await checkIdentity(this.#chain, this.vendor);
    this.#isIdentified = true;
  }

  /** Asks who it is at the next look, and looks at once: behind one address another node may answer by now. */
  doubt(): void {
    this.#isIdentified = false;
    this.#pausedUntil = 0;
  }

  /** Its logs are not asked for now. */
  get isPaused(): boolean {
    return performance.now() < this.#pausedUntil;
  }

  /** Its head, in which depth stands for what it does not say itself. */
  async ask(): Promise<ChainHead> {
    const head = await this.vendor.head();
    this.isTagless = head.safe === null || head.finalized === null;
    return withFinality(head, this.#chain.depths);
  }

  /** Its head is one of this chain. Its logs are checked apart. */
  located(head: ChainHead): void {
    this.head = head;
    this.isOnChain = true;
    this.#isLocated = true;
  }

  answered(readTo: number): void {
    this.readTo = readTo;
    const isBehind = this.head !== null && readTo < this.head.latest.height;
    this.behindSince = isBehind ? (this.behindSince ?? performance.now()) : null;
    this.fault = null;
    this.code = null;
    this.isRefusing = false;
    this.failingSince = null;
    this.#pauses = 0;
  }

  /** True when it answered before: the first failure is worth a line in the log. */
  failed(error: VendorError | WrongVendor): boolean {
    const isFirst = this.fault === null;
    if (!this.#isLocated) this.isOnChain = false;
    this.fault = error.message;
    this.code = error instanceof WrongVendor ? error.code : null;
    this.isRefusing = error instanceof VendorError && error.isRefusal;
    this.failingSince ??= performance.now();
    if (this.isRefusing) {
      this.#pausedUntil = performance.now() + this.#roundMs * Math.min(2 ** this.#pauses, PAUSE_ROUNDS_MAX);
      this.#pauses++;
    } else {
      this.#isIdentified = false;
    }
    return isFirst;
  }

  /** These logs are kept, so that they need not be held against receipts again. */
  remember(logs: readonly string[]): void {
    this.receipts.clear();
    if (this.knownLogs.size + logs.length > KNOWN_LOGS_MAX) this.knownLogs.clear();
    for (const log of logs) this.knownLogs.add(log);
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
    const vendor = createChainVendor({ url, name: names[n]!, timeoutSeconds: watch.rpcTimeoutSeconds });
    return new WatchedVendor(chain, vendor, watch);
  });
  return { chain, vendors, watch };
}

/**
 * Throws `WrongVendor` when a vendor speaks of another chain, or a token has other decimals than it is configured with.
 */
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
    if (decimals === null) {
      const words = `${vendor.name} has no contract at ${contract}, where ${symbol} is on ${chain.name}: it answers for another chain`;
      throw new WrongVendor('wrong_chain', words);
    }
    if (decimals !== expected) {
      const words = `${symbol} (${contract}) on ${chain.name} has ${decimals} decimals, not ${expected}`;
      throw new WrongVendor('wrong_decimals', words);
    }
  }
}

/**
 * Faults of the vendors of all chains before anything is watched: one line each. A vendor that does not answer is
 * none of it; it is asked again when its chain is watched.
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
