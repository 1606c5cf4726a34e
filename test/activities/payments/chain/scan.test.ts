/**
 * Scanning vendors into PostgreSQL, on real EVM nodes behind the fault proxy: what ties a vendor to a chain, how its
 * cursor comes back from where it should never have been, and which blocks are read again.
 */
import assert from 'node:assert/strict';
import { Overlap } from '../../../../providers/chain/overlap.ts';
import { scanVendor, type ScanDeps, type ScanResult } from '../../../../activities/payments/chain/scan.ts';
import { Rescans } from '../../../../activities/payments/chain/rescans.ts';
import { VendorError, type ChainVendor, type LogFilter } from '../../../../providers/chain/rpc-vendor.ts';
import { WatchedVendor, WrongVendor, type OpenChain } from '../../../../providers/chain/rpc-vendors.ts';
import { createChainVendor } from '../../../../providers/chain/rpc-vendor.ts';
import { DepositAddresses } from '../../../../activities/payments/chain/deposit-addresses.ts';
import { chainCheckpoints, chainCursors, recordScan } from '../../../../db/payments/chain-cursors.ts';
import { assignDepositAddress } from '../../../../db/payments/deposits.ts';
import { createTopUp } from '../../../../db/payments/top-ups.ts';
import { uuidOf } from '../../../../domain/ids.ts';
import { usd } from '../../../../domain/money.ts';
import { parseCryptoSettings, type Chain } from '../../../../providers/chain/settings.ts';
import { createLogger } from '../../../../runtime/logger.ts';
import { startChainTwin, type ChainHandle, type ChainTwin } from '../../../../twins/chain/twin.ts';
import { XPUB } from '../../../support/crypto-stack.ts';
import { createCustomer, createLedgerDatabase, uuidAt, type LedgerDatabase } from '../../../support/ledger-database.ts';

/**
 * Neither is known by name, so their tokens stand at the same addresses: only ids and blocks tell one from the other.
 */
const HERE = 10;
const ELSEWHERE = 56;
const SLOTS = 4;
const OURS = '0x00000000000000000000000000000000000000aa';
const OVERLAP = 1;

