/**
 * A second person is another person: whatever token somebody asks with, no token of the same chain approves it, for
 * every kind of approval. Without this, staff who may create tokens could approve their own requests.
 */
import assert from 'node:assert/strict';
import { actorOf, createAccessToken, type AccessToken } from '../../../db/accounts/access-tokens.ts';
import { createBounty, takeBountyStep } from '../../../db/rewards/bounties.ts';
import { decideChange, requestChange } from '../../../db/accounts/changes.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import {
  decideCommissionCorrection,
  requestCommissionCorrection,
} from '../../../db/commissions/commission-decisions.ts';
import { decideManualCredit, requestManualCredit } from '../../../db/payments/manual-credits.ts';
import { decideAdjustment, requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { decideReward } from '../../../db/rewards/rewards.ts';
import { hashSecret } from '../../../db/shared/secrets.ts';
import { createTopUp } from '../../../db/payments/top-ups.ts';
import { createVoucherBatch, decideVoucherBatch } from '../../../db/payments/vouchers.ts';
import { uuidOf, type AccountUuid, type KeyUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { createAffiliate } from '../../support/commissions.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  uuidAt,
  withState,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import { ADA, upTo } from '../../support/staff.ts';

type Name = 'ann' | 'ofAnn' | 'ofHersAgain' | 'alsoOfAnn' | 'annElsewhere' | 'bob' | 'ofBob';

/** The requester, the person who tries to approve, and their relation. */
const SELVES: readonly (readonly [Name, Name, string])[] = [
  ['ann', 'ann', 'the same token'],
  ['ann', 'ofAnn', 'a token made with it'],
  ['ann', 'ofHersAgain', 'a token made with a token made with it'],
  ['ofAnn', 'ann', 'the token it was made with'],
  ['ofHersAgain', 'ann', 'the token that its maker was made with'],
  ['ofAnn', 'alsoOfAnn', 'another token of its maker'],
  ['ofHersAgain', 'alsoOfAnn', 'another token of its maker’s maker'],
  ['ann', 'annElsewhere', 'a token made on the machine under the same name'],
];
const OTHERS: readonly (readonly [Name, Name])[] = [
  ['ann', 'bob'],
  ['ofHersAgain', 'ofBob'],
  ['bob', 'ofAnn'],
];

describe('a second person', () => {
  let ledger: LedgerDatabase;
  let customer: { accountId: AccountUuid; keyId: KeyUuid };
  let affiliateId: AccountUuid;
  const tokens = {} as Record<Name, AccessToken>;
  const actor = (name: Name): string => actorOf(tokens[name]);

  before(async () => {
    ledger = await createLedgerDatabase('second_person');
    const make = async (name: string, createdBy?: AccessToken): Promise<AccessToken> => {
      const made = { role: 'operator', accountId: null, name } as const;
      const by = createdBy === undefined ? {} : { createdBy: createdBy.id };
      return (await createAccessToken(ledger.management, { ...made, ...by })).token;
    };
    tokens.ann = await make('ann');
    tokens.ofAnn = await make('zoe', tokens.ann);
    tokens.ofHersAgain = await make('yann', tokens.ofAnn);
    tokens.alsoOfAnn = await make('bob', tokens.ann);
    tokens.annElsewhere = await make(' Ann ');
    tokens.bob = await make('bob');
    // The text of an actor ends with its token's id: a name that looks like one changes nothing.
    tokens.ofBob = await make(actorOf(tokens.ann), tokens.bob);
    const accountId = await createCustomer(ledger, '1000');
    customer = { accountId, keyId: await createKey(ledger, accountId) };
    ({ accountId: affiliateId } = await createAffiliate(ledger));
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  const at = new Date(Date.UTC(2026, 5, 1));
  const newId = (): string => uuidAt(Date.now());
  /** Asks, and returns how somebody approves it: to the state that follows. */
  type Ask = (requestedBy: string) => Promise<(by: string) => Promise<string>>;

  const KINDS: Readonly<Record<string, { ask: Ask; approved: string }>> = {
    adjustment: {
      approved: 'posted',
      async ask(requestedBy) {
        const id = uuidOf('adjustment', newId());
        const wanted = { id, accountId: customer.accountId, amount: usd('1'), reason: 'test', requestedBy };
        await requestAdjustment(ledger.management, { ...wanted, limits: null });
        return async (decidedBy) => (await decideAdjustment(ledger.management, { id, approve: true, decidedBy })).state;
      },
    },
    refund: {
      approved: 'posted',
      async ask(requestedBy) {
        const hold = holdOf(customer, '1');
        const { requestId } = hold;
        await placeHold(ledger.gateway, hold);
        await finishRequests(ledger.gateway, [endOf(requestId, '0.5')]);
        await settleRequests(ledger.worker, [requestId], 'meter/second-person');
        const wanted = { requestId, n: 1, amount: null, reason: 'test', requestedBy };
        await requestRefund(ledger.management, { ...wanted, limits: upTo('0.499999999999') });
        return async (decidedBy) =>
          (await decideRefund(ledger.management, { requestId, n: 1, approve: true, decidedBy })).state;
      },
    },
    'voucher batch': {
      approved: 'issued',
      async ask(requestedBy) {
        const id = uuidOf('voucherBatch', newId());
        const wanted = { id, name: 'test', count: 1, amount: usd('1'), expiresAt: null, reason: 'test', requestedBy };
        await createVoucherBatch(ledger.management, { ...wanted, limits: null });
        return async (decidedBy) =>
          (await decideVoucherBatch(ledger.management, { id, approve: true, decidedBy })).state;
      },
    },
    'commission correction': {
      approved: 'accrued',
      async ask(requestedBy) {
        const id = uuidOf('correction', newId());
        const wanted = { id, affiliateId, amount: usd('1'), reason: 'test', requestedBy };
        await requestCommissionCorrection(ledger.management, { ...wanted, limits: null });
        return async (decidedBy) =>
          (await decideCommissionCorrection(ledger.management, { id, approve: true, decidedBy })).state;
      },
    },
    bounty: {
      approved: 'rewarded',
      async ask(requestedBy) {
        const id = uuidOf('bounty', newId());
        const { rules } = rewardSettingsOf();
        const report = { id, accountId: customer.accountId, title: 'A bug', description: 'It breaks.' };
        await createBounty(ledger.management, { ...report, reportedBy: 'support', reportedAt: at });
        const common = { id, duplicateOf: null, rules, sums: upTo('0'), at };
        await takeBountyStep(ledger.management, { ...common, step: { kind: 'triage', by: ADA } });
        const step = { kind: 'accept', by: requestedBy, severity: 'critical' } as const;
        await takeBountyStep(ledger.management, { ...common, step });
        return async (by) =>
          (await takeBountyStep(ledger.management, { ...common, step: { kind: 'approve', by } })).state;
      },
    },
    'manual credit': {
      approved: 'posted',
      async ask(requestedBy) {
        const topUpId = uuidOf('topUp', newId());
        await createTopUp(ledger.management, {
          ...{ id: topUpId, accountId: customer.accountId, method: 'card', provider: 'stripe', amount: usd('1') },
          ...{ fee: usd('0'), currency: 'usd', live: false, expiresInSeconds: 3600 },
        });
        const wanted = { action: topUpId, topUpId, paymentId: `outside/${topUpId}`, amount: usd('1'), reason: 'test' };
        const { id } = await requestManualCredit(ledger.management, { ...wanted, requestedBy, limits: upTo('1') });
        return async (decidedBy) =>
          (await decideManualCredit(ledger.management, { id, approve: true, decidedBy })).state;
      },
    },
    'change of the rules': {
      approved: 'applied',
      async ask(requestedBy) {
        const wanted = { kind: 'model', subject: 'a', change: {}, cause: 'another address', reason: null } as const;
        const { id } = await requestChange(ledger.management, { ...wanted, requestedBy });
        return async (decidedBy) => (await decideChange(ledger.management, { id, approve: true, decidedBy })).state;
      },
    },
    reward: {
      approved: 'posted',
      async ask(requestedBy) {
        const id = uuidOf('reward', newId());
        await ledger.admin.query(
          `insert into reward (id, kind, source_event, account_id, amount, state, reason, earned_at, requested_by, rule_version, details)
          values ($1::uuid, 'vote', $1::uuid::text, $2, 1, 'waiting', 'day_cap', $3, $4, '1', '{}')`,
          [id, customer.accountId, at, requestedBy],
        );
        return async (by) =>
          (await decideReward(ledger.management, { id, approve: true, by, reason: null, at, limits: null })).state;
      },
    },
  };

  for (const [kind, { ask, approved }] of Object.entries(KINDS)) {
    describe(`of a ${kind}`, () => {
      for (const [asks, decides, relation] of SELVES) {
        it(`the second person is not ${relation}`, async () => {
          const approveAs = await ask(actor(asks));
          await assert.rejects(
            approveAs(actor(decides)),
            (error) => ledgerRefusal(error)?.code === 'second_person_needed',
          );
          assert.equal(await approveAs(actor('bob')), approved, 'it has stayed waiting');
        });
      }

      it('the second person is a person whose chain of tokens begins elsewhere', async () => {
        for (const [asks, decides] of OTHERS) {
          const approveAs = await ask(actor(asks));
          assert.equal(await approveAs(actor(decides)), approved, `${asks} asks, ${decides} approves`);
        }
      });
    });
  }

  it('a refund up to the threshold needs no second person, and is posted in the name of its requester', async () => {
    const hold = holdOf(customer, '1');
    await placeHold(ledger.gateway, hold);
    await finishRequests(ledger.gateway, [endOf(hold.requestId, '0.5')]);
    await settleRequests(ledger.worker, [hold.requestId], 'meter/second-person');
    const wanted = { requestId: hold.requestId, reason: 'test', requestedBy: actor('ann'), limits: upTo('0.3') };
    const small = await requestRefund(ledger.management, { ...wanted, n: 1, amount: usd('0.3') });
    assert.deepEqual([small.state, small.needsApproval, small.decidedBy], ['posted', false, actor('ann')]);
    const above = await requestRefund(ledger.management, { ...wanted, n: 2, amount: usd('0.000000000001') });
    assert.deepEqual([above.state, above.needsApproval], ['waiting', true], 'refunds of a request count together');
    await assert.rejects(
      decideRefund(ledger.management, { requestId: hold.requestId, n: 2, approve: true, decidedBy: actor('ann') }),
      (error) => ledgerRefusal(error)?.code === 'second_person_needed',
    );
  });

  it('a record names a person by a token of staff, and nobody by a typed name', async () => {
    const personOf = async (name: string | null) =>
      (await ledger.admin.query<{ person: string | null }>('select person_of($1) as person', [name])).rows[0]!.person;
    assert.equal(await personOf(actor('ofHersAgain')), 'ann');
    assert.equal(await personOf(actor('alsoOfAnn')), 'ann', 'a token’s own name is no person');
    const { token: ofCustomer } = await createAccessToken(ledger.management, {
      ...{ role: 'account', accountId: customer.accountId, name: 'bob' },
    });
    for (const nobody of [
      null,
      '',
      'ann',
      ' ANN ',
      `${actor('ann')} x`,
      `ann (tok_${'0'.repeat(32)})`,
      actorOf(ofCustomer),
    ]) {
      assert.equal(await personOf(nobody), null, String(nobody));
    }
  });

  for (const [kind, { ask }] of Object.entries(KINDS)) {
    it(`a typed name neither requests nor approves a ${kind}: it moves $0`, async () => {
      const approveAs = await ask(actor('ann'));
      const isNobody = (error: unknown) => ledgerRefusal(error)?.code === 'not_a_person';
      await assert.rejects(approveAs('bob'), isNobody);
      await assert.rejects(approveAs(`bob (tok_${'0'.repeat(32)})`), isNobody);
      // A reward that the rules have earned was asked for by nobody.
      if (kind !== 'reward') await assert.rejects(ask('somebody else'), isNobody);
    });
  }

  it('a second person is not made by changing the person of a token', async () => {
    for (const change of [`person = 'bob'`, 'created_by = null', `name = 'bob'`, `role = 'finance'`]) {
      await assert.rejects(
        ledger.management.query(`update access_token set ${change} where id = $1`, [tokens.ofAnn.id]),
        withState('42501'),
      );
    }
    const insert = `insert into access_token (hash, role, name, created_by, person) values ($1, 'operator', 'bob', $2, 'bob')`;
    const values = [hashSecret('x'), tokens.ann.id];
    await assert.rejects(ledger.management.query(insert, values), withState('42501'));
    // Not even by who may insert: the trigger says whose it is.
    const { rows } = await ledger.admin.query(`${insert} returning person`, values);
    assert.deepEqual(rows, [{ person: 'ann' }]);
  });
});
