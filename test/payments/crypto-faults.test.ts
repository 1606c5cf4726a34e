/**
 * Crypto top-ups while vendors lag, lie and hang, prices leave their peg, and processes die: real api, worker,
 * PostgreSQL and Temporal before a real EVM node. One vendor's word neither credits nor takes back, and silence loses
 * nothing.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import type { ChainFault } from '../../twins/chain/twin.ts';
import { chainStatusQuery, chainWorkflowId, checkChainUpdate, rescanChainUpdate } from '../../contract/index.ts';
import { startCryptoStack, type CryptoStack } from '../support/crypto-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { until } from '../support/until.ts';

const BASE = 8453;
const SLOTS = 8;
const EXPIRY_SECONDS = 4;
/** The least that is read again. */
const OVERLAP = 1;

describe('top-ups by crypto under faults', function () {
  this.timeout(180_000);
  let crypto: CryptoStack;
  let customer: Customer;

  before(async () => {
    crypto = await startCryptoStack({
      name: 'top-ups-crypto-faults',
      chains: [{ chainId: BASE, slotsInAnEpoch: SLOTS }],
      env: (twin) => {
        const { feeds } = twin.chain(BASE);
        return {
          TOP_UP_EXPIRY_SECONDS: String(EXPIRY_SECONDS),
          CHAIN_8453_USDC_FEED: `${feeds.USDC}:86400`,
          CHAIN_8453_USDT_FEED: `${feeds.USDT}:3600`,
          CHAIN_8453_SEQUENCER_FEED: feeds.sequencer,
          CHAIN_OVERLAP_BLOCKS: String(OVERLAP),
          WORKER_SHUTDOWN_SECONDS: '2',
        };
      },
    });
    await chain().mine(2 * SLOTS + 2);
    // Up for longer than its grace.
    await healthy();
  });
  after(() => crypto.stop());
  beforeEach(async () => {
    customer = await crypto.people.customer();
  });
  afterEach('no rule is broken', async () => {
    for (const vendor of ['alpha', 'beta']) fault(vendor, null);
    await healthy();
    assert.deepEqual(await brokenRules(crypto.stack.admin), []);
  });

  const chain = () => crypto.chain(BASE);
  const watch = () => crypto.temporal.workflow.getHandle(chainWorkflowId(BASE));
  const fault = (vendor: string, what: ChainFault | null): void => chain().fault(vendor, what);
  const pay = (to: string, amount: string, token: 'USDC' | 'USDT' = 'USDC') => chain().transfer({ token, to, amount });
  const hoursAgo = (hours: number): number => Math.floor(Date.now() / 1000) - hours * 3600;

  async function healthy(): Promise<void> {
    await chain().setFeed({ token: 'sequencer', answer: '0', updatedAt: hoursAgo(5) });
    for (const token of ['USDC', 'USDT'] as const) {
      await chain().setFeed({ token, answer: '1', updatedAt: Math.floor(Date.now() / 1000) });
    }
    await until('every token to be quoted', async () => {
      const { rows } = await crypto.stack.admin.query<{ n: number }>(
        'select count(*)::int as n from chain_token where fault is null',
      );
      return rows[0]!.n === 2;
    });
  }

  const method = async (): Promise<boolean> => {
    const { body } = await customer.call<{ data: { method: string; available: boolean }[] }>(
      'GET',
      '/api/top-ups/methods',
    );
    return body.data.find((known) => known.method === 'crypto')!.available;
  };

  it('S19: what comes after the end of the order is credited, labelled late', async () => {
    const made = await crypto.order(customer);
    await until('the order to be over', async () => {
      await chain().mine(1);
      return (await customer.view(made.id)).state === 'expired';
    });
    await pay(made.address, '10');
    await chain().mine(10);
    const now = await customer.untilState(made.id, 'credited');
    assert.deepEqual([now.credited_usd, now.labels], ['10.000000000000', ['late']]);
  });

  it('S20: an order that was paid while the worker was away is not over before its chain has been read', async () => {
    const made = await crypto.order(customer);
    const dying = crypto.stack.worker;
    dying.signal('SIGKILL');
    await dying.exited;
    await pay(made.address, '10');
    await chain().mine(4);
    await until('the order’s time to be up', () => Date.now() > Date.parse(made.expires_at));
    await crypto.stack.startWorker();
    await customer.untilState(made.id, 'processing');
    const { rows } = await crypto.stack.admin.query("select from top_up where state = 'expired' and account_id = $1", [
      customer.uuid,
    ]);
    assert.equal(rows.length, 0);
    await chain().mine(8);
    await customer.untilBalance('10');
  });

  it('a worker killed between seeing and crediting leaves one credit', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await crypto.untilDeposits(customer, made.id, ['seen']);
    await chain().mine(10);
    const dying = crypto.stack.worker;
    dying.signal('SIGKILL');
    await dying.exited;
    await crypto.stack.startWorker();
    await customer.untilBalance('10');
    await crypto.untilRead(BASE);
    assert.equal(await customer.balance(), usd('10'));
  });

  it('S25: a vendor that lags neither credits nor keeps the cursor from where it was', async () => {
    const made = await crypto.order(customer);
    fault('beta', { freezeAt: chain().head });
    const frozen = chain().head;
    await pay(made.address, '10');
    await chain().mine(2 * SLOTS);
    await crypto.untilDeposits(customer, made.id, ['seen']);
    const { rows } = await crypto.stack.admin.query<{ height: string }>(
      'select height from chain_cursor where chain_id = $1 order by height limit 1',
      [BASE],
    );
    assert.equal(Number(rows[0]!.height), frozen);
    assert.equal(await customer.balance(), usd('0'));
    fault('beta', null);
    await customer.untilBalance('10');
  });

  it('S25: a transfer that both vendors left out in every way is found by a range that is read again', async () => {
    const made = await crypto.order(customer);
    const { txHash } = await chain().transfer({ token: 'USDC', to: made.address, amount: '10', mine: false });
    for (const vendor of ['alpha', 'beta']) fault(vendor, { dropLogs: [txHash] });
    const height = await chain().mine(1);
    // Out of reach of the blocks that are read again automatically.
    await chain().mine(64 * OVERLAP + 10);
    await crypto.untilRead(BASE);
    for (const vendor of ['alpha', 'beta']) fault(vendor, null);
    assert.deepEqual((await customer.view(made.id)).deposits, []);
    const range = { by: 'ops', from: height - 1, to: height + 1 };
    const done = await watch().executeUpdate(rescanChainUpdate, { args: [range] });
    assert.equal(done.found, 1);
    await customer.untilBalance('10');
    await assert.rejects(watch().executeUpdate(rescanChainUpdate, { args: [{ by: 'ops', from: 5, to: 4 }] }));
  });

  it('S28: a chain that cannot be read again after it changed takes nothing back', async () => {
    const made = await crypto.order(customer);
    const { txHash } = await pay(made.address, '10');
    await chain().mine(9);
    await customer.untilBalance('10');
    // As pruned nodes do: nothing in any range, and one has lost its receipts as well.
    fault('alpha', { emptyLogs: true, nullReceipts: true });
    fault('beta', { emptyLogs: true });
    await chain().reorg({ depth: 10, reinclude: [{ txHash, offset: 1 }] });
    await chain().mine(4);
    await until('both cursors to be at the end', async () => {
      const { rows } = await crypto.stack.admin.query<{ n: number }>(
        'select count(*)::int as n from chain_cursor where chain_id = $1 and height = $2',
        [BASE, chain().head],
      );
      return rows[0]!.n === 2;
    });
    assert.equal(await customer.balance(), usd('10'));
    for (const vendor of ['alpha', 'beta']) fault(vendor, null);
    await crypto.untilRead(BASE);
    await crypto.untilDeposits(customer, made.id, ['spendable']);
    assert.equal(await customer.balance(), usd('10'));
  });

  it('S28: what all vendors denied for a while, and show again, is given back', async () => {
    const made = await crypto.order(customer);
    const { txHash } = await pay(made.address, '10');
    await chain().mine(9);
    await customer.untilBalance('10');
    for (const vendor of ['alpha', 'beta']) fault(vendor, { emptyLogs: true, nullReceipts: true });
    await chain().reorg({ depth: 10, reinclude: [{ txHash, offset: 1 }] });
    await chain().mine(10);
    await customer.untilBalance('0');
    for (const vendor of ['alpha', 'beta']) fault(vendor, null);
    await customer.untilBalance('10');
  });

  it('S29: a transfer that only one vendor shows is never credited, and a person is told', async () => {
    const made = await crypto.order(customer);
    const from = chain().head;
    fault('beta', { inventLog: { to: made.address, amount: '50' } });
    await chain().mine(2 * SLOTS + 2);
    await watch().executeUpdate(rescanChainUpdate, { args: [{ by: 'ops', from, to: from }] });
    await crypto.untilDeposits(customer, made.id, ['seen']);
    await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'vendors_disagree');
    assert.match(await crypto.detailsOf(BASE), /vendors contradict each other about 0x[0-9a-f]{64}\/0/);
    await until('the top-up to be stuck', async () => (await crypto.stuckOf(made.id)) === 'vendors_disagree');
    assert.equal(await customer.balance(), usd('0'));
    fault('beta', null);
    await crypto.untilDeposits(customer, made.id, ['undone']);
    await until('the chain to be well', async () => (await crypto.stuckOf(BASE)) === null);
    assert.equal(await customer.balance(), usd('0'));
  });

  it('S29: a transfer that one vendor denies waits, and is credited once the vendor shows it', async () => {
    const made = await crypto.order(customer);
    const { txHash } = await chain().transfer({ token: 'USDC', to: made.address, amount: '10', mine: false });
    fault('beta', { dropLogs: [txHash] });
    await chain().mine(12);
    await crypto.untilDeposits(customer, made.id, ['seen']);
    await crypto.untilRead(BASE);
    assert.equal(await customer.balance(), usd('0'));
    fault('beta', null);
    await customer.untilBalance('10');
  });

  it('S29: a vendor that hangs delays nobody longer than its timeout, and is named', async () => {
    fault('beta', { hang: true });
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await crypto.untilDeposits(customer, made.id, ['seen']);
    await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'vendor_away');
    assert.match(await crypto.detailsOf(BASE), /127\.0\.0\.1#2 does not answer as it should/);
    fault('beta', null);
    await chain().mine(10);
    await customer.untilBalance('10');
  });

  it('a vendor of another chain is not believed, and named', async () => {
    fault('beta', { chainId: 10 });
    await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'wrong_chain');
    assert.match(await crypto.detailsOf(BASE), /127\.0\.0\.1#2 is on chain 10, not on 8453 \(Base\)/);
    const dying = crypto.stack.worker;
    dying.signal('SIGKILL');
    await dying.exited;
    // At its start the worker refuses.
    await assert.rejects(crypto.stack.startWorker());
    assert.notEqual(await crypto.stack.worker.exited, 0);
    fault('beta', null);
    await crypto.stack.startWorker();
    await until('the chain to be well', async () => {
      const { summary } = await watch().query(chainStatusQuery);
      return summary?.vendors.every((vendor) => vendor.fault === null) === true;
    });
  });

  it('S31: a token that loses its peg is not offered, its deposits wait, and are credited when it is back', async () => {
    const waiting = await crypto.order(customer);
    await chain().setFeed({ token: 'USDC', answer: '0.97' });
    await until('USDC not to be offered', async () => {
      const { deposit } = await customer.view(waiting.id);
      return deposit?.chains[0]?.tokens.map(({ symbol }) => symbol).join() === 'USDT';
    });
    assert.equal(await method(), true);
    await pay(waiting.address, '10');
    await chain().mine(12);
    await crypto.untilDeposits(customer, waiting.id, ['spendable']);
    await until('the top-up to be stuck', async () => (await crypto.stuckOf(waiting.id)) === 'peg_lost');
    await until('the chain to be stuck', async () => (await crypto.stuckOf(BASE)) === 'peg_lost');
    assert.equal(await customer.balance(), usd('0'));
    await healthy();
    await customer.untilBalance('10');
    // What is credited stays so, and waits for nothing, whatever its token is worth later.
    await chain().setFeed({ token: 'USDC', answer: '0.97' });
    await chain().mine(2 * SLOTS);
    await crypto.untilDeposits(customer, waiting.id, ['final']);
    await crypto.untilRead(BASE);
    await until('the top-up to be well', async () => (await crypto.stuckOf(waiting.id)) === null);
    assert.equal(await customer.balance(), usd('10'));
  });

  it('S31: with no token left nothing is quoted: negative price, a price older than its own feed allows', async () => {
    await chain().setFeed({ token: 'USDC', answer: '-1' });
    // Within the day that USDC's feed has, past the hour of USDT's.
    await chain().setFeed({ token: 'USDT', answer: '1', updatedAt: hoursAgo(2) });
    await until('quoting to stop', async () => !(await method()));
    const wanted = { method: 'crypto', amount_usd: '10' };
    const answer = await customer.call<{ error: { code: string } }>('POST', '/api/top-ups', wanted);
    assert.deepEqual([answer.status, answer.body.error.code], [503, 'top_up_unavailable']);
    await chain().setFeed({ token: 'USDC', answer: '1', updatedAt: hoursAgo(2) });
    await until('quoting to go on', method);
    const { deposit } = await crypto.order(customer);
    assert.deepEqual(
      deposit?.chains[0]?.tokens.map(({ symbol }) => symbol),
      ['USDC'],
    );
  });

  it('S31: with the sequencer down, or back for less than an hour, nothing is quoted', async () => {
    await chain().setFeed({ token: 'sequencer', answer: '1' });
    await until('quoting to stop', async () => !(await method()));
    await chain().setFeed({ token: 'sequencer', answer: '0', updatedAt: Math.floor(Date.now() / 1000) - 60 });
    await crypto.untilRead(BASE);
    await watch().executeUpdate(checkChainUpdate, { args: [{ by: 'ops' }] });
    assert.equal(await method(), false);
  });

  it('S32: a vendor that answers only short ranges, few logs or too often "too many" is still read', async () => {
    const made = await crypto.order(customer);
    for (const vendor of ['alpha', 'beta']) fault(vendor, { status: 429 });
    await pay(made.address, '3');
    await chain().mine(40);
    await pay(made.address, '4');
    await pay(made.address, '5');
    await chain().mine(12);
    for (const vendor of ['alpha', 'beta']) fault(vendor, { maxRange: 7, maxLogs: 1 });
    await customer.untilBalance('12');
  });

  it('an operator can look at a chain now, and reads how it stands', async () => {
    const summary = await watch().executeUpdate(checkChainUpdate, { args: [{ by: 'ops' }] });
    assert.equal(summary.head, chain().head);
    assert.deepEqual(
      summary.vendors.map(({ name, fault: wrong }) => [name, wrong]),
      [
        ['127.0.0.1#1', null],
        ['127.0.0.1#2', null],
      ],
    );
    assert.match(await crypto.detailsOf(BASE), /Head \d+; \d+ deposits wait for confirmations\./);
  });
});
