/**
 * Tokens of our own that move between our own addresses: a holder of the wallet's key could otherwise pay the same ten
 * dollars in again and again. Nothing of it is credited, however many steps it takes, and each transfer is a case for a
 * person.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import { startCryptoStack, type CryptoStack } from '../support/crypto-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { until } from '../support/until.ts';

const BASE = 8453;
const STRANGER = '0x00000000000000000000000000000000deadbeef';

describe('tokens that move between our own addresses', function () {
  this.timeout(120_000);
  let crypto: CryptoStack;
  let customer: Customer;
  let other: Customer;
  /** Of an order that 10 USDC were paid for, and of another customer's order. */
  let first: { readonly id: string; readonly address: string };
  let second: { readonly id: string; readonly address: string };

  before(async () => {
    crypto = await startCryptoStack({ name: 'top-ups-crypto-own', chains: [{ chainId: BASE, slotsInAnEpoch: 8 }] });
    await chain().mine(20);
  });
  after(() => crypto.stop());
  beforeEach(async () => {
    [customer, other] = [await crypto.people.customer(), await crypto.people.customer()];
    [first, second] = [await crypto.order(customer), await crypto.order(other)];
    await chain().transfer({ token: 'USDC', to: first.address, amount: '10' });
    await chain().mine(12);
    await customer.untilBalance('10');
  });
  afterEach('no rule is broken', async () => {
    for (const vendor of ['alpha', 'beta']) chain().fault(vendor, null);
    assert.deepEqual(await brokenRules(crypto.stack.admin), []);
  });

  const chain = () => crypto.chain(BASE);
  /** Subjects of the cases of transactions. */
  const casesOf = async (...txHashes: string[]): Promise<string[]> => {
    const { rows } = await crypto.stack.admin.query<{ subject: string }>(
      `select subject from review_case where kind = 'transfer_from_own_address' and evidence ->> 'tx_hash' = any ($1) order by id`,
      [txHashes],
    );
    return rows.map(({ subject }) => subject);
  };
  /** Once everything is read and nothing is left to wait for, only the ten that came are credited. */
  async function onlyTenCame(cases: number, ...txHashes: string[]): Promise<void> {
    await chain().mine(30);
    await crypto.untilRead(BASE);
    assert.deepEqual([await customer.balance(), await other.balance()], [usd('10'), usd('0')]);
    assert.equal((await customer.view(first.id)).deposits.length, 1);
    assert.deepEqual((await other.view(second.id)).deposits, []);
    const opened = await until('the cases', async () => {
      const subjects = await casesOf(...txHashes);
      return subjects.length >= cases && subjects;
    });
    assert.equal(opened.length, cases);
  }

  it('an address that pays itself: 10 on the chain stay 10, not 20', async () => {
    const { txHash } = await chain().transfer({ token: 'USDC', from: first.address, to: first.address, amount: '10' });
    await onlyTenCame(1, txHash);
    assert.deepEqual(await casesOf(txHash), [`${BASE}/${txHash}/0`]);
  });

  it('there and back between two customers’ addresses: 10 on the chain stay 10, not 30', async () => {
    const there = await chain().transfer({ token: 'USDC', from: first.address, to: second.address, amount: '10' });
    const back = await chain().transfer({ token: 'USDC', from: second.address, to: first.address, amount: '10' });
    await onlyTenCame(2, there.txHash, back.txHash);
  });

  it('through a contract, in one transaction with several transfers, none of which comes straight from us', async () => {
    const to = [
      { address: second.address, amount: '4' },
      { address: STRANGER, amount: '1' },
      { address: first.address, amount: '3' },
    ];
    const { txHash, succeeded } = await chain().relay({ token: 'USDC', from: first.address, to });
    assert.equal(succeeded, true);
    await onlyTenCame(2, txHash);
    assert.deepEqual(await casesOf(txHash), [`${BASE}/${txHash}/1`, `${BASE}/${txHash}/3`]);
  });

  it('a token with a fee on transfers is no way around it', async () => {
    await chain().setTransferFee('USDT', 100);
    try {
      await chain().transfer({ token: 'USDT', to: first.address, amount: '100' });
      await chain().mine(12);
      await customer.untilBalance('109');
      const sent = { token: 'USDT', from: first.address, to: second.address, amount: '50' } as const;
      const { txHash } = await chain().transfer(sent);
      await chain().mine(30);
      await crypto.untilRead(BASE);
      await until('a case', async () => (await casesOf(txHash)).length === 1);
      assert.deepEqual([await customer.balance(), await other.balance()], [usd('109'), usd('0')]);
    } finally {
      await chain().setTransferFee('USDT', 0);
    }
  });

  it('what leaves to a stranger and comes back by the stranger’s hand is a payment again, as from any exchange', async () => {
    await chain().transfer({ token: 'USDC', from: first.address, to: STRANGER, amount: '10' });
    await chain().transfer({ token: 'USDC', from: STRANGER, to: second.address, amount: '10' });
    await chain().mine(12);
    await other.untilBalance('10');
  });

  it('a transfer of nothing out of our address, which anybody can make, keeps no payment of the same block from its order', async () => {
    await chain().transfer({ token: 'USDC', from: first.address, to: second.address, amount: '0', mine: false });
    const { txHash } = await chain().transfer({ token: 'USDC', to: second.address, amount: '7' });
    await chain().mine(12);
    await other.untilBalance('7');
    assert.deepEqual(await casesOf(txHash), []);
  });

  it('a payment through a contract that pays several of us is as many payments', async () => {
    const to = [
      { address: first.address, amount: '2' },
      { address: second.address, amount: '3' },
    ];
    await chain().relay({ token: 'USDC', to });
    await chain().mine(12);
    await customer.untilBalance('12');
    await other.untilBalance('3');
  });

  it('a transfer that only receipts show is held against the same rule', async () => {
    // Both vendors' logs leave it out.
    for (const vendor of ['alpha', 'beta']) chain().fault(vendor, { emptyLogs: true });
    const { txHash } = await chain().transfer({ token: 'USDC', from: first.address, to: second.address, amount: '10' });
    await onlyTenCame(1, txHash);
  });
});
