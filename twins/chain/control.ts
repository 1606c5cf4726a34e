/**
 * The twin's own HTTP routes, in JSON: what happens on the chains, and what the vendors get wrong. Amounts are decimal
 * strings of whole tokens; bad input is a 422 that names the field.
 *
 *   GET  /state
 *   POST /transfer       {chain_id, token, to, amount, mine?, from?}, the faucet: USDC, USDT or a contract's address
 *   POST /relay          {chain_id, token, to: [{address, amount}], from?}, through a contract, in one transaction
 *   POST /mine           {chain_id, blocks?}
 *   POST /reorg          {chain_id, depth, reinclude?: [{tx_hash, offset}], replace?: [{tx_hash, to, offset}]}
 *   POST /feeds          {chain_id, token, answer, updated_at?}
 *   POST /faults         {chain_id, vendor, fault}, null: none; see `faults.ts`
 *   POST /transfer-fee   {chain_id, basis_points}, of USDT
 *   POST /blacklist      {chain_id, token, address, on}
 *   POST /pause          {chain_id, token, on}
 *   POST /fake-transfer  {chain_id, to, amount}
 */
import { isTokenName, type TokenName } from './addresses.ts';
import { faultShown, readFault } from './fault-input.ts';
import type { ChainHandle, Reorg, Sent } from './handle.ts';
import { RpcError } from './node.ts';
import { chainOf, type ChainWorld, type OfferedChain } from './world.ts';
import {
  BadInput,
  type JsonObject,
  optional,
  readBoolean,
  readChoice,
  readCount,
  readObject,
  readString,
  refuseOtherFields,
} from '../kit/input.ts';

export interface ControlAnswer {
  readonly status: number;
  readonly body: unknown;
}

interface Control {
  readonly fields: readonly string[];
  run(chain: OfferedChain, body: JsonObject): Promise<unknown>;
}

const TOKENS = ['USDC', 'USDT'] as const satisfies readonly TokenName[];
const FEEDS = [...TOKENS, 'sequencer'] as const;
const BASIS_POINTS_MAX = 10_000;

const CONTROLS: Readonly<Record<string, Control>> = {
  transfer: {
    fields: ['token', 'to', 'amount', 'mine', 'from'],
    run: async ({ handle }, body) => {
      const token = readString(body['token'], 'token');
      if (!isTokenName(token) && !token.startsWith('0x')) {
        throw new BadInput(`'token' must be ${TOKENS.join(', ')} or the address of a contract.`, 'token');
      }
      const mine = optional(body, 'mine', readBoolean);
      const from = optional(body, 'from', readString);
      const sent = { token, to: readString(body['to'], 'to'), amount: readString(body['amount'], 'amount') };
      const given = { ...(mine !== undefined && { mine }), ...(from !== undefined && { from }) };
      return sentShown(await handle.transfer({ ...sent, ...given }));
    },
  },
  relay: {
    fields: ['token', 'to', 'from'],
    run: async ({ handle }, body) => {
      const token = readChoice(body['token'], 'token', TOKENS);
      const from = optional(body, 'from', readString);
      const to = readList(body['to'], 'to', ['address', 'amount']).map((entry) => ({
        address: readString(entry['address'], 'address'),
        amount: readString(entry['amount'], 'amount'),
      }));
      return sentShown(await handle.relay({ token, to, ...(from !== undefined && { from }) }));
    },
  },
  'fake-transfer': {
    fields: ['to', 'amount'],
    run: async ({ handle }, body) => {
      const sent = { to: readString(body['to'], 'to'), amount: readString(body['amount'], 'amount') };
      return sentShown(await handle.fakeTransfer(sent));
    },
  },
  mine: {
    fields: ['blocks'],
    run: async ({ handle }, body) => {
      const blocks = optional(body, 'blocks', (value, field) => readCount(value, field, 1, 10_000));
      return { head: await handle.mine(blocks) };
    },
  },
  reorg: {
    fields: ['depth', 'reinclude', 'replace'],
    run: async ({ handle }, body) => {
      await handle.reorg(readReorg(body));
      return { head: handle.head };
    },
  },
  feeds: {
    fields: ['token', 'answer', 'updated_at'],
    run: async ({ handle }, body) => {
      const token = readChoice(body['token'], 'token', FEEDS);
      const updatedAt = optional(body, 'updated_at', readCount);
      const answer = readString(body['answer'], 'answer');
      await handle.setFeed({ token, answer, ...(updatedAt !== undefined && { updatedAt }) });
      return { head: handle.head };
    },
  },
  faults: {
    fields: ['vendor', 'fault'],
    run: async ({ handle, faults }, body) => {
      const vendor = readString(body['vendor'], 'vendor');
      if (body['fault'] === undefined) throw new BadInput("'fault' must be an object, or null for none.", 'fault');
      handle.fault(vendor, body['fault'] === null ? null : readFault(body['fault']));
      return { vendor, fault: faultShown(faults.get(vendor)?.fault ?? null) };
    },
  },
  'transfer-fee': {
    fields: ['basis_points'],
    run: ({ handle }, body) =>
      changed(
        handle,
        handle.setTransferFee('USDT', readCount(body['basis_points'], 'basis_points', 0, BASIS_POINTS_MAX)),
      ),
  },
  blacklist: {
    fields: ['token', 'address', 'on'],
    run: ({ handle }, body) => {
      const token = readChoice(body['token'], 'token', TOKENS);
      const address = readString(body['address'], 'address');
      return changed(handle, handle.setBlacklisted(token, address, readBoolean(body['on'], 'on')));
    },
  },
  pause: {
    fields: ['token', 'on'],
    run: ({ handle }, body) => {
      const token = readChoice(body['token'], 'token', TOKENS);
      return changed(handle, handle.setPaused(token, readBoolean(body['on'], 'on')));
    },
  },
};

