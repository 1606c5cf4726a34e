/**
 * The JSON-RPC endpoint of one vendor: what a rented node offers, in front of the real one, with the vendor's own
 * faults. Nothing of a test node shows here (`anvil_…`, unlocked accounts), so the product cannot come to depend on it.
 *
 * A vendor whose chain ends early is consistent: heights, tags, logs, receipts and states all end at the same block. It
 * follows a reorg like the others, below that block.
 */
import {
  blockShown,
  type ChainFault,
  disarranged,
  hides,
  inOrder,
  type Invented,
  inventedLog,
  inventedReceipt,
  inventedTransaction,
  type Log,
  matches,
} from './faults.ts';
import { type ChainNode, RpcError } from './node.ts';
import { isObject, type JsonObject } from '../kit/input.ts';

export interface Vendor {
  readonly node: ChainNode;
  readonly chainId: number;
  readonly slotsInAnEpoch: number;
  readonly fault: ChainFault;
  readonly invented: Invented | null;
}

/** Where a method's block tag is among its parameters; the methods that read a state at a block. */
const STATE_TAG_AT: Readonly<Record<string, number>> = {
  eth_call: 1,
  eth_estimateGas: 1,
  eth_getBalance: 1,
  eth_getCode: 1,
  eth_getTransactionCount: 1,
  eth_getStorageAt: 2,
};
const PASSED_ON = new Set([
  'eth_feeHistory',
  'eth_gasPrice',
  'eth_maxPriorityFeePerGas',
  'eth_sendRawTransaction',
  'eth_syncing',
  'web3_clientVersion',
]);
const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;
const METHOD_NOT_FOUND = -32601;
const INVALID_PARAMS = -32602;
const SERVER_ERROR = -32000;

const quantity = (value: number): string => `0x${value.toString(16)}`;

/** Answers a body of one call or a batch. */
export async function answerRpc(vendor: Vendor, body: unknown): Promise<unknown> {
  if (!Array.isArray(body)) return answerOne(vendor, body);
  if (body.length === 0) return failure(null, new RpcError(INVALID_REQUEST, 'an empty batch'));
  const { maxBatch = Infinity } = vendor.fault;
  if (body.length > maxBatch) {
    return failure(null, new RpcError(INVALID_REQUEST, `a batch may have at most ${maxBatch} calls`));
  }
  return Promise.all(body.map((call: unknown) => answerOne(vendor, call)));
}

export function parseFailure(): JsonObject {
  return failure(null, new RpcError(PARSE_ERROR, 'the body is not JSON'));
}

async function answerOne(vendor: Vendor, call: unknown): Promise<JsonObject> {
  const id = isObject(call) ? (call['id'] ?? null) : null;
  try {
    if (!isObject(call) || typeof call['method'] !== 'string') throw new RpcError(INVALID_REQUEST, 'not a call');
    const params: unknown = call['params'] ?? [];
    if (!Array.isArray(params)) throw new RpcError(INVALID_PARAMS, 'params must be a list');
    return { jsonrpc: '2.0', id, result: await resultOf(vendor, call['method'], params) };
  } catch (error) {
    if (error instanceof RpcError) return failure(id, error);
    throw error;
  }
}

function failure(id: unknown, { code, message, data }: RpcError): JsonObject {
  return { jsonrpc: '2.0', id, error: { code, message, ...(data !== undefined && { data }) } };
}

async function resultOf(vendor: Vendor, method: string, params: readonly unknown[]): Promise<unknown> {
  const { node, fault } = vendor;
  switch (method) {
    case 'eth_chainId':
      return quantity(fault.chainId ?? vendor.chainId);
    case 'net_version':
      return String(fault.chainId ?? vendor.chainId);
    case 'eth_blockNumber':
      return quantity(await endOf(vendor));
    case 'eth_getBlockByNumber':
      return blockByNumber(vendor, params);
    case 'eth_getBlockByHash':
      return shownBlock(vendor, await node.call(method, params));
    case 'eth_getLogs':
      return logsOf(vendor, isObject(params[0]) ? params[0] : {});
    case 'eth_getTransactionReceipt':
      return receiptOf(vendor, params[0]);
    case 'eth_getTransactionByHash':
      return transactionOf(vendor, params[0]);
  }
  const tagAt = STATE_TAG_AT[method];
  if (tagAt !== undefined) return stateOf(vendor, method, params, tagAt);
  if (PASSED_ON.has(method)) return node.call(method, params);
  throw new RpcError(METHOD_NOT_FOUND, `the method ${method} does not exist or is not available`);
}

/** The last block that this vendor knows. */
async function endOf({ node, fault }: Vendor): Promise<number> {
  const head = Number(await node.call('eth_blockNumber'));
  return Math.max(0, Math.min(head - (fault.lagBlocks ?? 0), fault.freezeAt ?? head));
}

function endsEarly({ fault }: Vendor): boolean {
  return fault.lagBlocks !== undefined || fault.freezeAt !== undefined;
}

/** The height that a tag means to this vendor; a number stands for itself. */
function heightOf({ slotsInAnEpoch }: Vendor, tag: unknown, end: number): number {
  switch (tag) {
    case undefined:
    case null:
    case 'latest':
    case 'pending':
      return end;
    case 'safe':
      return Math.max(0, end - slotsInAnEpoch);
    case 'finalized':
      return Math.max(0, end - 2 * slotsInAnEpoch);
    case 'earliest':
      return 0;
  }
  if (typeof tag === 'string' && /^0x[0-9a-f]{1,13}$/i.test(tag)) return Number(tag);
  throw new RpcError(INVALID_PARAMS, 'not a block number or tag');
}

