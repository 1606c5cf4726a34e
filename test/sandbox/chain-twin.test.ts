/**
 * The chain twin against `ethers`, as the product reads a chain. Whatever a vendor shows here that no real one would show, or
 * hides that a real one shows, would let a wrong deposit pass every other test.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { Contract, FetchRequest, HDNodeWallet, id, JsonRpcProvider, type Log, Network, zeroPadValue } from 'ethers';

import { contractSources, sourcesSha256 } from '../../sandbox/contracts/sources.ts';
import { isRunning, readRecord } from '../../sandbox/process-record.ts';
import { chainRpcUrls, PROVIDER_TWINS, takesRealMoney } from '../../sandbox/provider-twins.ts';
import { FEEDS } from '../../sandbox/twins/chain/addresses.ts';
import { ARTIFACTS } from '../../sandbox/twins/chain/contracts.ts';
import { optionsFromEnvironment } from '../../sandbox/twins/chain/config.ts';
import { type ChainFault, type ChainHandle, type ChainTwin, startChainTwin } from '../../sandbox/twins/chain/twin.ts';
import { parseWorkerConfig } from '../../worker/config.ts';

const MAIN = join(import.meta.dirname, '../../sandbox/twins/chain/main.ts');
const BASE = 8453;
const SLOTS = 4;
const TRANSFER = id('Transfer(address,address,uint256)');
const ALICE = '0x00000000000000000000000000000000A11ce001';
const BOB = '0x0000000000000000000000000000000000b0b001';
const TOKEN_ABI = [
  'function balanceOf(address) view returns (uint256)',
  'function decimals() view returns (uint8)',
  'function transfer(address,uint256) returns (bool)',
];
const FEED_ABI = [
  'function decimals() view returns (uint8)',
  'function latestRoundData() view returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)',
];

/** As the product sets its providers up: no batches, no cache, no retries of its own. */
function provider(url: string): JsonRpcProvider {
  const request = new FetchRequest(url);
  request.setThrottleParams({ maxAttempts: 1 });
  const network = Network.from(BASE);
  return new JsonRpcProvider(request, network, { staticNetwork: network, batchMaxCount: 1, cacheTimeout: -1 });
}

/** What a log is in an answer to `eth_getLogs` and in a receipt alike. */
function partsOf({
  address,
  topics,
  data,
  blockHash,
  blockNumber,
  transactionHash,
  transactionIndex,
  index,
}: Log): unknown {
  return { address, topics, data, blockHash, blockNumber, transactionHash, transactionIndex, index };
}

