/**
 * Ranges of blocks that vendors refuse, in every form of theirs that is on record: the reader asks for fewer, down to
 * one block, and never for the same range without end. Before, all but JSON-RPC errors in a 200 stopped a chain's
 * reading for good.
 */
import assert from 'node:assert/strict';
import {
  createChainVendor,
  VendorError,
  type ChainVendor,
  type LogFilter,
} from '../../../providers/chain/rpc-vendor.ts';
import { LogRange, readTransfers, type WatchedAddresses } from '../../../providers/chain/transfer-reader.ts';
import { parseCryptoSettings, type Chain } from '../../../providers/chain/settings.ts';
import { startChainTwin, type ChainFault, type ChainHandle, type ChainTwin } from '../../../twins/chain/twin.ts';
import { XPUB } from '../../support/crypto-stack.ts';
import { LIMIT, VENDOR_REFUSALS } from '../../support/vendor-refusals.ts';

const OURS = '0x00000000000000000000000000000000000000aa';
const BLOCKS = 40;
/** Turns of a watcher within which a range must have been read, whatever the vendor's form of refusing. */
const TURNS_MAX = 40;

describe('ranges that a vendor refuses', function () {
  this.timeout(30_000);
  let twin: ChainTwin;
  let anvil: ChainHandle;
  let chain: Chain;
  let vendor: ChainVendor;
  let from: number;
  let asked: LogFilter[];

  before(async () => {
    twin = await startChainTwin({ chains: [{ chainId: 1, blockSeconds: null }] });
    anvil = twin.chain(1);
    const env = { CRYPTO_XPUB: XPUB, CHAIN_1_RPC_URLS: twin.rpcUrls['1']!.join(',') };
    chain = parseCryptoSettings(env)!.chains[0]!;
    const own = createChainVendor({ url: twin.rpcUrls['1']![0]!, name: 'alpha', timeoutSeconds: 1 });
    vendor = {
      ...own,
      logs: (filter) => {
        asked.push(filter);
        return own.logs(filter);
      },
    };
    await anvil.mine(8);
    from = anvil.head + 1;
    for (const place of [0, 0, 15, 20]) {
      await anvil.transfer({ token: 'USDC', to: OURS, amount: '1' });
      if (place > 0) await anvil.mine(place - 1);
    }
    await anvil.mine(from + BLOCKS - 1 - anvil.head);
  });
  after(async () => {
    vendor.close();
    await twin.close();
  });
  beforeEach(() => {
    asked = [];
  });
  afterEach(() => anvil.fault('alpha', null));

  const watch = (...addresses: readonly string[]): WatchedAddresses => ({
    has: (address) => addresses.includes(address),
    chunks: [addresses.map((address) => `0x${address.slice(2).padStart(64, '0')}`)],
  });

  /** Reads as the watcher does: turn by turn, from where the last one got to. */
  async function readAll(range: LogRange, watched = watch(OURS)): Promise<{ found: number; failures: VendorError[] }> {
    let next = from;
    let found = 0;
    const failures: VendorError[] = [];
    for (let turn = 0; next < from + BLOCKS; turn++) {
      assert.ok(turn < TURNS_MAX, `block ${next} was not read: ${failures.at(-1)?.message}`);
      try {
        const to = from + BLOCKS - 1;
        const read = await readTransfers(vendor, {
          ...{ from: next, to, base: null, tokens: chain.tokens, watched, range },
        });
        found += read.findings.length;
        next = read.until.height + 1;
      } catch (error) {
        if (!(error instanceof VendorError)) throw error;
        failures.push(error);
      }
    }
    return { found, failures };
  }

  const blocksOf = ({ from: first, to }: LogFilter): number => to - first + 1;
  const refusing = (...refusals: NonNullable<ChainFault['refusals']>): void => anvil.fault('alpha', { refusals });

  for (const { who, form, suggests } of VENDOR_REFUSALS) {
    it(`are read in parts: ${who}`, async () => {
      refusing({ ...form, overBlocks: LIMIT });
      const { found } = await readAll(new LogRange(1000));
      assert.equal(found, 4, 'no transfer is lost');
      const same = Map.groupBy(asked, ({ from: first, to }) => `${first}-${to}`);
      assert.ok(
        Math.max(...[...same.values()].map(({ length }) => length)) <= 3,
        'no range is asked for again and again',
      );
      if (suggests) {
        const [first, second] = asked.map(blocksOf);
        assert.deepEqual([first, second], [BLOCKS, LIMIT], 'what the vendor suggests is taken');
      }
    });
  }

  it('silence is a refusal as well: the next turn asks for half', async () => {
    refusing({ overBlocks: LIMIT, hang: true });
    const { found, failures } = await readAll(new LogRange(1000));
    assert.equal(found, 4);
    assert.deepEqual(asked.slice(0, 4).map(blocksOf), [40, 20, 10, 5]);
    assert.ok(failures.every(({ message }) => /no answer within 1 s/.test(message)));
  });

  it('a late answer is silence', async () => {
    refusing({ overBlocks: 20, delayMs: 1500 });
    assert.equal((await readAll(new LogRange(1000))).found, 4);
  });

  it('one block that is refused is the vendor’s fault, in words, and read once it is not any more', async () => {
    refusing({ status: 400, error: { code: -32602, message: 'Archive requests require a personal token' } });
    const range = new LogRange(1000);
    await assert.rejects(
      readTransfers(vendor, {
        from,
        to: from + BLOCKS - 1,
        base: null,
        tokens: chain.tokens,
        watched: watch(OURS),
        range,
      }),
      (error) =>
        error instanceof VendorError && /refuses the logs of even one block.*personal token/.test(error.message),
    );
    assert.equal(range.blocks, 1);
    assert.ok(asked.length <= 8, `${asked.length} calls to find out`);
    anvil.fault('alpha', null);
    assert.equal((await readAll(range)).found, 4);
    assert.ok(range.blocks > 20, 'it asks for many again');
  });

  it('a vendor that takes few addresses at once is asked for few', async () => {
    const message = 'query exceeds the maximum of 16 addresses or topics per search position';
    refusing({ overTopics: 16, error: { code: -32602, message } });
    const others = Array.from({ length: 40 }, (_, n) => `0x${String(n).padStart(40, 'b')}`);
    const { found } = await readAll(new LogRange(1000), watch(...others, OURS));
    assert.equal(found, 4);
  });

  it('a list of logs that looks cut is read again in parts', async () => {
    anvil.fault('alpha', { cutLogs: 1 });
    const range = new LogRange(1000, { logsMax: 1 });
    assert.equal((await readAll(range)).found, 4);
  });

  it('a limit is found in few calls, kept, and tried beyond now and then', () => {
    const range = new LogRange(2000);
    let refused = 0;
    const sizes: number[] = [];
    for (let call = 0; call < 300; call++) {
      sizes.push(range.blocks);
      if (range.blocks > 13) {
        refused++;
        assert.equal(range.refused(range.blocks, null), true);
      } else range.answered();
    }
    assert.ok(refused <= 30, `${refused} of 300 calls were refused`);
    const steady = sizes.slice(-100);
    assert.ok(steady.filter((size) => size > 10 && size <= 13).length > 90, steady.join());
    assert.ok(
      steady.some((size) => size > 13),
      'the limit may have been lifted',
    );
  });

  it('a vendor that does not know, refuses or does not answer tags stays in place', async () => {
    const depths = chain.depths;
    for (const form of [
      ...[
        { status: 400 },
        { status: 500, text: 'oops' },
        { nullResult: true },
        { text: '' },
        { hang: true },
        { reset: true },
      ],
      // go-ethereum, Besu and Erigon, Nethermind (ethereum/execution-apis#879, rsksmart/rskj#3309).
      { error: { code: -32000, message: 'finalized block not found' } },
      { error: { code: -39001, message: 'Unknown block' } },
      { status: 400, error: { code: -32602, message: 'invalid argument 0: hex string without 0x prefix' } },
    ]) {
      refusing(
        { method: 'eth_getBlockByNumber', tag: 'safe', ...form },
        { method: 'eth_getBlockByNumber', tag: 'finalized', ...form },
      );
      const head = await vendor.head();
      assert.deepEqual([head.latest.height, head.safe, head.finalized], [anvil.head, null, null], JSON.stringify(form));
    }
    assert.ok(depths.safe > 0 && depths.final >= depths.safe);
  });
});
