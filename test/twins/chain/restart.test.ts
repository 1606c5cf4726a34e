/**
 * The chain twin over time: its blocks come by the clock, its process is stopped, killed or left behind, and the next
 * one goes on with the same chain, or a product that was under way would see its deposits vanish.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isRunning, readRecord, recordOf, type ProcessRecord } from '../../../twins/kit/process-record.ts';
import { tokensOf } from '../../../twins/chain/addresses.ts';
import { startChainTwin } from '../../../twins/chain/twin.ts';
import { operatorWalletFile } from '../../../twins/chain/wallet.ts';
import type { TwinProcess } from '../../support/twin-process.ts';
import { until } from '../../support/until.ts';
import { ALICE, balanceOf, BASE, ChainProcesses, post, provider, vendorUrl } from './fixture.ts';

interface Paid {
  readonly tx_hash: string;
  readonly block_number: number;
}

describe('chain twin: over time', () => {
  let processes: ChainProcesses;

  beforeEach(() => {
    processes = new ChainProcesses();
  });
  afterEach(() => processes.end());

  async function tell<T>(twin: TwinProcess, path: string, body: object): Promise<T> {
    const { status, body: answer } = await post<T>(`${twin.url}/${path}`, { chain_id: BASE, ...body });
    assert.equal(status, 200, JSON.stringify(answer));
    return answer;
  }

  const pay = (twin: TwinProcess, amount: string): Promise<Paid> =>
    tell<Paid>(twin, 'transfer', { token: 'USDC', to: ALICE, amount });

  const wallet = (): string => readFileSync(operatorWalletFile(processes.twinFolder), 'utf8');

  /** Which process the chain's node is. */
  function anvil(): ProcessRecord {
    const record = readRecord(join(processes.twinFolder, String(BASE), 'anvil.pid.json'));
    assert(record);
    return record;
  }

  it('blocks are mined automatically, include waiting transfers, and still allow reorgs', async () => {
    const twin = await startChainTwin({ chains: [{ chainId: BASE, blockSeconds: 0.05 }] });
    try {
      const chain = twin.chain(BASE);
      const node = provider(twin.rpcUrls[String(BASE)]?.[0] ?? '');
      const { txHash } = await chain.transfer({ token: 'USDC', to: ALICE, amount: '1', mine: false });
      const receipt = await until('the transfer in a block', () => node.getTransactionReceipt(txHash));
      await until('two blocks on top of it', () => chain.head >= receipt.blockNumber + 2);
      const before = await node.getBlock(receipt.blockNumber);
      // A block may come between the question for the head and the reorg, which then is one too short.
      await until('a reorg that takes it out', async () => {
        await chain.reorg({ depth: chain.head - receipt.blockNumber + 1 });
        return (await node.getTransactionReceipt(txHash)) === null;
      });
      assert.notEqual((await node.getBlock(receipt.blockNumber))?.hash, before?.hash);
      const { head } = chain;
      await until('another block', () => chain.head > head);
      node.destroy();
    } finally {
      await twin.close();
    }
  });

  it('a restart keeps the chain, its hashes and its wallet, and reorgs go on from there', async () => {
    const first = await processes.start();
    const paid = await pay(first, '9');
    await tell(first, 'mine', { blocks: 3 });
    const reader = provider(vendorUrl(first, 'alpha'));
    const hash = (await reader.getBlock(paid.block_number))?.hash;
    reader.destroy();
    const firstWallet = wallet();
    const firstAnvil = anvil();
    await first.stop('SIGTERM');
    assert.equal(isRunning(firstAnvil), false, 'the node ends with its twin');

    const second = await processes.start();
    const { USDC } = tokensOf(BASE);
    assert.equal(wallet(), firstWallet);
    const again = provider(vendorUrl(second, 'beta'));
    assert.equal(await again.getBlockNumber(), paid.block_number + 3);
    assert.equal((await again.getBlock(paid.block_number))?.hash, hash);
    assert.equal((await again.getTransactionReceipt(paid.tx_hash))?.logs.length, 1);
    assert.equal(await balanceOf(again, USDC, ALICE), 9_000_000n);
    const more = await pay(second, '1');
    await tell(second, 'reorg', { depth: 1 });
    assert.equal(await again.getTransactionReceipt(more.tx_hash), null);
    assert.equal(await balanceOf(again, USDC, ALICE), 9_000_000n);
    const behind = await post(`${second.url}/reorg`, { chain_id: BASE, depth: 2 });
    assert.equal(behind.status, 422, 'the node has no state from before its start');
    again.destroy();
  });

  it('a killed twin takes its node with it, and the next one goes on from what was saved', async () => {
    const first = await processes.start();
    const saved = join(processes.twinFolder, String(BASE), 'state.json.gz');
    const paid = await pay(first, '9');
    await until('the chain to be saved', () => existsSync(saved) && statSync(saved).size > 0);
    const firstAnvil = anvil();
    await first.stop('SIGKILL');
    await until('its node to end', () => !isRunning(firstAnvil));

    const second = await processes.start();
    const reader = provider(vendorUrl(second, 'alpha'));
    assert.equal((await reader.getTransactionReceipt(paid.tx_hash))?.blockNumber, paid.block_number);
    reader.destroy();
  });

  it('a start ends the node that an earlier run left behind', async () => {
    const first = await processes.start({ errors: 'ignore' });
    const firstAnvil = anvil();
    // A second start on the same folder stands for one after a crash in which the node has survived.
    const second = await processes.start();
    assert.equal(isRunning(firstAnvil), false);
    assert.equal(isRunning(anvil()), true);
    await until('the first twin to end', () => recordOf(first.pid) === null);
    assert.equal(await first.stop('SIGTERM'), 1, 'a twin without its node ends');
    assert.equal((await fetch(`${second.url}/state`)).status, 200);
  });
});
