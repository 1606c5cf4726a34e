/**
 * The chain twin of these tests, read through `ethers` as the product reads a chain: one chain of two vendors whose
 * blocks come when they are asked for, or the twin as a process that is stopped and started again. Whatever a vendor
 * shows that no real one would show, or hides that a real one shows, would let a wrong deposit pass every other test.
 */
import { join } from 'node:path';
import { Contract, FetchRequest, HDNodeWallet, id, JsonRpcProvider, Network, zeroPadValue, type Log } from 'ethers';
import { tokensOf } from '../../../twins/chain/addresses.ts';
import { startChainTwin, type ChainHandle, type ChainTwin } from '../../../twins/chain/twin.ts';
import { TwinProcesses, type TwinProcess } from '../../support/twin-process.ts';

export interface ChainFixture {
  readonly twin: ChainTwin;
  readonly chain: ChainHandle;
  readonly alpha: JsonRpcProvider;
  readonly beta: JsonRpcProvider;
  /** Both vendors tell the truth again. */
  clearFaults(): void;
  close(): Promise<void>;
}

/** A vendor's answer to one call. */
export interface RpcAnswer {
  readonly id?: unknown;
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly message: string };
}

/** The chain's id. */
export const BASE = 8453;
/** `safe` is this many blocks below the head, `finalized` twice as many. */
export const SLOTS = 4;
export const TRANSFER = id('Transfer(address,address,uint256)');
export const ALICE = '0x00000000000000000000000000000000A11ce001';

const READ_ABI = ['function balanceOf(address) view returns (uint256)', 'function decimals() view returns (uint8)'];

/** Begins past the first finality, so that every tag names a block of its own. */
export async function startChain(): Promise<ChainFixture> {
  const twin = await startChainTwin({ chains: [{ chainId: BASE, blockSeconds: null, slotsInAnEpoch: SLOTS }] });
  const chain = twin.chain(BASE);
  const [alpha, beta] = (twin.rpcUrls[String(BASE)] ?? []).map(provider) as [JsonRpcProvider, JsonRpcProvider];
  await chain.mine(3 * SLOTS);
  return {
    twin,
    chain,
    alpha,
    beta,
    clearFaults() {
      for (const vendor of ['alpha', 'beta']) chain.fault(vendor, null);
    },
    async close() {
      alpha.destroy();
      beta.destroy();
      await twin.close();
    },
  };
}

/** The twin as processes one after the other, on one folder as the sandbox has it. */
export class ChainProcesses {
  readonly #processes = new TwinProcesses('chain');
  readonly folder = this.#processes.folder;
  /** The stored state of a twin: its chains and the operator's wallet. */
  readonly twinFolder = join(this.folder, 'chain');

  start(options?: Parameters<TwinProcesses['start']>[1]): Promise<TwinProcess> {
    return this.#processes.start({ TWIN_CHAINS: String(BASE), TWIN_DATA_FOLDER: this.twinFolder }, options);
  }

  /** In order, so that no node of a chain is left behind. */
  end(): Promise<void> {
    return this.#processes.end('SIGTERM');
  }
}

/** As the product sets its providers up: no batches, no cache, no retries of its own. */
export function provider(url: string): JsonRpcProvider {
  const request = new FetchRequest(url);
  request.setThrottleParams({ maxAttempts: 1 });
  const network = Network.from(BASE);
  return new JsonRpcProvider(request, network, { staticNetwork: network, batchMaxCount: 1, cacheTimeout: -1 });
}

export function vendorUrl({ url }: { readonly url: string }, vendor: 'alpha' | 'beta'): string {
  return `${url}/rpc/${BASE}/${vendor}`;
}

/** An address that no other test uses. */
export function fresh(): string {
  return HDNodeWallet.createRandom().address;
}

/** All transfers of the chain's tokens to an address, in a range of blocks or up to the head. */
export function logsTo(
  node: JsonRpcProvider,
  to: string,
  { from = 0, to: end = 'latest' }: { from?: number; to?: number | 'latest' } = {},
): Promise<Log[]> {
  const topics = [TRANSFER, null, zeroPadValue(to, 32)];
  return node.getLogs({ address: Object.values(tokensOf(BASE)), topics, fromBlock: from, toBlock: end });
}

/** The fields of a log in an answer to `eth_getLogs` and in a receipt alike. */
export function partsOf(log: Log): unknown {
  const { address, topics, data, blockHash, blockNumber, transactionHash, transactionIndex, index } = log;
  return { address, topics, data, blockHash, blockNumber, transactionHash, transactionIndex, index };
}

export async function hashOf(node: JsonRpcProvider, block: number | string): Promise<string> {
  const hash = (await node.getBlock(block))?.hash;
  if (typeof hash !== 'string') throw new Error(`there is no block ${block}`);
  return hash;
}

export function balanceOf(node: JsonRpcProvider, token: string, holder: string): Promise<bigint> {
  return new Contract(token, READ_ABI, node).getFunction('balanceOf')(holder) as Promise<bigint>;
}

/** Of a token, or of a price's feed. */
export function decimalsOf(node: JsonRpcProvider, contract: string): Promise<bigint> {
  return new Contract(contract, READ_ABI, node).getFunction('decimals')() as Promise<bigint>;
}

/** One call, past `ethers` and its own view of an answer. */
export async function rpc(url: string, method: string, params: readonly unknown[] = []): Promise<RpcAnswer> {
  return (await post<RpcAnswer>(url, { jsonrpc: '2.0', id: 7, method, params })).body;
}

/** A text is sent as it is: it may be no JSON. */
export async function post<T>(url: string, body: unknown): Promise<{ status: number; body: T }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as T };
}
