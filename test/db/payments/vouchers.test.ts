/** Vouchers in SQL: each is redeemed once for any number of requests, and only while its batch stands. */
import assert from 'node:assert/strict';
import { freezeAccount, unfreezeAccount } from '../../../db/accounts/accounts.ts';
import { findBalance } from '../../../db/accounts/accounts.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import { findVoucherBatch, findVoucherByCode, listVouchers } from '../../../db/payments/voucher-records.ts';
import {
  countVoucherAttempt,
  createVoucherBatch,
  decideVoucherBatch,
  forgetVoucherAttempt,
  newVoucherCode,
  redeemVoucher,
  voidVoucherBatch,
  type NewVoucherBatch,
  type VoucherBatch,
} from '../../../db/payments/vouchers.ts';
import { uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd, type PicoUsd } from '../../../domain/money.ts';
import type { VoucherCode } from '../../../domain/payments/voucher.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ANN, BOB, EVE, upTo } from '../../support/staff.ts';

const REDEEMERS = 200;
const PAGE = { after: null, limit: 200 };

describe('vouchers', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;

  before(async () => {
    ledger = await createLedgerDatabase('vouchers', 8);
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  const newBatch = (given: Partial<NewVoucherBatch> = {}): NewVoucherBatch => ({
    id: uuidOf('voucherBatch', uuidAt(Date.now())),
    name: 'Fair 2027',
    count: 3,
    amount: usd('5'),
    expiresAt: null,
    reason: 'for a test',
    requestedBy: ANN,
    limits: upTo('100'),
    ...given,
  });

  async function issued(
    given: Partial<NewVoucherBatch> = {},
  ): Promise<{ batch: VoucherBatch; codes: readonly VoucherCode[]; code: VoucherCode }> {
    const made = await createVoucherBatch(ledger.management, newBatch(given));
    return { ...made, code: made.codes[0]! };
  }

  const redeem = (code: VoucherCode, by = accountId) => redeemVoucher(ledger.management, code, by);
  const balanceOf = async (id: AccountUuid): Promise<PicoUsd> => (await findBalance(ledger.management, id))!.balance;

  async function verdict(code: VoucherCode, by = accountId): Promise<string> {
    return (await redeem(code, by)).verdict;
  }

  it(`a code that ${REDEEMERS} accounts redeem at once is redeemed by exactly one of them`, async () => {
    const { code, batch } = await issued({ amount: usd('0.000000000001') });
    const accounts = await Promise.all(Array.from({ length: REDEEMERS }, () => createCustomer(ledger, '0')));
    const verdicts = await Promise.all(accounts.map((by) => verdict(code, by)));
    assert.equal(verdicts.filter((each) => each === 'redeemed').length, 1);
    assert.equal(verdicts.filter((each) => each === 'taken').length, REDEEMERS - 1);
    const winner = accounts[verdicts.indexOf('redeemed')]!;
    assert.equal(await balanceOf(winner), usd('0.000000000001'));
    const { rows } = await ledger.admin.query<{ n: string }>(
      `select count(*) as n from posting p join voucher v on v.id = p.business_id where p.kind = 'voucher' and v.batch_id = $1`,
      [batch.id],
    );
    assert.equal(rows[0]!.n, '1');
  });

  it('the same account asking again, also many times at once, gets the same answer and the money once', async () => {
    const { code } = await issued();
    const answers = await Promise.all(Array.from({ length: 24 }, () => redeem(code)));
    answers.push(await redeem(code));
    for (const answer of answers) assert.deepEqual(answer, answers[0]);
    assert.equal(answers[0]!.verdict, 'redeemed');
    assert.equal(await balanceOf(accountId), usd('5'));
  });

  it('a posting moves the exact amount from promo:voucher and says why', async () => {
    const { code, batch } = await issued({ amount: usd('1.000000000001') });
    const answer = await redeem(code);
    assert.ok(answer.verdict === 'redeemed');
    const { rows } = await ledger.admin.query<{
      name: string;
      credit: string;
      amount: string;
      memo: { batch: string };
    }>('select d.name, p.credit, p.amount, p.memo from posting p join account d on d.id = p.debit where p.id = $1', [
      answer.postingId,
    ]);
    const [posting] = rows;
    assert.deepEqual(
      [posting!.name, posting!.credit, usd(posting!.amount), posting!.memo.batch],
      ['promo:voucher', accountId, usd('1.000000000001'), batch.id],
    );
  });

  it('a code that nobody made is unknown', async () => {
    assert.equal(await verdict(newVoucherCode()), 'unknown');
  });

  it('an expired voucher redeems nothing, to the moment', async () => {
    const { code } = await issued({ expiresAt: new Date(Date.now() - 1) });
    assert.equal(await verdict(code), 'expired');
    assert.equal(await balanceOf(accountId), 0n);
  });

  it('a voucher redeemed in time stays redeemed when its batch expires or is withdrawn', async () => {
    const { code, batch } = await issued({ expiresAt: new Date(Date.now() + 3_600_000) });
    const first = await redeem(code);
    await voidVoucherBatch(ledger.management, { id: batch.id, reason: 'over', voidedBy: BOB });
    await ledger.admin.query('update voucher_batch set expires_at = now() where id = $1', [batch.id]);
    assert.deepEqual(await redeem(code), first);
  });

  it('a frozen account redeems nothing, and can once it is unfrozen', async () => {
    const { code } = await issued();
    await freezeAccount(ledger.management, accountId, { kind: 'support', reason: 'abuse' });
    await assert.rejects(redeem(code), (error) => ledgerRefusal(error)?.code === 'account_frozen');
    await unfreezeAccount(ledger.management, accountId, ['support']);
    assert.equal(await verdict(code), 'redeemed');
  });

  it('a batch above the threshold in total waits, and only another person than who asked can approve it', async () => {
    const { code, batch } = await issued({ count: 21, amount: usd('5') });
    assert.equal(batch.state, 'waiting');
    assert.equal(await verdict(code), 'waiting');
    const approve = (decidedBy: string) =>
      decideVoucherBatch(ledger.management, { id: batch.id, approve: true, decidedBy });
    await assert.rejects(approve(ANN), (error) => ledgerRefusal(error)?.code === 'second_person_needed');
    assert.deepEqual(await stateAfter(approve(BOB)), ['issued', true]);
    assert.deepEqual(await stateAfter(approve(EVE)), ['issued', false]);
    assert.equal(await verdict(code), 'redeemed');
  });

  it('a batch of exactly the threshold does not wait', async () => {
    assert.equal((await issued({ count: 20, amount: usd('5') })).batch.state, 'issued');
  });

  it('a rejected batch stays worth nothing', async () => {
    const { code, batch } = await issued({ limits: upTo('1') });
    const decide = (approve: boolean) =>
      decideVoucherBatch(ledger.management, { id: batch.id, approve, decidedBy: ANN });
    assert.deepEqual(await stateAfter(decide(false)), ['rejected', true]);
    assert.deepEqual(await stateAfter(decide(true)), ['rejected', false]);
    assert.equal(await verdict(code), 'void');
  });

  async function stateAfter(decision: ReturnType<typeof decideVoucherBatch>): Promise<[string, boolean]> {
    const { state, decidedNow } = await decision;
    return [state, decidedNow];
  }

  it('the rest of a batch can be ended; what redeems at the same moment is either redeemed or void', async () => {
    const { batch, codes } = await issued({ count: 20 });
    assert.equal(await verdict(codes[0]!), 'redeemed');
    const order = { id: batch.id, reason: 'leaked', voidedBy: BOB };
    const [, ...verdicts] = await Promise.all([
      voidVoucherBatch(ledger.management, order),
      ...codes.slice(1).map((code) => verdict(code)),
    ]);
    const redeemed = 1 + verdicts.filter((each) => each === 'redeemed').length;
    assert.deepEqual(
      verdicts.filter((each) => each !== 'redeemed' && each !== 'void'),
      [],
    );
    const { counts, voidReason } = (await findVoucherBatch(ledger.management, batch.id))!;
    assert.deepEqual(counts, { redeemed, open: 0, expired: 0, void: 20 - redeemed });
    assert.equal(voidReason, 'leaked');
    assert.equal((await voidVoucherBatch(ledger.management, { ...order, reason: 'again' })).voidReason, 'leaked');
  });

  it('a waiting batch cannot be ended, only rejected', async () => {
    const { batch } = await issued({ limits: upTo('1') });
    const order = { id: batch.id, reason: 'over', voidedBy: BOB };
    assert.equal((await voidVoucherBatch(ledger.management, order)).state, 'waiting');
  });

  it('neither code nor anything it follows from is stored', async () => {
    const { code, batch } = await issued({ count: 1 });
    const { rows } = await ledger.admin.query<{ voucher: string }>(
      'select to_jsonb(v)::text as voucher from voucher v where batch_id = $1',
      [batch.id],
    );
    assert.ok(!rows[0]!.voucher.includes(code.slice(3)));
    const found = (await findVoucherByCode(ledger.management, code))!;
    assert.deepEqual([found.prefix, found.state, found.redeemedBy], [code.slice(0, 3), 'issued', null]);
    const { rows: listed } = await listVouchers(ledger.management, { batchId: batch.id, state: 'issued' }, PAGE);
    assert.deepEqual(
      listed.map(({ id }) => id),
      [found.id],
    );
    const { rows: none } = await listVouchers(ledger.management, { batchId: batch.id, state: 'redeemed' }, PAGE);
    assert.deepEqual(none, []);
  });

  it('ten thousand codes are made in one call, all different', async () => {
    const { codes, batch } = await issued({ count: 10_000, amount: usd('0.01') });
    assert.equal(new Set(codes).size, 10_000);
    assert.equal((await findVoucherBatch(ledger.management, batch.id))!.counts.open, 10_000);
  });

  it('a redeemed voucher cannot be changed, and none can be deleted', async () => {
    const { code, batch } = await issued();
    await redeem(code);
    await assert.rejects(
      ledger.admin.query(
        'update voucher set redeemed_by = null, redeemed_at = null, posting_id = null where batch_id = $1',
        [batch.id],
      ),
      withState('HF900'),
    );
    await assert.rejects(ledger.admin.query('delete from voucher where batch_id = $1', [batch.id]), withState('HF900'));
    for (const pool of [ledger.management, ledger.worker, ledger.gateway]) {
      await assert.rejects(
        pool.query('update voucher_batch set amount = 1 where id = $1', [batch.id]),
        withState('42501'),
      );
    }
  });

  describe('attempts', () => {
    const LIMIT = { attempts: 3, windowSeconds: 3600 };
    const attempt = (limit = LIMIT) => countVoucherAttempt(ledger.management, accountId, limit);

    it('many at once: no more than the limit may be made, and the others learn how long to wait', async () => {
      const waits = await Promise.all(Array.from({ length: 10 }, () => attempt()));
      assert.equal(waits.filter((wait) => wait === null).length, 3);
      for (const wait of waits.filter((each) => each !== null)) assert.ok(wait > 3500 && wait <= 3600, String(wait));
    });

    it('attempts that redeemed a voucher do not count', async () => {
      for (let n = 0; n < 10; n++) {
        assert.equal(await attempt(), null);
        await forgetVoucherAttempt(ledger.management, accountId);
      }
    });

    it('failed codes are counted from zero when the window is over', async () => {
      for (let n = 0; n < 5; n++) await attempt();
      await ledger.admin.query(
        "update voucher_attempt set window_start = now() - interval '1 hour' where account_id = $1",
        [accountId],
      );
      assert.equal(await attempt(), null);
    });

    it('attempts of one account do not count for another', async () => {
      for (let n = 0; n < 5; n++) await attempt();
      const other = await createCustomer(ledger, '0');
      assert.equal(await countVoucherAttempt(ledger.management, other, LIMIT), null);
    });
  });
});
