/**
 * The chain twin: real EVM nodes on this machine with test tokens at the real tokens' addresses, for tests,
 * demonstrations and chaos. Blocks, reorgs and prices happen when they are told to; each chain is offered by several
 * RPC vendors, each with faults of its own. It holds no product logic.
 *
 * This file owns the HTTP server and puts the parts together: `/rpc/<chain id>/<vendor>` is `rpc.ts`, the rest is
 * `control.ts` and `page.ts`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { answerControl } from './control.ts';
import { type ChainFault, invent, type Invented } from './faults.ts';
import { type ChainHandle, openChain } from './handle.ts';
import { startNode } from './node.ts';
import { showPage, submitPage } from './page.ts';
import { refusalOf, sendRefusal } from './refusals.ts';
import { answerRpc, parseFailure } from './rpc.ts';
import { chainOf, type ChainWorld, type OfferedChain } from './world.ts';
import { BadInput } from '../kit/input.ts';
import { readBody, sendJson, sendPage } from '../kit/http.ts';

export type { ChainFault } from './faults.ts';
export type { Refusal } from './refusals.ts';
export type { ChainHandle } from './handle.ts';

export interface ChainTwinOptions {
  readonly host?: string;
  /** Port of the control API and of all vendors; 0 takes a free one. */
  readonly port?: number;
  readonly chains: readonly {
    readonly chainId: number;
    /** Null: blocks come only when they are asked for. */
    readonly blockSeconds: number | null;
    /** `safe` is this many blocks below the head, `finalized` twice as many. Default 8. */
    readonly slotsInAnEpoch?: number;
  }[];
  readonly vendors?: readonly string[];
  /** The chains are kept here across restarts; null: they end with the twin. */
  readonly stateFolder?: string | null;
}

export interface ChainTwin {
  /** Without a trailing slash. */
  readonly url: string;
  readonly port: number;
  /** Chain id → one URL per vendor, in the vendors' order. */
  readonly rpcUrls: Record<string, string[]>;
  /** Resolves when a node has ended unasked: the twin is of no use then. */
  readonly failed: Promise<string>;
  /** Throws for a chain that the twin was not started with. */
  chain(chainId: number): ChainHandle;
  /** Cuts open calls, writes the state, ends the nodes. */
  close(): Promise<void>;
}

const DEFAULT_VENDORS = ['alpha', 'beta'];
const DEFAULT_SLOTS_IN_AN_EPOCH = 8;
const BODY_BYTES_MAX = 4 * 1024 * 1024;
/** Longer than a client keeps an idle connection, so that the twin never closes one under a call. */
const KEEP_ALIVE_MS = 120_000;