async function until<T>(look: () => Promise<T | null | undefined | false>): Promise<T> {
  for (;;) {
    const seen = await look();
    if (seen !== null && seen !== undefined && seen !== false) return seen;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('chain twin', () => {
  let twin: ChainTwin;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;

  before(async () => {
    twin = await startChainTwin({ chains: [{ chainId: BASE, blockSeconds: null, slotsInAnEpoch: SLOTS }] });
    chain = twin.chain(BASE);
    [alpha, beta] = (twin.rpcUrls[String(BASE)] ?? []).map(provider) as [JsonRpcProvider, JsonRpcProvider];
    // Past the first finality, so that every tag names a block of its own.
    await chain.mine(3 * SLOTS);
  });
  after(async () => {
    alpha.destroy();
    beta.destroy();
    await twin.close();
  });
  afterEach(() => {
    for (const vendor of ['alpha', 'beta']) chain.fault(vendor, null);
  });

  /** An address that no other test uses. */
  const fresh = (): string => HDNodeWallet.createRandom().address;

  function logsTo(node: JsonRpcProvider, to: string, range: { from?: number; to?: number } = {}): Promise<Log[]> {
    const topics = [TRANSFER, null, zeroPadValue(to, 32)];
    const { from = 0, to: end = 'latest' } = range;
    return node.getLogs({ address: Object.values(chain.tokens), topics, fromBlock: from, toBlock: end });
  }

  async function hashOf(node: JsonRpcProvider, block: number | string): Promise<string> {
    const found = await node.getBlock(block);
    assert(found?.hash);
    return found.hash;
  }

  async function rpc(method: string, params: unknown[] = [], vendor = 'alpha'): Promise<Record<string, unknown>> {
    return (await rpcRaw({ jsonrpc: '2.0', id: 7, method, params }, vendor)) as Record<string, unknown>;
  }

  async function rpcRaw(body: unknown, vendor = 'alpha'): Promise<unknown> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    const response = await fetch(`${twin.url}/rpc/${BASE}/${vendor}`, { method: 'POST', body: text });
    return response.json();
  }

  const balance = (token: string, holder: string): Promise<bigint> =>
    new Contract(token, TOKEN_ABI, beta).getFunction('balanceOf')(holder) as Promise<bigint>;

  describe('transfers', () => {
    for (const token of ['USDC', 'USDT'] as const) {
      it(`a transfer of ${token} is the same log, receipt and balance at every vendor`, async () => {
        const to = fresh();
        const { txHash, blockNumber, succeeded } = await chain.transfer({ token, to, amount: '25.5' });
        assert.equal(succeeded, true);
        for (const node of [alpha, beta]) {
          const [log, ...others] = await logsTo(node, to);
          assert.deepEqual(others, []);
          assert.equal(log?.address, chain.tokens[token]);
          assert.equal(log.blockNumber, blockNumber);
          assert.equal(log.blockHash, await hashOf(node, log.blockNumber));
          assert.equal(log.transactionHash, txHash);
          assert.equal(BigInt(log.data), 25_500_000n);
          assert.notEqual(log.topics[1], zeroPadValue('0x00', 32), 'a deposit comes from somebody');
          const receipt = await node.getTransactionReceipt(txHash);
          assert.equal(receipt?.status, 1);
          assert.deepEqual(receipt.logs.map(partsOf), [partsOf(log)]);
        }
        assert.equal(await balance(chain.tokens[token], to), 25_500_000n);
      });
    }

    it('the tokens stand at the real ones’ addresses and have six decimals', async () => {
      assert.deepEqual(chain.tokens, {
        USDC: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913',
        USDT: '0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2',
      });
      for (const token of Object.values(chain.tokens)) {
        assert.equal(await new Contract(token, TOKEN_ABI, alpha).getFunction('decimals')(), 6n);
      }
    });

    it('a transfer that is not mined waits for the next block', async () => {
      const to = fresh();
      const sent = await chain.transfer({ token: 'USDC', to, amount: '1', mine: false });
      assert.deepEqual([sent.blockNumber, sent.succeeded], [null, null]);
      assert.equal(await alpha.getTransactionReceipt(sent.txHash), null);
      assert.equal((await alpha.getTransaction(sent.txHash))?.blockNumber, null);
      const head = await chain.mine();
      assert.equal((await alpha.getTransactionReceipt(sent.txHash))?.blockNumber, head);
    });

    it('a transfer fee of USDT is a log of its own, and the receiver’s log has what arrived', async () => {
      await chain.setTransferFee('USDT', 100);
      try {
        const to = fresh();
        const { txHash } = await chain.transfer({ token: 'USDT', to, amount: '20' });
        const receipt = await alpha.getTransactionReceipt(txHash);
        assert.deepEqual(
          receipt?.logs.map((log) => BigInt(log.data)),
          [19_800_000n, 200_000n],
        );
        assert.equal(BigInt((await logsTo(alpha, to))[0]?.data ?? 0), 19_800_000n);
        assert.equal(await balance(chain.tokens.USDT, to), 19_800_000n);
      } finally {
        await chain.setTransferFee('USDT', 0);
      }
    });

    it('USDT’s transfer returns nothing, USDC’s returns true', async () => {
      for (const [token, returned] of [
        ['USDT', '0x'],
        ['USDC', zeroPadValue('0x01', 32)],
      ] as const) {
        const data = `0xa9059cbb${zeroPadValue(ALICE, 32).slice(2)}${'0'.repeat(64)}`;
        assert.equal(await alpha.call({ from: BOB, to: chain.tokens[token], data }), returned);
      }
    });

    it('a frozen account cannot be paid in USDC; in USDT it can; a paused token pays nobody', async () => {
      const to = fresh();
      for (const token of ['USDC', 'USDT'] as const) await chain.setBlacklisted(token, to, true);
      assert.equal((await chain.transfer({ token: 'USDC', to, amount: '1' })).succeeded, false);
      assert.equal((await chain.transfer({ token: 'USDT', to, amount: '1' })).succeeded, true);
      await chain.setBlacklisted('USDC', to, false);
      assert.equal((await chain.transfer({ token: 'USDC', to, amount: '1' })).succeeded, true);
      for (const token of ['USDC', 'USDT'] as const) {
        await chain.setPaused(token, true);
        const { succeeded, txHash } = await chain.transfer({ token, to, amount: '1' });
        await chain.setPaused(token, false);
        assert.equal(succeeded, false);
        assert.deepEqual((await alpha.getTransactionReceipt(txHash))?.logs, []);
      }
    });

    it('a fake token logs a transfer of what nobody has, under another address', async () => {
      const to = fresh();
      const { txHash } = await chain.fakeTransfer({ to, amount: '1000' });
      const [log] = (await alpha.getTransactionReceipt(txHash))?.logs ?? [];
      assert.deepEqual([log?.topics[0], log?.topics[2]], [TRANSFER, zeroPadValue(to.toLowerCase(), 32)]);
      assert.equal(Object.values(chain.tokens).includes(log?.address ?? ''), false);
      assert.equal(await balance(log?.address ?? '', to), 0n);
      assert.deepEqual(await logsTo(alpha, to), []);
    });
  });

  describe('reorgs', () => {
    it('a dropped transfer is gone everywhere, and the chain is as high as before', async () => {
      const to = fresh();
      const { txHash, blockNumber } = await chain.transfer({ token: 'USDC', to, amount: '5' });
      await chain.mine(2);
      const { head } = chain;
      const before = await hashOf(alpha, blockNumber ?? 0);
      await chain.reorg({ depth: 3 });
      assert.equal(await alpha.getBlockNumber(), head);
      assert.deepEqual(await logsTo(alpha, to), []);
      assert.equal(await alpha.getTransactionReceipt(txHash), null);
      assert.equal(await balance(chain.tokens.USDC, to), 0n);
      assert.notEqual(await hashOf(alpha, blockNumber ?? 0), before);
      assert.equal(await alpha.getBlock(before), null);
      await chain.mine(2);
      assert.equal(await alpha.getTransactionReceipt(txHash), null, 'it does not come back');
    });

    it('a re-included transfer is in another block, under another log index, and the same within its transaction', async () => {
      const to = fresh();
      const first = await chain.transfer({ token: 'USDC', to, amount: '5', mine: false });
      const second = await chain.transfer({ token: 'USDT', to: fresh(), amount: '6' });
      const [before] = await logsTo(alpha, to);
      assert.equal(before?.index, 0);
      await chain.mine();
      await chain.reorg({
        depth: 2,
        reinclude: [
          { txHash: second.txHash, offset: 1 },
          { txHash: first.txHash, offset: 1 },
        ],
      });
      const [after, ...others] = await logsTo(beta, to);
      assert.deepEqual(others, []);
      assert.equal(after?.transactionHash, before.transactionHash);
      assert.equal(after.blockNumber, before.blockNumber + 1);
      assert.equal(after.index, 1);
      assert.notEqual(after.blockHash, before.blockHash);
      assert.equal(await balance(chain.tokens.USDC, to), 5_000_000n);
    });

    it('a replaced transfer pays somebody else with the same nonce, and can never come back', async () => {
      const [to, thief] = [fresh(), fresh()];
      const { txHash } = await chain.transfer({ token: 'USDC', to, amount: '7' });
      const old = await alpha.getTransaction(txHash);
      await chain.reorg({ depth: 1, replace: [{ txHash, to: thief, offset: 0 }] });
      assert.equal(await alpha.getTransactionReceipt(txHash), null);
      assert.deepEqual(await logsTo(alpha, to), []);
      const [log] = await logsTo(alpha, thief);
      const replacement = await alpha.getTransaction(log?.transactionHash ?? '');
      assert.deepEqual([replacement?.from, replacement?.nonce], [old?.from, old?.nonce]);
      assert.equal(BigInt(log?.data ?? 0), 7_000_000n);
    });

    it('empty blocks are others too, and a reorg deeper than finality is possible', async () => {
      await chain.mine(3 * SLOTS);
      const final = await alpha.getBlock('finalized');
      assert(final);
      await chain.reorg({ depth: chain.head - final.number + 1 });
      assert.notEqual(await hashOf(alpha, final.number), final.hash);
      assert.equal(await hashOf(alpha, final.number - 1), final.parentHash);
    });

    it('one reorg takes out any of several transfers and keeps the others', async () => {
      const to = fresh();
      const sent = [];
      for (const amount of ['1', '2', '3']) sent.push(await chain.transfer({ token: 'USDC', to, amount }));
      const kept = sent.slice(1).map(({ txHash }, offset) => ({ txHash, offset }));
      await chain.reorg({ depth: 3, reinclude: kept });
      assert.deepEqual(
        (await logsTo(alpha, to)).map((log) => BigInt(log.data)),
        [2_000_000n, 3_000_000n],
      );
    });

    it('a reorg that cannot be is refused and changes nothing', async () => {
      const before = await hashOf(alpha, 'latest');
      await assert.rejects(chain.reorg({ depth: 0 }), { name: 'BadInput', field: 'depth' });
      await assert.rejects(chain.reorg({ depth: 33 }), { name: 'BadInput', field: 'depth' });
      const unknown = { txHash: id('nothing'), offset: 0 };
      await assert.rejects(chain.reorg({ depth: 1, reinclude: [unknown] }), { field: 'reinclude' });
      await assert.rejects(chain.reorg({ depth: 1, replace: [{ ...unknown, to: ALICE }] }), { field: 'replace' });
      const { txHash } = await chain.transfer({ token: 'USDC', to: fresh(), amount: '1' });
      await assert.rejects(chain.reorg({ depth: 2, reinclude: [{ txHash, offset: 2 }] }), { field: 'offset' });
      assert.equal(await hashOf(alpha, chain.head - 1), before);
      assert.equal((await alpha.getTransactionReceipt(txHash))?.blockNumber, chain.head);
    });
  });

  describe('tags and prices', () => {
    it('safe and finalized follow the head at their distance', async () => {
      const { head } = chain;
      for (const step of [0, 1, 2]) {
        assert.equal((await alpha.getBlock('latest'))?.number, head + step);
        assert.equal((await alpha.getBlock('safe'))?.number, head + step - SLOTS);
        assert.equal((await beta.getBlock('finalized'))?.number, head + step - 2 * SLOTS);
        await chain.mine();
      }
    });

    it('a price is fresh until it is given a time, and can be anything', async () => {
      const feed = new Contract(chain.feeds.USDC, FEED_ABI, alpha);
      interface Round {
        answer: bigint;
        updatedAt: bigint;
      }
      const round = async (): Promise<Round> => (await feed.getFunction('latestRoundData')()) as Round;
      assert.equal(await feed.getFunction('decimals')(), 8n);
      const now = await alpha.getBlock('latest');
      assert.deepEqual(
        [(await round()).answer, (await round()).updatedAt],
        [100_000_000n, BigInt(now?.timestamp ?? 0)],
      );
      await chain.setFeed({ token: 'USDC', answer: '0.9712', updatedAt: 1_700_000_000 });
      assert.deepEqual([(await round()).answer, (await round()).updatedAt], [97_120_000n, 1_700_000_000n]);
      await chain.setFeed({ token: 'USDC', answer: '-1' });
      assert.equal((await round()).answer, -100_000_000n);
      await chain.setFeed({ token: 'USDC', answer: '1' });
      await assert.rejects(chain.setFeed({ token: 'USDC', answer: 'one' }), { field: 'answer' });
    });

    it('the sequencer is up since long ago, and a change of it has just happened', async () => {
      const feed = new Contract(chain.feeds.sequencer, FEED_ABI, alpha);
      interface Round {
        answer: bigint;
        startedAt: bigint;
      }
      const round = async (): Promise<Round> => (await feed.getFunction('latestRoundData')()) as Round;
      assert.deepEqual([(await round()).answer, (await round()).startedAt], [0n, 1n]);
      const from = Math.floor(Date.now() / 1000);
      await chain.setFeed({ token: 'sequencer', answer: '1' });
      assert.equal((await round()).answer, 1n);
      assert((await round()).startedAt >= from);
      await chain.setFeed({ token: 'sequencer', answer: '0', updatedAt: 5 });
      assert.deepEqual([(await round()).answer, (await round()).startedAt], [0n, 5n]);
      await assert.rejects(chain.setFeed({ token: 'sequencer', answer: '2' }), { field: 'answer' });
    });
  });

  describe('faults', () => {
    const faulty = (fault: ChainFault): void => chain.fault('alpha', fault);

    for (const kind of ['lagBlocks', 'freezeAt'] as const) {
      it(`${kind}: the vendor’s chain ends early in every answer, and the other’s does not`, async () => {
        const to = fresh();
        const old = await chain.transfer({ token: 'USDC', to, amount: '1' });
        const { txHash, blockNumber } = await chain.transfer({ token: 'USDC', to, amount: '2' });
        await chain.mine();
        const end = chain.head - 2;
        const beyond = await hashOf(beta, chain.head);
        faulty(kind === 'lagBlocks' ? { lagBlocks: 2 } : { freezeAt: end });

        assert.equal(await alpha.getBlockNumber(), end);
        for (const [tag, behind] of [
          ['latest', 0],
          ['safe', SLOTS],
          ['finalized', 2 * SLOTS],
        ] as const) {
          assert.equal((await alpha.getBlock(tag))?.number, end - behind);
        }
        assert.equal(await alpha.getBlock(end + 1), null);
        assert.equal(await alpha.getBlock(beyond), null);
        assert.equal(await alpha.getTransactionReceipt(txHash), null);
        assert.equal(await alpha.getTransaction(txHash), null);
        assert.equal((await alpha.getTransactionReceipt(old.txHash))?.blockNumber, end);
        for (const range of [{}, { to: blockNumber ?? 0 }]) {
          assert.deepEqual(
            (await logsTo(alpha, to, range)).map((log) => log.transactionHash),
            [old.txHash],
          );
        }
        assert.deepEqual(await logsTo(alpha, to, { from: end + 1, to: end + 1 }), []);
        assert.deepEqual(await logsTo(alpha, to, { from: end + 1, to: end + 50 }), []);
        await assert.rejects(alpha.getLogs({ blockHash: beyond }), /unknown block/);
        const held = new Contract(chain.tokens.USDC, TOKEN_ABI, alpha).getFunction('balanceOf');
        assert.equal(await held(to), 1_000_000n);
        const { error } = await rpc('eth_getBalance', [to, `0x${(end + 1).toString(16)}`]);
        assert.equal((error as { message: string } | undefined)?.message, 'header not found');

        assert.equal((await logsTo(beta, to)).length, 2);
        chain.fault('alpha', null);
        assert.equal((await logsTo(alpha, to)).length, 2);
      });
    }

    it('freezeAt holds while the chain goes on, lagBlocks follows it', async () => {
      const end = chain.head;
      faulty({ freezeAt: end });
      chain.fault('beta', { lagBlocks: 1 });
      await chain.mine(2);
      assert.deepEqual([await alpha.getBlockNumber(), await beta.getBlockNumber()], [end, end + 1]);
    });

    it('emptyLogs: no range and no block has logs, receipts still do', async () => {
      const to = fresh();
      const { txHash, blockNumber } = await chain.transfer({ token: 'USDC', to, amount: '1' });
      faulty({ emptyLogs: true });
      assert.deepEqual(await logsTo(alpha, to), []);
      assert.deepEqual(await alpha.getLogs({ blockHash: await hashOf(alpha, blockNumber ?? 0) }), []);
      assert.equal((await alpha.getTransactionReceipt(txHash))?.logs.length, 1);
    });

    it('dropLogs: the vendor knows nothing of these transactions, and all of the others', async () => {
      const to = fresh();
      const hidden = await chain.transfer({ token: 'USDC', to, amount: '1', mine: false });
      const shown = await chain.transfer({ token: 'USDC', to, amount: '2' });
      faulty({ dropLogs: [hidden.txHash.toUpperCase().replace('0X', '0x')] });
      assert.deepEqual(
        (await logsTo(alpha, to)).map((log) => log.transactionHash),
        [shown.txHash],
      );
      assert.equal(await alpha.getTransactionReceipt(hidden.txHash), null);
      assert.equal(await alpha.getTransaction(hidden.txHash), null);
      assert.deepEqual((await alpha.getBlock(chain.head))?.transactions, [shown.txHash]);
      assert.equal((await logsTo(beta, to)).length, 2);
    });

    it('inventLog: a transfer that never happened, in logs, receipt, transaction and block, through a reorg', async () => {
      const to = fresh();
      await chain.transfer({ token: 'USDC', to: fresh(), amount: '1' });
      const { head } = chain;
      faulty({ inventLog: { to, amount: '500' } });
      await chain.mine();
      const [log, ...others] = await logsTo(alpha, to);
      assert(log);
      assert.deepEqual(others, []);
      assert.deepEqual([log.blockNumber, log.address, BigInt(log.data)], [head, chain.tokens.USDC, 500_000_000n]);
      assert.equal(log.index, 1, 'behind the real log of its block');
      assert.equal(log.blockHash, await hashOf(alpha, head));
      assert.deepEqual(await logsTo(alpha, to, { from: head + 1 }), []);
      assert.deepEqual(await logsTo(alpha, to, { to: head - 1 }), []);
      const receipt = await alpha.getTransactionReceipt(log.transactionHash);
      assert.deepEqual([receipt?.status, receipt?.blockHash], [1, log.blockHash]);
      assert.deepEqual(receipt?.logs.map(partsOf), [partsOf(log)]);
      assert.equal((await alpha.getTransaction(log.transactionHash))?.blockNumber, head);
      assert((await alpha.getBlock(head))?.transactions.includes(log.transactionHash));
      assert.equal((await alpha.getBlock(head, true))?.prefetchedTransactions.length, 2);
      assert.equal(await balance(chain.tokens.USDC, to), 0n);
      assert.deepEqual(await logsTo(beta, to), []);
      assert.equal(await beta.getTransactionReceipt(log.transactionHash), null);

      await chain.reorg({ depth: 2 });
      const [moved] = await logsTo(alpha, to);
      assert.deepEqual([moved?.blockNumber, moved?.index], [head, 0]);
      assert.equal(moved?.blockHash, await hashOf(alpha, head));
    });

    it('maxRange and maxLogs: too much at once is an error, less is answered', async () => {
      const to = fresh();
      await chain.transfer({ token: 'USDC', to, amount: '1', mine: false });
      await chain.transfer({ token: 'USDT', to, amount: '2' });
      const { head } = chain;
      faulty({ maxRange: 3 });
      await assert.rejects(logsTo(alpha, to, { from: head - 3, to: head }), /at most 3 blocks/);
      assert.equal((await logsTo(alpha, to, { from: head - 2, to: head })).length, 2);
      faulty({ maxLogs: 1 });
      await assert.rejects(logsTo(alpha, to, { from: head, to: head }), /more than 1 logs/);
      assert.deepEqual(await logsTo(alpha, to, { from: 0, to: head - 1 }), []);
    });

    it('duplicateLogs and shuffleLogs: every log twice, the last one first', async () => {
      const to = fresh();
      const first = await chain.transfer({ token: 'USDC', to, amount: '1' });
      const second = await chain.transfer({ token: 'USDC', to, amount: '2' });
      faulty({ duplicateLogs: true, shuffleLogs: true });
      assert.deepEqual(
        (await logsTo(alpha, to)).map((log) => log.transactionHash),
        [second.txHash, second.txHash, first.txHash, first.txHash],
      );
    });

    it('nullReceipts: there is a log, but no receipt', async () => {
      const to = fresh();
      const { txHash } = await chain.transfer({ token: 'USDC', to, amount: '1' });
      faulty({ nullReceipts: true });
      assert.equal(await alpha.getTransactionReceipt(txHash), null);
      assert.equal((await logsTo(alpha, to)).length, 1);
    });

    it('chainId: the vendor says that it is on another chain', async () => {
      faulty({ chainId: 1 });
      assert.deepEqual([(await rpc('eth_chainId'))['result'], (await rpc('net_version'))['result']], ['0x1', '1']);
      assert.equal((await rpc('eth_chainId', [], 'beta'))['result'], '0x2105');
    });

    for (const status of [429, 500] as const) {
      it(`status ${status}: every call fails with it`, async () => {
        faulty({ status });
        const response = await fetch(`${twin.url}/rpc/${BASE}/alpha`, { method: 'POST', body: '{}' });
        assert.equal(response.status, status);
        await response.body?.cancel();
        await assert.rejects(alpha.getBlockNumber());
        assert.equal(await beta.getBlockNumber(), chain.head);
      });
    }

    it('hang: no answer ever comes, at this vendor only', async () => {
      faulty({ hang: true });
      const gaveUp = new AbortController();
      const hanging = fetch(`${twin.url}/rpc/${BASE}/alpha`, {
        method: 'POST',
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_blockNumber', params: [] }),
        signal: gaveUp.signal,
      });
      assert.equal(await Promise.race([hanging.then(() => 'alpha'), beta.getBlockNumber().then(() => 'beta')]), 'beta');
      gaveUp.abort();
      await assert.rejects(hanging, { name: 'AbortError' });
    });

    it('delayMs: the answer is right and late', async () => {
      faulty({ delayMs: 150 });
      const begin = performance.now();
      assert.equal(await alpha.getBlockNumber(), chain.head);
      assert(performance.now() - begin >= 149);
    });

    it('a fault of a vendor that is not there is refused', () => {
      assert.throws(() => chain.fault('gamma', {}), { name: 'BadInput', field: 'vendor' });
      assert.throws(() => chain.fault('alpha', { inventLog: { to: ALICE, amount: '1.1234567' } }), { field: 'amount' });
    });
  });

  describe('JSON-RPC', () => {
    it('a batch is answered in its order, each call for itself', async () => {
      const answers = (await rpcRaw([
        { jsonrpc: '2.0', id: 'a', method: 'eth_chainId', params: [] },
        { jsonrpc: '2.0', id: 2, method: 'eth_nothing', params: [] },
        { jsonrpc: '2.0', id: 3, method: 'eth_blockNumber' },
      ])) as { id: unknown; result?: string; error?: { code: number } }[];
      assert.deepEqual(
        answers.map(({ id: key, result, error }) => [key, result ?? error?.code]),
        [
          ['a', '0x2105'],
          [2, -32601],
          [3, `0x${chain.head.toString(16)}`],
        ],
      );
    });

    it('what is no call is answered with the protocol’s own errors', async () => {
      const code = async (body: unknown): Promise<unknown> =>
        ((await rpcRaw(body)) as { error: { code: number } }).error.code;
      assert.equal(await code('{'), -32700);
      assert.equal(await code([]), -32600);
      assert.equal(await code({ id: 1 }), -32600);
      assert.equal(await code({ id: 1, method: 'eth_call', params: {} }), -32602);
      assert.equal(await code({ id: 1, method: 'eth_getBlockByNumber', params: ['soon', false] }), -32602);
    });

    it('S27: there are no filters or subscriptions, which die silently: a reader that used them would fail at once', async () => {
      for (const method of ['eth_newFilter', 'eth_newBlockFilter', 'eth_getFilterChanges', 'eth_subscribe']) {
        const { error } = await rpc(method);
        assert.equal((error as { code: number } | undefined)?.code, -32601, method);
      }
    });

    it('nothing of a test node is reachable through a vendor', async () => {
      for (const method of ['anvil_mine', 'evm_mine', 'eth_sendTransaction', 'eth_accounts', 'hardhat_setBalance']) {
        const { error } = await rpc(method);
        assert.equal((error as { code: number } | undefined)?.code, -32601, method);
      }
    });

    it('a transaction that a customer’s wallet signs arrives by any vendor', async () => {
      const { mnemonic } = HDNodeWallet.createRandom();
      assert(mnemonic);
      const wallet = HDNodeWallet.fromMnemonic(mnemonic).connect(beta);
      await fetch(chain.anvilUrl, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          jsonrpc: '2.0',
          id: 1,
          method: 'anvil_setBalance',
          params: [wallet.address, '0xde0b6b3a7640000'],
        }),
      }).then((response) => response.body?.cancel());
      await chain.transfer({ token: 'USDC', to: wallet.address, amount: '3' });
      const to = fresh();
      const token = new Contract(chain.tokens.USDC, TOKEN_ABI, wallet);
      const sent = (await token.getFunction('transfer')(to, 2_000_000n)) as { hash: string };
      await chain.mine();
      assert.equal((await logsTo(alpha, to))[0]?.transactionHash, sent.hash);
    });

    it('a chain or a vendor that is not there is a 404', async () => {
      for (const path of ['/rpc/8453/gamma', '/rpc/10/alpha', '/nothing']) {
        const response = await fetch(`${twin.url}${path}`, { method: 'POST', body: '{}' });
        await response.body?.cancel();
        assert.equal(response.status, 404, path);
      }
    });
  });

  describe('control API', () => {
    interface Answered {
      status: number;
      body: Record<string, unknown> & { error?: { message: string; field: string | null } };
    }

    async function post(path: string, body: unknown): Promise<Answered> {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      const response = await fetch(`${twin.url}/${path}`, { method: 'POST', body: text });
      return { status: response.status, body: (await response.json()) as Answered['body'] };
    }

    it('does what the handle does', async () => {
      const to = fresh();
      const sent = await post('transfer', { chain_id: BASE, token: 'USDC', to, amount: '25' });
      assert.deepEqual([sent.status, sent.body['succeeded']], [200, true]);
      const { head } = (await post('mine', { chain_id: BASE, blocks: 2 })).body;
      assert.equal(head, Number(sent.body['block_number']) + 2);
      const reinclude = [{ tx_hash: sent.body['tx_hash'], offset: 1 }];
      assert.deepEqual((await post('reorg', { chain_id: BASE, depth: 3, reinclude })).body, { head });
      assert.equal((await logsTo(alpha, to))[0]?.blockNumber, Number(sent.body['block_number']) + 1);
      const replace = [{ tx_hash: sent.body['tx_hash'], to: fresh(), offset: 0 }];
      assert.equal((await post('reorg', { chain_id: BASE, depth: 2, replace })).status, 200);
      assert.deepEqual(await logsTo(alpha, to), []);
      assert.equal((await post('feeds', { chain_id: BASE, token: 'USDT', answer: '1.001' })).status, 200);
      assert.equal((await post('transfer-fee', { chain_id: BASE, basis_points: 0 })).status, 200);
      for (const on of [true, false]) {
        assert.equal((await post('pause', { chain_id: BASE, token: 'USDT', on })).status, 200);
        assert.equal((await post('blacklist', { chain_id: BASE, token: 'USDC', address: to, on })).status, 200);
      }
      assert.equal((await post('fake-transfer', { chain_id: BASE, to, amount: '1' })).body['succeeded'], true);
    });

    it('takes every fault in snake_case, shows it, and takes it away', async () => {
      const fault = {
        ...{ lag_blocks: 1, freeze_at: 5, empty_logs: true, drop_logs: [id('x')], max_range: 10, status: 429 },
        ...{ invent_log: { to: ALICE, amount: '1' }, hang: true, duplicate_logs: true, shuffle_logs: true },
        ...{ null_receipts: true, chain_id: 1, max_logs: 2, delay_ms: 1 },
      };
      assert.deepEqual((await post('faults', { chain_id: BASE, vendor: 'beta', fault })).body, {
        vendor: 'beta',
        fault,
      });
      const state = async (): Promise<unknown> => {
        const response = await fetch(`${twin.url}/state`);
        const { chains } = (await response.json()) as {
          chains: { chain_id: number; head: number; vendors: unknown }[];
        };
        assert.deepEqual([chains[0]?.chain_id, chains[0]?.head], [BASE, chain.head]);
        return chains[0]?.vendors;
      };
      const [alphaUrl, betaUrl] = twin.rpcUrls[String(BASE)] ?? [];
      assert.deepEqual(await state(), [
        { vendor: 'alpha', rpc_url: alphaUrl, fault: null },
        { vendor: 'beta', rpc_url: betaUrl, fault },
      ]);
      await post('faults', { chain_id: BASE, vendor: 'beta', fault: null });
      assert.equal(await beta.getBlockNumber(), chain.head);
    });

    const sent = { chain_id: BASE, token: 'USDC', to: ALICE, amount: '1' };
    const refused: [path: string, body: unknown, field: string][] = [
      ['transfer', { ...sent, chain_id: 10 }, 'chain_id'],
      ['transfer', { ...sent, chain_id: '8453' }, 'chain_id'],
      ['transfer', { ...sent, token: 'DAI' }, 'token'],
      ['transfer', { ...sent, token: '0x12' }, 'token'],
      ['transfer', { ...sent, to: '0x12' }, 'to'],
      ['transfer', { ...sent, to: ALICE.replace('A11c', 'a11C') }, 'to'],
      ['transfer', { ...sent, amount: 1 }, 'amount'],
      ['transfer', { ...sent, amount: '-1' }, 'amount'],
      ['transfer', { ...sent, amount: '1e3' }, 'amount'],
      ['transfer', { ...sent, amount: '0.1234567' }, 'amount'],
      ['transfer', { ...sent, ammount: '1' }, 'ammount'],
      ['mine', { chain_id: BASE, blocks: 0 }, 'blocks'],
      ['reorg', { chain_id: BASE }, 'depth'],
      ['reorg', { chain_id: BASE, depth: 1, reinclude: [{ tx_hash: '0x1', offset: 0 }] }, 'reinclude'],
      ['reorg', { chain_id: BASE, depth: 1, replace: 'all' }, 'replace'],
      ['feeds', { chain_id: BASE, token: 'ETH', answer: '1' }, 'token'],
      ['feeds', { chain_id: BASE, token: 'USDC', answer: '1.123456789' }, 'answer'],
      ['faults', { chain_id: BASE, vendor: 'gamma', fault: null }, 'vendor'],
      ['faults', { chain_id: BASE, vendor: 'alpha' }, 'fault'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { lagBlocks: 1 } }, 'lagBlocks'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { status: 200 } }, 'status'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { drop_logs: ['0x1'] } }, 'drop_logs'],
      ['transfer-fee', { chain_id: BASE, basis_points: 10_001 }, 'basis_points'],
      ['blacklist', { chain_id: BASE, token: 'USDC', address: 'me', on: true }, 'address'],
      ['pause', { chain_id: BASE, token: 'USDC' }, 'on'],
      ['fake-transfer', { chain_id: BASE, to: ALICE, amount: '' }, 'amount'],
    ];
    for (const [path, body, field] of refused) {
      it(`POST /${path} with ${JSON.stringify(body)} is a 422 that names ${field}`, async () => {
        const { head } = chain;
        const { status, body: answer } = await post(path, body);
        assert.deepEqual([status, answer.error?.field], [422, field]);
        assert.equal(chain.head, head);
      });
    }

    it('a body that is no JSON is a 400', async () => {
      assert.equal((await post('mine', '{')).status, 400);
    });
  });

  describe('faucet page', () => {
    it('is filled in by its link, and shows what a link says as text', async () => {
      const query = new URLSearchParams({ chain_id: String(BASE), token: 'USDT', to: `"><b>${ALICE}`, amount: '12.5' });
      const response = await fetch(`${twin.url}/?${query.toString()}`);
      const html = await response.text();
      assert.match(html, /<option value="8453" selected>Base/);
      assert.match(html, /<option value="USDT" selected>/);
      assert.match(html, /value="12\.5"/);
      assert(html.includes(`value="&quot;&gt;&lt;b&gt;${ALICE}"`));
      assert.match(response.headers.get('content-security-policy') ?? '', /default-src 'none'/);
      assert.equal(/(?:src|href)=/.test(html), false, 'no outside resources');
    });

    const submit = async (fields: Record<string, string>): Promise<{ status: number; html: string }> => {
      const response = await fetch(`${twin.url}/`, { method: 'POST', body: new URLSearchParams(fields) });
      return { status: response.status, html: await response.text() };
    };

    it('sends, says where it went, and mines', async () => {
      const to = fresh();
      const sent = await submit({ chain_id: String(BASE), token: 'USDC', to: ` ${to} `, amount: '25', action: 'send' });
      const [log] = await logsTo(alpha, to);
      assert.equal(BigInt(log?.data ?? 0), 25_000_000n);
      assert.equal(sent.status, 200);
      assert.match(
        sent.html,
        new RegExp(`role="status">25 USDC sent .*${log?.transactionHash} in block ${log?.blockNumber}`),
      );
      const { head } = chain;
      assert.match((await submit({ action: 'mine' })).html, new RegExp(`The last one is ${head + 25}`));
    });

    it('says what is wrong, and keeps what was typed', async () => {
      const { status, html } = await submit({ chain_id: String(BASE), token: 'USDC', to: '0x12', amount: '25' });
      assert.equal(status, 422);
      assert.match(html, /role="alert">&?.*must be an address/);
      assert.match(html, /name="to" value="0x12"[^>]* aria-invalid="true"/);
    });
  });
});

