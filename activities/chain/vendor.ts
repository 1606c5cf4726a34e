/**
 * One RPC vendor of one chain: plain calls, each answered or failed by that vendor alone. No subscriptions, no filters, no
 * cache, no falling back to another: what a vendor says is evidence only as long as it is known to be his. Retrying is the
 * caller's business.
 */
import { FetchRequest, JsonRpcProvider, Network } from 'ethers';
import type { BlockRef, ChainHead, FeedRound } from '../../domain/deposit.ts';

/** A log as a vendor shows it. Addresses and hashes in lower case. */
export interface ChainLog {
  readonly contract: string;
  readonly topics: readonly string[];
  readonly data: string;
  readonly txHash: string;
  readonly blockHash: string;
  readonly height: number;
  /** In the block. */
  readonly index: number;
  readonly isRemoved: boolean;
}

export interface Receipt {
  readonly blockHash: string;
  readonly height: number;
  readonly isSuccess: boolean;
  readonly logs: readonly ChainLog[];
}

export interface LogFilter {
  readonly from: number;
  readonly to: number;
  readonly contracts: readonly string[];
  readonly topics: readonly (string | readonly string[] | null)[];
}

export interface ChainVendor {
  readonly name: string;
  chainId(): Promise<number>;
  head(): Promise<ChainHead>;
  /** Null where the vendor has no such block (yet). */
  block(height: number): Promise<BlockRef | null>;
  /** Whether the block at a height lists a transaction; null where the vendor has no such block. */
  lists(height: number, txHash: string): Promise<boolean | null>;
  logs(filter: LogFilter): Promise<ChainLog[]>;
  receipt(txHash: string): Promise<Receipt | null>;
  decimals(contract: string): Promise<number>;
  latestRound(feed: string): Promise<FeedRound>;
  close(): void;
}

/** A vendor that does not answer, answers with an error, or with something of another form than it must have. */
export class VendorError extends Error {
  /** What the node itself said in its error; null where there is no such answer. */
  readonly said: string | null;
  /** He asks to be asked less often. */
  readonly isThrottled: boolean;

  constructor(vendor: string, message: string, answer: { said?: string | null; isThrottled?: boolean } = {}) {
    super(`${vendor}: ${message}`);
    this.name = 'VendorError';
    this.said = answer.said ?? null;
    this.isThrottled = answer.isThrottled ?? false;
  }
}

/** How nodes say in words that they were asked too often; the code is the same as for a range that is too long. */
const THROTTLED = /too many requests|rate limit|throttl/i;

const SELECTORS = { decimals: '0x313ce567', latestRoundData: '0xfeaf968c' } as const;

export function createChainVendor(options: {
  readonly url: string;
  readonly name: string;
  readonly chainId: number;
  readonly timeoutSeconds: number;
}): ChainVendor {
  const { url, name, chainId, timeoutSeconds } = options;
  const request = new FetchRequest(url);
  request.timeout = timeoutSeconds * 1000;
  // A vendor that says "too many requests" is left alone until its next turn, not asked again within this one.
  request.setThrottleParams({ maxAttempts: 1 });
  // One request a call, and no cache: with the default cache of 250 ms a change of the chain stays hidden.
  const provider = new JsonRpcProvider(request, Network.from(chainId), {
    staticNetwork: true,
    batchMaxCount: 1,
    cacheTimeout: -1,
  });

  const send = async (method: string, params: unknown[]): Promise<unknown> => {
    try {
      return (await provider.send(method, params)) as unknown;
    } catch (error) {
      throw vendorErrorOf(name, error);
    }
  };

  const blockAt = async (tag: string): Promise<BlockRef | null> => {
    const raw = await send('eth_getBlockByNumber', [tag, false]);
    return raw === null ? null : toBlock(name, raw);
  };
  /** Some vendors do not know the tag; that is an answer as well. */
  const heightOf = async (tag: 'safe' | 'finalized'): Promise<number | null> => {
    try {
      return (await blockAt(tag))?.height ?? null;
    } catch (error) {
      if (error instanceof VendorError && error.said !== null) return null;
      throw error;
    }
  };
  const call = async (to: string, data: string): Promise<string[]> => {
    const answer = text(name, await send('eth_call', [{ to, data }, 'latest']));
    if (!/^0x([0-9a-f]{64})+$/.test(answer)) throw new VendorError(name, `${to} does not answer ${data}`);
    return answer.slice(2).match(/.{64}/g) ?? [];
  };

  return {
    name,
    chainId: async () => quantity(name, await send('eth_chainId', [])),
    async head() {
      const latest = await blockAt('latest');
      if (latest === null) throw new VendorError(name, 'has no latest block');
      const [safe, finalized] = [await heightOf('safe'), await heightOf('finalized')];
      return { latest, safe, finalized };
    },
    block: (height) => blockAt(hex(height)),
    async lists(height, txHash) {
      const raw = await send('eth_getBlockByNumber', [hex(height), false]);
      if (raw === null) return null;
      const { transactions } = record(name, raw);
      if (!Array.isArray(transactions)) throw new VendorError(name, 'a block without transactions');
      return transactions.some((hash) => text(name, hash) === txHash);
    },
    async logs({ from, to, contracts, topics }) {
      const filter = { fromBlock: hex(from), toBlock: hex(to), address: contracts, topics };
      const raw = await send('eth_getLogs', [filter]);
      if (!Array.isArray(raw)) throw new VendorError(name, 'eth_getLogs did not answer with a list');
      return raw.map((log) => toLog(name, log));
    },
    async receipt(txHash) {
      const raw = await send('eth_getTransactionReceipt', [txHash]);
      if (raw === null) return null;
      const fields = record(name, raw);
      const { logs } = fields;
      if (!Array.isArray(logs)) throw new VendorError(name, 'a receipt without logs');
      return {
        blockHash: text(name, fields['blockHash']),
        height: quantity(name, fields['blockNumber']),
        isSuccess: quantity(name, fields['status']) === 1,
        logs: logs.map((log) => toLog(name, log)),
      };
    },
    async decimals(contract) {
      const [word] = await call(contract, SELECTORS.decimals);
      return Number(BigInt(`0x${word}`));
    },
    async latestRound(feed) {
      const [decimals] = await call(feed, SELECTORS.decimals);
      const [, answer, startedAt, updatedAt] = await call(feed, SELECTORS.latestRoundData);
      if (updatedAt === undefined) throw new VendorError(name, `${feed} is not a price feed`);
      return {
        answer: BigInt.asIntN(256, BigInt(`0x${answer}`)),
        decimals: Number(BigInt(`0x${decimals}`)),
        startedAt: Number(BigInt(`0x${startedAt}`)),
        updatedAt: Number(BigInt(`0x${updatedAt}`)),
      };
    },
    close: () => provider.destroy(),
  };
}

