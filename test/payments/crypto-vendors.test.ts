/**
 * Crypto top-ups before vendors as they are: they refuse ranges in every form, show logs later than headers, and answer
 * for another chain for a while. Real api, worker, PostgreSQL and Temporal before real EVM nodes: whatever they do, a
 * payment is credited once, and an operator reads which vendor does what.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import type { ChainFault, Refusal } from '../../twins/chain/twin.ts';
import { chainStatusQuery, chainWorkflowId, checkChainUpdate } from '../../contract/index.ts';
import { startCryptoStack, type CryptoStack } from '../support/crypto-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer, Staff } from '../support/people.ts';
import { until } from '../support/until.ts';

const BASE = 8453;
const ETHEREUM = 1;
const SLOTS = 8;
const VENDORS = ['alpha', 'beta'] as const;
/** The least that is read again; now and then 64 times as much. */
const OVERLAP = 1;
const OVERLAP_MAX = 64 * OVERLAP;

describe('top-ups by crypto before unruly vendors', function () {
  this.timeout(180_000);
  let crypto: CryptoStack;
  let customer: Customer;
  let operator: Staff;

  before(async () => {
    crypto = await startCryptoStack({
      name: 'top-ups-crypto-vendors',
      chains: [
        { chainId: BASE, slotsInAnEpoch: SLOTS },
        { chainId: ETHEREUM, slotsInAnEpoch: SLOTS },
      ],
      env: () => ({
        TOP_UP_EXPIRY_SECONDS: '600',
        CHAIN_OVERLAP_BLOCKS: String(OVERLAP),
        CHAIN_8453_SAFE_BLOCKS: '20',
        CHAIN_8453_FINAL_BLOCKS: '30',
        WORKER_SHUTDOWN_SECONDS: '2',
      }),
    });
    operator = await crypto.people.staff('Olga');
    // Ethereum's is far higher, so that a reader that follows it on Base is far above Base's own head.
    await chain().mine(2 * SLOTS + 2);
    for (let n = 0; n < 8; n++) await crypto.chain(ETHEREUM).mine(400);
  });
  after(() => crypto.stop());
  beforeEach(async () => {
    customer = await crypto.people.customer();
  });
  afterEach('no rule is broken', async () => {
    for (const vendor of VENDORS) fault(vendor, null);
    assert.deepEqual(await brokenRules(crypto.stack.admin), []);
  });

  const chain = () => crypto.chain(BASE);
  const watch = () => crypto.temporal.workflow.getHandle(chainWorkflowId(BASE));
  const fault = (vendor: string, what: ChainFault | null): void => chain().fault(vendor, what);
  const pay = (to: string, amount: string) => chain().transfer({ token: 'USDC', to, amount });
  const refusing = (...refusals: Refusal[]): void => {
    for (const vendor of VENDORS) fault(vendor, { refusals });
  };
  const cursors = async (): Promise<number[]> => {
    const { rows } = await crypto.stack.admin.query<{ height: string }>(
      'select height from chain_cursor where chain_id = $1 order by vendor',
      [BASE],
    );
    return rows.map(({ height }) => Number(height));
  };
  const vendorsNow = async () => (await watch().query(chainStatusQuery)).summary?.vendors ?? [];
  const rescans = async (): Promise<
    { state: string; found: number; top_up_id: string | null; fault: string | null }[]
  > => {
    const { body } = await operator.call<{ data: [] }>('GET', `/admin/chains/${BASE}/rescans`);
    return body.data;
  };
  const killWorker = async (): Promise<void> => {
    const dying = crypto.stack.worker;
    dying.signal('SIGKILL');
    await dying.exited;
  };

  for (const [form, refusal] of Object.entries({
    'HTTP 400 without a word': { status: 400 },
    'HTTP 413 with a JSON-RPC error': {
      status: 413,
      error: { code: -32614, message: 'eth_getLogs is limited to a 10,000 range' },
    },
    'HTTP 504 and a page': { status: 504, text: '<html><body>504 Gateway Time-out</body></html>' },
    'a 200 with plain words': { text: 'query returned more than 10000 results' },
    silence: { hang: true },
  } satisfies Record<string, Refusal>)) {
    it(`after a gap, both vendors refusing all but 40 blocks by ${form}, 10 are credited`, async () => {
      const made = await crypto.order(customer);
      await killWorker();
      await chain().mine(140);
      await pay(made.address, '10');
      await chain().mine(140);
      refusing({ overBlocks: 40, ...refusal });
      await crypto.stack.startWorker();
      await customer.untilBalance('10');
      await crypto.untilRead(BASE);
    });
  }

  it('vendors that refuse the logs of even one block are named, and read on when they do not any more', async () => {
    const made = await crypto.order(customer);
    refusing({ status: 400, error: { code: -32602, message: 'Archive requests require a personal token' } });
    const [first] = await cursors();
    await pay(made.address, '10');
    await chain().mine(20);
    await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'logs_refused');
    assert.match(
      await crypto.detailsOf(BASE),
      /127\.0\.0\.1#1: refuses the logs of even one block \(\d+\): .*personal token/,
    );
    assert.ok((await cursors())[0]! <= first! + 1, 'nothing is passed by');
    assert.equal(await customer.balance(), usd('0'));
    for (const vendor of VENDORS) fault(vendor, null);
    await customer.untilBalance('10');
    await until('the chain to be well', async () => (await crypto.stuckOf(BASE)) === null);
  });

  it('one vendor that refuses all logs still counts with its headers and receipts: the other finds, both confirm', async () => {
    const made = await crypto.order(customer);
    fault('beta', { refusals: [{ status: 503 }] });
    await pay(made.address, '10');
    await chain().mine(12);
    await customer.untilBalance('10');
  });

  it('vendors that do not know safe and finalized: depth counts, they stay in place, and the details say so', async () => {
    refusing(
      { method: 'eth_getBlockByNumber', tag: 'safe', status: 400 },
      { method: 'eth_getBlockByNumber', tag: 'finalized', error: { code: -39001, message: 'Unknown block' } },
    );
    // 100 and more wait for the safe block.
    const made = await crypto.order(customer, '120');
    await pay(made.address, '120');
    await chain().mine(19);
    await crypto.untilRead(BASE);
    assert.equal(await customer.balance(), usd('0'), 'nineteen blocks are not twenty');
    await chain().mine(1);
    await customer.untilBalance('120');
    await crypto.untilRead(BASE);
    await crypto.untilDeposits(customer, made.id, ['spendable']);
    await chain().mine(10);
    await crypto.untilDeposits(customer, made.id, ['final']);
    await until('the details to say so', async () =>
      /does not name safe and finalized blocks: 20 and 30 blocks below its head/.test(await crypto.detailsOf(BASE)),
    );
    assert.equal(await crypto.stuckOf(BASE), null);
  });

  it('logs of both vendors three blocks behind their heads: the cursors pass, and 10 are still credited', async () => {
    for (const vendor of VENDORS) fault(vendor, { lagLogsBlocks: 3 });
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await chain().mine(12);
    await customer.untilBalance('10');
  });

  it('logs that come forty blocks late, in blocks whose headers promise nothing in particular, are found by reading again', async () => {
    const made = await crypto.order(customer);
    // The twin's blocks have filters that say much; what a busy chain's say is nothing.
    for (const vendor of VENDORS) fault(vendor, { lagLogsBlocks: 40, blurBlooms: true });
    const { blockNumber } = await pay(made.address, '10');
    await chain().mine(20);
    await crypto.untilRead(BASE);
    assert.ok((await cursors()).every((height) => height > blockNumber!));
    assert.deepEqual((await customer.view(made.id)).deposits, []);
    await chain().mine(25);
    await customer.untilBalance('10');
    await until('the vendor to be named', async () =>
      (await vendorsNow()).some(({ remark }) => /left transfers out/.test(remark ?? '')),
    );
  });

  it('logs that never come: the header promises a transfer, and the receipts of its block have it', async () => {
    for (const vendor of VENDORS) fault(vendor, { emptyLogs: true });
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await chain().mine(12);
    await customer.untilBalance('10');
  });

  describe('what was stepped over', () => {
    /** Pays an order while no vendor shows it in any way, and waits until reading again does not reach it any more. */
    async function payUnseen(address: string): Promise<number> {
      const { txHash } = await chain().transfer({ token: 'USDC', to: address, amount: '10', mine: false });
      for (const vendor of VENDORS) fault(vendor, { dropLogs: [txHash] });
      const height = await chain().mine(1);
      await chain().mine(OVERLAP_MAX + 10);
      await crypto.untilRead(BASE);
      for (const vendor of VENDORS) fault(vendor, null);
      return height;
    }

    it('is found by an order’s re-check, which reads the order’s own time again', async () => {
      const made = await crypto.order(customer);
      await payUnseen(made.address);
      await crypto.untilRead(BASE);
      assert.deepEqual((await customer.view(made.id)).deposits, []);
      await operator.recheck(made.id);
      await customer.untilBalance('10');
      const done = await until('both chains to be read again', async () => {
        const mine = (await rescans()).filter(({ top_up_id: id }) => id === made.id);
        return mine.length === 1 && mine[0]!.state === 'done' && mine[0];
      });
      assert.equal(done.found, 1);
      await operator.recheck(made.id);
      await crypto.untilRead(BASE);
      assert.equal(await customer.balance(), usd('10'), 'and not twice');
    });

    it('is found by a range that staff have read again, through a restart of the worker and a vendor that is away', async () => {
      const made = await crypto.order(customer);
      const height = await payUnseen(made.address);
      await killWorker();
      fault('beta', { hang: true });
      const range = { from_block: 0, to_block: height };
      const path = `/admin/chains/${BASE}/rescan`;
      const asked = await operator.call<{ id: string; state: string }>('POST', path, range);
      assert.deepEqual([asked.status, asked.body.state], [202, 'waiting']);
      const again = await operator.call<{ id: string }>('POST', path, range);
      assert.equal(again.body.id, asked.body.id, 'the same range, while it waits, is the same rescan');
      await crypto.stack.startWorker();
      const found = await until('the range to be read', async () => {
        const [last] = await rescans();
        return last!.state === 'done' && last;
      });
      assert.deepEqual([found.found, found.fault], [1, null]);
      fault('beta', null);
      await customer.untilBalance('10');
      const { rows } = await crypto.stack.admin.query<{ details: object }>(
        `select details from operator_action where action = 'chain.rescan' and subject = $1`,
        [`chain ${BASE}`],
      );
      assert.deepEqual(rows[0]?.details, { ...range, rescan: asked.body.id });
      const { rows: cases } = await crypto.stack.admin.query<{ subject: string }>(
        `select subject from review_case where kind = 'reconcile/transfers_missed' and subject like $1`,
        [`chain ${BASE}, blocks 0 to ${height}`],
      );
      assert.equal(cases.length, 1, 'a person is told');
    });
  });

  describe('a vendor that answers for another chain for a while', () => {
    const honestHead = (): number => chain().head;

    it('is named meanwhile, and reads on from where it was', async () => {
      await crypto.untilRead(BASE);
      fault('beta', { answersFor: ETHEREUM });
      await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'wrong_chain');
      assert.match(await crypto.detailsOf(BASE), /127\.0\.0\.1#2 is on chain 1, not on 8453 \(Base\)/);
      assert.match((await vendorsNow())[1]?.fault ?? '', /is on chain 1, not on 8453/);
      assert.ok((await cursors()).every((height) => height <= honestHead()));
      const made = await crypto.order(customer);
      await pay(made.address, '10');
      await chain().mine(12);
      fault('beta', null);
      await customer.untilBalance('10');
      await crypto.untilRead(BASE);
      await until('the chain to be well', async () => (await crypto.stuckOf(BASE)) === null);
    });

    it('and says that it is the right one, is named by what is not there', async () => {
      fault('beta', { answersFor: ETHEREUM, chainId: BASE });
      await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'wrong_chain');
      assert.match(await crypto.detailsOf(BASE), /#2 has no contract at 0x8335[0-9a-f]+, where USDC is on Base/);
      assert.ok(
        (await cursors()).every((height) => height <= honestHead()),
        'its cursor does not follow',
      );
    });

    it('takes nothing back: both say for a while that nobody knows a payment of 10', async () => {
      const made = await crypto.order(customer);
      await pay(made.address, '10');
      await chain().mine(12);
      await customer.untilBalance('10');
      for (const vendor of VENDORS) fault(vendor, { answersFor: ETHEREUM, chainId: BASE });
      await until('both to be named', async () => (await vendorsNow()).every(({ fault: wrong }) => wrong !== null));
      assert.deepEqual(await customer.postings('top_up_reversal'), []);
      for (const vendor of VENDORS) fault(vendor, null);
      await crypto.untilRead(BASE);
      assert.equal(await customer.balance(), usd('10'));
      assert.deepEqual(await customer.postings('top_up_reversal'), []);
    });

    it('a cursor that it left above the chain is brought back, 10 that came meanwhile are credited, once', async () => {
      await crypto.untilRead(BASE);
      const made = await crypto.order(customer);
      // As an older version left it: thousands of blocks above the real head, on another chain's blocks.
      await killWorker();
      const foreign = await headOf(crypto.twin.rpcUrls[String(ETHEREUM)]![0]!);
      await crypto.stack.admin.query('delete from chain_checkpoint where chain_id = $1 and vendor like $2', [
        BASE,
        '%#2',
      ]);
      await crypto.stack.admin.query(
        'insert into chain_checkpoint (chain_id, vendor, height, hash) values ($1, $2, $3, $4)',
        [BASE, '127.0.0.1#2', foreign.height, foreign.hash],
      );
      await crypto.stack.admin.query(
        'update chain_cursor set height = $3, head = $3, hash = $4 where chain_id = $1 and vendor like $2',
        [...[BASE, '%#2', foreign.height, foreign.hash]],
      );
      await pay(made.address, '10');
      await chain().mine(12);
      await crypto.stack.startWorker();
      await customer.untilBalance('10');
      await until('the cursor to be at the head', async () =>
        (await cursors()).every((height) => height === honestHead()),
      );
      await until('nothing to be left', async () => (await vendorsNow()).every(({ fault: wrong }) => wrong === null));
      assert.ok(
        crypto.stack.worker.log.some((line) => line['msg'] === 'chain has changed'),
        'the log says so',
      );
      assert.deepEqual(await customer.postings('top_up'), ['10']);
    });

    it('a vendor whose head has fallen back for good is followed', async () => {
      await crypto.untilRead(BASE);
      const made = await crypto.order(customer);
      const { blockNumber } = await pay(made.address, '10');
      await chain().mine(12);
      await customer.untilBalance('10');
      fault('beta', { freezeAt: blockNumber! - 1 });
      await until('the cursor to follow', async () => (await cursors())[1]! < blockNumber!);
      assert.equal(await customer.balance(), usd('10'), 'one vendor’s silence takes nothing back');
      fault('beta', null);
      await crypto.untilRead(BASE);
      assert.deepEqual(await customer.postings('top_up_reversal'), []);
    });
  });

  it('an operator who asks at once has blocks read, not only heads', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await chain().mine(12);
    await watch().executeUpdate(checkChainUpdate, { args: [{ by: 'ops' }] });
    assert.equal((await customer.view(made.id)).deposits.length, 1);
  });
});

async function headOf(url: string): Promise<{ height: number; hash: string }> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_getBlockByNumber', params: ['latest', false] }),
  });
  const { result } = (await response.json()) as { result: { number: string; hash: string } };
  return { height: Number(result.number), hash: result.hash };
}