describe('chain twin over time', () => {
  const folders: string[] = [];
  const children: ChildProcess[] = [];

  afterEach(async () => {
    for (const child of children.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill('SIGTERM');
      await once(child, 'exit');
    }
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });

  function newFolder(): string {
    const folder = mkdtempSync(join(tmpdir(), 'chain-twin-test-'));
    folders.push(folder);
    return folder;
  }

  async function startProcess(
    stateFolder: string,
    errors: 'inherit' | 'ignore' = 'inherit',
  ): Promise<{ child: ChildProcess; url: string }> {
    const child = spawn(process.execPath, [MAIN], {
      env: { ...process.env, TWIN_CHAINS: String(BASE), TWIN_DATA_FOLDER: stateFolder },
      stdio: ['ignore', 'pipe', errors],
    });
    children.push(child);
    const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
    const { listening } = JSON.parse(line) as { listening: number };
    return { child, url: `http://127.0.0.1:${listening}` };
  }

  async function post<T>(url: string, path: string, body: unknown): Promise<T> {
    const response = await fetch(`${url}/${path}`, { method: 'POST', body: JSON.stringify(body) });
    assert.equal(response.status, 200, await response.clone().text());
    return (await response.json()) as T;
  }

  interface SentBody {
    tx_hash: string;
    block_number: number;
  }

  const anvilOf = (folder: string): NonNullable<ReturnType<typeof readRecord>> => {
    const record = readRecord(join(folder, String(BASE), 'anvil.pid.json'));
    assert(record);
    return record;
  };

  it('blocks come by themselves, take waiting transfers with them, and still allow reorgs', async () => {
    const twin = await startChainTwin({ chains: [{ chainId: BASE, blockSeconds: 0.05 }] });
    try {
      const chain = twin.chain(BASE);
      const node = provider(twin.rpcUrls[String(BASE)]?.[0] ?? '');
      const { txHash } = await chain.transfer({ token: 'USDC', to: ALICE, amount: '1', mine: false });
      const receipt = await until(() => node.getTransactionReceipt(txHash));
      await until(async () => chain.head >= receipt.blockNumber + 2);
      const before = await node.getBlock(receipt.blockNumber);
      // A block may come between the question for the head and the reorg, which then is one too short.
      await until(async () => {
        await chain.reorg({ depth: chain.head - receipt.blockNumber + 1 });
        return (await node.getTransactionReceipt(txHash)) === null;
      });
      assert.notEqual((await node.getBlock(receipt.blockNumber))?.hash, before?.hash);
      const { head } = chain;
      await until(async () => chain.head > head);
      node.destroy();
    } finally {
      await twin.close();
    }
  });

  it('a restart keeps the chain, its hashes and its wallet, and reorgs go on from there', async () => {
    const folder = newFolder();
    const first = await startProcess(folder);
    const sent = await post<SentBody>(first.url, 'transfer', { chain_id: BASE, token: 'USDC', to: ALICE, amount: '9' });
    await post(first.url, 'mine', { chain_id: BASE, blocks: 3 });
    const reader = provider(`${first.url}/rpc/${BASE}/alpha`);
    const hash = (await reader.getBlock(sent.block_number))?.hash;
    reader.destroy();
    const wallet = readFileSync(join(folder, 'operator-wallet.json'), 'utf8');
    const anvil = anvilOf(folder);
    first.child.kill('SIGTERM');
    await once(first.child, 'exit');
    assert.equal(isRunning(anvil), false, 'the node ends with its twin');

    const second = await startProcess(folder);
    assert.equal(readFileSync(join(folder, 'operator-wallet.json'), 'utf8'), wallet);
    const again = provider(`${second.url}/rpc/${BASE}/beta`);
    assert.equal(await again.getBlockNumber(), sent.block_number + 3);
    assert.equal((await again.getBlock(sent.block_number))?.hash, hash);
    assert.equal((await again.getTransactionReceipt(sent.tx_hash))?.logs.length, 1);
    const held = new Contract('0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913', TOKEN_ABI, again).getFunction('balanceOf');
    assert.equal(await held(ALICE), 9_000_000n);
    const more = await post<SentBody>(second.url, 'transfer', {
      chain_id: BASE,
      token: 'USDC',
      to: ALICE,
      amount: '1',
    });
    await post(second.url, 'reorg', { chain_id: BASE, depth: 1 });
    assert.equal(await again.getTransactionReceipt(more.tx_hash), null);
    assert.equal(await held(ALICE), 9_000_000n);
    const behind = await fetch(`${second.url}/reorg`, {
      method: 'POST',
      body: JSON.stringify({ chain_id: BASE, depth: 2 }),
    });
    assert.equal(behind.status, 422, 'the node has no state from before its start');
    again.destroy();
  });

  it('the product’s wallet derives the addresses that the operator’s phrase can spend from', async () => {
    const folder = newFolder();
    await startProcess(folder);
    const file = readFileSync(join(folder, 'operator-wallet.json'), 'utf8');
    const { phrase, path, xpub } = JSON.parse(file) as { phrase: string; path: string; xpub: string };
    const secret = HDNodeWallet.fromPhrase(phrase, undefined, `${path}/7`);
    assert.equal(HDNodeWallet.fromExtendedKey(xpub).deriveChild(7).address, secret.address);
    assert.match(xpub, /^xpub/);
  });

  it('what the sandbox tells the product of the twin is a configuration that the product takes', async () => {
    const folder = newFolder();
    const { url } = await startProcess(join(folder, 'chain'));
    const sandbox = PROVIDER_TWINS.find(({ name }) => name === 'chain');
    assert(sandbox);
    const env = sandbox.productEnv({ url, apiUrl: 'http://api.test', publicUrl: 'http://api.test', folder });
    const { payments } = parseWorkerConfig({
      ...env,
      DATABASE_URL: 'postgres://nobody@localhost/nothing',
      TEMPORAL_ADDRESS: 'localhost:1',
    });
    assert.equal(payments.crypto?.live, false);
    assert.deepEqual(
      payments.crypto.chains.map(({ chainId, rpcUrls, sequencerFeed }) => [chainId, rpcUrls, sequencerFeed]),
      [
        [1, chainRpcUrls(url)['1'], null],
        [BASE, chainRpcUrls(url)[String(BASE)], FEEDS.sequencer],
      ],
    );
    const reader = provider(payments.crypto.chains[1]?.rpcUrls[1] ?? '');
    for (const { contract, feed, decimals } of payments.crypto.chains[1]?.tokens ?? []) {
      assert.equal(await new Contract(contract, TOKEN_ABI, reader).getFunction('decimals')(), BigInt(decimals));
      assert.equal(await new Contract(feed?.address ?? '', FEED_ABI, reader).getFunction('decimals')(), 8n);
    }
    reader.destroy();
  });

  it('a real chain leaves no stand-in that takes money, a test chain of one’s own does', () => {
    const real = { CHAIN_137_RPC_URLS: 'https://one.test,https://two.test' };
    assert.equal(takesRealMoney(real), true);
    assert.equal(takesRealMoney({ ...real, CRYPTO_LIVE: 'false' }), false);
    assert.equal(takesRealMoney({ CHAIN_137_RPC_URLS: '' }), false);
  });

  it('a killed twin takes its node with it, and the next one goes on from what was saved', async () => {
    const folder = newFolder();
    const first = await startProcess(folder);
    const saved = join(folder, String(BASE), 'state.json.gz');
    const sent = await post<SentBody>(first.url, 'transfer', { chain_id: BASE, token: 'USDC', to: ALICE, amount: '9' });
    await until(async () => readableFile(saved));
    const anvil = anvilOf(folder);
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    await until(async () => !isRunning(anvil));

    const second = await startProcess(folder);
    const reader = provider(`${second.url}/rpc/${BASE}/alpha`);
    assert.equal((await reader.getTransactionReceipt(sent.tx_hash))?.blockNumber, sent.block_number);
    reader.destroy();
  });

  it('a start ends the node that an earlier run left behind', async () => {
    const folder = newFolder();
    const { child } = await startProcess(folder, 'ignore');
    const anvil = anvilOf(folder);
    // A second start on the same folder stands for one after a crash in which the node has survived.
    const second = await startProcess(folder);
    assert.equal(isRunning(anvil), false);
    assert.equal(isRunning(anvilOf(folder)), true);
    if (child.exitCode === null) await once(child, 'exit');
    assert.equal(child.exitCode, 1, 'a twin without its node ends');
    assert.equal((await fetch(`${second.url}/state`)).status, 200);
  });

  it('a bad environment is refused with every fault named', () => {
    const bad = { TWIN_PORT: '70000', TWIN_CHAINS: '8453:1,8453:2', TWIN_SLOTS_IN_AN_EPOCH: 'x' };
    assert.throws(
      () => optionsFromEnvironment(bad),
      ({ message }: Error) => Object.keys(bad).every((name) => message.includes(name)),
    );
    assert.throws(() => optionsFromEnvironment({ TWIN_CHAINS: '0:1' }), /TWIN_CHAINS/);
    assert.deepEqual(optionsFromEnvironment({ TWIN_CHAINS: '8453:1, 137', TWIN_DATA_FOLDER: '' }), {
      host: '127.0.0.1',
      port: 0,
      chains: [
        { chainId: 8453, blockSeconds: 1 },
        { chainId: 137, blockSeconds: null },
      ],
      stateFolder: null,
    });
  });

  it('the compiled contracts are those of the sources', () => {
    assert.equal(ARTIFACTS.sourcesSha256, sourcesSha256(contractSources()), 'run node sandbox/contracts/compile.ts');
  });
});

function readableFile(file: string): boolean {
  try {
    return readFileSync(file).length > 0;
  } catch {
    return false;
  }
}