describe('scanning a chain', function () {
  this.timeout(60_000);
  let ledger: LedgerDatabase;
  let twin: ChainTwin;
  let here: ChainHandle;
  let elsewhere: ChainHandle;
  let chain: Chain;
  let deps: ScanDeps;
  let alpha: WatchedVendor;
  let beta: WatchedVendor;
  /** Ranges that were asked for, as [from, to]. */
  let asked: [number, number][];

  before(async () => {
    twin = await startChainTwin({
      chains: [HERE, ELSEWHERE].map((chainId) => ({ chainId, blockSeconds: null, slotsInAnEpoch: SLOTS })),
    });
    here = twin.chain(HERE);
    elsewhere = twin.chain(ELSEWHERE);
    for (let n = 0; n < 3; n++) await elsewhere.mine(400);
    const env = { CRYPTO_XPUB: XPUB, CHAIN_1_RPC_URLS: twin.rpcUrls[String(HERE)]!.join(',') };
    const [known] = parseCryptoSettings(env)!.chains;
    const { USDC } = here.tokens;
    chain = {
      ...known!,
      chainId: HERE,
      tokens: [{ symbol: 'USDC', contract: USDC.toLowerCase(), decimals: 6, feed: null }],
      depths: { safe: 8, final: 16 },
    };
  });
  after(() => twin.close());

  beforeEach(async () => {
    ledger = await createLedgerDatabase('chain_scan', 4);
    const order = await createTopUp(ledger.management, {
      ...{ id: uuidOf('topUp', uuidAt(Date.now())), accountId: await createCustomer(ledger, '0') },
      ...{ method: 'crypto', provider: 'crypto', amount: usd('10'), fee: usd('0'), currency: 'usd', live: false },
      expiresInSeconds: 3600,
    });
    await assignDepositAddress(ledger.worker, { topUpId: order.id, path: '1/1', wallet: '0x0', address: OURS });
    // What another test paid is out of reach of this one's readings.
    await here.mine(64 * OVERLAP + 20);
    asked = [];
    alpha = watch('alpha', 0);
    beta = watch('beta', 1);
    deps = { pool: ledger.worker, chain, addresses: new DepositAddresses(ledger.worker), vendors: [alpha, beta] };
  });
  afterEach(async () => {
    for (const vendor of [alpha, beta]) vendor.vendor.close();
    for (const vendor of ['alpha', 'beta']) here.fault(vendor, null);
    await ledger.database.drop();
  });

  function watch(name: string, n: number): WatchedVendor {
    const own = createChainVendor({ url: twin.rpcUrls[String(HERE)]![n]!, name, timeoutSeconds: 1 });
    const vendor: ChainVendor = {
      ...own,
      logs: (filter) => {
        asked.push([filter.from, filter.to]);
        return own.logs(filter);
      },
    };
    return new WatchedVendor(chain, vendor, { logRange: 1000, overlapBlocks: OVERLAP, roundSeconds: 0.1 });
  }

  /** One look, as the watcher has it. */
  async function look(watched: WatchedVendor): Promise<ScanResult> {
    watched.begin();
    await watched.identify();
    const result = await scanVendor(deps, watched, () => false);
    assert.ok(result !== null);
    watched.answered(result.readTo);
    return result;
  }

  const cursorOf = async ({ vendor }: WatchedVendor) =>
    (await chainCursors(ledger.worker, HERE)).find((cursor) => cursor.vendor === vendor.name)!.block;
  const pay = (amount: string) => here.transfer({ token: 'USDC', to: OURS, amount });
  const found = async (): Promise<string[]> => {
    const { rows } = await ledger.admin.query<{ amount: string }>(
      'select trim_scale(amount)::text as amount from deposit order by height',
    );
    return rows.map(({ amount }) => amount);
  };
  /** A vendor whose cursor and checkpoints are another chain's, as a vendor that lied once has left them. */
  async function poison(watched: WatchedVendor): Promise<void> {
    const { vendor } = watched;
    const other = createChainVendor({ url: twin.rpcUrls[String(ELSEWHERE)]![0]!, name: 'other', timeoutSeconds: 1 });
    const latest = (await other.block(elsewhere.head))!;
    other.close();
    const { hash: expected } = await cursorOf(watched);
    const head = { latest, safe: null, finalized: null };
    const scan = { chainId: HERE, vendor: vendor.name, expected, fork: -1, cursor: latest, head, findings: [] };
    assert.equal(await recordScan(ledger.worker, scan), true);
    assert.deepEqual(
      (await chainCheckpoints(ledger.worker, HERE, vendor.name)).map(({ height }) => height),
      [elsewhere.head],
    );
  }

  it('a vendor of another chain that says that it is the right one is told by its blocks, and moves nothing', async () => {
    await look(alpha);
    await look(beta);
    await look(alpha);
    const before = await cursorOf(alpha);
    here.fault('alpha', { answersFor: ELSEWHERE, chainId: HERE });
    await assert.rejects(look(alpha), (error) => error instanceof WrongVendor && error.code === 'wrong_chain');
    await assert.rejects(look(alpha), /alpha shows none of the blocks that are known of Ethereum/);
    assert.deepEqual(await cursorOf(alpha), before);
    here.fault('alpha', null);
    await pay('5');
    await look(alpha);
    assert.deepEqual(await found(), ['5']);
  });

  it('its id is asked for again as soon as its blocks are not what they were, not once a poll', async () => {
    await look(alpha);
    await look(beta);
    // The watcher has identified it, and does not ask again unasked.
    here.fault('alpha', { answersFor: ELSEWHERE });
    alpha.begin();
    await assert.rejects(
      scanVendor(deps, alpha, () => false),
      /alpha is on chain 56, not on 10/,
    );
  });

  it('a cursor above the head, on blocks that are not of this chain, comes back to what another vendor was read to', async () => {
    await look(alpha);
    await look(beta);
    await look(beta);
    await pay('5');
    await poison(alpha);
    await pay('7');
    const { fork } = await look(alpha);
    const known = (await chainCheckpoints(ledger.worker, HERE, 'beta')).map(({ height }) => height);
    assert.ok(fork !== null && known.includes(fork), `${fork} is one of ${known.join()}`);
    assert.equal((await cursorOf(alpha)).height, here.head);
    assert.deepEqual(await found(), ['5', '7'], 'what was paid meanwhile is found');
  });

  it('reading starts again where nothing known is left and two vendors show the same blocks', async () => {
    for (const vendor of [alpha, beta]) {
      await look(vendor);
      await poison(vendor);
    }
    await pay('5');
    here.fault('beta', { status: 503 });
    await assert.rejects(look(alpha), WrongVendor, 'one vendor alone is not believed');
    here.fault('beta', null);
    await look(alpha);
    await look(beta);
    for (const vendor of [alpha, beta]) assert.equal((await cursorOf(vendor)).height, here.head);
    assert.equal((await found()).at(-1), '5', 'and goes back far enough');
  });

  it('a head a few blocks below the cursor is let pass, a chain that now ends there is followed', async () => {
    await look(alpha);
    await look(alpha);
    const before = (await cursorOf(alpha)).height;
    await here.mine(3);
    await look(alpha);
    here.fault('alpha', { lagBlocks: 3 });
    assert.equal((await look(alpha)).fork, null, 'another node behind the same address is a little late');
    assert.equal((await cursorOf(alpha)).height, here.head);
    alpha.shortSince = performance.now() - 60_000;
    assert.equal((await look(alpha)).fork, before);
    assert.equal((await cursorOf(alpha)).height, before);
    here.fault('alpha', null);
    await look(alpha);
    assert.equal((await cursorOf(alpha)).height, here.head);
  });

  it('the newest blocks are read again at every look, and ever more of them now and then', async () => {
    const overlap = new Overlap(OVERLAP);
    const sizes = Array.from({ length: 64 }, () => overlap.next());
    assert.deepEqual(sizes.slice(0, 8), [1, 2, 1, 4, 1, 2, 1, 8]);
    assert.equal(sizes[63], 64);
    await look(alpha);
    await look(alpha);
    asked = [];
    const head = here.head;
    for (let n = 0; n < 3; n++) await look(alpha);
    assert.deepEqual(
      asked.map(([from, to]) => [to - from + 1, to]),
      [
        [2, head],
        [1, head],
        [4, head],
      ],
      'one call each',
    );
  });

  it('for a vendor that answers for few blocks, new ones come first and reading again takes a bounded number of calls', async () => {
    here.fault('alpha', { maxRange: 3 });
    for (let n = 0; n < 10; n++) await look(alpha);
    await here.mine(5);
    asked = [];
    const before = (await cursorOf(alpha)).height;
    await look(alpha);
    const answered = asked.filter(([from, to]) => to - from + 1 <= 3);
    assert.ok(answered[0]![0] <= before + 1 && answered[1]![0] > before, 'what is new comes first');
    asked = [];
    for (let n = 0; n < 6; n++) await look(alpha);
    assert.ok(asked.length <= 6 * 9, `${asked.length} calls`);
  });

  it('a known deposit costs no second receipt, and a deposit that was left out is reported', async () => {
    await look(alpha);
    await look(alpha);
    here.fault('alpha', { lagLogsBlocks: 2, blurBlooms: true });
    await pay('5');
    assert.deepEqual([(await look(alpha)).leftOut, await found()], [0, []]);
    here.fault('alpha', null);
    assert.deepEqual([(await look(alpha)).leftOut, await found()], [1, ['5']]);
    let receipts = 0;
    const { vendor } = alpha;
    const counting = { ...vendor, receipt: (txHash: string) => (receipts++, vendor.receipt(txHash)) };
    Object.assign(alpha, { vendor: counting });
    for (let n = 0; n < 4; n++) assert.equal((await look(alpha)).leftOut, 0);
    assert.equal(receipts, 0);
  });

  it('a header that promises a transfer and logs without it: the receipts of the block have it', async () => {
    await look(alpha);
    await look(alpha);
    here.fault('alpha', { emptyLogs: true });
    await here.transfer({ token: 'USDC', to: '0x00000000000000000000000000000000000000bb', amount: '3' });
    await pay('5');
    assert.equal((await look(alpha)).leftOut, 1);
    assert.deepEqual(await found(), ['5']);
    here.fault('alpha', null);
    await look(alpha);
    assert.deepEqual(await found(), ['5'], 'and once');
  });

  it('a database that was restored under the process has other addresses at its positions: they are watched', async () => {
    await look(alpha);
    await look(alpha);
    await ledger.admin.query('alter table deposit_address disable trigger append_only');
    const other = '0x00000000000000000000000000000000000000cc';
    await ledger.admin.query('update deposit_address set address = $1', [other]);
    await here.transfer({ token: 'USDC', to: other, amount: '9' });
    await pay('5');
    await look(alpha);
    assert.deepEqual(await found(), ['9']);
  });

  it('a database that was restored to an older dump under the process: what was found since is found again', async () => {
    await look(alpha);
    await look(alpha);
    const before = await cursorOf(alpha);
    await pay('5');
    await look(alpha);
    assert.deepEqual(await found(), ['5']);
    await ledger.admin.query('delete from deposit');
    await ledger.admin.query('update chain_cursor set height = $1, hash = $2', [before.height, before.hash]);
    await look(alpha);
    assert.deepEqual(await found(), ['5']);
  });

  it('vendors that were all replaced while nothing was watched: the blocks that nobody has read are read', async () => {
    await look(alpha);
    await pay('5');
    await here.mine(40);
    const { block } = (await chainCursors(ledger.worker, HERE))[0]!;
    // Other names from here on: the operator has changed both addresses.
    const others = [watch('gamma', 0), watch('delta', 1)];
    deps = { ...deps, vendors: others };
    for (const vendor of others) await look(vendor);
    assert.ok((await cursorOf(others[0]!)).height > block.height + 20, 'the new ones begin near the head');
    const { rows } = await ledger.admin.query<{ from_block: string; requested_by: string }>(
      'select * from block_rescan',
    );
    assert.deepEqual(
      rows.map((row) => [Number(row.from_block), row.requested_by]),
      [[block.height + 1, 'watcher']],
      'once',
    );
    await rescans().goOn(openWith(others), () => false);
    assert.deepEqual(await found(), ['5'], '5 USD would not have been credited');
    for (const { vendor } of others) vendor.close();
  });

  it('a vendor that is asked no more, or stands still, keeps no other from being read again', async () => {
    await look(alpha);
    await look(beta);
    // Beta is read to here, and never again.
    await here.mine(30);
    here.fault('alpha', { emptyLogs: true, blurBlooms: true });
    const { txHash } = await pay('5');
    const isFound = async () =>
      (await ledger.admin.query('select from deposit where tx_hash = $1', [txHash])).rowCount === 1;
    await here.mine(5);
    await look(alpha);
    here.fault('alpha', null);
    assert.equal(await isFound(), false, 'left out');
    const { to } = await rescans().readNow(openWith([alpha]), { backSeconds: 86_400 }, () => false);
    assert.equal(to, (await cursorOf(alpha)).height);
    assert.ok(await isFound(), '5 USD');
  });

  it('fresh heads before late blocks: what there is is read, and the vendor is at no fault', async () => {
    await look(alpha);
    await look(alpha);
    await pay('5');
    await here.mine(3);
    const head = here.head;
    let behind = 2;
    const late = (height: number) => height > head - behind;
    const { vendor } = alpha;
    const lagging: ChainVendor = {
      ...vendor,
      block: (height) => (late(height) ? Promise.resolve(null) : vendor.block(height)),
      contents: (height) => (late(height) ? Promise.resolve(null) : vendor.contents(height)),
    };
    Object.assign(alpha, { vendor: lagging });
    assert.equal((await look(alpha)).readTo, head - 2);
    assert.deepEqual(await found(), ['5']);
    await look(alpha);
    assert.equal(alpha.fault, null);
    assert.ok(alpha.behindSince !== null, 'and should it stay so, it is named');
    behind = 4;
    assert.deepEqual(await look(alpha), { readTo: head - 2, found: 0, leftOut: 0, fork: null }, 'no other chain');
  });

  it('a log that is said to be removed, and then is not, is found when it is there', async () => {
    await look(alpha);
    await look(alpha);
    await pay('5');
    const { vendor } = alpha;
    const denying = {
      ...vendor,
      logs: async (filter: LogFilter) => (await vendor.logs(filter)).map((log) => ({ ...log, isRemoved: true })),
      contents: async (height: number) => ({ ...(await vendor.contents(height))!, logsBloom: null }),
    };
    Object.assign(alpha, { vendor: denying });
    await look(alpha);
    assert.deepEqual(await found(), []);
    Object.assign(alpha, { vendor });
    await look(alpha);
    assert.deepEqual(await found(), ['5']);
  });

  it('a vendor that lets few calls pass at a time: a busy block is read over several looks', async () => {
    await look(alpha);
    await look(alpha);
    for (let n = 1; n <= 12; n++) await here.transfer({ token: 'USDC', to: OURS, amount: String(n) });
    const { vendor } = alpha;
    let left = 0;
    const counted = <T>(call: () => Promise<T>): Promise<T> =>
      left-- > 0 ? call() : Promise.reject(new VendorError('alpha', 'too many requests', { isThrottled: true }));
    const limited: ChainVendor = { ...vendor, receipt: (txHash) => counted(() => vendor.receipt(txHash)) };
    Object.assign(alpha, { vendor: limited });
    for (let turn = 0; turn < 8 && (await found()).length < 12; turn++) {
      left = 5;
      await look(alpha).catch((error: unknown) => assert.ok(error instanceof VendorError, String(error)));
    }
    assert.equal((await found()).length, 12, '78 USD');
  });

  const rescans = () =>
    new Rescans({ pool: ledger.worker, logger: createLogger('test', 'silent'), addresses: deps.addresses });
  const openWith = (vendors: readonly WatchedVendor[]): OpenChain => ({
    ...{ chain, vendors },
    watch: { ...parseCryptoSettings({ CRYPTO_XPUB: XPUB, CHAIN_1_RPC_URLS: 'http://a.test,http://b.test' })!.watch },
  });
});
