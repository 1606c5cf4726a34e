/** Faults of an RPC vendor of a test chain, and the changes they make in its answers. */
import { id, zeroPadValue } from 'ethers';
import { readAddress, readAmount } from './tokens.ts';
import { RpcError } from './node.ts';
import type { Refusal } from './refusals.ts';
import { isObject, type JsonObject } from '../kit/input.ts';

export interface ChainFault {
  /** The vendor's chain ends this many blocks before the real head. */
  readonly lagBlocks?: number;
  /** The vendor's chain ends at this height. */
  readonly freezeAt?: number;
  /** No range of blocks has logs. Receipts have them. */
  readonly emptyLogs?: boolean;
  /** The vendor does not know these transactions. */
  readonly dropLogs?: readonly string[];
  /** A transfer that never happened, in the block that was the head when the fault was set. Balances do not show it. */
  readonly inventLog?: { readonly to: string; readonly amount: string };
  /** The most blocks in one `eth_getLogs`. */
  readonly maxRange?: number;
  /** The most logs in one answer. */
  readonly maxLogs?: number;
  /** No answer has more logs than this, and none says that there are more. */
  readonly cutLogs?: number;
  /** Logs end this many blocks before the vendor's own head. Headers and receipts do not. */
  readonly lagLogsBlocks?: number;
  /**
   * The bloom filters of its headers have every bit set, as those of busy chains nearly do: they say nothing of any
   * log.
   */
  readonly blurBlooms?: boolean;
  /** The most calls in one batch. */
  readonly maxBatch?: number;
  /** Calls that are refused, each by the first rule that fits. */
  readonly refusals?: readonly Refusal[];
  /** Every call gets this HTTP status. */
  readonly status?: number;
  /** No call is ever answered. */
  readonly hang?: boolean;
  readonly delayMs?: number;
  readonly duplicateLogs?: boolean;
  /** Logs come in the reverse order. */
  readonly shuffleLogs?: boolean;
  readonly nullReceipts?: boolean;
  /** The vendor says that it is on this chain. */
  readonly chainId?: number;
  /** Everything is answered from this chain of the twin, its id included. */
  readonly answersFor?: number;
}

export interface Log {
  readonly address: string;
  readonly topics: readonly string[];
  readonly data: string;
  readonly blockHash: string;
  readonly blockNumber: string;
  readonly transactionHash: string;
  readonly transactionIndex: string;
  readonly logIndex: string;
  readonly removed: boolean;
}

const TRANSFER_TOPIC = id('Transfer(address,address,uint256)');
/** The sender of invented transfers. */
const NOBODY = `0x${'0'.repeat(32)}deadbeef`;
const quantity = (value: number): string => `0x${value.toString(16)}`;

/** A made-up transfer, pinned to a height; which block that is, a reorg may change, as with a real one. */
export interface Invented {
  readonly blockNumber: number;
  readonly transactionHash: string;
  readonly token: string;
  readonly to: string;
  readonly amount: bigint;
}

/** Throws `BadInput` when the fault's address or amount is none. */
export function invent(
  { to, amount }: { readonly to: string; readonly amount: string },
  place: { readonly vendor: string; readonly token: string; readonly blockNumber: number },
): Invented {
  const { vendor, token, blockNumber } = place;
  const transactionHash = id(`invented by ${vendor} in block ${blockNumber}: ${amount} to ${to}`);
  const receiver = readAddress(to, 'to');
  return { blockNumber, transactionHash, token, to: receiver, amount: readAmount(amount) };
}

/** The invented log as it stands behind the real ones of its block. */
export function inventedLog(invented: Invented, block: JsonObject, logsBefore: number): Log {
  const { transactionHash, token, to, amount } = invented;
  const transactions = block['transactions'];
  return {
    address: token.toLowerCase(),
    topics: [TRANSFER_TOPIC, zeroPadValue(NOBODY, 32), zeroPadValue(to.toLowerCase(), 32)],
    data: `0x${amount.toString(16).padStart(64, '0')}`,
    blockHash: String(block['hash']),
    blockNumber: quantity(invented.blockNumber),
    transactionHash,
    transactionIndex: quantity(Array.isArray(transactions) ? transactions.length : 0),
    logIndex: quantity(logsBefore),
    removed: false,
  };
}

