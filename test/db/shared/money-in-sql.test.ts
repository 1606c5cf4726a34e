/**
 * Money between TypeScript and SQL: `DOMAIN usd` refuses what cannot be stored exactly, and every amount that goes
 * through a statement comes back to the last pico-USD.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { findBalance } from '../../../db/accounts/accounts.ts';
import { createApiKey, findApiKey } from '../../../db/accounts/api-keys.ts';
import { decideAdjustment, requestAdjustment } from '../../../db/accounts/adjustments.ts';
import { requestRefund } from '../../../db/requests/refunds.ts';
import { extendHold, finishRequests, placeHold, placeHolds } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { uuidOf, type AccountUuid, type KeyUuid } from '../../../domain/ids.ts';
import { formatUsd, PICO_USD_BOUND, picoUsd, usd, type PicoUsd } from '../../../domain/money.ts';
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
import { snapshotOfDatabase } from '../../support/ledger-snapshot.ts';
import { ANN, BOB } from '../../support/staff.ts';

/** The largest amount and some that a double cannot hold. */
const EXACT = [
  '0.000000000001',
  '0.100000000001',
  '9007199254740993.000000000001',
  '12345678901234567890.123456789012',
  formatUsd(picoUsd(PICO_USD_BOUND - 1n)),
];
const NOT_MONEY = [
  '0.0000000000001',
  '1.5000000000001',
  'NaN',
  'Infinity',
  '-Infinity',
  '100000000000000000000',
  '-100000000000000000000',
  '1e25',
];