async function blockByNumber(vendor: Vendor, [tag, whole]: readonly unknown[]): Promise<unknown> {
  const end = await endOf(vendor);
  const height = heightOf(vendor, tag, end);
  if (height > end) return null;
  return shownBlock(vendor, await vendor.node.call('eth_getBlockByNumber', [quantity(height), whole === true]));
}

async function shownBlock(vendor: Vendor, block: unknown): Promise<unknown> {
  if (!isObject(block) || (await isBeyondEnd(vendor, block['number']))) return null;
  const { invented, fault, chainId } = vendor;
  const log = invented?.blockNumber === Number(block['number']) ? await inventedLogOf(vendor, invented) : null;
  return blockShown(block, fault, log, chainId);
}

async function isBeyondEnd(vendor: Vendor, height: unknown): Promise<boolean> {
  return endsEarly(vendor) && Number(height) > (await endOf(vendor));
}

async function stateOf(vendor: Vendor, method: string, params: readonly unknown[], tagAt: number): Promise<unknown> {
  const tag = params[tagAt];
  if (!endsEarly(vendor) || isObject(tag)) return vendor.node.call(method, params);
  const end = await endOf(vendor);
  const height = heightOf(vendor, tag, end);
  if (height > end) throw new RpcError(SERVER_ERROR, 'header not found');
  const placed = [...params];
  placed[tagAt] = quantity(height);
  return vendor.node.call(method, placed);
}

async function receiptOf(vendor: Vendor, hash: unknown): Promise<unknown> {
  const { fault, invented, node } = vendor;
  if (fault.nullReceipts === true || hides(fault, lower(hash))) return null;
  if (invented !== null && invented.transactionHash === lower(hash)) {
    const log = await inventedLogOf(vendor, invented);
    return log === null ? null : inventedReceipt(log);
  }
  const receipt = await node.call('eth_getTransactionReceipt', [hash]);
  return isObject(receipt) && (await isBeyondEnd(vendor, receipt['blockNumber'])) ? null : receipt;
}

async function transactionOf(vendor: Vendor, hash: unknown): Promise<unknown> {
  const { fault, invented, node, chainId } = vendor;
  if (hides(fault, lower(hash))) return null;
  if (invented !== null && invented.transactionHash === lower(hash)) {
    const log = await inventedLogOf(vendor, invented);
    return log === null ? null : inventedTransaction(log, chainId);
  }
  const transaction = await node.call('eth_getTransactionByHash', [hash]);
  const height = isObject(transaction) ? transaction['blockNumber'] : null;
  return typeof height === 'string' && (await isBeyondEnd(vendor, height)) ? null : transaction;
}

async function logsOf(vendor: Vendor, filter: JsonObject): Promise<readonly Log[]> {
  const { node, fault, invented } = vendor;
  if (typeof filter['blockHash'] === 'string') return logsOfBlock(vendor, filter, filter['blockHash']);
  const end = await endOf(vendor);
  const from = heightOf(vendor, filter['fromBlock'], end);
  const asked = heightOf(vendor, filter['toBlock'], end);
  if (from > asked) throw new RpcError(INVALID_PARAMS, 'the range of blocks ends before it begins');
  if (fault.maxRange !== undefined && asked - from + 1 > fault.maxRange) {
    throw new RpcError(INVALID_PARAMS, `a range of blocks may have at most ${fault.maxRange} blocks`);
  }
  // A rented node says nothing about blocks that it does not have yet: it answers as if they held no logs.
  const to = Math.min(asked, end - (fault.lagLogsBlocks ?? 0));
  if (from > to || fault.emptyLogs === true) return [];
  const range = { ...filter, fromBlock: quantity(from), toBlock: quantity(to) };
  const logs = (await node.call('eth_getLogs', [range])) as Log[];
  if (invented === null || invented.blockNumber < from || invented.blockNumber > to) return disarranged(logs, fault);
  return disarranged(withInvented(logs, await inventedLogOf(vendor, invented), filter), fault);
}

async function logsOfBlock(vendor: Vendor, filter: JsonObject, blockHash: string): Promise<readonly Log[]> {
  const { node, fault, invented } = vendor;
  const block = await node.call('eth_getBlockByHash', [blockHash, false]);
  if (!isObject(block) || (await isBeyondEnd(vendor, block['number'])))
    throw new RpcError(SERVER_ERROR, 'unknown block');
  const isLagging = Number(block['number']) > (await endOf(vendor)) - (fault.lagLogsBlocks ?? 0);
  if (fault.emptyLogs === true || isLagging) return [];
  const logs = (await node.call('eth_getLogs', [filter])) as Log[];
  if (invented === null || invented.blockNumber !== Number(block['number'])) return disarranged(logs, fault);
  return disarranged(withInvented(logs, await inventedLogOf(vendor, invented), filter), fault);
}

function withInvented(logs: readonly Log[], invented: Log | null, filter: JsonObject): readonly Log[] {
  return invented === null || !matches(invented, filter) ? logs : inOrder([...logs, invented]);
}

/** Null while the vendor's chain ends before it. */
async function inventedLogOf(vendor: Vendor, invented: Invented): Promise<Log | null> {
  if (await isBeyondEnd(vendor, invented.blockNumber)) return null;
  const block = await vendor.node.call('eth_getBlockByNumber', [quantity(invented.blockNumber), false]);
  if (!isObject(block)) return null;
  const logs = (await vendor.node.call('eth_getLogs', [{ blockHash: block['hash'] }])) as Log[];
  return inventedLog(invented, block, logs.length);
}

function lower(hash: unknown): unknown {
  return typeof hash === 'string' ? hash.toLowerCase() : hash;
}