export function inventedReceipt(log: Log): JsonObject {
  const { address, blockHash, blockNumber, transactionHash, transactionIndex } = log;
  return {
    ...{ transactionHash, transactionIndex, blockHash, blockNumber, from: NOBODY, to: address, type: '0x2' },
    ...{ status: '0x1', gasUsed: '0xcafe', cumulativeGasUsed: '0xcafe', effectiveGasPrice: '0x3b9aca00' },
    ...{ contractAddress: null, logsBloom: `0x${'0'.repeat(512)}`, logs: [log] },
  };
}

export function inventedTransaction(log: Log, chainId: number): JsonObject {
  const { address, blockHash, blockNumber, transactionHash, transactionIndex } = log;
  const input = `0xa9059cbb${(log.topics[2] ?? '').slice(2)}${log.data.slice(2)}`;
  return {
    ...{ hash: transactionHash, transactionIndex, blockHash, blockNumber, from: NOBODY, to: address, type: '0x2' },
    ...{ chainId: quantity(chainId), nonce: '0x0', gas: '0x30d40', value: '0x0', input, accessList: [] },
    ...{ gasPrice: '0x3b9aca00', maxFeePerGas: '0x3b9aca00', maxPriorityFeePerGas: '0x3b9aca00' },
    ...{ r: `0x${'1'.repeat(64)}`, s: `0x${'1'.repeat(64)}`, v: '0x0', yParity: '0x0' },
  };
}

/** Whether `eth_getLogs` with this filter's addresses and topics would find the log. */
export function matches(log: Log, filter: JsonObject): boolean {
  const accepts = (wanted: unknown, value: string): boolean =>
    wanted === null ||
    wanted === undefined ||
    [wanted].flat().some((one) => typeof one === 'string' && one.toLowerCase() === value.toLowerCase());
  const { address, topics } = filter;
  const everyTopic =
    !Array.isArray(topics) ||
    topics.every((wanted: unknown, position) => {
      const topic = log.topics[position];
      return topic === undefined ? false : (Array.isArray(wanted) && wanted.length === 0) || accepts(wanted, topic);
    });
  return everyTopic && ((Array.isArray(address) && address.length === 0) || accepts(address, log.address));
}

export function inOrder(logs: readonly Log[]): Log[] {
  return logs.toSorted(
    (a, b) => Number(a.blockNumber) - Number(b.blockNumber) || Number(a.logIndex) - Number(b.logIndex),
  );
}

/** The last step: what the vendor does to a list of logs that is right so far. */
export function disarranged(logs: readonly Log[], fault: ChainFault): readonly Log[] {
  const known = logs.filter(({ transactionHash }) => !hides(fault, transactionHash));
  if (fault.maxLogs !== undefined && known.length > fault.maxLogs) {
    throw new RpcError(-32005, `the answer would have more than ${fault.maxLogs} logs; ask for fewer blocks`);
  }
  const cut = known.slice(0, fault.cutLogs);
  const doubled = fault.duplicateLogs === true ? cut.flatMap((log) => [log, log]) : cut;
  return fault.shuffleLogs === true ? doubled.toReversed() : doubled;
}

/** Whether the vendor denies that there is this transaction. */
export function hides({ dropLogs = [] }: ChainFault, transactionHash: unknown): boolean {
  return typeof transactionHash === 'string' && dropLogs.some((hash) => hash.toLowerCase() === transactionHash);
}

/** A block as the vendor shows it: without what it hides, with what it made up. */
export function blockShown(real: JsonObject, fault: ChainFault, invented: Log | null, chainId: number): JsonObject {
  const block = fault.blurBlooms === true ? { ...real, logsBloom: `0x${'f'.repeat(512)}` } : real;
  const { transactions } = block;
  if (!Array.isArray(transactions)) return block;
  const hashOf = (transaction: unknown): unknown => (isObject(transaction) ? transaction['hash'] : transaction);
  const shown: unknown[] = transactions.filter((transaction: unknown) => !hides(fault, hashOf(transaction)));
  if (invented !== null) {
    const whole = transactions.some(isObject);
    shown.push(whole ? inventedTransaction(invented, chainId) : invented.transactionHash);
  }
  return { ...block, transactions: shown };
}