describe('money in SQL', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('money');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  describe('domain usd', () => {
    for (const text of NOT_MONEY) {
      it(`the domain usd refuses ${text}`, () =>
        assert.rejects(ledger.admin.query('select $1::usd', [text]), withState('23514')));
    }

    for (const text of [...EXACT, '0', '-0.000000000001', '1.500', '1e-12']) {
      it(`the domain usd keeps ${text} as it is`, async () => {
        const { rows } = await ledger.admin.query<{ same: boolean }>('select $1::usd = $1::numeric as same', [text]);
        assert.deepEqual(rows, [{ same: true }]);
      });
    }

    it('guards the arguments of functions, where a numeric of a fixed scale would round', async () => {
      const key = await customer('5');
      const before = await snapshotOfDatabase(ledger.admin);
      const hold = (amount: string): Promise<unknown> =>
        ledger.gateway.query("select place_hold(uuidv7(), $1, $2, $3, 0, 'demo/model', 1, false, uuidv7(), 60)", [
          key.accountId,
          key.keyId,
          amount,
        ]);
      for (const text of NOT_MONEY) await assert.rejects(hold(text), withState('23514'), text);
      assert.deepEqual(await snapshotOfDatabase(ledger.admin), before);
    });

    it('a sum that leaves the range is refused, and the old value stays', async () => {
      const accountId = await createCustomer(ledger, '0');
      const most = picoUsd(PICO_USD_BOUND - 1n);
      await adjust(accountId, most);
      await assert.rejects(adjust(accountId, usd('0.000000000001')), withState('23514'));
      assert.equal((await findBalance(ledger.management, accountId))!.balance, most);
    });
  });

  describe('amounts', () => {
    for (const text of EXACT) {
      it(`${text} comes back exactly from every statement`, async () => {
        const amount = usd(text);
        const key = await customer('0');
        await adjust(key.accountId, amount);
        const [scalar, batched] = [holdOf(key, text), holdOf(key, text)];
        assert.equal(await placeHold(ledger.gateway, scalar), amount);
        await endUncharged(scalar.requestId);
        assert.deepEqual(await placeHolds(ledger.gateway, [batched]), [amount]);
        assert.equal(await extendHold(ledger.gateway, batched.requestId, amount), amount);
        await finishRequests(ledger.gateway, [endOf(batched.requestId, text)]);
        const shown = (await findBalance(ledger.management, key.accountId))!;
        assert.deepEqual([shown.balance, shown.held, shown.available], [0n, 0n, 0n]);
        await settleRequests(ledger.worker, [batched.requestId], 'meter/money');
        const refund = { requestId: batched.requestId, n: 1, amount: null, reason: 'test', requestedBy: ANN };
        assert.equal((await requestRefund(ledger.management, refund)).amount, amount);
        const found = await findApiKey(ledger.management, { id: key.keyId, accountId: key.accountId });
        assert.equal(found!.spentTotal, amount);
      });

      it(`${text} comes back exactly as a limit`, async () => {
        const accountId = await createCustomer(ledger, '0');
        const limit = usd(text);
        const { key } = await createApiKey(ledger.management, {
          accountId,
          name: 'Key',
          expiresAt: null,
          limit,
          limitReset: 'monthly',
          models: null,
          ipAllowlist: null,
        });
        assert.deepEqual([key.limit, key.remaining], [limit, limit]);
      });
    }

    it('any amounts add up exactly in a batch', () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(fc.bigInt({ min: 0n, max: 10n ** 30n }), { minLength: 1, maxLength: 20 }),
          async (amounts) => {
            const total = amounts.reduce((sum, amount) => sum + amount, 0n);
            const key = await customer('0');
            if (total > 0n) await adjust(key.accountId, picoUsd(total));
            const holds = amounts.map((amount) => {
              const wanted = picoUsd(amount);
              return holdOf(key, '0', { wanted, least: wanted });
            });
            assert.deepEqual(await placeHolds(ledger.gateway, holds), amounts);
            const { available, held } = (await findBalance(ledger.management, key.accountId))!;
            assert.deepEqual([available, held], [0n, total]);
            const ends = holds.map((hold) => endOf(hold.requestId, formatUsd(hold.wanted)));
            await finishRequests(ledger.gateway, ends);
            const ids = holds.map((hold) => hold.requestId);
            assert.equal(await settleRequests(ledger.worker, ids, 'meter/money'), amounts.length);
            assert.equal((await findBalance(ledger.management, key.accountId))!.balance, 0n);
          },
        ),
        { numRuns: 30 },
      ));
  });

  describe('a finish that cannot be stored', () => {
    const cases = {
      'a negative cost': { listCost: picoUsd(-1n) },
      'a negative token count': { usage: { ...endOf(uuidOf('request', uuidAt(0)), '0').usage, inputTokens: -1 } },
    };
    for (const [what, given] of Object.entries(cases)) {
      for (const outcome of ['completed', 'upstream_error'] as const) {
        it(`${what} (${outcome}) is a deterministic error and changes nothing: never a credit`, async () => {
          const key = await customer('5');
          const hold = holdOf(key, '1');
          await placeHold(ledger.gateway, hold);
          const before = await snapshotOfDatabase(ledger.admin);
          const end = endOf(hold.requestId, '0.5', { outcome, ...given });
          await assert.rejects(finishRequests(ledger.gateway, [end]), withState('23514'));
          assert.deepEqual(await snapshotOfDatabase(ledger.admin), before);
        });
      }
    }

    it('a cost beyond the range is refused before it is sent', () => {
      assert.throws(() => picoUsd(PICO_USD_BOUND), /beyond 1e20 USD/);
    });

    it('a late one with a negative cost books nothing', async () => {
      const hold = holdOf(await customer('5'), '1');
      await placeHold(ledger.gateway, hold);
      await endUncharged(hold.requestId);
      const late = endOf(hold.requestId, '0', { listCost: picoUsd(-1n) });
      assert.deepEqual(await finishRequests(ledger.gateway, [late]), ['late']);
      const { rows } = await ledger.admin.query('select from platform_cost where request_id = $1', [hold.requestId]);
      assert.equal(rows.length, 0);
    });

    it('token counts up to 2^53 − 1 are stored exactly', async () => {
      const key = await customer('5');
      const hold = holdOf(key, '1');
      await placeHold(ledger.gateway, hold);
      const most = Number.MAX_SAFE_INTEGER;
      const usage = { ...endOf(hold.requestId, '0').usage, inputTokens: most, outputTokens: most, images: most };
      await finishRequests(ledger.gateway, [endOf(hold.requestId, '0', { usage })]);
      await settleRequests(ledger.worker, [hold.requestId], 'meter/money');
      const { rows } = await ledger.admin.query(
        `select r.input_tokens, r.output_tokens, r.usage_detail ->> 'images' as images, u.input_tokens::text as hour
        from request r join usage_hour u on u.key_id = r.key_id where r.id = $1`,
        [hold.requestId],
      );
      const text = String(most);
      assert.deepEqual(rows, [{ input_tokens: text, output_tokens: text, images: text, hour: text }]);
    });
  });

  async function customer(balance: string): Promise<{ accountId: AccountUuid; keyId: KeyUuid }> {
    const accountId = await createCustomer(ledger, balance);
    return { accountId, keyId: await createKey(ledger, accountId) };
  }

  async function adjust(accountId: AccountUuid, amount: PicoUsd): Promise<void> {
    const id = uuidOf('adjustment', uuidAt(Date.now()));
    const wanted = { id, accountId, amount, reason: 'test', requestedBy: ANN, limits: null };
    await requestAdjustment(ledger.management, wanted);
    await decideAdjustment(ledger.management, { id, approve: true, decidedBy: BOB });
  }

  async function endUncharged(requestId: Parameters<typeof endOf>[0]): Promise<void> {
    await finishRequests(ledger.gateway, [endOf(requestId, '0', { outcome: 'upstream_timeout' })]);
    await settleRequests(ledger.worker, [requestId], 'meter/money');
  }
});