/** Names of a chain's vendors: their hosts, which are no secret, unlike the keys in their addresses. */
export function vendorNames(urls: readonly string[]): string[] {
  const hosts = urls.map((url) => new URL(url).hostname);
  return hosts.map((host, n) => (hosts.filter((other) => other === host).length > 1 ? `${host}#${n + 1}` : host));
}

/** In words without the vendor's address, which may hold a key and which a client's messages like to quote. */
function vendorErrorOf(vendor: string, error: unknown): VendorError {
  const {
    code,
    shortMessage,
    error: own,
    info,
    response,
  } = error as {
    code?: unknown;
    shortMessage?: unknown;
    error?: unknown;
    info?: { error?: unknown; responseStatus?: unknown };
    response?: { statusCode?: unknown };
  };
  const answer = (own ?? info?.error) as { code?: unknown; message?: unknown } | undefined;
  if (typeof answer?.code === 'number' && typeof answer.message === 'string') {
    const said = answer.message.slice(0, 300);
    return new VendorError(vendor, `answers with an error: ${said}`, { said, isThrottled: THROTTLED.test(said) });
  }
  const status = response?.statusCode ?? Number.parseInt(String(info?.responseStatus), 10);
  const words = typeof shortMessage === 'string' ? shortMessage : typeof code === 'string' ? code : 'no answer';
  const message = words.replaceAll(/https?:\/\/\S+/g, '(address)').slice(0, 300);
  // With one attempt allowed, that is how the client says that it was told to try later.
  return new VendorError(vendor, message, {
    isThrottled: status === 429 || message === 'exceeded maximum retry limit',
  });
}

const hex = (height: number): string => `0x${height.toString(16)}`;

function toBlock(vendor: string, raw: unknown): BlockRef {
  const fields = record(vendor, raw);
  return {
    height: quantity(vendor, fields['number']),
    hash: text(vendor, fields['hash']),
    time: quantity(vendor, fields['timestamp']),
  };
}

function toLog(vendor: string, raw: unknown): ChainLog {
  const fields = record(vendor, raw);
  const { topics } = fields;
  if (!Array.isArray(topics)) throw new VendorError(vendor, 'a log without topics');
  return {
    contract: text(vendor, fields['address']),
    topics: topics.map((topic) => text(vendor, topic)),
    data: text(vendor, fields['data']),
    txHash: text(vendor, fields['transactionHash']),
    blockHash: text(vendor, fields['blockHash']),
    height: quantity(vendor, fields['blockNumber']),
    index: quantity(vendor, fields['logIndex']),
    isRemoved: fields['removed'] === true,
  };
}

function record(vendor: string, value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new VendorError(vendor, 'an answer that is no object');
  return value as Record<string, unknown>;
}

function text(vendor: string, value: unknown): string {
  if (typeof value !== 'string' || !/^0x[0-9a-fA-F]*$/.test(value))
    throw new VendorError(vendor, 'a field that is not hex');
  return value.toLowerCase();
}

function quantity(vendor: string, value: unknown): number {
  const number = Number(text(vendor, value));
  if (!Number.isSafeInteger(number)) throw new VendorError(vendor, 'a number that is too large');
  return number;
}
