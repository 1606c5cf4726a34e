/**
 * Accruals in SQL: written with the payment whichever path it came on, taken back pro rata, held back where something
 * speaks against them. A referral is frozen with its account.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createAccount } from '../../../db/accounts/accounts.ts';
import { saveCard } from '../../../db/payments/auto-top-ups.ts';
import { linkDiscord } from '../../../db/rewards/discord.ts';
import {
  blockAffiliate,
  ensureAffiliate,
  setAffiliateRate,
  unblockAffiliate,
  type Affiliate,
} from '../../../db/commissions/affiliates.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import {
  decideCommissionCorrection,
  decideCommissionReview,
  listCommissionReviews,
  requestCommissionCorrection,
} from '../../../db/commissions/commission-decisions.ts';
import { beginCommissionRun, postCommissions } from '../../../db/commissions/commission-runs.ts';
import {
  commissionSummary,
  listCommissionEntries,
  publishCommissionRule,
} from '../../../db/commissions/commissions.ts';
import { uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd, ZERO_USD, type PicoUsd } from '../../../domain/money.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import {
  accrualsOf,
  balanceOf,
  createAffiliate,
  createReferred,
  finalize,
  moveReversal,
  payTopUp,
} from '../../support/commissions.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ANN, BOB, upTo } from '../../support/staff.ts';

const PAGE = { after: null, limit: 50 };
const DAY_MS = 86_400_000;

describe('commissions', () => {
  let ledger: LedgerDatabase;
  let affiliate: Affiliate;
  let referred: AccountUuid;
  let runs = 0;

  before(async () => {
    ledger = await createLedgerDatabase('commissions', 8);
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    affiliate = await createAffiliate(ledger);
    referred = await createReferred(ledger, affiliate);
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  const amounts = async (): Promise<[string, PicoUsd][]> =>
    (await accrualsOf(ledger, affiliate.accountId)).map(({ kind, amount }) => [kind, amount]);

  /** Runs a month far ahead, so that everything has matured; returns it. */
  async function payCommissions(): Promise<string> {
    const period = `20${40 + Math.floor(runs / 12)}-${String((runs++ % 12) + 1).padStart(2, '0')}`;
    const at = new Date('2090-01-01T00:00:00Z');
    let run = await beginCommissionRun(ledger.worker, { period, at });
    while (run.state === 'posting') run = await postCommissions(ledger.worker, { period, limit: 3 });
    return period;
  }

  describe('a referral', () => {
    const referralOf = async (accountId: AccountUuid): Promise<unknown[]> =>
      (
        await ledger.admin.query<{ affiliate_id: string; code: string; clicked_at: Date | null }>(
          'select affiliate_id, code, clicked_at from referral where account_id = $1',
          [accountId],
        )
      ).rows;

    it('a referral is written with the account and can be neither changed nor removed', async () => {
      assert.deepEqual(await referralOf(referred), [
        { affiliate_id: affiliate.accountId, code: affiliate.code, clicked_at: new Date('2026-01-02T03:04:05Z') },
      ]);
      for (const statement of ['update referral set code = code', 'delete from referral', 'truncate referral']) {
        await assert.rejects(ledger.admin.query(statement), withState('HF900'), statement);
      }
    });

    it('a code that is unknown, or of a blocked affiliate, leaves the account without a referral', async () => {
      await blockAffiliate(ledger.management, affiliate.accountId, 'spam');
      for (const code of ['nobody0000', affiliate.code]) {
        const { id } = await createAccount(ledger.management, {
          name: 'x',
          email: null,
          referral: { code, clickedAt: null },
        });
        assert.deepEqual(await referralOf(id), []);
      }
    });

    it('a referral does not survive a failed creation of its account', async () => {
      const count = async (): Promise<number> =>
        (await ledger.admin.query('select from referral where affiliate_id = $1', [affiliate.accountId])).rowCount ?? 0;
      const before = await count();
      const account = {
        name: 'x',
        email: `${affiliate.code}@test.example`,
        referral: { code: affiliate.code, clickedAt: null },
      };
      await createAccount(ledger.management, account);
      await assert.rejects(createAccount(ledger.management, account), /account_email/);
      assert.equal(await count(), before + 1);
    });
  });

  it('an account has one code, for any number of first requests', async () => {
    const accountId = await createCustomer(ledger, '0');
    const made = await Promise.all(Array.from({ length: 12 }, () => ensureAffiliate(ledger.management, accountId)));
    assert.equal(new Set(made.map(({ code }) => code)).size, 1);
    assert.match(made[0]!.code, /^[0-9a-z]{10}$/);
  });

  it('a commission is a share of the credit, not of the fee, and only for referred accounts', async () => {
    await payTopUp(ledger, referred, '12.34', { fee: '5' });
    await payTopUp(ledger, await createCustomer(ledger, '0'), '100');
    assert.deepEqual(await amounts(), [['earned', usd('1.234')]]);
  });

  it('a commission is written once, for any number of credit calls', async () => {
    const { topUpId, paymentId } = await payTopUp(ledger, referred, '10');
    const again = Array.from({ length: 12 }, () =>
      ledger.worker.query('select id from credit_payment($1, $2, 10.5, 10, true, $3)', [
        topUpId,
        paymentId,
        'provider',
      ]),
    );
    await Promise.all(again);
    assert.deepEqual(await amounts(), [['earned', usd('1')]]);
  });

  it('a commission and its payment are rolled back together', async () => {
    const client = await ledger.worker.connect();
    try {
      const { topUpId } = await payTopUp(ledger, referred, '10');
      await client.query('begin');
      await client.query('select id from credit_payment($1, $2, 10, 10, true, $3)', [
        topUpId,
        'pi_rolled_back',
        'provider',
      ]);
      await client.query('rollback');
      assert.deepEqual(await amounts(), [['earned', usd('1')]]);
      await client.query('begin');
      await client.query('select id from credit_payment($1, $2, 20, 20, true, $3)', [topUpId, 'pi_kept', 'provider']);
      await client.query('commit');
      assert.deepEqual(await amounts(), [
        ['earned', usd('1')],
        ['earned', usd('2')],
      ]);
    } finally {
      client.release();
    }
  });

  it('a commission follows the rate and rule of the moment of credit, pinned on its accrual', async () => {
    await payTopUp(ledger, referred, '10');
    await setAffiliateRate(ledger.management, affiliate.accountId, 250_000, { by: ANN, approvedBy: BOB });
    await payTopUp(ledger, referred, '10');
    await setAffiliateRate(ledger.management, affiliate.accountId, null, { by: ANN });
    const people = { createdBy: ANN, approvedBy: BOB };
    const rule = { holdDays: 60, finalHoldDays: 0, disputeDays: 120, reason: 'a test', ...people };
    const { version } = await publishCommissionRule(ledger.management, { ...rule, ratePpm: 50_000 });
    await payTopUp(ledger, referred, '10');
    await publishCommissionRule(ledger.management, { ...rule, ratePpm: 100_000 });
    const { rows } = await listCommissionEntries(ledger.management, { ...affiliate, at: new Date() }, PAGE);
    assert.deepEqual(
      rows.toReversed().map(({ amount, ratePpm, ruleVersion }) => [amount, ratePpm, ruleVersion]),
      [
        [usd('1'), 100_000, version - 1],
        [usd('2.5'), 250_000, version - 1],
        [usd('0.5'), 50_000, version],
      ],
    );
  });

  it('a commission matures sixty days after a card credit, and at finality for a chain', async () => {
    await payTopUp(ledger, referred, '10');
    const crypto = await payTopUp(ledger, referred, '10', { provider: 'crypto', isFinal: false });
    const maturity = async () => (await accrualsOf(ledger, affiliate.accountId)).map(({ maturesAt }) => maturesAt);
    const [card, pending] = await maturity();
    assert.ok(Math.abs(card!.getTime() - Date.now() - 60 * DAY_MS) < DAY_MS / 24);
    assert.equal(pending, null);
    await finalize(ledger, crypto);
    await finalize(ledger, crypto);
    const { rows } = await ledger.admin.query<{ final_at: Date }>('select final_at from payment where id = $1', [
      crypto.id,
    ]);
    assert.deepEqual((await maturity())[1], rows[0]!.final_at);
  });

  it('a commission is taken back pro rata, the last part takes the rest, and it is restored exactly', async () => {
    const payment = await payTopUp(ledger, referred, '10');
    await moveReversal(ledger, payment, { direction: 'out', amount: '3.333333333333', objectId: `re_1_${payment.id}` });
    await moveReversal(ledger, payment, { direction: 'out', amount: '6.666666666667', objectId: `re_2_${payment.id}` });
    await moveReversal(ledger, payment, { direction: 'in', amount: '6.666666666667', objectId: `re_2_${payment.id}` });
    assert.deepEqual(await amounts(), [
      ['earned', usd('1')],
      ['reversed', usd('-0.333333333333')],
      ['reversed', usd('-0.666666666667')],
      ['restored', usd('0.666666666667')],
    ]);
  });

  it('a commission that is refunded before its payment matures with its accrual, and both are paid together', async () => {
    const payment = await payTopUp(ledger, referred, '10');
    await moveReversal(ledger, payment, { direction: 'out', amount: '4' });
    const [earned, reversed] = await accrualsOf(ledger, affiliate.accountId);
    assert.deepEqual(reversed!.maturesAt, earned!.maturesAt);
    await payCommissions();
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('0.6'));
  });

  it('S37: of a top-up that is refunded after they were paid, are one negative accrual of the next run; the balance may fall below zero and later accruals repay it', async () => {
    const payment = await payTopUp(ledger, referred, '10');
    const first = await payCommissions();
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('1'));
    await ledger.admin.query(
      `select post_transfer('adjustment_spent', uuidv7(), $1, system_account('adjustment'), 1, null, false)`,
      [affiliate.accountId],
    );
    await moveReversal(ledger, payment, { direction: 'out', amount: '10' });
    const second = await payCommissions();
    const rows = await accrualsOf(ledger, affiliate.accountId);
    assert.deepEqual(
      rows.map(({ kind, amount, run }) => [kind, amount, run]),
      [
        ['earned', usd('1'), first],
        ['reversed', usd('-1'), second],
      ],
    );
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('-1'));
    await payTopUp(ledger, referred, '30');
    await payCommissions();
    assert.equal(await balanceOf(ledger, affiliate.accountId), usd('2'));
  });

  it('earn none themselves: neither they nor adjustments nor rewards are payments', async () => {
    const second = await ensureAffiliate(ledger.management, referred);
    const theirs = await createReferred(ledger, second);
    await payTopUp(ledger, theirs, '10');
    await payCommissions();
    assert.equal(await balanceOf(ledger, referred), usd('1'));
    assert.deepEqual(await amounts(), []);
  });

  it('an accrual cannot be edited or removed', async () => {
    await payTopUp(ledger, referred, '10');
    await payCommissions();
    for (const statement of [
      'update commission_accrual set amount = 2',
      `update commission_accrual set rate_ppm = 1`,
      'update commission_accrual set run = null',
      `update commission_accrual set matures_at = now() + interval '1 day'`,
      'delete from commission_accrual',
      'truncate commission_accrual cascade',
      'update commission_item set amount = 2',
      'delete from commission_item',
      'update commission_rule set rate_ppm = 1',
    ]) {
      await assert.rejects(ledger.admin.query(statement), withState('HF900'), statement);
    }
  });

  describe('that something speaks against', () => {
    const held = async (): Promise<(string | null)[]> => {
      const { rows } = await listCommissionEntries(
        ledger.management,
        { ...affiliate, at: new Date('2040-01-01T00:00:00Z') },
        PAGE,
      );
      return rows.map(({ phase, heldBy }) => (heldBy === null ? phase : `${phase}: ${heldBy}`));
    };
    const mark = (accountId: AccountUuid, kind: string, value: string) =>
      ledger.worker.query('select note_account_mark($1, $2, $3)', [accountId, kind, value]);

    for (const kind of ['discord_user', 'card_fingerprint', 'funding_address']) {
      it(`the same ${kind}: wait for a person, who decides with a reason`, async () => {
        const value = `same ${affiliate.code}`;
        await mark(affiliate.accountId, kind, value);
        await mark(referred, kind, value);
        await payTopUp(ledger, referred, '10');
        await payCommissions();
        assert.deepEqual(await held(), ['review: review']);
        const { rows } = await listCommissionReviews(ledger.management, 'waiting', PAGE);
        const [review] = rows.filter(({ affiliateId }) => affiliateId === affiliate.accountId);
        assert.equal(review!.amount, usd('1'));
        assert.equal(review!.signals.length, 1);
        const decision = { id: review!.id, reason: 'siblings', by: ANN, limits: upTo('1') };
        const decide = (state: 'approved' | 'denied') =>
          decideCommissionReview(ledger.management, { ...decision, state });
        assert.deepEqual(await decide('approved'), { state: 'approved', decidedNow: true });
        assert.deepEqual(await decide('denied'), { state: 'approved', decidedNow: false });
        // What a person has approved of the two is not asked again.
        await payTopUp(ledger, referred, '10');
        await payCommissions();
        assert.deepEqual(await held(), ['credited', 'credited']);
      });
    }

    it('a saved card and a Discord link mark their accounts, whichever comes first', async () => {
      const { rules } = rewardSettingsOf();
      const link = { username: 'ada', refusal: null, rules, at: new Date() };
      const discordUserId = String(BigInt(`0x${randomBytes(7).toString('hex')}`));
      await linkDiscord(ledger.worker, { ...link, discordUserId, accountId: affiliate.accountId });
      await payTopUp(ledger, referred, '10');
      assert.deepEqual(await held(), ['matured']);
      const fingerprint = `fp_${affiliate.code}`;
      const card = { provider: 'stripe', brand: 'visa', last4: '4242', expMonth: 1, expYear: 2030, fingerprint };
      for (const accountId of [referred, affiliate.accountId]) {
        const paymentMethod = `pm_${accountId}`;
        await saveCard(ledger.worker, { ...card, accountId, customerId: `cus_${accountId}`, paymentMethod });
      }
      assert.deepEqual(await held(), ['review: review']);
      const { rows } = await ledger.admin.query<{ kind: string }>(
        'select kind from account_mark where account_id = $1 order by kind',
        [affiliate.accountId],
      );
      assert.deepEqual(
        rows.map(({ kind }) => kind),
        ['card_fingerprint', 'discord_user'],
      );
    });

    it('a signal that appears after the accrual: the run asks for a decision before it pays', async () => {
      await payTopUp(ledger, referred, '10');
      await mark(affiliate.accountId, 'discord_user', `late ${affiliate.code}`);
      await mark(referred, 'discord_user', `late ${affiliate.code}`);
      assert.deepEqual(await held(), ['review: review']);
      await payCommissions();
      const { rows } = await listCommissionReviews(ledger.management, 'waiting', PAGE);
      const [review] = rows.filter(({ affiliateId }) => affiliateId === affiliate.accountId);
      await decideCommissionReview(ledger.management, {
        ...{ id: review!.id, reason: 'own', by: ANN },
        ...{ state: 'denied', limits: null },
      });
      await payCommissions();
      assert.deepEqual(await held(), ['denied: denied']);
      assert.equal(await balanceOf(ledger, affiliate.accountId), ZERO_USD);
    });

    it('a block of the affiliate: wait until it ends', async () => {
      await payTopUp(ledger, referred, '10');
      await blockAffiliate(ledger.management, affiliate.accountId, 'spam');
      await payTopUp(ledger, referred, '20');
      await payCommissions();
      assert.deepEqual(await held(), ['held: affiliate_blocked', 'held: affiliate_blocked']);
      await unblockAffiliate(ledger.management, affiliate.accountId);
      await payCommissions();
      assert.equal(await balanceOf(ledger, affiliate.accountId), usd('3'));
    });

    it('a warning of fraud: wait until a dispute can no longer follow', async () => {
      const { id } = await payTopUp(ledger, referred, '10');
      const warnedAt = (at: Date) => ledger.admin.query('update payment set warned_at = $2 where id = $1', [id, at]);
      await warnedAt(new Date('2089-01-01T00:00:00Z'));
      await payCommissions();
      assert.deepEqual(await held(), ['held: fraud_warning']);
      await warnedAt(new Date());
      await payCommissions();
      assert.deepEqual(await held(), ['credited']);
    });

    it('an open dispute over a part: wait until it is won, or lost by its age; and a commission paid before is taken back', async () => {
      const paid = await payTopUp(ledger, referred, '10');
      await payCommissions();
      const unpaid = await payTopUp(ledger, referred, '10');
      for (const payment of [paid, unpaid]) {
        await moveReversal(ledger, payment, {
          direction: 'out',
          amount: '4',
          kind: 'dispute',
          objectId: `du_${payment.id}`,
        });
      }
      const period = '2026-12';
      await beginCommissionRun(ledger.worker, { period, at: new Date('2090-01-01T00:00:00Z') });
      await postCommissions(ledger.worker, { period, limit: 1000 });
      assert.equal(await balanceOf(ledger, affiliate.accountId), usd('0.6'));
      const summary = async () =>
        (
          await commissionSummary(ledger.management, {
            ...affiliate,
            at: new Date(),
            endsAt: new Date('2027-01-01T00:00:00Z'),
          })
        ).sums.held;
      assert.equal(await summary(), usd('0.6'));
      await moveReversal(ledger, unpaid, {
        direction: 'in',
        amount: '4',
        kind: 'dispute',
        objectId: `du_${unpaid.id}`,
      });
      assert.equal(await summary(), ZERO_USD);
      await payCommissions();
      assert.equal(await balanceOf(ledger, affiliate.accountId), usd('1.6'));
    });
  });

  describe('a correction', () => {
    const request = (amount: string, id = uuidOf('correction', uuidAt(Date.now()))) =>
      requestCommissionCorrection(ledger.management, {
        id,
        affiliateId: affiliate.accountId,
        amount: usd(amount),
        reason: 'was missed',
        requestedBy: ANN,
        limits: upTo('5'),
      });

    it('a correction up to the threshold is an accrual of the next run, once per id', async () => {
      const id = uuidOf('correction', uuidAt(Date.now()));
      const made = await Promise.all(Array.from({ length: 8 }, () => request('-2', id)));
      assert.ok(made.every(({ state }) => state === 'accrued'));
      await assert.rejects(request('-3', id), (error) => ledgerRefusal(error)?.code === 'id_reused');
      await payCommissions();
      assert.equal(await balanceOf(ledger, affiliate.accountId), usd('-2'));
    });

    it('a correction above the threshold waits for a second person', async () => {
      const { id, state } = await request('5.000000000001');
      assert.equal(state, 'waiting');
      await payCommissions();
      assert.equal(await balanceOf(ledger, affiliate.accountId), ZERO_USD);
      await assert.rejects(
        decideCommissionCorrection(ledger.management, { id, approve: true, decidedBy: ANN }),
        (error) => ledgerRefusal(error)?.code === 'second_person_needed',
      );
      const decide = () => decideCommissionCorrection(ledger.management, { id, approve: true, decidedBy: BOB });
      const decided = await Promise.all(Array.from({ length: 6 }, decide));
      assert.equal(decided.filter(({ decidedNow }) => decidedNow).length, 1);
      await payCommissions();
      assert.equal(await balanceOf(ledger, affiliate.accountId), usd('5.000000000001'));
    });

    it('a rejected correction moves nothing', async () => {
      const { id } = await request('9');
      await decideCommissionCorrection(ledger.management, { id, approve: false, decidedBy: ANN });
      const after = await decideCommissionCorrection(ledger.management, { id, approve: true, decidedBy: BOB });
      assert.equal(after.state, 'rejected');
      assert.deepEqual(await amounts(), []);
    });
  });

  it('the sums of an affiliate are disjoint and together all that was accrued', async () => {
    await payTopUp(ledger, referred, '10');
    await payCommissions();
    await payTopUp(ledger, referred, '20');
    const crypto = await payTopUp(ledger, referred, '30', { provider: 'crypto' });
    await moveReversal(ledger, crypto, { direction: 'out', amount: '15' });
    const endsAt = new Date(Date.now() + DAY_MS);
    const summary = await commissionSummary(ledger.management, { ...affiliate, at: new Date(), endsAt });
    assert.deepEqual(summary, {
      referrals: 1,
      sums: {
        pending: usd('2'),
        matured: usd('1.5'),
        credited: usd('1'),
        review: ZERO_USD,
        held: ZERO_USD,
        denied: ZERO_USD,
      },
      nextPayout: usd('1.5'),
    });
  });
});
