/**
 * The limit of one person's own movements is a sum: over every kind of movement, for the person and for the account, in
 * a sliding day and 30 days. Each test takes more than that in small steps, and counts what got through.
 */
import assert from 'node:assert/strict';
import { takeBountyStep, createBounty } from '../../../db/rewards/bounties.ts';
import {
  decideCommissionReview,
  listCommissionReviews,
  requestCommissionCorrection,
} from '../../../db/commissions/commission-decisions.ts';
import { notePayments } from '../../../db/payments/known-payments.ts';
import { askManualCredit, decideManualCredit, requestManualCredit } from '../../../db/payments/manual-credits.ts';
import type { ManualLimits } from '../../../db/accounts/manual-limits.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import { decideAdjustment, requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { decideReward } from '../../../db/rewards/rewards.ts';
import { requestRefund } from '../../../db/requests/refunds.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { createTopUp } from '../../../db/payments/top-ups.ts';
import {
  createVoucherBatch,
  decideVoucherBatch,
  redeemVoucher,
  voidVoucherBatch,
} from '../../../db/payments/vouchers.ts';
import { uuidOf, type AccountUuid, type Uuid } from '../../../domain/ids.ts';
import { usd, type PicoUsd } from '../../../domain/money.ts';
import { createAffiliate, createReferred, moveReversal, payTopUp, type PaidTopUp } from '../../support/commissions.ts';
import {
  behindTheGuards,
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import { ADA, ANN, BOB, EVE } from '../../support/staff.ts';

const PLENTY = usd('1000000');
/** Single movements up to 100, in sum 300 a day by a person; whatever an account gets. */
const OF_A_PERSON: ManualLimits = {
  movement: usd('100'),
  personDay: usd('300'),
  personMonth: usd('1000'),
  accountDay: PLENTY,
  accountMonth: PLENTY,
};
/** The same for an account, for every mover. */
const OF_AN_ACCOUNT: ManualLimits = {
  movement: usd('100'),
  personDay: PLENTY,
  personMonth: PLENTY,
  accountDay: usd('300'),
  accountMonth: usd('1000'),
};
const DAY_HOURS = 24;

describe('money moved by hand by one person', () => {
  let ledger: LedgerDatabase;
  const newId = (): string => uuidAt(Date.now());

  beforeEach(async () => {
    ledger = await createLedgerDatabase('hand-money');
  });
  afterEach(async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
    await ledger.database.drop();
  });

  /** Accounts whose money comes by two persons, so that it uses up nobody's sums. */
  async function customer(balance = '0'): Promise<AccountUuid> {
    const accountId = await createCustomer(ledger, '0');
    if (balance !== '0') {
      const id = uuidOf('adjustment', newId());
      const wanted = { id, accountId, amount: usd(balance), reason: 'for a test', requestedBy: ADA, limits: null };
      await requestAdjustment(ledger.management, wanted);
      await decideAdjustment(ledger.management, { id, approve: true, decidedBy: EVE });
    }
    return accountId;
  }
  const adjust = async (accountId: AccountUuid, amount: string, by = ANN, limits = OF_A_PERSON) => {
    const id = uuidOf('adjustment', newId());
    const wanted = { id, accountId, amount: usd(amount), reason: 'goodwill', requestedBy: by, limits };
    return (await requestAdjustment(ledger.management, wanted)).state;
  };
  const issue = async (amount: string, by = ANN, count = 1, limits = OF_A_PERSON) => {
    const id = uuidOf('voucherBatch', newId());
    const batch = { id, name: 'a batch', count, amount: usd(amount), expiresAt: null, reason: 'a gift' };
    return createVoucherBatch(ledger.management, { ...batch, requestedBy: by, limits });
  };
  const refund = async (accountId: AccountUuid, keyId: Awaited<ReturnType<typeof createKey>>, amount: string) => {
    const hold = holdOf({ accountId, keyId }, amount);
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(hold.requestId, amount)]);
    await settleRequests(ledger.worker, [hold.requestId], 'meter/hand-money');
    const wanted = { requestId: hold.requestId, n: 1, amount: null, reason: 'a test', requestedBy: ANN };
    return (await requestRefund(ledger.management, { ...wanted, limits: { ...OF_A_PERSON, movement: usd('25') } }))
      .state;
  };
  const receivedOrder = async (accountId: AccountUuid, paymentId: string, amount: PicoUsd): Promise<Uuid<'topUp'>> => {
    const id = uuidOf('topUp', newId());
    await createTopUp(ledger.management, {
      ...{ id, accountId, method: 'card', provider: 'stripe', amount, fee: usd('0'), currency: 'usd', live: false },
      expiresInSeconds: 3600,
    });
    await ledger.admin.query('update top_up set received = amount where id = $1', [id]);
    await notePayments(ledger.worker, id, [
      { paymentId, status: 'paid', received: amount, currency: 'usd', live: false },
    ]);
    return id;
  };
  const count = (states: readonly string[], state: string): number => states.filter((one) => one === state).length;
  const total = async (kind: string): Promise<string> => {
    const { rows } = await ledger.admin.query<{ total: string }>(
      `select trim_scale(coalesce(sum(amount), 0))::text as total from posting
        where kind = $1 and memo ->> 'requested_by' is distinct from $2`,
      [kind, ADA],
    );
    return rows[0]!.total;
  };

  it('10 adjustments of 100 to ten accounts: 300 are moved, not 1,000', async () => {
    const states: string[] = [];
    for (let n = 0; n < 10; n++) states.push(await adjust(await customer(), '100'));
    assert.deepEqual([count(states, 'posted'), count(states, 'waiting')], [3, 7]);
    assert.equal(await total('adjustment'), '300');
  });

  it('20 adjustments of 100 at once: 300 are moved, whichever comes first', async () => {
    const accounts = await Promise.all(Array.from({ length: 20 }, () => customer()));
    const states = await Promise.all(accounts.map((accountId) => adjust(accountId, '100')));
    assert.equal(count(states, 'posted'), 3);
    assert.equal(await total('adjustment'), '300');
  });

  it('many small steps, some of them negative, all count: a sum taken and given back counts twice', async () => {
    const accountId = await customer('100');
    const states: string[] = [];
    for (const amount of ['100', '-100', '100', '-0.000000000001', '0.000000000001']) {
      states.push(await adjust(accountId, amount));
    }
    assert.deepEqual(states, ['posted', 'posted', 'posted', 'waiting', 'waiting']);
  });

  it('5 batches of vouchers of 100: 300 are issued, not 500, also when each is withdrawn', async () => {
    const states: string[] = [];
    for (let n = 0; n < 5; n++) {
      const { batch } = await issue('50', ANN, 2);
      states.push(batch.state);
      if (batch.state === 'issued') {
        await voidVoucherBatch(ledger.management, { id: batch.id, reason: 'withdrawn', voidedBy: ANN });
      }
    }
    assert.deepEqual([count(states, 'issued'), count(states, 'waiting')], [3, 2]);
  });

  it('40 refunds of 25, each of a request of its own: 300 are refunded, not 1,000', async () => {
    const accountId = await customer('1000');
    const keyId = await createKey(ledger, accountId);
    const states: string[] = [];
    for (let n = 0; n < 40; n++) states.push(await refund(accountId, keyId, '25'));
    assert.equal(count(states, 'posted'), 12);
    assert.equal(await total('request_refund'), '300');
  });

  it('every kind shares one sum: 80 by each of seven ways is 560, of which 240 are moved', async () => {
    const accountId = await customer('100');
    const keyId = await createKey(ledger, accountId);
    const affiliate = await createAffiliate(ledger);
    const states: string[] = [];
    states.push(await adjust(accountId, '80'));
    states.push((await issue('80')).batch.state);
    const topUpId = await receivedOrder(accountId, 'pi_80', usd('80'));
    const credit = { action: topUpId, topUpId, paymentId: 'pi_80', amount: usd('80'), reason: 'bank letter' };
    states.push(
      (await requestManualCredit(ledger.management, { ...credit, requestedBy: ANN, limits: OF_A_PERSON })).state,
    );
    assert.deepEqual(states, ['posted', 'issued', 'posted']);
    const correction = { id: uuidOf('correction', newId()), affiliateId: affiliate.accountId, amount: usd('80') };
    const wanted = { ...correction, reason: 'was missed', requestedBy: ANN, limits: OF_A_PERSON };
    assert.equal((await requestCommissionCorrection(ledger.management, wanted)).state, 'waiting');
    assert.equal(await refund(accountId, keyId, '25'), 'posted');
    assert.equal(await refund(accountId, keyId, '25'), 'posted');
    assert.equal(await refund(accountId, keyId, '25'), 'waiting', '290 are moved already');
    assert.equal(await bounty(accountId, ANN, 'medium'), 'rewarded', '300');
    assert.equal(await bounty(accountId, ANN, 'low'), 'accepted', 'waits');
    assert.equal(await bounty(accountId, BOB, 'low'), 'rewarded', 'another person has sums of their own');
  });

  async function bounty(accountId: AccountUuid, by: string, severity: 'low' | 'medium'): Promise<string> {
    const id = uuidOf('bounty', newId());
    const at = new Date();
    const { rules } = rewardSettingsOf();
    const common = { id, duplicateOf: null, rules, sums: OF_A_PERSON, at };
    const report = { id, accountId, title: 'A bug', description: 'It breaks.', reportedBy: by, reportedAt: at };
    await createBounty(ledger.management, report);
    await takeBountyStep(ledger.management, { ...common, step: { kind: 'triage', by } });
    return (await takeBountyStep(ledger.management, { ...common, step: { kind: 'accept', by, severity } })).state;
  }

  it('rewards of the rules that a person lets through count as well: 6 of 60 are 300, then it takes two', async () => {
    const accountId = await customer();
    const states: string[] = [];
    const ids: Uuid<'reward'>[] = [];
    for (let n = 0; n < 6; n++) {
      const id = uuidOf('reward', newId());
      ids.push(id);
      await ledger.admin.query(
        `insert into reward (id, kind, source_event, account_id, amount, state, reason, earned_at, rule_version, details)
        values ($1::uuid, 'boost', $1::uuid::text, $2, 60, 'waiting', 'source_cap', now(), '1', '{}')`,
        [id, accountId],
      );
      states.push(await letThrough(id, ANN));
    }
    assert.deepEqual([count(states, 'posted'), count(states, 'waiting')], [5, 1]);
    await assert.rejects(letThrough(ids[5]!, ANN), isSecondPersonNeeded);
    assert.equal(await letThrough(ids[5]!, BOB), 'posted');
  });

  const letThrough = async (id: Uuid<'reward'>, by: string) => {
    const decision = { id, approve: true, by, reason: null, at: new Date(), limits: OF_A_PERSON };
    return (await decideReward(ledger.management, decision)).state;
  };
  const isSecondPersonNeeded = (error: unknown) => ledgerRefusal(error)?.code === 'second_person_needed';

  it('a commission under review is paid by one person up to the sum, then by two', async () => {
    const affiliate = await createAffiliate(ledger);
    const referred = await createReferred(ledger, affiliate);
    for (const accountId of [referred, affiliate.accountId]) {
      await ledger.worker.query(`select note_account_mark($1, 'card_fingerprint', 'fp')`, [accountId]);
    }
    await payTopUp(ledger, referred, '2000');
    const [review] = (await listCommissionReviews(ledger.management, 'waiting', { after: null, limit: 9 })).rows;
    const approve = async (by: string) => {
      const decision = { id: review!.id, state: 'approved', reason: 'siblings', by, limits: OF_A_PERSON } as const;
      return (await decideCommissionReview(ledger.management, decision)).state;
    };
    assert.equal(await approve(ANN), 'waiting', '200 are above what one movement may be');
    await assert.rejects(approve(ANN), isSecondPersonNeeded);
    assert.equal(await approve(BOB), 'approved');
  });

  describe('the approval of a small commission under review', () => {
    const marked = async (...accounts: readonly AccountUuid[]): Promise<void> => {
      for (const accountId of accounts) {
        await ledger.worker.query(`select note_account_mark($1, 'card_fingerprint', 'fp')`, [accountId]);
      }
    };
    const approve = async (payment: PaidTopUp, by: string) => {
      const reviews = (await listCommissionReviews(ledger.management, 'waiting', { after: null, limit: 9 })).rows;
      const review = reviews.find(({ paymentId }) => paymentId === payment.id);
      const decision = { id: review!.id, state: 'approved', reason: 'siblings', by, limits: OF_A_PERSON } as const;
      return (await decideCommissionReview(ledger.management, decision)).state;
    };

    it('a review counts the earlier earnings of its pair, which it lets through: 501 for a commission of 1', async () => {
      const affiliate = await createAffiliate(ledger);
      const referred = await createReferred(ledger, affiliate);
      await payTopUp(ledger, referred, '5000');
      await marked(referred, affiliate.accountId);
      const small = await payTopUp(ledger, referred, '10');
      assert.equal(await approve(small, ANN), 'waiting');
      assert.equal(await approve(small, BOB), 'approved');
    });

    it('a review counts what a dispute has taken back, which may be won: 500 for the 0 that are left', async () => {
      const affiliate = await createAffiliate(ledger);
      const referred = await createReferred(ledger, affiliate);
      await marked(referred, affiliate.accountId);
      const payment = await payTopUp(ledger, referred, '5000');
      await moveReversal(ledger, payment, { direction: 'out', amount: '5000', kind: 'dispute' });
      assert.equal(await approve(payment, ANN), 'waiting');
      await assert.rejects(approve(payment, ANN), isSecondPersonNeeded);
    });

    it('one person may approve a review where its whole sum is small', async () => {
      const affiliate = await createAffiliate(ledger);
      const referred = await createReferred(ledger, affiliate);
      await payTopUp(ledger, referred, '100');
      await marked(referred, affiliate.accountId);
      const small = await payTopUp(ledger, referred, '10');
      assert.equal(await approve(small, ANN), 'approved');
    });
  });

  it('four persons with one account: 300 are moved to it, not 400', async () => {
    const accountId = await customer();
    const states: string[] = [];
    for (const by of [ANN, BOB, ADA, EVE]) states.push(await adjust(accountId, '100', by, OF_AN_ACCOUNT));
    assert.deepEqual(states, ['posted', 'posted', 'posted', 'waiting']);
    assert.equal(await adjust(await customer(), '100', EVE, OF_AN_ACCOUNT), 'posted');
  });

  it('four persons with one account at once: 300 are moved to it', async () => {
    const accountId = await customer();
    const people = [ANN, BOB, ADA, EVE, ANN, BOB, ADA, EVE];
    const states = await Promise.all(people.map((by) => adjust(accountId, '100', by, OF_AN_ACCOUNT)));
    assert.equal(count(states, 'posted'), 3);
  });

  it('vouchers that an account has redeemed count for it', async () => {
    const accountId = await customer();
    for (const by of [ANN, BOB, ADA]) {
      const { codes } = await issue('100', by);
      assert.equal((await redeemVoucher(ledger.management, codes[0]!, accountId)).verdict, 'redeemed');
    }
    assert.equal(await adjust(accountId, '0.01', EVE, OF_AN_ACCOUNT), 'waiting');
  });

  it('vouchers that would exceed the sum of an account are kept back from it: 300 are credited, not 400, until two stand for it', async () => {
    const [accountId, other] = [await customer(), await customer()];
    const issued: Awaited<ReturnType<typeof issue>>[] = [];
    for (const by of [ANN, BOB, ADA, EVE]) issued.push(await issue('100', by, 1, OF_AN_ACCOUNT));
    const redeem = async (n: number, who = accountId) =>
      (await redeemVoucher(ledger.management, issued[n]!.codes[0]!, who)).verdict;
    assert.equal(await adjust(accountId, '100', EVE, OF_AN_ACCOUNT), 'posted');
    const first = await Promise.all([redeem(0), redeem(1), redeem(2)]);
    assert.deepEqual([count(first, 'redeemed'), count(first, 'beyond_sums')], [2, 1]);
    const left = first.indexOf('beyond_sums');
    assert.equal(await redeem(3), 'beyond_sums');
    assert.equal(await redeem(3, other), 'redeemed', 'the sum is that of an account');
    const approve = (decidedBy: string) =>
      decideVoucherBatch(ledger.management, { id: issued[left]!.batch.id, approve: true, decidedBy });
    await assert.rejects(approve([ANN, BOB, ADA][left]!), isSecondPersonNeeded);
    assert.equal(await redeem(left), 'beyond_sums');
    assert.equal((await approve(EVE)).state, 'issued');
    assert.equal(await redeem(left), 'redeemed');
    assert.equal(await redeem(left), 'redeemed', 'a repeat');
  });

  it('a decision of two persons uses up nobody’s sum', async () => {
    const accountId = await customer('25000');
    assert.equal(await adjust(accountId, '100', ADA), 'posted');
    assert.equal(await adjust(accountId, '100', EVE), 'posted');
  });

  it('a day is the last 24 hours, a month the last 30 days: neither midnight nor the first gives anything back', async () => {
    const spend = async (times: number): Promise<string[]> => {
      const states: string[] = [];
      for (let n = 0; n < times; n++) states.push(await adjust(await customer(), '100'));
      return states;
    };
    assert.deepEqual(await spend(4), ['posted', 'posted', 'posted', 'waiting']);
    await pass(DAY_HOURS - 1);
    assert.deepEqual(await spend(1), ['waiting']);
    await pass(1.1);
    assert.deepEqual(await spend(4), ['posted', 'posted', 'posted', 'waiting']);
    await pass(DAY_HOURS * 1.1);
    assert.deepEqual(await spend(4), ['posted', 'posted', 'posted', 'waiting']);
    await pass(DAY_HOURS * 1.1);
    assert.deepEqual(await spend(2), ['posted', 'waiting'], '1,000 in the month');
    await pass(DAY_HOURS * 27);
    assert.deepEqual(await spend(4), ['posted', 'posted', 'posted', 'waiting']);
  });

  /** Lets time pass: what was moved lies further back. */
  async function pass(hours: number): Promise<void> {
    await behindTheGuards(ledger.admin, (client) =>
      client.query('update hand_money set moved_at = moved_at - make_interval(secs => $1)', [hours * 3600]),
    );
  }

  it('$25,000 asked for in Temporal were asked for by nobody: they take two persons, each once', async () => {
    const accountId = await customer();
    const topUpId = await receivedOrder(accountId, 'pi_25000', usd('25000'));
    const wanted = { action: 'temporal', topUpId, paymentId: 'pi_25000', amount: usd('25000'), reason: 'bank letter' };
    const asked = await askManualCredit(ledger.worker, wanted);
    assert.deepEqual([asked.state, asked.requestedBy], ['waiting', null]);
    const approve = async (decidedBy: string) =>
      (await decideManualCredit(ledger.management, { id: asked.id, approve: true, decidedBy })).state;
    await assert.rejects(approve('somebody else'), (error) => ledgerRefusal(error)?.code === 'not_a_person');
    assert.equal(await approve(ANN), 'waiting');
    await assert.rejects(approve(ANN), isSecondPersonNeeded);
    assert.equal(await total('top_up'), '0');
    const answers = await Promise.allSettled([approve(BOB), approve(BOB), approve(ANN)]);
    assert.ok(answers.some((answer) => answer.status === 'fulfilled' && answer.value === 'posted'));
    assert.equal(await total('top_up'), '25000');
  });

  it('a small credit asked for in Temporal takes two persons as well, and either of them may reject it', async () => {
    const accountId = await customer();
    const topUpId = await receivedOrder(accountId, 'pi_1', usd('1'));
    const wanted = { action: 'temporal', topUpId, paymentId: 'pi_1', amount: usd('1'), reason: 'bank letter' };
    const { id } = await askManualCredit(ledger.worker, wanted);
    assert.equal((await decideManualCredit(ledger.management, { id, approve: true, decidedBy: ANN })).state, 'waiting');
    assert.equal(
      (await decideManualCredit(ledger.management, { id, approve: false, decidedBy: BOB })).state,
      'rejected',
    );
    assert.equal(await total('top_up'), '0');
  });
});
