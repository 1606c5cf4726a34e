/** The promise of a header about its block's logs, and when it means anything. */
import assert from 'node:assert/strict';
import { promisesTransfer, receiptsOf } from '../../../providers/chain/promised-logs.ts';
import { TRANSFER_TOPIC } from '../../../providers/chain/transfer-logs.ts';
import { createChainVendor, type BlockContents, type ChainVendor } from '../../../providers/chain/rpc-vendor.ts';
import { startChainTwin, type ChainHandle, type ChainTwin } from '../../../twins/chain/twin.ts';

const OURS = '0x00000000000000000000000000000000000000aa';

describe('logs that a header promises', () => {
  let twin: ChainTwin;
  let anvil: ChainHandle;
  let vendor: ChainVendor;

  before(async () => {
    twin = await startChainTwin({ chains: [{ chainId: 1, blockSeconds: null }] });
    anvil = twin.chain(1);
    vendor = createChainVendor({ url: twin.rpcUrls['1']![0]!, name: 'alpha', timeoutSeconds: 2 });
  });
  after(async () => {
    vendor.close();
    await twin.close();
  });

  const padded = (address: string): string => `0x${address.slice(2).padStart(64, '0')}`;
  const others = (count: number): string[] =>
    Array.from({ length: count }, (_, n) => padded(`0x${String(n).padStart(40, 'b')}`));
  const wanted = (...recipients: string[]) => ({
    ...{ contracts: [anvil.tokens.USDC.toLowerCase()], topic: TRANSFER_TOPIC, recipients },
  });
  const paid = async (token: 'USDC' | 'USDT', to: string): Promise<BlockContents> => {
    const { blockNumber } = await anvil.transfer({ token, to, amount: '1' });
    return (await vendor.contents(blockNumber!))!;
  };

  it('a real block’s filter promises what is in it, and nothing to somebody else or in another token', async () => {
    const contents = await paid('USDC', OURS);
    assert.equal(promisesTransfer(contents, wanted(padded(OURS))), true);
    assert.equal(promisesTransfer(contents, wanted(...others(100), padded(OURS))), true);
    assert.equal(promisesTransfer(contents, wanted(...others(1))), false);
    assert.equal(promisesTransfer(await paid('USDT', OURS), wanted(padded(OURS))), false);
    await anvil.mine();
    assert.equal(promisesTransfer((await vendor.contents(anvil.head))!, wanted(padded(OURS))), false);
  });

  it('says nothing where most bits are set, none is, or there is no filter', async () => {
    const contents = await paid('USDC', OURS);
    for (const logsBloom of [`0x${'f'.repeat(512)}`, `0x${'a'.repeat(512)}`, `0x${'0'.repeat(512)}`, '0x', null]) {
      assert.equal(promisesTransfer({ ...contents, logsBloom }, wanted(padded(OURS))), false, String(logsBloom));
    }
  });

  it('a block of many transactions is left to be read again, and receipts of other blocks do not count', async () => {
    const contents = await paid('USDC', OURS);
    assert.equal((await receiptsOf(vendor, contents)).length, 1);
    const [hash] = contents.transactions as [string];
    assert.deepEqual(await receiptsOf(vendor, { ...contents, transactions: Array(65).fill(hash) as string[] }), []);
    const elsewhere = { ...contents, block: { ...contents.block, hash: `0x${'1'.repeat(64)}` } };
    assert.deepEqual(await receiptsOf(vendor, elsewhere), []);
  });
});