/** Starts the nodes and resolves when the twin listens. Rejects when the port is taken or anvil does not start. */
export async function startChainTwin(options: ChainTwinOptions): Promise<ChainTwin> {
  const { host = '127.0.0.1', port = 0, vendors = DEFAULT_VENDORS, stateFolder = null } = options;
  let ownUrl = '';
  const chains = new Map<number, OfferedChain>();
  const world: ChainWorld = { vendors, chains, rpcUrl: (chainId, vendor) => `${ownUrl}/rpc/${chainId}/${vendor}` };
  const requireChain = (chainId: number): void => {
    if (chains.has(chainId)) return;
    throw new BadInput(`'answers_for' must be one of ${[...chains.keys()].join(', ')}.`, 'answers_for');
  };
  const offered = { vendors, requireChain };
  const closing = new AbortController();
  const server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    answer(world, closing.signal, request, response).catch((error: unknown) => {
      if (!closing.signal.aborted) process.stderr.write(`chain twin: ${String(error)}\n`);
      response.destroy();
    });
  });
  const endChains = async (): Promise<void> => {
    await Promise.all([...chains.values()].map(({ handle }) => handle.stop()));
    await Promise.all([...chains.values()].map(({ node }) => node.close()));
  };
  try {
    // All of them, also when one fails: none may be left behind.
    const opened = await Promise.allSettled(
      options.chains.map(async (chain) => chains.set(chain.chainId, await offer(offered, chain, stateFolder))),
    );
    for (const outcome of opened) if (outcome.status === 'rejected') throw outcome.reason;
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
  } catch (error) {
    await endChains();
    throw error;
  }
  const address = server.address() as AddressInfo;
  ownUrl = `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;

  return {
    url: ownUrl,
    port: address.port,
    rpcUrls: Object.fromEntries(
      [...chains.keys()].map((chainId) => [chainId, vendors.map((vendor) => world.rpcUrl(chainId, vendor))]),
    ),
    failed: Promise.race(
      [...chains].map(([chainId, { node }]) => node.exited.then(() => `the node of chain ${chainId} has ended`)),
    ),
    chain: (chainId) => chainOf(world, chainId).handle,
    close: async () => {
      closing.abort();
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await endChains();
      await closed;
    },
  };
}

async function offer(
  { vendors, requireChain }: { vendors: readonly string[]; requireChain: (chainId: number) => void },
  { chainId, blockSeconds, slotsInAnEpoch = DEFAULT_SLOTS_IN_AN_EPOCH }: ChainTwinOptions['chains'][number],
  stateFolder: string | null,
): Promise<OfferedChain> {
  const node = await startNode({ chainId, slotsInAnEpoch, folder: stateFolder });
  const faults: OfferedChain['faults'] = new Map();
  const fault = (vendor: string, change: ChainFault | null): void => {
    if (!vendors.includes(vendor)) throw new BadInput(`'vendor' must be one of ${vendors.join(', ')}.`, 'vendor');
    if (change?.answersFor !== undefined) requireChain(change.answersFor);
    if (change === null) faults.delete(vendor);
    else faults.set(vendor, { fault: change, invented: inventedBy(handle, vendor, change) });
  };
  const opening = openChain(node, { chainId, blockSeconds, slotsInAnEpoch, fault });
  const handle = await opening.catch(async (error: unknown) => {
    await node.close();
    throw error;
  });
  return { handle, node, blockSeconds, slotsInAnEpoch, faults };
}

function inventedBy(handle: ChainHandle, vendor: string, { inventLog }: ChainFault): Invented | null {
  if (inventLog === undefined) return null;
  return invent(inventLog, { vendor, token: handle.tokens.USDC, blockNumber: handle.head });
}

async function answer(
  world: ChainWorld,
  closing: AbortSignal,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = 'GET', url: target = '/' } = request;
  const { pathname: path, searchParams } = new URL(target, 'http://twin');
  const body = await readBody(request, BODY_BYTES_MAX);
  if (body === null) return sendJson(response, 413, { error: { message: 'The body is too large.' } });

  const rpc = /^\/rpc\/(\d+)\/([^/]+)$/.exec(path);
  if (rpc !== null) {
    await answerVendor(world, { chainId: Number(rpc[1]), vendor: rpc[2] ?? '', body, closing }, response);
  } else if (path === '/' && method === 'GET') {
    sendPage(response, { status: 200, html: showPage(world, searchParams) });
  } else if (path === '/' && method === 'POST') {
    const page = await submitPage(world, new URLSearchParams(body));
    sendPage(response, page);
  } else {
    const outcome = await answerControl(world, method, path, body);
    sendJson(response, outcome.status, outcome.body);
  }
}

async function answerVendor(
  world: ChainWorld,
  call: { chainId: number; vendor: string; body: string; closing: AbortSignal },
  response: ServerResponse,
): Promise<void> {
  const chain = world.chains.get(call.chainId);
  if (chain === undefined || !world.vendors.includes(call.vendor)) {
    return sendJson(response, 404, { error: { message: 'There is no such chain or vendor.' } });
  }
  const { fault, invented } = chain.faults.get(call.vendor) ?? { fault: {}, invented: null };
  if (fault.hang === true) return;
  if (fault.delayMs !== undefined) await sleep(fault.delayMs, undefined, { signal: call.closing });
  if (fault.status !== undefined) {
    const message = fault.status === 429 ? 'too many requests' : 'internal error';
    return sendJson(response, fault.status, { jsonrpc: '2.0', id: null, error: { code: -32005, message } });
  }
  const chainId = fault.answersFor ?? call.chainId;
  const { node, slotsInAnEpoch } = chainOf(world, chainId);
  const vendor = { node, chainId, slotsInAnEpoch, fault, invented };
  let parsed: unknown;
  try {
    parsed = JSON.parse(call.body);
  } catch {
    return sendJson(response, 200, parseFailure());
  }
  const answer = (): Promise<unknown> => answerRpc(vendor, parsed);
  const refusal = refusalOf(fault.refusals ?? [], parsed);
  if (refusal !== null) return sendRefusal(response, refusal, { closing: call.closing, answer });
  sendJson(response, 200, await answer());
}