/** Answers a call of the control API; `text` is its body. */
export async function answerControl(
  world: ChainWorld,
  method: string,
  path: string,
  text: string,
): Promise<ControlAnswer> {
  if (method === 'GET' && path === '/state') return { status: 200, body: stateOf(world) };
  const control = method === 'POST' ? CONTROLS[path.slice(1)] : undefined;
  if (control === undefined) return failure(404, `There is no route ${method} ${path}.`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return failure(400, 'The body is not valid JSON.', 'body');
  }
  try {
    const body = readObject(parsed, 'body');
    refuseOtherFields(body, ['chain_id', ...control.fields], 'body');
    return { status: 200, body: await control.run(chainOf(world, body['chain_id']), body) };
  } catch (error) {
    if (error instanceof BadInput) return failure(422, error.message, error.field);
    if (error instanceof RpcError) return failure(409, `The node refuses: ${error.message}.`);
    throw error;
  }
}

function failure(status: number, message: string, field: string | null = null): ControlAnswer {
  return { status, body: { error: { message, field } } };
}

function stateOf(world: ChainWorld): unknown {
  const chains = [...world.chains].map(([chainId, chain]) => ({
    chain_id: chainId,
    head: chain.handle.head,
    block_seconds: chain.blockSeconds,
    slots_in_an_epoch: chain.slotsInAnEpoch,
    tokens: chain.handle.tokens,
    feeds: chain.handle.feeds,
    anvil_url: chain.handle.anvilUrl,
    vendors: world.vendors.map((vendor) => ({
      vendor,
      rpc_url: world.rpcUrl(chainId, vendor),
      fault: faultShown(chain.faults.get(vendor)?.fault ?? null),
    })),
  }));
  return { chains };
}

function sentShown({ txHash, blockNumber, succeeded }: Sent): unknown {
  return { tx_hash: txHash, block_number: blockNumber, succeeded };
}

async function changed(handle: ChainHandle, change: Promise<void>): Promise<unknown> {
  await change;
  return { head: handle.head };
}

function readReorg(body: JsonObject): Reorg {
  return {
    depth: readCount(body['depth'], 'depth', 1),
    reinclude: readList(body['reinclude'], 'reinclude', ['tx_hash', 'offset']).map((entry) => ({
      txHash: readString(entry['tx_hash'], 'tx_hash'),
      offset: readCount(entry['offset'], 'offset'),
    })),
    replace: readList(body['replace'], 'replace', ['tx_hash', 'to', 'offset']).map((entry) => ({
      txHash: readString(entry['tx_hash'], 'tx_hash'),
      to: readString(entry['to'], 'to'),
      offset: readCount(entry['offset'], 'offset'),
    })),
  };
}

function readList(value: unknown, field: string, known: readonly string[]): JsonObject[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw new BadInput(`'${field}' must be a list.`, field);
  return value.map((entry: unknown) => {
    const read = readObject(entry, field);
    refuseOtherFields(read, known, field);
    return read;
  });
}
