/**
 * The `violations` view: empty on a healthy ledger, also under traffic, and each of its rules names exactly the damage
 * it is there to find. Damage is done behind the guards and rolled back.
 */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createBounty, takeBountyStep } from '../../../db/rewards/bounties.ts';
import { linkDiscord } from '../../../db/rewards/discord.ts';
import { recordBoosts } from '../../../db/rewards/rewards.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import { beginAttempt, saveCard, setAutoTopUp } from '../../../db/payments/auto-top-ups.ts';
import { inTransaction } from '../../../db/shared/client.ts';
import { decideManualCredit, requestManualCredit } from '../../../db/payments/manual-credits.ts';
import { requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { finishRequests, logRefusals, placeFreeHolds, placeHold, placeHolds } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { creditPayment, paymentsOf, reversePayment, type CreditedPayment } from '../../../db/payments/payments.ts';
import { createTopUp } from '../../../db/payments/top-ups.ts';
import { createVoucherBatch, redeemVoucher } from '../../../db/payments/vouchers.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { beginCommissionRun, commissionLines, postCommissions } from '../../../db/commissions/commission-runs.ts';
import { requestCommissionCorrection } from '../../../db/commissions/commission-decisions.ts';
import { createAffiliate, createReferred, payTopUp } from '../../support/commissions.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  GATEWAY_ID,
  holdOf,
  postReversal,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { ANN, BOB, upTo } from '../../support/staff.ts';

describe('violations', () => {
  let ledger: LedgerDatabase;
  let key: { accountId: AccountUuid; keyId: KeyUuid };
  let running: RequestUuid;
  let finished: RequestUuid;
  /** Charged 0.4 for a list cost of 0.4. */
  let charged: RequestUuid;
  /** Charged less than its list cost. */
  let overrun: RequestUuid;
  /** Failed at the upstream after it had cost something. */
  let failed: RequestUuid;
  let adjustmentId: string;
  const commissioned = { period: '2040-01', accrual: '', payment: '', correction: uuidAt(Date.now()) };
  const topUpId = uuidAt(Date.now());
  let payment: CreditedPayment;
  let reversalId: string;
  const bountyId = uuidAt(Date.now());
  let rewarded: AccountUuid;
  let rewardId: string;
  let manualCreditId: string;
  /** The order of an automatic top-up that is under way. */
  const attemptId = uuidAt(Date.now());
  /** Redeemed, for 1. */
  let voucherId: string;
  const batchId = uuidAt(Date.now());

  before(async () => {
    ledger = await createLedgerDatabase('violations');
    const accountId = await createCustomer(ledger, '20');
    key = { accountId, keyId: await createKey(ledger, accountId, { limit: usd('100'), limitReset: 'daily' }) };
    const poor = await createCustomer(ledger, '0.3');
    const holds = [
      holdOf(key, '0.5'),
      holdOf(key, '0.5'),
      holdOf(key, '0.5'),
      holdOf(key, '0.2'),
      holdOf({ accountId: poor, keyId: await createKey(ledger, poor) }, '0.3'),
    ] as const;
    await placeHolds(ledger.gateway, holds);
    [running, finished, charged, failed, overrun] = [
      holds[0].requestId,
      holds[1].requestId,
      holds[2].requestId,
      holds[3].requestId,
      holds[4].requestId,
    ];
    await finishRequests(ledger.gateway, [
      endOf(finished, '0.5'),
      endOf(charged, '0.4'),
      endOf(failed, '0.2', { outcome: 'upstream_error' }),
      endOf(overrun, '9'),
    ]);
    await settleRequests(ledger.worker, [charged, failed, overrun], 'meter/violations');
    const refund = { requestId: charged, n: 1, amount: usd('0.1'), reason: 'test', requestedBy: ANN };
    await requestRefund(ledger.management, refund);
    await decideRefund(ledger.management, { requestId: charged, n: 1, approve: true, decidedBy: BOB });
    const free = { ...holdOf(key, '0'), modelId: 'demo/model:free' };
    await placeFreeHolds(ledger.gateway, [free]);
    await finishRequests(ledger.gateway, [endOf(free.requestId, '0')]);
    const refused = { ...holdOf(key, '0'), code: 'key_limit_exceeded', latencyMs: 2 } as const;
    await logRefusals(ledger.gateway, GATEWAY_ID, [refused]);
    const indebted = await createCustomer(ledger, '1');
    await postReversal(ledger.admin, { businessId: uuidAt(Date.now()), accountId: indebted, amount: usd('3') });
    const order = await createTopUp(ledger.management, {
      id: uuidOf('topUp', topUpId),
      accountId: await createCustomer(ledger, '1'),
      method: 'card',
      provider: 'stripe',
      amount: usd('10'),
      fee: usd('0'),
      currency: 'usd',
      live: false,
      expiresInSeconds: 3600,
    });
    const paid = {
      topUpId: order.id,
      paymentId: 'pi_1',
      received: usd('10'),
      credit: usd('10'),
      isFinal: true,
      creditedBy: 'provider',
    };
    await creditPayment(ledger.worker, paid);
    payment = (await paymentsOf(ledger.worker, order.id))[0]!;
    const step = { objectId: 're_1', kind: 'refund', direction: 'out', amount: usd('2') } as const;
    await reversePayment(ledger.worker, payment.id, step, usd('0'));
    const { rows } = await ledger.admin.query<{ id: string }>('select id from payment_reversal');
    reversalId = rows[0]!.id;
    const { codes } = await createVoucherBatch(ledger.management, {
      id: uuidOf('voucherBatch', batchId),
      name: 'test',
      count: 2,
      amount: usd('1'),
      expiresAt: null,
      reason: 'test',
      requestedBy: ANN,
      limits: upTo('10'),
    });
    const redemption = await redeemVoucher(ledger.management, codes[0]!, await createCustomer(ledger, '1'));
    assert.ok(redemption.verdict === 'redeemed');
    voucherId = redemption.voucherId;
    const byHand = await requestManualCredit(ledger.management, {
      ...{
        action: 'one',
        topUpId: order.id,
        paymentId: 'outside/letter-17',
        amount: usd('1'),
        reason: 'test',
        requestedBy: ANN,
      },
      limits: upTo('5'),
    });
    manualCreditId = byHand.id;
    await decideManualCredit(ledger.management, { id: byHand.id, approve: true, decidedBy: BOB });
    const card = { provider: 'stripe', customerId: 'cus_1', paymentMethod: 'pm_1', brand: 'visa', last4: '4242' };
    await saveCard(ledger.worker, {
      ...card,
      accountId: order.accountId,
      expMonth: 1,
      expYear: 2030,
      fingerprint: null,
    });
    await setAutoTopUp(ledger.management, {
      ...{ accountId: order.accountId, threshold: usd('50'), amount: usd('5'), monthlyCap: usd('10') },
      ...{ consentVersion: 'test', givenBy: 'me' },
    });
    await inTransaction(ledger.worker, (client) =>
      beginAttempt(client, {
        ...{ accountId: order.accountId, slot: new Date(0), topUpId: uuidOf('topUp', attemptId) },
        ...{ fee: usd('0'), currency: 'usd', live: false },
      }),
    );
    await earnRewards();
    await earnCommissions();
    adjustmentId = uuidAt(Date.now());
    await requestAdjustment(ledger.management, {
      id: uuidOf('adjustment', adjustmentId),
      accountId,
      amount: usd('1'),
      reason: 'test',
      requestedBy: ANN,
      limits: upTo('1'),
    });
  });
  after(() => ledger.database.drop());

  /** One commission that a run has paid, then one and a correction that wait for the next. */
  async function earnCommissions(): Promise<void> {
    const affiliate = await createAffiliate(ledger);
    const referred = await createReferred(ledger, affiliate);
    await payTopUp(ledger, referred, '10');
    const { period } = commissioned;
    await beginCommissionRun(ledger.worker, { period, at: new Date('2090-01-01T00:00:00Z') });
    await postCommissions(ledger.worker, { period, limit: 10 });
    const [line] = await commissionLines(ledger.worker, { period, after: 0, limit: 1 });
    commissioned.accrual = line!.accrual;
    commissioned.payment = (await payTopUp(ledger, referred, '20')).id;
    await requestCommissionCorrection(ledger.management, {
      ...{ id: uuidOf('correction', commissioned.correction), affiliateId: affiliate.accountId, reason: 'test' },
      ...{ amount: usd('1'), requestedBy: ANN, limits: upTo('1') },
    });
  }

  /** A boost and a bug report, both paid. */
  async function earnRewards(): Promise<void> {
    rewarded = await createCustomer(ledger, '1');
    const { rules } = rewardSettingsOf();
    const at = new Date();
    const discordUserId = '700000000000000001';
    await linkDiscord(ledger.worker, { discordUserId, accountId: rewarded, username: 'ada', refusal: null, rules, at });
    const boost = { discordUserId, messageId: '900000000000000001', count: 1, boostedAt: at, rules, at };
    await recordBoosts(ledger.worker, boost);
    const { rows } = await ledger.admin.query<{ id: string }>("select id from reward where kind = 'boost'");
    rewardId = rows[0]!.id;
    const id = uuidOf('bounty', bountyId);
    const report = {
      id,
      accountId: rewarded,
      title: 'A bug',
      description: 'It breaks.',
      reportedBy: 'ann',
      reportedAt: at,
    };
    await createBounty(ledger.management, report);
    for (const step of [
      { kind: 'triage', by: ANN },
      { kind: 'accept', by: ANN, severity: 'low' },
    ] as const) {
      await takeBountyStep(ledger.management, { id, step, duplicateOf: null, rules, sums: upTo('0'), at });
    }
  }

  it('a ledger where everything has happened once has no violations', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  /** The rules broken once `damage` is done, with their subjects; the damage is rolled back. */
  async function brokenBy(damage: (client: pg.PoolClient) => Promise<unknown>): Promise<string[]> {
    const client = await ledger.admin.connect();
    try {
      await client.query('begin');
      await client.query('set local session_replication_role = replica');
      await damage(client);
      const { rows } = await client.query<{ rule: string; subject: string }>('select rule, subject from violations');
      return rows.map(({ rule, subject }) => `${rule} ${subject}`);
    } finally {
      await client.query('rollback');
      client.release();
    }
  }

  interface Damage {
    readonly rule: string;
    readonly what: string;
    /** Who is named. */
    readonly subject: () => string;
    readonly statements: () => readonly string[];
  }

  const customer = (): string => key.accountId;
  const system = (name: string): string => `system_account('${name}')`;
  const posting = (businessId: string, kind: string, debit: string, credit: string, amount: string): string =>
    `insert into posting (business_id, kind, debit, credit, amount) values ('${businessId}', '${kind}', ${debit}, ${credit}, ${amount})`;

  const changeId = uuidAt(Date.now());
  const depositId = uuidAt(Date.now());
  const OWN_ADDRESS = `0x${'ab'.repeat(20)}`;
  const HASH = `0x${'ab'.repeat(32)}`;
  const knownPayment = (provider: string, ...names: readonly string[]): string =>
    `insert into known_payment (provider, payment_id, status, received, currency, live, names)
      values ('${provider}', '${names[0]}', 'paid', 10, 'usd', false, '{${names.join(',')}}')`;
  /** The manual credit as if it had been keyed by any text. */
  const manualCreditOf = (key: string): string[] => [
    `update payment set payment_id = '${key}' where payment_id = 'outside/letter-17'`,
    `update hand_credit set payment_id = '${key}', shown = 1, shown_currency = 'usd' where id = '${manualCreditId}'`,
  ];
  /** A deposit of 10 to the order, credited with `received`; `ending` is its state and what belongs to it. */
  const cryptoDeposit = (ending: string, received: string, sender = `0x${'5e'.repeat(20)}`): string[] => {
    const hash = HASH;
    const address = OWN_ADDRESS;
    return [
      `insert into deposit_address (position, path, wallet, address, top_up_id) values (1, '0/0', '0x0', '${address}', '${topUpId}')`,
      `insert into deposit (id, chain_id, tx_hash, ordinal, sender, address, token, symbol, units, amount, height, block_hash, block_time,
          state, losses, counted, spendable_at, final_at, undone_at)
        values ('${depositId}', 1, '${hash}', 0, '${sender}', '${address}', '${address}', 'USDC', 10000000, 10, 5, '${hash}', now(), ${ending})`,
      `update payment set provider = 'crypto', payment_id = '1/${hash}/0', received = ${received} where id = '${payment.id}'`,
    ];
  };

  const DAMAGES: readonly Damage[] = [
    {
      rule: 'balance_equals_entries',
      what: 'a balance that no posting explains',
      subject: customer,
      statements: () => [`update account set balance = balance + 0.000000000001 where id = '${customer()}'`],
    },
    {
      rule: 'balance_equals_entries',
      what: 'a posting that no balance knows of',
      subject: customer,
      statements: () => [posting(uuidAt(Date.now()), 'gift', system('promo'), `'${customer()}'`, '1')],
    },
    {
      rule: 'account_held_equals_open_holds',
      what: 'money of an account that is held for no request',
      subject: customer,
      statements: () => [`update account set held = held + 0.000000000001 where id = '${customer()}'`],
    },
    {
      rule: 'key_held_equals_open_holds',
      what: 'money of a key that is held for no request',
      subject: () => key.keyId,
      statements: () => [`update api_key set held = held - 0.000000000001 where id = '${key.keyId}'`],
    },
    {
      rule: 'key_spent_equals_charges',
      what: 'spending of a key that no charge explains',
      subject: () => key.keyId,
      statements: () => [`update api_key set spent_total = spent_total + 1 where id = '${key.keyId}'`],
    },
    {
      rule: 'key_window_equals_its_requests',
      what: 'spending in a window that no charge explains',
      subject: () => key.keyId,
      statements: () => [`update api_key set window_spent = window_spent - 0.000000000001 where id = '${key.keyId}'`],
    },
    {
      rule: 'key_window_equals_its_requests',
      what: 'holds in a window that no request explains, although the sum is right',
      subject: () => key.keyId,
      statements: () => [
        `update api_key set window_held = window_held + 0.1, window_spent = window_spent - 0.1 where id = '${key.keyId}'`,
      ],
    },
    {
      rule: 'charge_has_its_request',
      what: 'a charge for a request that was never made',
      subject: () => '0198b000-0000-7000-8000-000000000000',
      statements: () => [
        `select ensure_partitions(1, '2025-08-15')`,
        posting('0198b000-0000-7000-8000-000000000000', 'charge', system('promo'), system('revenue'), '1'),
      ],
    },
    {
      rule: 'charge_has_its_request',
      what: 'a charge for a request that is still running',
      subject: () => running,
      statements: () => [posting(running, 'charge', system('promo'), system('revenue'), '1')],
    },
    {
      rule: 'charge_has_its_request',
      what: 'a charge that is not revenue',
      subject: () => charged,
      statements: () => [
        `update posting set credit = ${system('promo')} where business_id = '${charged}' and kind = 'charge'`,
      ],
    },
    {
      rule: 'charged_request_has_its_posting',
      what: 'a charged request that was never posted',
      subject: () => charged,
      statements: () => [
        `delete from posting where business_id = '${charged}' and kind = 'charge'`,
        `update account set balance = balance + 0.4 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'unpaid_usage_is_platform_cost',
      what: 'an overrun that nobody booked',
      subject: () => overrun,
      statements: () => [`delete from platform_cost where request_id = '${overrun}'`],
    },
    {
      rule: 'unpaid_usage_is_platform_cost',
      what: 'an unbilled request whose cost was booked at another amount',
      subject: () => failed,
      statements: () => [`update platform_cost set list_cost = 0.1 where request_id = '${failed}'`],
    },
    {
      rule: 'delivered_is_accounted',
      what: 'an answer that was delivered, and neither billed nor booked',
      subject: () => failed,
      statements: () => [
        `insert into model (id, dialect, context_length, default_output_tokens, upstreams) values ('demo/model', 'openai', 9, 9, '[]')`,
        `insert into price_version (model_id, version, valid_from, prices, created_by)
          values ('demo/model', 1, now(), '{"prices": {"input": "0", "output": "1"}}', 'test')`,
        `delete from platform_cost where request_id = '${failed}'`,
        `update request set list_cost = 0, first_token_ms = 7 where id = '${failed}'`,
      ],
    },
    {
      rule: 'adjustment_has_its_posting',
      what: 'an adjustment that was never posted',
      subject: () => adjustmentId,
      statements: () => [
        `delete from posting where business_id = '${adjustmentId}'`,
        `update account set balance = balance - 1 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'adjustment_has_its_posting',
      what: 'an adjustment that was posted the wrong way round',
      subject: () => adjustmentId,
      statements: () => [
        `update posting set debit = credit, credit = debit where business_id = '${adjustmentId}'`,
        `update account set balance = balance - 2 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'refund_has_its_posting',
      what: 'a refund that was never posted',
      subject: () => refundId,
      statements: () => [
        `delete from posting where business_id = '${refundId}'`,
        `update account set balance = balance - 0.1 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'approved_by_a_second_person',
      what: 'a manual credit that was approved with another token of its requester',
      subject: () => `hand_credit ${manualCreditId}`,
      statements: () => {
        const id = uuidAt(Date.now());
        const token = `(tok_${id.replaceAll('-', '')})`;
        return [
          `insert into access_token (id, hash, role, name, person) values ('${id}', pg_catalog.sha256('x'), 'operator', 'ann 2', 'ann')`,
          `update hand_credit set decided_by = 'ann 2 ${token}' where id = '${manualCreditId}'`,
        ];
      },
    },
    {
      rule: 'approved_by_a_second_person',
      what: 'a refund above the threshold that nobody has approved',
      subject: () => `refund ${refundId}`,
      statements: () => [`update request_refund set decided_by = null where id = '${refundId}'`],
    },
    {
      rule: 'decided_by_persons',
      what: 'a manual credit that was approved under a name that does not exist',
      subject: () => `hand_credit ${manualCreditId}`,
      statements: () => [`update hand_credit set decided_by = 'somebody else' where id = '${manualCreditId}'`],
    },
    {
      rule: 'decided_by_persons',
      what: 'a refund that was asked for under a name that does not exist',
      subject: () => `refund ${refundId}`,
      statements: () => [`update request_refund set requested_by = 'ann' where id = '${refundId}'`],
    },
    {
      rule: 'unasked_is_approved_by_two',
      what: 'a credit that was asked for in Temporal and approved by one person',
      subject: () => `hand_credit ${manualCreditId}`,
      statements: () => [`update hand_credit set requested_by = null where id = '${manualCreditId}'`],
    },
    {
      rule: 'moved_alone_is_counted',
      what: 'an adjustment by one person that its sum does not know of',
      subject: () => `adjustment ${adjustmentId}`,
      statements: () => [`delete from hand_money where subject = '${adjustmentId}'`],
    },
    {
      rule: 'moved_alone_within_limits',
      what: 'an adjustment by one person beyond the day of that person',
      subject: () => `adjustment ${adjustmentId}`,
      statements: () => [
        `update hand_money set limits = limits || '{"person_day": "0.99"}' where subject = '${adjustmentId}'`,
      ],
    },
    {
      rule: 'moved_alone_within_limits',
      what: 'an adjustment by one person beyond the 30 days of its account',
      subject: () => `adjustment ${adjustmentId}`,
      statements: () => [
        `update hand_money set limits = limits || '{"account_month": "0.99"}' where subject = '${adjustmentId}'`,
      ],
    },
    {
      rule: 'moved_alone_within_limits',
      what: 'a voucher of one person beyond the day of the account that redeemed it',
      subject: () => `voucher_batch voucher ${voucherId}`,
      statements: () => [
        `update hand_money set limits = limits || '{"account_day": "0.000001"}' where subject = '${batchId}'`,
      ],
    },
    {
      rule: 'changed_by_two_persons',
      what: 'a change of the rules by the one who asked for it',
      subject: () => `price_version ${changeId}`,
      statements: () => [
        `insert into change_request (id, kind, subject, change, cause, state, requested_by, decided_by, decided_at)
          values ('${changeId}', 'price_version', 'm', '{}', 'free', 'applied', '${ANN}', '${ANN}', now())`,
      ],
    },
    {
      rule: 'rule_that_pays_more_has_two_persons',
      what: 'a commission of 100 % by one person',
      subject: () => 'version 2',
      statements: () => [
        `insert into commission_rule values (2, now(), 1000000, 60, 0, 120, '${ANN}', 'for a friend', null)`,
      ],
    },
    {
      rule: 'refunds_within_cost',
      what: 'refunds that together exceed what was charged',
      subject: () => charged,
      statements: () => {
        const id = uuidAt(Date.now());
        return [
          `insert into request_refund (request_id, n, id, account_id, amount, reason, state, requested_by, decided_by, decided_at, posting_id)
            values ('${charged}', 2, '${id}', '${customer()}', 0.300000000001, 'test', 'posted', '${ANN}', '${BOB}', now(), uuidv7())`,
          posting(id, 'request_refund', system('revenue'), `'${customer()}'`, '0.300000000001'),
          `update account set balance = balance + 0.300000000001 where id = '${customer()}'`,
        ];
      },
    },
    {
      rule: 'debt_has_a_reversal',
      what: 'an account below zero without a reversal',
      subject: customer,
      statements: () => [
        posting(uuidAt(Date.now()), 'mistake', `'${customer()}'`, system('cash:stripe'), '100'),
        `update account set balance = balance - 100 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'debt_has_a_reversal',
      what: 'an account that holds more than it has, without a reversal',
      subject: customer,
      statements: () => [
        posting(uuidAt(Date.now()), 'mistake', `'${customer()}'`, system('cash:stripe'), '20'),
        `update account set balance = balance - 20 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'payment_has_its_posting',
      what: 'a payment that credited another amount than its posting',
      subject: () => payment.id,
      statements: () => [
        `update payment set credited = credited + 1 where id = '${payment.id}'`,
        `update top_up set credited = credited + 1 where id = '${topUpId}'`,
      ],
    },
    {
      rule: 'top_up_has_its_payment',
      what: 'a credit without a payment',
      subject: () => topUpId,
      statements: () => [
        posting(topUpId, 'top_up', system('cash:stripe'), `'${customer()}'`, '1'),
        `update account set balance = balance + 1 where id = '${customer()}'`,
      ],
    },
    {
      rule: 'top_up_equals_its_payments',
      what: 'an order that says it credited more than its payments',
      subject: () => topUpId,
      statements: () => [`update top_up set credited = credited + 1 where id = '${topUpId}'`],
    },
    {
      rule: 'payment_equals_its_reversals',
      what: 'a payment that counts more taken back than was',
      subject: () => payment.id,
      statements: () => [`update payment set reversed = reversed + 1 where id = '${payment.id}'`],
    },
    {
      rule: 'reversal_has_its_posting',
      what: 'a reversal whose money never moved',
      subject: () => reversalId,
      statements: () => [
        `delete from posting where business_id = '${reversalId}'`,
        `update account set balance = balance + 2 where id = (select account_id from payment where id = '${payment.id}')`,
      ],
    },
    {
      rule: 'voucher_has_its_posting',
      what: 'a voucher that says it is worth more than it moved',
      subject: () => voucherId,
      statements: () => [
        `update voucher_batch set amount = 2 where id = '${batchId}'`,
        `update hand_money set amount = 4 where subject = '${batchId}'`,
      ],
    },
    {
      rule: 'voucher_has_its_posting',
      what: 'a voucher whose money went to another account than its redeemer',
      subject: () => voucherId,
      statements: () => [
        `update voucher set redeemed_by = (select account_id from payment where id = '${payment.id}') where id = '${voucherId}'`,
      ],
    },
    {
      rule: 'voucher_posting_has_its_voucher',
      what: 'money of a voucher that nobody redeemed',
      subject: () => voucherId,
      statements: () => [
        `update voucher set redeemed_by = null, redeemed_at = null, posting_id = null where id = '${voucherId}'`,
      ],
    },
    {
      rule: 'voucher_batch_is_whole',
      what: 'a voucher that is gone',
      subject: () => batchId,
      statements: () => [`delete from voucher where batch_id = '${batchId}' and redeemed_at is null`],
    },
    {
      rule: 'hand_credit_has_its_payment',
      what: 'a manual credit of another amount than its payment',
      subject: () => manualCreditId,
      statements: () => [`update hand_credit set amount = amount + 1 where id = '${manualCreditId}'`],
    },
    {
      rule: 'payment_by_hand_has_its_credit',
      what: 'a payment that nobody is on record for',
      subject: () => payment.id,
      statements: () => [`update payment set credited_by = 'somebody' where id = '${payment.id}'`],
    },
    {
      rule: 'payment_is_credited_once',
      what: 'a payment that a person has credited by its charge as well',
      subject: () => 'stripe pi_1',
      statements: () => [knownPayment('stripe', 'pi_1', 'ch_1'), ...manualCreditOf('ch_1')],
    },
    {
      rule: 'payment_is_credited_once',
      what: 'a payment that was credited to two orders, by other ids of it in another spelling',
      subject: () => 'creem ord_1',
      statements: () => [
        knownPayment('creem', 'ord_1', 'ch_9', 'tran_9'),
        `update payment set payment_id = 'CH_9' where id = '${payment.id}'`,
        ...manualCreditOf('tran_9'),
      ],
    },
    ...[HASH, HASH.slice(2), HASH.toUpperCase(), `${HASH}:7`, `https://basescan.org/tx/${HASH}`].map((key): Damage => ({
      rule: 'payment_is_credited_once',
      what: `a deposit that a person has credited by ${key.replace(HASH.slice(2), 'its hash')}`,
      subject: () => `crypto 1/${HASH}/0`,
      statements: () => [...cryptoDeposit("'seen', 0, false, null, null, null", '10'), ...manualCreditOf(key)],
    })),
    {
      rule: 'payment_is_credited_by_its_own_key',
      what: 'a payment that a person has credited by its charge, and that may be credited again',
      subject: () => 'stripe pi_2',
      statements: () => [knownPayment('stripe', 'pi_2', 'ch_2'), ...manualCreditOf('ch_2')],
    },
    {
      rule: 'auto_attempt_has_its_order',
      what: 'an attempt whose order is another amount',
      subject: () => attemptId,
      statements: () => [`update top_up set amount = amount + 1 where id = '${attemptId}'`],
    },
    {
      rule: 'auto_attempt_has_its_order',
      what: 'an attempt that succeeded without a credit',
      subject: () => attemptId,
      statements: () => [
        `update auto_top_up_attempt set state = 'succeeded', ended_at = now() where top_up_id = '${attemptId}'`,
      ],
    },
    {
      rule: 'auto_top_ups_within_cap',
      what: 'more in a month than was allowed when it began',
      subject: () => attemptId,
      statements: () => [`update auto_top_up_attempt set monthly_cap = amount - 0.01 where top_up_id = '${attemptId}'`],
    },
    {
      rule: 'reward_has_its_posting',
      what: 'a reward whose money never moved',
      subject: () => rewardId,
      statements: () => [
        `delete from posting where business_id = '${rewardId}'`,
        `update account set balance = balance - 1 where id = '${rewarded}'`,
      ],
    },
    {
      rule: 'reward_posting_has_its_reward',
      what: 'a reward that was paid without being earned',
      subject: () => bountyId,
      statements: () => [
        posting(bountyId, 'reward_vote', system('promo:vote'), `'${rewarded}'`, '1'),
        `update account set balance = balance + 1 where id = '${rewarded}'`,
      ],
    },
    {
      rule: 'reward_days_equal_rewards',
      what: 'a day that counts more than was paid',
      subject: () => `boost ${new Date().toISOString().slice(0, 10)}`,
      statements: () => [
        `update reward_day set granted = granted + 1 where kind = 'boost' and account_id = '${rewarded}'`,
        `update reward_day set granted = granted + 1 where kind = 'boost' and account_id <> '${rewarded}'`,
      ],
    },
    {
      rule: 'reward_days_of_accounts_equal_the_day',
      what: 'an account that counts more than the day has',
      subject: () => `boost ${new Date().toISOString().slice(0, 10)}`,
      statements: () => [
        `update reward_day set granted = granted + 1 where kind = 'boost' and account_id = '${rewarded}'`,
      ],
    },
    {
      rule: 'bounty_is_rewarded_with_its_reward',
      what: 'a bug report that says it still waits, although it was paid',
      subject: () => bountyId,
      statements: () => [`update bounty_report set state = 'accepted' where id = '${bountyId}'`],
    },
    {
      rule: 'crypto_payment_has_its_deposit',
      what: 'a payment by crypto that no chain knows',
      subject: () => payment.id,
      statements: () => [`update payment set provider = 'crypto' where id = '${payment.id}'`],
    },
    {
      rule: 'crypto_payment_has_its_deposit',
      what: 'a payment by crypto of more than has arrived',
      subject: () => payment.id,
      statements: () => cryptoDeposit("'final', 0, true, now(), now(), null", '9'),
    },
    {
      rule: 'own_transfer_is_not_credited',
      what: 'ten dollars credited for tokens that were ours before',
      subject: () => payment.id,
      statements: () => cryptoDeposit("'final', 0, true, now(), now(), null", '10', OWN_ADDRESS),
    },
    {
      rule: 'lost_deposit_is_taken_back',
      what: 'a deposit whose block is gone and whose credit stayed',
      subject: () => depositId,
      statements: () => cryptoDeposit("'undone', 1, false, null, null, now() - interval '2 hours'", '10'),
    },
    {
      rule: 'event_is_not_stuck',
      what: 'an event that nobody handles',
      subject: () => 'stripe evt_stuck',
      statements: () => [
        `insert into provider_event (provider, event_id, type, payload, received_at)
          values ('stripe', 'evt_stuck', 'x', '{}', now() - interval '2 hours')`,
      ],
    },
    {
      rule: 'free_use_equals_open_requests',
      what: 'an open `:free` request that is counted and is not there',
      subject: customer,
      statements: () => [`update free_use set open = open + 1 where account_id = '${customer()}'`],
    },
    {
      rule: 'usage_hours_equal_requests',
      what: 'a rollup that counts another cost',
      subject: customer,
      statements: () => [
        `update usage_hour set cost = cost + 0.000000000001
        where account_id = '${customer()}' and model_id = 'demo/model'`,
      ],
    },
    {
      rule: 'usage_hours_equal_requests',
      what: 'a rollup that counts another number of requests',
      subject: customer,
      statements: () => [`update usage_hour set requests = requests + 1 where model_id = 'demo/model:free'`],
    },
    {
      rule: 'usage_hours_equal_requests',
      what: 'a rollup that misses a request',
      subject: customer,
      statements: () => [`delete from usage_hour where model_id = 'demo/model:free'`],
    },
    {
      rule: 'hold_is_not_stale',
      what: 'a hold that nobody ended an hour after its time',
      subject: () => running,
      statements: () => [`update request set expires_at = now() - interval '1 hour 1 second' where id = '${running}'`],
    },
    {
      rule: 'settlement_is_not_stuck',
      what: 'a finished request that nobody settled for an hour',
      subject: () => finished,
      statements: () => [
        `update request set finished_at = now() - interval '1 hour 1 second' where id = '${finished}'`,
      ],
    },
    {
      rule: 'payment_has_its_accrual',
      what: 'a referred top-up without its commission',
      subject: () => commissioned.payment,
      statements: () => [`delete from commission_accrual where payment_id = '${commissioned.payment}'`],
    },
    {
      rule: 'accruals_follow_their_payment',
      what: 'a commission that does not follow from what was credited and taken back',
      subject: () => commissioned.payment,
      statements: () => [
        `update commission_accrual set amount = amount + 1 where payment_id = '${commissioned.payment}'`,
      ],
    },
    {
      rule: 'commission_has_its_posting',
      what: 'a listed commission that says another amount than what was posted',
      subject: () => commissioned.accrual,
      statements: () => [`update commission_item set amount = amount + 1 where accrual_id = '${commissioned.accrual}'`],
    },
    {
      rule: 'commission_posting_has_its_accrual',
      what: 'a posted commission that no run lists',
      subject: () => commissioned.accrual,
      statements: () => [
        `delete from commission_item where accrual_id = '${commissioned.accrual}'`,
        `update commission_run set posted = posted - 1, state = 'posting' where period = '${commissioned.period}'`,
      ],
    },
    {
      rule: 'commission_run_equals_its_accruals',
      what: 'a run that says another sum than its accruals',
      subject: () => commissioned.period,
      statements: () => [`update commission_run set total = total + 1 where period = '${commissioned.period}'`],
    },
    {
      rule: 'correction_has_its_accrual',
      what: 'an approved correction without its accrual',
      subject: () => commissioned.correction,
      statements: () => [`delete from commission_accrual where id = '${commissioned.correction}'`],
    },
  ];

  let refundId: string;
  before(async () => {
    const { rows } = await ledger.admin.query<{ id: string }>('select id from request_refund');
    refundId = rows[0]!.id;
  });

  for (const { rule, what, subject, statements } of DAMAGES) {
    it(`${rule}: ${what}`, async () => {
      const broken = await brokenBy(async (client) => {
        for (const statement of statements()) {
          const { rowCount } = await client.query(statement);
          assert.equal(rowCount, 1, `the damage was not done: ${statement}`);
        }
      });
      assert.deepEqual(broken, [`${rule} ${subject()}`]);
    });
  }

  for (const parent of ['request', 'posting']) {
    it(`partitions_are_ahead: no partition of ${parent} for next month`, async () => {
      const broken = await brokenBy(async (client) => {
        const { rows } = await client.query<{ name: string }>(
          `select '${parent}_' || to_char((now() + interval '1 month') at time zone 'UTC', 'YYYY_MM') as name`,
        );
        await client.query(`drop table ${rows[0]!.name}`);
      });
      assert.deepEqual(broken, [`partitions_are_ahead ${parent}`]);
    });
  }

  it('every rule of the view is tried here', async () => {
    const { rows } = await ledger.admin.query<{ definition: string }>(
      `select pg_get_viewdef('violations'::regclass) as definition`,
    );
    const rules = [...rows[0]!.definition.matchAll(/^\s*(?:SELECT|UNION ALL\s+SELECT) '([a-z_]+)'::text/gim)].map(
      ([, rule]) => rule,
    );
    const tried = new Set([...DAMAGES.map(({ rule }) => rule), 'partitions_are_ahead']);
    assert.ok(rules.length >= 10, `found only ${rules.length} rules in the view's text`);
    assert.deepEqual(new Set(rules), tried);
  });

  it('there are no violations at any moment while requests are held, finished and settled', async () => {
    const accountId = await createCustomer(ledger, '100');
    const busy = { accountId, keyId: await createKey(ledger, accountId) };
    let working = true;
    const caller = async (): Promise<void> => {
      for (let n = 0; n < 25; n++) {
        const hold = holdOf(busy, '0.05');
        await placeHold(ledger.gateway, hold);
        await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.06')]);
        await settleRequests(ledger.worker, [hold.requestId], 'meter/traffic');
      }
    };
    const auditor = async (): Promise<number> => {
      let looks = 0;
      for (; working; looks++) assert.deepEqual(await brokenRules(ledger.admin), []);
      return looks;
    };
    const traffic = Promise.all(Array.from({ length: 4 }, caller)).finally(() => (working = false));
    const [, looks] = await Promise.all([traffic, auditor()]);
    assert.ok(looks > 1, `the auditor looked ${looks} times`);
  });
});
