/**
 * Reading one vendor's chain, on a real EVM node behind the fault proxy: what the reader returns is consistent in
 * itself, or it returns nothing. Named after the scenarios that rivals fail at.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  createChainVendor,
  VendorError,
  vendorNames,
  type ChainLog,
  type ChainVendor,
  type Receipt,
} from '../../../providers/chain/rpc-vendor.ts';
import {
  BlockMissing,
  ChainMoved,
  findFork,
  LogRange,
  readTransfers,
  type WatchedAddresses,
} from '../../../providers/chain/transfer-reader.ts';
import { heightAt } from '../../../providers/chain/block-times.ts';
import { checkIdentity, wrongVendors } from '../../../providers/chain/rpc-vendors.ts';
import type { Finding } from '../../../db/payments/chain-cursors.ts';
import { usd } from '../../../domain/money.ts';
import { parseCryptoSettings, type Chain, type ChainWatch } from '../../../providers/chain/settings.ts';
import { startChainTwin, type ChainHandle, type ChainTwin } from '../../../twins/chain/twin.ts';
import { XPUB } from '../../support/crypto-stack.ts';

const ETHEREUM = 1;
const OURS = '0x00000000000000000000000000000000000000aa';
const OTHERS = '0x00000000000000000000000000000000000000bb';

describe('reading a chain', function () {
  this.timeout(30_000);
  let twin: ChainTwin;
  let anvil: ChainHandle;
  let chain: Chain;
  let watch: ChainWatch;
  let vendor: ChainVendor;
  /** What was mined before the test. */
  let from: number;

  const watched: WatchedAddresses = {
    has: (address) => address === OURS,
    chunks: [[`0x${OURS.slice(2).padStart(64, '0')}`]],
  };

  before(async () => {
    twin = await startChainTwin({ chains: [{ chainId: ETHEREUM, blockSeconds: null }] });
    anvil = twin.chain(ETHEREUM);
    const env = { CRYPTO_XPUB: XPUB, CHAIN_1_RPC_URLS: twin.rpcUrls['1']!.join(','), CHAIN_RPC_TIMEOUT_SECONDS: '0.5' };
    const crypto = parseCryptoSettings(env)!;
    chain = crypto.chains[0]!;
    watch = crypto.watch;
    vendor = createChainVendor({ url: twin.rpcUrls['1']![0]!, name: 'alpha', timeoutSeconds: 0.5 });
  });
  after(async () => {
    vendor.close();
    await twin.close();
  });
  beforeEach(async () => {
    from = (await anvil.mine()) + 1;
  });
  afterEach(() => anvil.fault('alpha', null));

  const read = async (
    given: Partial<Parameters<typeof readTransfers>[1]> = {},
    through: ChainVendor = vendor,
  ): Promise<Finding[]> => {
    const { latest } = await through.head();
    const { findings } = await readTransfers(through, {
      from,
      to: latest.height,
      base: null,
      tokens: chain.tokens,
      watched,
      range: new LogRange(1000),
      ...given,
    });
    return findings;
  };

  const pay = (amount: string, to = OURS) => anvil.transfer({ token: 'USDC', to, amount });
  const amounts = (findings: readonly Finding[]): string[] => findings.map(({ amount }) => String(amount / 10n ** 12n));

  it('finds transfers to our addresses, in our tokens, above zero, and no others', async () => {
    const { txHash, blockNumber } = await pay('5');
    await pay('7', OTHERS);
    await pay('0');
    await anvil.fakeTransfer({ to: OURS, amount: '1000' });
    const [found, ...others] = await read();
    assert.equal(others.length, 0);
    assert.equal(found?.txHash, txHash);
    assert.equal(found.block.height, blockNumber);
    assert.deepEqual([found.ordinal, found.symbol, found.amount], [0, 'USDC', usd('5')]);
    const { from, ...transfer } = found.transfer;
    assert.match(from, /^0x[0-9a-f]{40}$/);
    assert.deepEqual(transfer, { token: chain.tokens[0]!.contract, to: OURS, units: 5_000_000n });
  });

  it('S24: the place of a log in its receipt stays when its place in the block changes', async () => {
    await anvil.setTransferFee('USDT', 100);
    const { txHash } = await anvil.transfer({ token: 'USDT', to: OURS, amount: '10' });
    const [alone] = await read();
    assert.equal(alone?.amount, usd('9.9'));
    const before = await pay('1', OTHERS);
    await anvil.reorg({
      depth: 2,
      reinclude: [
        { txHash: before.txHash, offset: 1 },
        { txHash, offset: 1 },
      ],
    });
    const [behind] = await read();
    assert.equal(behind?.ordinal, alone.ordinal);
    assert.notEqual(behind.block.hash, alone.block.hash);
    await anvil.setTransferFee('USDT', 0);
  });

  it('two transfers of one transaction are two, each at its own place', async () => {
    const { txHash } = await pay('5');
    const receipt = (await vendor.receipt(txHash))!;
    const [first] = receipt.logs as [(typeof receipt.logs)[0]];
    const logs = [first, { ...first, index: first.index + 1 }];
    const twice: ChainVendor = {
      ...vendor,
      logs: () => Promise.resolve(logs.toReversed()),
      receipt: () => Promise.resolve({ ...receipt, logs }),
    };
    const found = await read({}, twice);
    assert.deepEqual(found.map(({ ordinal }) => ordinal).sort(), [0, 1]);
    const failed: ChainVendor = { ...twice, receipt: () => Promise.resolve({ ...receipt, logs, isSuccess: false }) };
    assert.deepEqual(await read({}, failed), [], 'a failed call has moved nothing');
    const removed: ChainVendor = { ...twice, logs: () => Promise.resolve([{ ...first, isRemoved: true }]) };
    assert.deepEqual(await read({}, removed), []);
  });

  it('a node that counts logs in the block in one answer and in the transaction in the other steps over none', async () => {
    const { txHash } = await pay('5');
    const receipt = (await vendor.receipt(txHash))!;
    const [mine] = receipt.logs as [(typeof receipt.logs)[0]];
    const other = { ...mine, contract: chain.tokens[1]!.contract, topics: mine.topics.slice(0, 1) };
    // In its block the transfer is the eighth log, in its receipt the second; the receipt's own count begins at 0.
    const counted = {
      ...receipt,
      logs: [
        { ...other, index: 0 },
        { ...mine, index: 1 },
      ],
    };
    const through = (logs: readonly ChainLog[], seen: Receipt = counted): ChainVendor => ({
      ...vendor,
      logs: () => Promise.resolve([...logs]),
      receipt: () => Promise.resolve(seen),
    });
    const places = async (vendor: ChainVendor) =>
      (await read({}, vendor)).map(({ ordinal, amount }) => [ordinal, amount]);
    assert.deepEqual(await places(through([{ ...mine, index: 7 }])), [[1, usd('5')]], 'erigontech/erigon#1091');
    // The same number stands for another log of the receipt.
    assert.deepEqual(await places(through([{ ...mine, index: 0 }])), [[1, usd('5')]]);
    const twice = { ...receipt, logs: [mine, mine].map((log, index) => ({ ...log, index })) };
    const both = through(
      [7, 8].map((index) => ({ ...mine, index })),
      twice,
    );
    assert.deepEqual((await places(both)).map(([ordinal]) => ordinal).sort(), [0, 1], 'two that say the same are two');
    const strange = through([{ ...mine, data: `0x${'9'.repeat(64)}` }]);
    await assert.rejects(read({}, strange), /shows a log of 0x[0-9a-f]+ that its receipt does not have/);
  });

  it('takes doubled and shuffled logs for what they are', async () => {
    await pay('1');
    await pay('2');
    anvil.fault('alpha', { duplicateLogs: true, shuffleLogs: true });
    assert.deepEqual(amounts(await read()).sort(), ['1', '2']);
  });

  it('S26: logs that were read across a reorganization are refused', async () => {
    await pay('1');
    await anvil.mine(2);
    const moving: ChainVendor = {
      ...vendor,
      async logs(filter) {
        const logs = await vendor.logs(filter);
        await anvil.reorg({ depth: 4 });
        return logs;
      },
    };
    await assert.rejects(read({}, moving), ChainMoved);
    assert.deepEqual(await read(), []);
  });

  it('S26: a chain that changed below the range, after its base was checked, is refused', async () => {
    const base = (await vendor.block(from - 1))!;
    await pay('1');
    await anvil.reorg({ depth: 2 });
    await assert.rejects(read({ base }), ChainMoved);
  });

  it('a log without a receipt is refused: the vendor contradicts itself', async () => {
    await pay('1');
    anvil.fault('alpha', { nullReceipts: true });
    await assert.rejects(read(), VendorError);
  });

  it('S25: never reads beyond the vendor’s own head', async () => {
    await pay('1');
    await anvil.mine(3);
    anvil.fault('alpha', { lagBlocks: 4 });
    const { latest } = await vendor.head();
    assert.equal(latest.height, from - 1);
    await assert.rejects(read({ to: from }), BlockMissing);
  });

  describe('S32: adapts its ranges', () => {
    it('to the most blocks that the vendor answers for, and tries more again', async () => {
      await pay('1');
      await anvil.mine(40);
      anvil.fault('alpha', { maxRange: 5 });
      const range = new LogRange(1000);
      const { findings, until } = await readTransfers(vendor, {
        ...{ from, to: from + 39, base: null, tokens: chain.tokens, watched, range },
      });
      assert.equal(findings.length, 1);
      assert.ok(until.height < from + 5);
      assert.ok(range.blocks >= 4 && range.blocks <= 10, `${range.blocks} blocks`);
    });

    it('to the most logs in one answer', async () => {
      for (let n = 0; n < 6; n++) await pay('1');
      anvil.fault('alpha', { maxLogs: 2 });
      const range = new LogRange(1000);
      const all: Finding[] = [];
      for (let next = from; next <= anvil.head;) {
        const { findings, until } = await readTransfers(vendor, {
          ...{ from: next, to: anvil.head, base: null, tokens: chain.tokens, watched, range },
        });
        all.push(...findings);
        next = until.height + 1;
      }
      assert.equal(all.length, 6);
    });

    it('takes a range that the vendor suggests', () => {
      const range = new LogRange(1000);
      assert.equal(range.refused(1000, 17), true);
      assert.equal(range.blocks, 17);
      range.answered();
      assert.equal(range.blocks, 34);
      assert.equal(range.refused(1, null), false);
    });

    it('gives up for this turn when it is told to ask less often', async () => {
      anvil.fault('alpha', { status: 429 });
      await assert.rejects(read(), (error) => error instanceof VendorError && error.isThrottled);
    });
  });

  it('a vendor that hangs is abandoned after its timeout', async () => {
    anvil.fault('alpha', { hang: true });
    const started = performance.now();
    await assert.rejects(vendor.head(), VendorError);
    assert.ok(performance.now() - started < 10_000);
  });

  it('says nothing of a vendor’s address, which may hold a key', async () => {
    const gone = createChainVendor({
      url: 'http://127.0.0.1:9/v2/secret-key',
      name: 'gone',
      timeoutSeconds: 1,
    });
    await assert.rejects(gone.head(), (error) => error instanceof VendorError && !error.message.includes('secret'));
    gone.close();
    assert.deepEqual(vendorNames(['https://a.test/k1', 'https://b.test/k2', 'https://b.test/k3']), [
      'a.test',
      'b.test#2',
      'b.test#3',
    ]);
  });

  it('finds the last block that stayed', async () => {
    await anvil.mine(3);
    const known = await Promise.all([from + 2, from + 1, from].map(async (height) => (await vendor.block(height))!));
    await anvil.reorg({ depth: 2 });
    assert.equal((await findFork(vendor, known))?.height, from);
    await anvil.reorg({ depth: 3 });
    assert.equal(await findFork(vendor, known), null);
  });

  it('finds the block of a time', async () => {
    // The node gives blocks mined within one second the same time, so these get one that none before them has.
    await sleep(1_100);
    await anvil.mine(5);
    const { latest } = await vendor.head();
    const third = (await vendor.block(latest.height - 3))!;
    const height = await heightAt(vendor, latest, third.time);
    assert.equal((await vendor.block(height))!.time, third.time);
    assert.ok((await vendor.block(height - 1))!.time < third.time);
    assert.equal(await heightAt(vendor, latest, 0), 0);
    assert.equal(await heightAt(vendor, latest, latest.time + 100), latest.height);
  });

  it('finds the block of a time at a vendor that has no old blocks any more', async () => {
    const head = { height: 25_000_000, hash: '0x1', time: 2_000_000_000 };
    // As nodes do that have let go of what was before the merge: an error, not null.
    const pruned: ChainVendor = {
      ...vendor,
      block: (height) =>
        height < 15_537_393
          ? Promise.reject(new VendorError('alpha', 'answers with an error: pruned history unavailable'))
          : Promise.resolve({ ...head, height, time: head.time - (head.height - height) * 12 }),
    };
    assert.equal(await heightAt(pruned, head, head.time - 172_800), head.height - 14_400);
    assert.equal(await heightAt(pruned, head, head.time - 12), head.height - 1);
  });

  it('a balancer that has no such block in all of its nodes has none, in whatever words', async () => {
    for (const message of ['block is out of range', 'Unknown block', 'header not found', 'Block was not found']) {
      const refusal = { method: 'eth_getBlockByNumber', status: 400, error: { code: -32019, message } };
      anvil.fault('alpha', { refusals: [refusal] });
      assert.equal(await vendor.block(1), null, message);
      assert.equal(await vendor.contents(1), null, message);
    }
    anvil.fault('alpha', {
      refusals: [{ method: 'eth_getBlockByNumber', error: { code: 4444, message: 'pruned history unavailable' } }],
    });
    await assert.rejects(vendor.block(1), /pruned history unavailable/);
  });

  it('refuses a vendor of another chain, and a token of other decimals, by name', async () => {
    await checkIdentity(chain, vendor);
    anvil.fault('alpha', { chainId: 5 });
    const [wrong, ...others] = await wrongVendors([chain], watch);
    assert.match(wrong ?? '', /^CHAIN_1_RPC_URLS: 127\.0\.0\.1#1 is on chain 5, not on 1/);
    assert.equal(others.length, 0);
    anvil.fault('alpha', null);
    const tokens = chain.tokens.map((token) => ({ ...token, decimals: 18 }));
    const words = await wrongVendors([{ ...chain, tokens }], watch);
    assert.match(words[0] ?? '', /USDC \(0xa0b8[0-9a-f]+\) on Ethereum has 6 decimals, not 18/);
  });

  it('a vendor that is away is not refused: it is asked again later', async () => {
    anvil.fault('alpha', { hang: true });
    assert.deepEqual(await wrongVendors([chain], watch), []);
  });

  it('reads the price feeds', async () => {
    await anvil.setFeed({ token: 'USDC', answer: '0.9731', updatedAt: 1_700_000_000 });
    const round = await vendor.latestRound(anvil.feeds.USDC);
    assert.deepEqual([round.answer, round.decimals, round.updatedAt], [97_310_000n, 8, 1_700_000_000]);
  });
});
