/**
 * Transfers on the chain twin: the same log, receipt and balance as of a real token, with the issuers' own
 * peculiarities.
 */
import assert from 'node:assert/strict';
import { zeroPadValue, type JsonRpcProvider } from 'ethers';
import type { ChainHandle } from '../../../twins/chain/twin.ts';
import {
  ALICE,
  balanceOf,
  decimalsOf,
  fresh,
  hashOf,
  logsTo,
  partsOf,
  startChain,
  TRANSFER,
  type ChainFixture,
} from './fixture.ts';

const BOB = '0x0000000000000000000000000000000000b0b001';

describe('chain twin: transfers', () => {
  let fixture: ChainFixture;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;

  before(async () => {
    fixture = await startChain();
    ({ chain, alpha, beta } = fixture);
  });
  after(() => fixture.close());

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
      assert.equal(await balanceOf(beta, chain.tokens[token], to), 25_500_000n);
    });
  }

  it('the tokens stand at the real ones’ addresses and have six decimals', async () => {
    assert.deepEqual(chain.tokens, {
      USDC: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913',
      USDT: '0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2',
    });
    for (const token of Object.values(chain.tokens)) assert.equal(await decimalsOf(alpha, token), 6n);
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
      assert.equal(await balanceOf(beta, chain.tokens.USDT, to), 19_800_000n);
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
    assert.equal(await balanceOf(beta, log?.address ?? '', to), 0n);
    assert.deepEqual(await logsTo(alpha, to), []);
  });

  it('a transfer can come from any address, without its key', async () => {
    const [from, to] = [fresh(), fresh()];
    await chain.transfer({ token: 'USDC', to: from, amount: '5' });
    const { txHash, succeeded } = await chain.transfer({ token: 'USDC', from, to, amount: '3' });
    assert.equal(succeeded, true);
    const receipt = await alpha.getTransactionReceipt(txHash);
    assert.equal(receipt?.from, from);
    assert.equal(receipt.logs[0]?.topics[1], zeroPadValue(from.toLowerCase(), 32));
    assert.equal(await balanceOf(beta, chain.tokens.USDC, from), 2_000_000n);
    assert.equal((await chain.transfer({ token: 'USDC', from, to, amount: '3' })).succeeded, false);
  });

  for (const token of ['USDC', 'USDT'] as const) {
    it(`a contract pays ${token} on: one transaction, a log for each step, and the payer’s is not the last`, async () => {
      const [from, ...payees] = [fresh(), fresh(), fresh(), fresh(), fresh()] as const;
      await chain.transfer({ token, to: from, amount: '10' });
      const to = payees.map((address, n) => ({ address, amount: String(n + 1) }));
      const { txHash, succeeded } = await chain.relay({ token, from, to });
      assert.equal(succeeded, true);
      const receipt = await alpha.getTransactionReceipt(txHash);
      assert.equal(receipt?.logs.length, 5);
      assert.notEqual(receipt.from, from);
      assert.equal(receipt.logs[0]?.topics[1], zeroPadValue(from.toLowerCase(), 32));
      for (const { address, amount } of to) {
        assert.equal(await balanceOf(beta, chain.tokens[token], address), BigInt(amount) * 1_000_000n);
      }
      assert.equal(await balanceOf(beta, chain.tokens[token], from), 0n);
    });
  }
});
