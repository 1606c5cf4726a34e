/**
 * One RPC vendor of one chain: plain calls, each answered or failed by that vendor alone. No subscriptions, no filters,
 * no cache, no falling back to another: what a vendor says is evidence only as long as it is known to be its own.
 * Retrying is the caller's business.
 */
import type { BlockRef, ChainHead, FeedRound } from '../../domain/payments/deposit.ts';
import { createJsonRpc, VendorError } from './json-rpc.ts';

export { VendorError } from './json-rpc.ts';

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

/** A block with what its header promises of its logs. */
export interface BlockContents {
  readonly block: BlockRef;
  /** 256 bytes in hex; null where the vendor shows none. */
  readonly logsBloom: string | null;
  /** Hashes, in their order. */
  readonly transactions: readonly string[];
}

export interface Receipt {
  readonly blockHash: string;
  /** The signer of the transaction; its logs name the owner of the moved tokens. */
  readonly sender: string;
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
  /** Null where the vendor has no such block (yet). */
  contents(height: number): Promise<BlockContents | null>;
  logs(filter: LogFilter): Promise<ChainLog[]>;
  receipt(txHash: string): Promise<Receipt | null>;
  /** Null where there is no contract at that address. */
  decimals(contract: string): Promise<number | null>;
  latestRound(feed: string): Promise<FeedRound>;
  close(): void;
}

/**
 * How a vendor says that it has no such block yet where nodes answer null: a balancer's word for a block above what all
 * of its nodes have, and those of some nodes. Never of a block that it had once.
 */
const NO_SUCH_BLOCK = /\bblock is out of range\b|\bunknown block\b|\b(?:block|header) (?:was )?not found\b/i;

const SELECTORS = { decimals: '0x313ce567', latestRoundData: '0xfeaf968c' } as const;

export function createChainVendor(options: {
  readonly url: string;
  readonly name: string;
  readonly timeoutSeconds: number;
}): ChainVendor {
  const { name } = options;
  const { send, close } = createJsonRpc(options);

  const blockAt = async (tag: string): Promise<BlockRef | null> => {
    const raw = await send('eth_getBlockByNumber', [tag, false]);
    return raw === null ? null : toBlock(name, raw);
  };
  const blockOf = async (height: number): Promise<unknown> => {
    try {
      return await send('eth_getBlockByNumber', [hex(height), false]);
    } catch (error) {
      if (error instanceof VendorError && NO_SUCH_BLOCK.test(error.said ?? '')) return null;
      throw error;
    }
  };
  /**
   * Some vendors do not know the tag, and say so in every form there is. None of them says anything about the chain
   * itself: the vendor has just shown its head.
   */
  const heightOf = async (tag: 'safe' | 'finalized', latest: BlockRef): Promise<number | null> => {
    try {
      const block = await blockAt(tag);
      return block === null ? null : Math.min(block.height, latest.height);
    } catch (error) {
      if (error instanceof VendorError) return null;
      throw error;
    }
  };
  const call = async (to: string, data: string): Promise<string[]> => {
    const answer = text(name, await send('eth_call', [{ to, data }, 'latest']));
    if (answer === '0x') return [];
    if (!/^0x([0-9a-f]{64})+$/.test(answer)) throw new VendorError(name, `${to} does not answer ${data}`);
    return answer.slice(2).match(/.{64}/g) ?? [];
  };

  return {
    name,
    chainId: async () => quantity(name, await send('eth_chainId', [])),
    async head() {
      const latest = await blockAt('latest');
      if (latest === null) throw new VendorError(name, 'has no latest block');
      const [safe, finalized] = await Promise.all([heightOf('safe', latest), heightOf('finalized', latest)]);
      return { latest, safe, finalized };
    },
    async block(height) {
      const raw = await blockOf(height);
      return raw === null ? null : toBlock(name, raw);
    },
    async contents(height) {
      const raw = await blockOf(height);
      if (raw === null) return null;
      const { transactions, logsBloom } = record(name, raw);
      if (!Array.isArray(transactions)) throw new VendorError(name, 'a block without transactions');
      return {
        block: toBlock(name, raw),
        logsBloom: typeof logsBloom === 'string' ? logsBloom : null,
        transactions: transactions.map((transaction) => text(name, hashOf(transaction))),
      };
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
        sender: text(name, fields['from']),
        height: quantity(name, fields['blockNumber']),
        isSuccess: quantity(name, fields['status']) === 1,
        logs: logs.map((log) => toLog(name, log)),
      };
    },
    async decimals(contract) {
      const [word] = await call(contract, SELECTORS.decimals);
      return word === undefined ? null : Number(BigInt(`0x${word}`));
    },
    async latestRound(feed) {
      const [decimals] = await call(feed, SELECTORS.decimals);
      const [, answer, startedAt, updatedAt] = await call(feed, SELECTORS.latestRoundData);
      if (decimals === undefined || updatedAt === undefined) throw new VendorError(name, `${feed} is not a price feed`);
      return {
        answer: BigInt.asIntN(256, BigInt(`0x${answer}`)),
        decimals: Number(BigInt(`0x${decimals}`)),
        startedAt: Number(BigInt(`0x${startedAt}`)),
        updatedAt: Number(BigInt(`0x${updatedAt}`)),
      };
    },
    close,
  };
}

/** Names of a chain's vendors: their hosts, which are no secret, unlike the keys in their addresses. */
export function vendorNames(urls: readonly string[]): string[] {
  const hosts = urls.map((url) => new URL(url).hostname);
  return hosts.map((host, n) => (hosts.filter((other) => other === host).length > 1 ? `${host}#${n + 1}` : host));
}

/** The hash of a transaction in a block; some nodes return the whole transaction where only hashes were requested. */
function hashOf(transaction: unknown): unknown {
  return typeof transaction === 'object' && transaction !== null
    ? (transaction as { hash?: unknown }).hash
    : transaction;
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
