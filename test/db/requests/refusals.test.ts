/**
 * Every refusal of the ledger has its own SQLSTATE. If several hold at once, the first in the order of the checks wins.
 * A refusal changes nothing, and says what is left and what was needed where it is about money.
 */
import assert from 'node:assert/strict';
import { freezeAccount } from '../../../db/accounts/accounts.ts';
import { publishPrices, saveModel } from '../../../db/requests/catalogue.ts';
import { ledgerRefusal, sqlState } from '../../../db/shared/client.ts';
import { decideAdjustment, requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { decideRefund, requestRefund } from '../../../db/requests/refunds.ts';
import {
  extendHold,
  finishRequests,
  placeFreeHolds,
  placeHold,
  placeHolds,
  type HoldRequest,
} from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import {
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  GATEWAY_ID,
  holdOf,
  newRequestId,
  postReversal,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { snapshotOfDatabase } from '../../support/ledger-snapshot.ts';
import { ANN, BOB, upTo } from '../../support/staff.ts';

interface Customer {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

/** The checks of a hold in their order; a row with money also says what its refusal reports. */
const HOLD_CHECKS = [
  { state: 'HF001', code: 'not_found', what: 'an unknown key' },
  { state: 'HF002', code: 'key_revoked', what: 'a revoked key' },
  { state: 'HF003', code: 'key_expired', what: 'an expired key' },
  { state: 'HF004', code: 'account_frozen', what: 'a frozen account' },
  { state: 'HF007', code: 'model_not_allowed', what: 'a model that the key does not allow' },
  { state: 'HF005', code: 'key_limit', what: 'more than the key may spend', remaining: '3', required: '9' },
  { state: 'HF006', code: 'insufficient_quota', what: 'more than the account has', remaining: '1', required: '9' },
] as const;
const MONEY_CHECKS = ['HF005', 'HF006'];

describe('refusals of the ledger', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('refusals');
  });
  after(() => ledger.database.drop());

  async function customer(balance: string, settings: Parameters<typeof createKey>[2] = {}): Promise<Customer> {
    const accountId = await createCustomer(ledger, balance);
    return { accountId, keyId: await createKey(ledger, accountId, settings) };
  }

  async function freeze(accountId: AccountUuid): Promise<void> {
    await freezeAccount(ledger.management, accountId, { kind: 'operator', reason: 'test' });
  }

  async function revoke(keyId: KeyUuid): Promise<void> {
    await ledger.management.query('update api_key set revoked_at = now() where id = $1', [keyId]);
  }

  /** The SQLSTATE, code and amounts with which `work` is refused; it must leave the ledger as it was. */
  async function refusalOf(work: () => Promise<unknown>): Promise<string[]> {
    const before = await snapshotOfDatabase(ledger.admin);
    const error = await work().then(
      () => assert.fail('it was not refused'),
      (caught: unknown) => caught,
    );
    const refusal = ledgerRefusal(error);
    if (refusal === null) throw error;
    assert.deepEqual(await snapshotOfDatabase(ledger.admin), before, 'a refusal changed something');
    const amounts = [refusal.remaining, refusal.required].filter((amount) => amount !== null);
    return [sqlState(error)!, refusal.code, ...amounts.map((amount) => String(usd(amount)))];
  }

  function pico(...amounts: string[]): string[] {
    return amounts.map((amount) => String(usd(amount)));
  }

  /** A request for 9 USD that fails the check `state` and every later one. */
  async function requestFailingFrom(state: string): Promise<HoldRequest> {
    const first = HOLD_CHECKS.findIndex((check) => check.state === state);
    const fails = (other: string): boolean => HOLD_CHECKS.findIndex((check) => check.state === other) >= first;
    const key = await customer('1', {
      limit: fails('HF005') ? usd('3') : null,
      models: fails('HF007') ? ['demo/allowed'] : null,
      expiresAt: fails('HF003') ? new Date(Date.now() - 1000) : null,
    });
    if (fails('HF002')) await revoke(key.keyId);
    if (fails('HF004')) await freeze(key.accountId);
    if (fails('HF001')) return holdOf({ ...key, keyId: uuidOf('key', uuidAt(Date.now())) }, '9');
    return holdOf(key, '9');
  }

  describe('of a hold', () => {
    for (const check of HOLD_CHECKS) {
      it(`${check.state}: ${check.what}, before all that follows`, async () => {
        const hold = await requestFailingFrom(check.state);
        const amounts = 'remaining' in check ? pico(check.remaining, check.required) : [];
        assert.deepEqual(await refusalOf(() => placeHold(ledger.gateway, hold)), [check.state, check.code, ...amounts]);
        assert.deepEqual(await placeHolds(ledger.gateway, [hold]), [null], 'the batch granted it');
      });
    }

    it('HF001: a key of another account', async () => {
      const [one, other] = [await customer('10'), await customer('10')];
      const hold = holdOf({ accountId: other.accountId, keyId: one.keyId }, '1');
      assert.deepEqual(await refusalOf(() => placeHold(ledger.gateway, hold)), ['HF001', 'not_found']);
      assert.deepEqual(await placeHolds(ledger.gateway, [hold]), [null]);
    });

    describe('where a limit was lowered or a balance is below zero', () => {
      let limited: Customer;
      let indebted: Customer;

      before(async () => {
        limited = await customer('5', { limit: usd('4') });
        await placeHold(ledger.gateway, holdOf(limited, '3'));
        await ledger.management.query('update api_key set limit_usd = 1 where id = $1', [limited.keyId]);
        indebted = await customer('1');
        const reversal = { businessId: uuidAt(Date.now()), accountId: indebted.accountId, amount: usd('3') };
        await postReversal(ledger.admin, reversal);
      });

      it('a refusal reports that nothing is left, not less than nothing', async () => {
        const ofKey = await refusalOf(() => placeHold(ledger.gateway, holdOf(limited, '1')));
        assert.deepEqual(ofKey, ['HF005', 'key_limit', ...pico('0', '1')]);
        const ofAccount = await refusalOf(() => placeHold(ledger.gateway, holdOf(indebted, '1')));
        assert.deepEqual(ofAccount, ['HF006', 'insufficient_quota', ...pico('0', '1')]);
      });

      it('a hold of zero is not granted either below zero', async () => {
        for (const [key, state] of [
          [limited, 'HF005'],
          [indebted, 'HF006'],
        ] as const) {
          const nothing = holdOf(key, '0');
          assert.equal((await refusalOf(() => placeHold(ledger.gateway, nothing)))[0], state);
          assert.deepEqual(await placeHolds(ledger.gateway, [nothing]), [null]);
        }
      });
    });

    for (const [what, other] of Object.entries({
      key: async () => customer('10'),
      model: async () => ({ modelId: 'demo/other' }),
      gateway: async () => ({ gatewayId: uuidAt(Date.now()) }),
    })) {
      it(`HF009: an id that another ${what} has used`, async () => {
        const hold = holdOf(await customer('10'), '1');
        await placeHold(ledger.gateway, hold);
        const reused = { ...hold, ...(await other()) };
        assert.deepEqual(await refusalOf(() => placeHold(ledger.gateway, reused)), ['HF009', 'id_reused']);
        assert.deepEqual(await placeHolds(ledger.gateway, [reused]), [null]);
        assert.deepEqual(
          (await placeFreeHolds(ledger.gateway, [reused])).map((refusal) => refusal?.code),
          ['id_reused'],
        );
      });
    }
  });

  describe('of a `:free` request', () => {
    for (const check of HOLD_CHECKS) {
      const passes = MONEY_CHECKS.includes(check.state);
      it(passes ? `not for ${check.what}` : `${check.state}: ${check.what}`, async () => {
        const hold = await requestFailingFrom(check.state);
        const [verdict] = await placeFreeHolds(ledger.gateway, [hold]);
        assert.equal(verdict?.code ?? null, passes ? null : check.code);
        const { rows } = await ledger.admin.query('select hold::text, free from request where id = $1', [
          hold.requestId,
        ]);
        assert.deepEqual(rows, passes ? [{ hold: '0', free: true }] : []);
      });
    }

    it('a batch is decided item by item, and a repeated hold is not refused even if its key is revoked by then', async () => {
      const key = await customer('0');
      const hold = holdOf(key, '0');
      assert.deepEqual(await placeFreeHolds(ledger.gateway, [hold]), [null]);
      await revoke(key.keyId);
      const verdicts = await placeFreeHolds(ledger.gateway, [hold, holdOf(key, '0'), holdOf(await customer('0'), '0')]);
      assert.deepEqual(
        verdicts.map((verdict) => verdict?.code ?? null),
        [null, 'key_revoked', null],
      );
    });
  });

  describe('of an extension', () => {
    async function heldRequest(key: Customer): Promise<RequestUuid> {
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      return hold.requestId;
    }

    it('HF008: an unknown request', async () => {
      const refused = await refusalOf(() => extendHold(ledger.gateway, newRequestId(), usd('2')));
      assert.deepEqual(refused, ['HF008', 'request_ended']);
    });

    it('HF008: a request that has ended, also when no more is asked than it held', async () => {
      const requestId = await heldRequest(await customer('10'));
      await finishRequests(ledger.gateway, [endOf(requestId, '0.5')]);
      for (const total of ['1', '2']) {
        const refused = await refusalOf(() => extendHold(ledger.gateway, requestId, usd(total)));
        assert.deepEqual(refused, ['HF008', 'request_ended']);
      }
    });

    it('HF002, HF004, HF005, HF006, in this order', async () => {
      const key = await customer('2', { limit: usd('1.5') });
      const requestId = await heldRequest(key);
      const extend = (total: string): Promise<string[]> =>
        refusalOf(() => extendHold(ledger.gateway, requestId, usd(total)));
      await ledger.management.query('update api_key set limit_usd = null where id = $1', [key.keyId]);
      assert.deepEqual(await extend('3'), ['HF006', 'insufficient_quota', ...pico('1', '2')]);
      await ledger.management.query('update api_key set limit_usd = 1.5 where id = $1', [key.keyId]);
      assert.deepEqual(await extend('3'), ['HF005', 'key_limit', ...pico('0.5', '2')]);
      await freeze(key.accountId);
      assert.deepEqual(await extend('3'), ['HF004', 'account_frozen']);
      await revoke(key.keyId);
      assert.deepEqual(await extend('3'), ['HF002', 'key_revoked']);
    });

    it('an extension to no more than is held returns the hold, for any state of the key', async () => {
      const key = await customer('2');
      const requestId = await heldRequest(key);
      await revoke(key.keyId);
      assert.equal(await extendHold(ledger.gateway, requestId, usd('1')), usd('1'));
      assert.equal(await extendHold(ledger.gateway, requestId, usd('0.2')), usd('1'));
    });
  });

  describe('of an adjustment', () => {
    const wish = (accountId: AccountUuid, amount: string) => ({
      id: uuidOf('adjustment', uuidAt(Date.now())),
      accountId,
      amount: usd(amount),
      reason: 'goodwill',
      requestedBy: ANN,
      limits: upTo('10'),
    });

    it('HF001: an unknown account, and a system account', async () => {
      const { rows } = await ledger.admin.query<{ id: string }>("select id from account where name = 'revenue'");
      for (const accountId of [uuidAt(Date.now()), rows[0]!.id]) {
        const asked = wish(uuidOf('account', accountId), '1');
        const refused = await refusalOf(() => requestAdjustment(ledger.management, asked));
        assert.deepEqual(refused, ['HF001', 'not_found']);
      }
    });

    it('HF006: a debit of more than balance − held, also when it was approved', async () => {
      const key = await customer('2');
      await placeHold(ledger.gateway, holdOf(key, '1.5'));
      const asked = wish(key.accountId, '-0.6');
      const refused = ['HF006', 'insufficient_quota', ...pico('0.5', '0.6')];
      assert.deepEqual(await refusalOf(() => requestAdjustment(ledger.management, asked)), refused);
      await requestAdjustment(ledger.management, { ...asked, limits: upTo('0') });
      const approval = { id: asked.id, approve: true, decidedBy: BOB };
      assert.deepEqual(await refusalOf(() => decideAdjustment(ledger.management, approval)), refused);
    });

    it('HF008: deciding on an unknown one', async () => {
      const decision = { id: wish(uuidOf('account', uuidAt(0)), '1').id, approve: true, decidedBy: BOB };
      const refused = await refusalOf(() => decideAdjustment(ledger.management, decision));
      assert.deepEqual(refused, ['HF008', 'request_ended']);
    });

    it('HF009: an id that was used with another account, amount or reason', async () => {
      const [one, other] = [await createCustomer(ledger, '0'), await createCustomer(ledger, '0')];
      const asked = wish(one, '1');
      await requestAdjustment(ledger.management, asked);
      for (const changed of [{ accountId: other }, { amount: usd('2') }, { reason: 'another reason' }]) {
        const refused = await refusalOf(() => requestAdjustment(ledger.management, { ...asked, ...changed }));
        assert.deepEqual(refused, ['HF009', 'id_reused']);
      }
    });

    it('HF014: approving one’s own; rejecting it is allowed', async () => {
      const asked = { ...wish(await createCustomer(ledger, '0'), '11'), requestedBy: ANN };
      await requestAdjustment(ledger.management, asked);
      const approval = { id: asked.id, approve: true, decidedBy: ANN };
      const refused = await refusalOf(() => decideAdjustment(ledger.management, approval));
      assert.deepEqual(refused, ['HF014', 'second_person_needed']);
      const rejected = await decideAdjustment(ledger.management, { ...approval, approve: false });
      assert.equal(rejected.state, 'rejected');
    });
  });

  describe('of a transfer', () => {
    const transfer = (businessId: string, debit: string, credit: string, amount: string) =>
      ledger.admin.query("select post_transfer('test', $1, $2, $3, $4, null, false)", [
        businessId,
        debit,
        credit,
        amount,
      ]);

    it('HF001: an account that does not exist, on either side', async () => {
      const accountId = await createCustomer(ledger, '1');
      const unknown = uuidAt(Date.now());
      for (const [debit, credit] of [
        [accountId, unknown],
        [unknown, accountId],
      ] as const) {
        assert.deepEqual(await refusalOf(() => transfer(uuidAt(Date.now()), debit, credit, '0.5')), [
          'HF001',
          'not_found',
        ]);
      }
    });

    it('HF006: a customer’s debit beyond balance − held', async () => {
      const [from, to] = [await createCustomer(ledger, '1'), await createCustomer(ledger, '0')];
      const refused = await refusalOf(() => transfer(uuidAt(Date.now()), from, to, '1.000000000001'));
      assert.deepEqual(refused, ['HF006', 'insufficient_quota', ...pico('1', '1.000000000001')]);
    });

    it('HF009: a business id that was posted with other accounts or another amount', async () => {
      const [from, to] = [await createCustomer(ledger, '1'), await createCustomer(ledger, '1')];
      const businessId = uuidAt(Date.now());
      await transfer(businessId, from, to, '0.5');
      for (const [debit, credit, amount] of [
        [from, to, '0.4'],
        [to, from, '0.5'],
      ] as const) {
        assert.deepEqual(await refusalOf(() => transfer(businessId, debit, credit, amount)), ['HF009', 'id_reused']);
      }
    });
  });

  describe('of a refund', () => {
    async function chargedRequest(cost: string): Promise<RequestUuid> {
      const hold = holdOf(await customer('1'), '1');
      await placeHold(ledger.gateway, hold);
      await finishRequests(ledger.gateway, [endOf(hold.requestId, cost)]);
      await settleRequests(ledger.worker, [hold.requestId], 'meter/refusals');
      return hold.requestId;
    }
    const wish = (requestId: RequestUuid, n: number, amount: string | null) => ({
      requestId,
      n,
      amount: amount === null ? null : usd(amount),
      reason: 'wrong answer',
      requestedBy: ANN,
    });

    it('HF008: an unknown request, and a decision on an unknown refund', async () => {
      const requestId = newRequestId();
      const refused = ['HF008', 'request_ended'];
      assert.deepEqual(await refusalOf(() => requestRefund(ledger.management, wish(requestId, 1, null))), refused);
      const decision = { requestId: await chargedRequest('0.5'), n: 7, approve: true, decidedBy: BOB };
      assert.deepEqual(await refusalOf(() => decideRefund(ledger.management, decision)), refused);
    });

    it('HF013: a request that was not charged, or not yet', async () => {
      const key = await customer('1');
      const [running, failed] = [holdOf(key, '0.1'), holdOf(key, '0.1')];
      await placeHolds(ledger.gateway, [running, failed]);
      await finishRequests(ledger.gateway, [endOf(failed.requestId, '0.1', { outcome: 'upstream_error' })]);
      await settleRequests(ledger.worker, [failed.requestId], 'meter/refusals');
      for (const { requestId } of [running, failed]) {
        const refused = await refusalOf(() => requestRefund(ledger.management, wish(requestId, 1, null)));
        assert.deepEqual(refused, ['HF013', 'request_not_charged']);
      }
    });

    it('HF012: more than what was charged and not refunded yet, waiting refunds counted, rejected ones not', async () => {
      const requestId = await chargedRequest('0.5');
      const ask = (n: number, amount: string | null): Promise<string[]> =>
        refusalOf(() => requestRefund(ledger.management, wish(requestId, n, amount)));
      assert.deepEqual(await ask(1, '0.500000000001'), ['HF012', 'refund_too_large', ...pico('0.5', '0.500000000001')]);
      await requestRefund(ledger.management, wish(requestId, 1, '0.3'));
      assert.deepEqual(await ask(2, '0.3'), ['HF012', 'refund_too_large', ...pico('0.2', '0.3')]);
      await decideRefund(ledger.management, { requestId, n: 1, approve: false, decidedBy: BOB });
      await requestRefund(ledger.management, wish(requestId, 2, '0.3'));
      await requestRefund(ledger.management, wish(requestId, 3, null));
      assert.deepEqual(await ask(4, null), ['HF012', 'refund_too_large', ...pico('0')]);
    });

    it('HF012: a request that was charged nothing', async () => {
      const requestId = await chargedRequest('0');
      const refused = await refusalOf(() => requestRefund(ledger.management, wish(requestId, 1, null)));
      assert.deepEqual(refused, ['HF012', 'refund_too_large', ...pico('0')]);
    });
  });

  describe('of a price version', () => {
    const publication = { modelId: 'demo/priced', prices: { prices: { input: '1', output: '2' } }, by: ANN };
    const inSeconds = (seconds: number): Date => new Date(Date.now() + seconds * 1000);

    before(async () => {
      await saveModel(ledger.management, {
        id: publication.modelId,
        dialect: 'openai',
        context_length: 1000,
        default_output_tokens: 100,
        upstreams: [],
        prices: {},
      });
      await publishPrices(ledger.management, { ...publication, validFrom: null, leadSeconds: 300 });
    });

    it('HF001: an unknown model', async () => {
      const unknown = { ...publication, modelId: 'demo/unknown', validFrom: null, leadSeconds: 300 };
      assert.deepEqual(await refusalOf(() => publishPrices(ledger.management, unknown)), ['HF001', 'not_found']);
    });

    it('HF010: a later version without the lead time', async () => {
      const soon = { ...publication, validFrom: inSeconds(299), leadSeconds: 300 };
      assert.deepEqual(await refusalOf(() => publishPrices(ledger.management, soon)), ['HF010', 'valid_from_too_soon']);
    });

    it('HF011: a version that would not come after the last one', async () => {
      await publishPrices(ledger.management, { ...publication, validFrom: inSeconds(1000), leadSeconds: 300 });
      for (const validFrom of [inSeconds(900), null]) {
        const before = { ...publication, validFrom, leadSeconds: 300 };
        const refused = await refusalOf(() => publishPrices(ledger.management, before));
        assert.deepEqual(refused, ['HF011', 'valid_from_not_after_last']);
      }
    });
  });

  it('HF900 is a bug, not a refusal: it is never answered to a caller', async () => {
    const hold = holdOf(await customer('1'), '1', { gatewayId: GATEWAY_ID });
    await placeHold(ledger.gateway, hold);
    const error: unknown = await ledger.admin.query('delete from request where id = $1', [hold.requestId]).then(
      () => assert.fail('a request was deleted'),
      (caught: unknown) => caught,
    );
    assert.equal(sqlState(error), 'HF900');
    assert.equal(ledgerRefusal(error), null);
  });
});
