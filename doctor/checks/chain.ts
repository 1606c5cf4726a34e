/**
 * A chain's RPC vendors: each of this chain, with its tokens, fresh, and willing to show the blocks that are asked for;
 * and not all of them one and the same company, whose word would then count twice.
 */
import type { ChainHead } from '../../domain/payments/deposit.ts';
import { createChainVendor, vendorNames, VendorError, type ChainVendor } from '../../providers/chain/rpc-vendor.ts';
import { checkIdentity, WrongVendor } from '../../providers/chain/rpc-vendors.ts';
import type { Chain, CryptoSettings } from '../../providers/chain/settings.ts';
import { fault, listed, ok, warning, type Check, type Finding } from '../check.ts';

/** A transfer to nobody: its logs are asked for to learn the range that a vendor takes. */
const TRANSFER = '0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef';
const NOBODY = `0x${'0'.repeat(63)}1`;

interface Heard {
  readonly vendor: ChainVendor;
  readonly findings: readonly Finding[];
  readonly head: ChainHead | null;
  readonly remarks: readonly string[];
}

export function chainChecks(crypto: CryptoSettings): Check[] {
  return crypto.chains.map((chain) => ({
    name: `chain ${chain.chainId}`,
    run: () => checkChain(chain, crypto),
    silentCure: `see whether the vendors of ${variableOf(chain)} can be reached from here`,
  }));
}

const variableOf = ({ chainId }: Chain): string => `CHAIN_${chainId}_RPC_URLS`;

async function checkChain(chain: Chain, crypto: CryptoSettings): Promise<Finding[]> {
  const { watch, live } = crypto;
  const names = vendorNames(chain.rpcUrls);
  const vendors = chain.rpcUrls.map((url, n) =>
    // Shorter than the check's own time, so that one vendor that hangs is named.
    createChainVendor({ url, name: names[n]!, timeoutSeconds: Math.min(watch.rpcTimeoutSeconds, 5) }),
  );
  try {
    const heard = await Promise.all(vendors.map((vendor) => hear(chain, vendor, crypto)));
    const answering = heard.filter(
      ({ head, findings }) => head !== null && findings.every(({ state }) => state !== 'fault'),
    );
    const findings = [
      ...heard.flatMap(({ findings: found }) => found),
      ...(live ? independence(chain) : []),
      ...(await agreement(chain, answering)),
      ...(await feedFindings(chain, answering)),
    ];
    if (answering.length < 2) {
      const words = `${answering.length} of ${vendors.length} vendors of ${chain.name} can be used, two are needed: no deposit is credited`;
      findings.push(fault(words, `repair or replace the others in ${variableOf(chain)}`));
    }
    const heads = answering.map(({ head }) => head!.latest.height);
    const remarks = answering.flatMap(({ vendor, remarks: said }) => said.map((remark) => `${vendor.name} ${remark}`));
    const summary = ok(
      [`${chain.name}, ${answering.length} vendors, head ${Math.max(0, ...heads)}`, ...remarks].join('; '),
    );
    return findings.length > 0 ? findings : [summary];
  } finally {
    for (const vendor of vendors) vendor.close();
  }
}

async function hear(chain: Chain, vendor: ChainVendor, { watch, live }: CryptoSettings): Promise<Heard> {
  const variable = variableOf(chain);
  try {
    await checkIdentity(chain, vendor);
    const head = await vendor.head();
    const findings: Finding[] = [];
    const remarks: string[] = [];
    const ageSeconds = Math.floor(Date.now() / 1000) - head.latest.time;
    if (live && ageSeconds > watch.headAgeSeconds) {
      const words = `${vendor.name} stands still: its last block of ${chain.name} is ${ageSeconds} s old`;
      findings.push(fault(words, `ask the vendor, or replace it in ${variable}`));
    }
    if (head.safe === null || head.finalized === null) {
      const { safe, final } = chain.depths;
      remarks.push(`names no safe or finalized block, so ${safe} and ${final} blocks of depth stand for them`);
    }
    const range = await widestRange(chain, vendor, head.latest.height, watch.logRange);
    if (range === 0) {
      const words = `${vendor.name} refuses the logs of ${chain.name}, one block's as well`;
      findings.push(fault(words, `allow eth_getLogs in the vendor's plan, or replace it in ${variable}`));
    } else if (range < watch.logRange) {
      const words = `${vendor.name} shows logs of ${range} blocks at once, not of ${watch.logRange}: catching up takes longer`;
      findings.push(warning(words, `choose a larger plan, or set CHAIN_LOG_RANGE to ${range}`));
    }
    return { vendor, findings, head, remarks };
  } catch (error) {
    if (error instanceof WrongVendor) {
      const cure =
        error.code === 'wrong_chain'
          ? `put the vendor's address for ${chain.name} into ${variable}`
          : `correct CHAIN_${chain.chainId}_USDC_CONTRACT or …_USDT_CONTRACT`;
      return { vendor, findings: [fault(error.message, cure)], head: null, remarks: [] };
    }
    if (!(error instanceof VendorError)) throw error;
    const cure = `see the vendor's status page, its key and its limits, or replace it in ${variable}`;
    return { vendor, findings: [fault(`${error.message} (${chain.name})`, cure)], head: null, remarks: [] };
  }
}

