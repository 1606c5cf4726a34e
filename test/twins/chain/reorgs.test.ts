/**
 * Reorganizations of the chain twin: blocks are replaced by as many others, and a transfer in them is dropped, moved or
 * replaced, as a real chain's vendors would show it afterwards.
 */
import assert from 'node:assert/strict';
import { id, type JsonRpcProvider } from 'ethers';
import type { ChainHandle } from '../../../twins/chain/twin.ts';
import { ALICE, balanceOf, fresh, hashOf, logsTo, SLOTS, startChain, type ChainFixture } from './fixture.ts';

describe('chain twin: reorgs', () => {
  let fixture: ChainFixture;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;

  before(async () => {
    fixture = await startChain();
    ({ chain, alpha, beta } = fixture);
  });
  after(() => fixture.close());

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
    assert.equal(await balanceOf(beta, chain.tokens.USDC, to), 0n);
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
    assert.equal(await balanceOf(beta, chain.tokens.USDC, to), 5_000_000n);
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
