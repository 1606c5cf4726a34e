/**
 * Crypto top-ups end to end: api, worker, PostgreSQL and Temporal as they run, before real EVM nodes behind two
 * vendors. Named after the scenarios that rivals fail at; whatever happens to blocks and vendors, what has arrived is
 * credited once, and taken back when its block is gone.
 */
import assert from 'node:assert/strict';
import { HDNodeWallet, Mnemonic } from 'ethers';
import { formatUsd, usd } from '../../domain/money.ts';
import { startCryptoStack, WALLET_PHRASE, type CryptoStack } from '../support/crypto-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { until } from '../support/until.ts';

const ETHEREUM = 1;
const BASE = 8453;
/** `safe` is this far below the head, `finalized` twice as far: farther than the twelve blocks of a small deposit. */
const SLOTS = 10;

describe('top-ups by crypto', function () {
  this.timeout(120_000);
  let crypto: CryptoStack;
  let customer: Customer;

  before(async () => {
    crypto = await startCryptoStack({
      name: 'top-ups-crypto',
      chains: [
        { chainId: ETHEREUM, slotsInAnEpoch: SLOTS },
        { chainId: BASE, slotsInAnEpoch: SLOTS },
      ],
      env: () => ({ TOP_UP_EXPIRY_SECONDS: '600' }),
    });
    await Promise.all([ETHEREUM, BASE].map((chainId) => crypto.chain(chainId).mine(2 * SLOTS + 2)));
  });
  after(() => crypto.stop());
  beforeEach(async () => {
    customer = await crypto.people.customer();
  });
  afterEach('no rule is broken', async () => {
    for (const chainId of [ETHEREUM, BASE]) {
      for (const vendor of ['alpha', 'beta']) crypto.chain(chainId).fault(vendor, null);
    }
    assert.deepEqual(await brokenRules(crypto.stack.admin), []);
  });

  const pay = (to: string, amount: string, token: 'USDC' | 'USDT' = 'USDC', chainId = ETHEREUM) =>
    crypto.chain(chainId).transfer({ token, to, amount });

  it('gives an address of our wallet, watches it on every chain, and credits after twelve blocks', async () => {
    const made = await crypto.order(customer);
    assert.equal(made.state, 'waiting');
    assert.deepEqual(
      made.deposit?.chains.map(({ chain_id, tokens }) => [chain_id, tokens.map(({ symbol }) => symbol)]),
      [
        [ETHEREUM, ['USDC', 'USDT']],
        [BASE, ['USDC', 'USDT']],
      ],
    );
    await pay(made.address, '10');
    const seen = await customer.untilState(made.id, 'processing');
    assert.deepEqual(
      seen.deposits.map(({ state, needed, amount_usd }) => [state, needed, amount_usd]),
      [['seen', 12, '10.000000000000']],
    );
    await crypto.chain(ETHEREUM).mine(4);
    await until('the confirmations to be shown', async () =>
      /waiting for 12 confirmations \(5 so far\) of 10 USDC/i.test(await crypto.detailsOf(made.id)),
    );
    await crypto.chain(ETHEREUM).mine(6);
    await crypto.untilRead(ETHEREUM);
    assert.equal(await customer.balance(), usd('0'));
    await crypto.chain(ETHEREUM).mine(1);
    await customer.untilState(made.id, 'credited');
    assert.equal(await customer.balance(), usd('10'));
    const final = async (): Promise<boolean> => {
      const { rows } = await crypto.stack.admin.query(
        'select from payment where account_id = $1 and final_at is not null',
        [customer.uuid],
      );
      return rows.length === 1;
    };
    assert.equal(await final(), false);
    await crypto.chain(ETHEREUM).mine(2 * SLOTS);
    await until('the payment to be final', final);
  });

  it('by hand, by the transaction’s hash in any spelling, the deposit itself is credited: 10 for 10, not 20', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    const { deposits } = await customer.untilState(made.id, 'processing');
    const hash = deposits[0]!.tx_hash;
    const [ada, bob] = [await crypto.people.staff('ada'), await crypto.people.staff('bob')];
    const credit = (text: string) =>
      ada.call<{ id: string; state: string; payment_id: string }>('POST', `/admin/top-ups/${made.id}/credit`, {
        ...{ payment_id: text, amount_usd: '10', reason: 'the customer showed the transaction' },
      });
    const asked = await credit(hash.slice(2).toUpperCase());
    assert.deepEqual([asked.status, asked.body.state], [202, 'waiting'], 'it is not confirmed yet');
    assert.match(asked.body.payment_id, new RegExp(`^${ETHEREUM}/${hash}/\\d+$`));
    for (const text of [hash, `${hash}:3`, `https://etherscan.io/tx/${hash}#eventlog`, asked.body.payment_id]) {
      assert.equal((await credit(text)).status, 409, text);
    }
    for (const text of [made.address, hash.slice(0, -1), `0x${'5e'.repeat(32)}`]) {
      assert.equal((await credit(text)).status, 422, text);
    }
    assert.equal((await bob.call('POST', `/admin/hand-credits/${asked.body.id}/approve`, {})).status, 200);
    await customer.untilBalance('10');
    await crypto.chain(ETHEREUM).mine(12);
    await crypto.untilDeposits(customer, made.id, ['spendable']);
    await crypto.untilRead(ETHEREUM);
    assert.equal(await customer.balance(), usd('10'));
    assert.equal((await credit(hash)).status, 409);
  });

  it('the address is the wallet’s, which can be swept with the key that no server has', async () => {
    const made = await crypto.order(customer);
    const { rows } = await crypto.stack.admin.query<{ path: string }>(
      'select path from deposit_address where address = $1',
      [made.address],
    );
    const phrase = Mnemonic.fromPhrase(WALLET_PHRASE);
    const own = HDNodeWallet.fromMnemonic(phrase, `m/44'/60'/0'/0/${rows[0]!.path}`);
    assert.equal(own.address.toLowerCase(), made.address);
  });

  it('a large deposit waits for finality', async () => {
    const made = await crypto.order(customer, '60');
    await pay(made.address, '60');
    await crypto.chain(ETHEREUM).mine(2 * SLOTS - 1);
    const { deposits } = await crypto.untilDeposits(customer, made.id, ['seen']);
    assert.equal(deposits[0]!.needed, null);
    await crypto.untilRead(ETHEREUM);
    assert.equal(await customer.balance(), usd('0'));
    await crypto.chain(ETHEREUM).mine(1);
    await customer.untilBalance('60');
  });

  it('the address is worth the same on every chain, in every token', async () => {
    const made = await crypto.order(customer, '30');
    await pay(made.address, '10', 'USDT', BASE);
    await pay(made.address, '20', 'USDC', ETHEREUM);
    await Promise.all([crypto.chain(BASE).mine(12), crypto.chain(ETHEREUM).mine(12)]);
    await customer.untilBalance('30');
    const { labels } = await customer.view(made.id);
    assert.deepEqual(labels, []);
  });

  it('S18: 0.25 % short credits what came, and says so', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '9.975');
    await crypto.chain(ETHEREUM).mine(12);
    const now = await customer.untilState(made.id, 'credited');
    assert.deepEqual([now.credited_usd, now.labels], ['9.975000000000', ['underpaid']]);
    assert.equal(await customer.balance(), usd('9.975'));
  });

  it('S21: two payments to one address, more than was ordered, are both credited', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '6.5');
    await pay(made.address, '7.25', 'USDT');
    await crypto.chain(ETHEREUM).mine(12);
    await customer.untilBalance('13.75');
    await pay(made.address, '1');
    await crypto.chain(ETHEREUM).mine(12);
    await customer.untilBalance('14.75');
    assert.deepEqual((await customer.view(made.id)).labels, ['overpaid']);
    assert.deepEqual((await customer.postings('top_up')).sort(), ['1', '6.5', '7.25']);
  });

  it('S22: a payment that is replaced after it was seen is withdrawn, and credits nothing', async () => {
    const made = await crypto.order(customer);
    const { txHash } = await pay(made.address, '10');
    await crypto.chain(ETHEREUM).mine(3);
    await customer.untilState(made.id, 'processing');
    await crypto.chain(ETHEREUM).reorg({
      depth: 4,
      replace: [{ txHash, to: '0x00000000000000000000000000000000deadbeef', offset: 0 }],
    });
    await crypto.untilDeposits(customer, made.id, ['undone']);
    await crypto.chain(ETHEREUM).mine(2 * SLOTS + 5);
    await customer.untilState(made.id, 'waiting');
    await crypto.untilRead(ETHEREUM);
    assert.equal(await customer.balance(), usd('0'));
  });

  it('S23: a reorganization takes back credit that was spent: the balance falls below zero', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await crypto.chain(ETHEREUM).mine(12);
    await customer.untilBalance('10');
    await customer.spend('9');
    await crypto.chain(ETHEREUM).reorg({ depth: 13 });
    await customer.untilBalance('-9');
    await crypto.chain(ETHEREUM).mine(5);
    await crypto.untilRead(ETHEREUM);
    assert.deepEqual(await customer.postings('top_up_reversal'), ['10']);
    assert.match(await crypto.detailsOf(made.id), /reorg 1\/0x[0-9a-f]{64}\/0#1 over 10\.0+ USD debited/);
  });

  it('S24: a payment that is included again, at another place of another block, is one credit', async () => {
    const other = await crypto.order(customer);
    const made = await crypto.order(customer);
    const first = await pay(made.address, '10');
    await crypto.chain(ETHEREUM).mine(3);
    await crypto.untilDeposits(customer, made.id, ['seen']);
    const between = await pay(other.address, '3');
    await crypto.untilDeposits(customer, other.id, ['seen']);
    await crypto.chain(ETHEREUM).reorg({
      depth: 5,
      reinclude: [
        { txHash: between.txHash, offset: 2 },
        { txHash: first.txHash, offset: 2 },
      ],
    });
    await crypto.chain(ETHEREUM).mine(12);
    await customer.untilBalance('13');
    await crypto.untilRead(ETHEREUM);
    assert.deepEqual((await customer.postings('top_up')).sort(), ['10', '3']);
  });

  it('S24: credit that was lost to a reorganization comes back once when the payment does', async () => {
    const made = await crypto.order(customer);
    const { txHash } = await pay(made.address, '10');
    await crypto.chain(ETHEREUM).mine(12);
    await customer.untilBalance('10');
    const anvil = crypto.chain(ETHEREUM);
    await anvil.reorg({ depth: 13, reinclude: [{ txHash, offset: 12 }] });
    await anvil.mine(2);
    // It has moved, and is not gone: nothing was taken back.
    await crypto.untilDeposits(customer, made.id, ['seen']);
    await crypto.untilRead(ETHEREUM);
    assert.equal(await customer.balance(), usd('10'));
    await anvil.reorg({ depth: 3 });
    await customer.untilBalance('0');
    await anvil.mine(2);
    await crypto.untilRead(ETHEREUM);
    assert.deepEqual(await customer.postings('top_up_reversal'), ['10']);
  });

  it('S30: fake tokens and empty transfers are nothing; what a fee leaves is credited', async () => {
    const made = await crypto.order(customer);
    const anvil = crypto.chain(ETHEREUM);
    await anvil.fakeTransfer({ to: made.address, amount: '1000' });
    await pay(made.address, '0');
    await anvil.setTransferFee('USDT', 100);
    try {
      await pay(made.address, '10', 'USDT');
    } finally {
      await anvil.setTransferFee('USDT', 0);
    }
    await anvil.mine(12);
    await customer.untilBalance('9.9');
    assert.equal((await customer.view(made.id)).deposits.length, 1);
  });

  it('S30: amounts below the minimum credit are credited once they add up', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '0.3');
    await crypto.chain(ETHEREUM).mine(12);
    await crypto.untilDeposits(customer, made.id, ['spendable']);
    await crypto.untilRead(ETHEREUM);
    assert.equal(await customer.balance(), usd('0'));
    await pay(made.address, '0.2');
    await crypto.chain(ETHEREUM).mine(12);
    await customer.untilBalance('0.5');
  });

  it('a final block that disappears is an alarm, and its credit is taken back', async () => {
    const made = await crypto.order(customer);
    await pay(made.address, '10');
    await crypto.chain(ETHEREUM).mine(2 * SLOTS + 3);
    await crypto.untilDeposits(customer, made.id, ['final']);
    await customer.untilBalance('10');
    await crypto.chain(ETHEREUM).reorg({ depth: 2 * SLOTS + 4 });
    await customer.untilBalance('0');
    const { rows } = await crypto.stack.admin.query<{ evidence: { top_up: string; amount: string } }>(
      `select evidence from review_case where kind = 'finality_violated' and evidence ->> 'top_up' = $1`,
      [made.id],
    );
    assert.equal(rows[0]?.evidence.amount, formatUsd(usd('10')));
  });

  it('refuses what no address could change: amounts and methods by name', async () => {
    const wanted = { method: 'crypto', amount_usd: '0.99' };
    const answer = await customer.call<{ error: { param: string } }>('POST', '/api/top-ups', wanted);
    assert.deepEqual([answer.status, answer.body.error.param], [422, 'amount_usd']);
  });
});