/** A node behind the one that named the head may not have its last blocks yet, which says nothing of ranges. */
const BELOW_HEAD_BLOCKS = 8;

/** How many blocks' logs the vendor shows at once, by halves of what is wanted; 0 where it shows none. */
async function widestRange(chain: Chain, vendor: ChainVendor, head: number, wanted: number): Promise<number> {
  const to = Math.max(0, head - BELOW_HEAD_BLOCKS);
  const contracts = chain.tokens.map(({ contract }) => contract);
  for (let range = wanted; range >= 1; range = Math.floor(range / 2)) {
    try {
      await vendor.logs({ from: Math.max(0, to - range + 1), to, contracts, topics: [TRANSFER, null, NOBODY] });
      return range;
    } catch (error) {
      if (!(error instanceof VendorError)) throw error;
    }
  }
  return 0;
}

/**
 * Two host names of one company count as one vendor, by the last two parts of the name; right for all present vendors.
 */
function independence(chain: Chain): Finding[] {
  const domains = chain.rpcUrls.map((url) => new URL(url).hostname.split('.').slice(-2).join('.'));
  const twice = domains.find((domain, n) => domains.indexOf(domain) !== n);
  if (twice === undefined || new Set(domains).size >= 2) return [];
  const words = `all vendors of ${chain.name} are of ${twice}: no second vendor can contradict its errors`;
  return [warning(words, `let ${variableOf(chain)} name vendors of two companies`)];
}

/** Whether the vendors have the same block where all of them have one for good. */
async function agreement(chain: Chain, answering: readonly Heard[]): Promise<Finding[]> {
  if (answering.length < 2) return [];
  const height = Math.min(...answering.map(({ head }) => head!.finalized ?? head!.latest.height - chain.depths.final));
  if (height < 0) return [];
  try {
    const blocks = await Promise.all(
      answering.map(async ({ vendor }) => ({ vendor, block: await vendor.block(height) })),
    );
    const known = blocks.filter(({ block }) => block !== null);
    const hashes = new Set(known.map(({ block }) => block!.hash));
    if (hashes.size <= 1) return [];
    const names = listed(known.map(({ vendor, block }) => `${vendor.name} ${block!.hash.slice(0, 10)}…`));
    const words = `the vendors of ${chain.name} have different blocks at ${height}: ${names}`;
    return [fault(words, `find out by a block explorer which one is wrong and replace it in ${variableOf(chain)}`)];
  } catch (error) {
    if (!(error instanceof VendorError)) throw error;
    return [];
  }
}

async function feedFindings(chain: Chain, answering: readonly Heard[]): Promise<Finding[]> {
  const [first] = answering;
  if (first === undefined) return [];
  const found = await Promise.all(
    chain.tokens.map(async ({ symbol, feed }): Promise<Finding[]> => {
      if (feed === null) return [];
      try {
        await first.vendor.latestRound(feed.address);
        return [];
      } catch (error) {
        if (!(error instanceof VendorError)) throw error;
        const words = `the price feed of ${symbol} on ${chain.name} does not answer: ${symbol} is not taken`;
        return [fault(words, `correct CHAIN_${chain.chainId}_${symbol}_FEED`)];
      }
    }),
  );
  return found.flat();
}
