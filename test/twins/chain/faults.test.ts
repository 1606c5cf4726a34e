/**
 * Faults of one vendor of the chain twin, in every kind of answer, while the other tells the
 * truth.
 */
import assert from 'node:assert/strict';
import type { JsonRpcProvider } from 'ethers';
import { startChainTwin, type ChainFault, type ChainHandle } from '../../../twins/chain/twin.ts';
import {
  ALICE,
  balanceOf,
  fresh,
  hashOf,
  logsTo,
  partsOf,
  rpc,
  SLOTS,
  startChain,
  vendorUrl,
  type ChainFixture,
} from './fixture.ts';

describe('chain twin: faults', () => {
  let fixture: ChainFixture;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;
  let alphaUrl: string;
  let betaUrl: string;

  before(async () => {
    fixture = await startChain();
    ({ chain, alpha, beta } = fixture);
    alphaUrl = vendorUrl(fixture.twin, 'alpha');
    betaUrl = vendorUrl(fixture.twin, 'beta');
  });
  after(() => fixture.close());
  afterEach(() => fixture.clearFaults());

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
      assert.equal(await balanceOf(alpha, chain.tokens.USDC, to), 1_000_000n);
      const { error } = await rpc(alphaUrl, 'eth_getBalance', [to, `0x${(end + 1).toString(16)}`]);
      assert.equal(error?.message, 'header not found');

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
    assert.equal(await balanceOf(beta, chain.tokens.USDC, to), 0n);
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
    assert.equal((await rpc(alphaUrl, 'eth_chainId')).result, '0x1');
    assert.equal((await rpc(alphaUrl, 'net_version')).result, '1');
    assert.equal((await rpc(betaUrl, 'eth_chainId')).result, '0x2105');
  });

  it('answersFor: everything is another chain’s, its heads, blocks and id; a chain that is not there is refused', async () => {
    const twin = await startChainTwin({
      chains: [1, 8453].map((chainId) => ({ chainId, blockSeconds: null, slotsInAnEpoch: SLOTS })),
    });
    try {
      await twin.chain(1).mine(7);
      const url = twin.rpcUrls['8453']![0]!;
      const own = (await rpc(url, 'eth_blockNumber')).result;
      twin.chain(8453).fault('alpha', { answersFor: 1 });
      assert.equal((await rpc(url, 'eth_chainId')).result, '0x1');
      assert.equal((await rpc(url, 'eth_blockNumber')).result, `0x${twin.chain(1).head.toString(16)}`);
      const there = (await rpc(twin.rpcUrls['1']![1]!, 'eth_getBlockByNumber', ['0x3', false])).result;
      assert.deepEqual((await rpc(url, 'eth_getBlockByNumber', ['0x3', false])).result, there);
      twin.chain(8453).fault('alpha', null);
      assert.equal((await rpc(url, 'eth_blockNumber')).result, own);
      assert.throws(() => twin.chain(8453).fault('alpha', { answersFor: 10 }), { field: 'answers_for' });
    } finally {
      await twin.close();
    }
  });

  for (const status of [400, 413, 429, 500, 503, 504] as const) {
    it(`status ${status}: every call fails with it`, async () => {
      faulty({ status });
      const response = await fetch(alphaUrl, { method: 'POST', body: '{}' });
      assert.equal(response.status, status);
      await response.body?.cancel();
      await assert.rejects(alpha.getBlockNumber());
      assert.equal(await beta.getBlockNumber(), chain.head);
    });
  }

  it('hang: no answer ever comes, at this vendor only', async () => {
    faulty({ hang: true });
    const gaveUp = new AbortController();
    const hanging = fetch(alphaUrl, {
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
