/**
 * Commissions as numbers: rounded down once, taken back pro rata and exactly, and a file whose bytes follow from its
 * list.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  COMMISSION_FILE_HEADER,
  commissionFileLine,
  commissionLost,
  commissionManifest,
  commissionOn,
  CommissionSum,
  isPeriod,
  periodBefore,
  periodEnd,
  periodOf,
  recomputeAccrual,
  type CommissionLine,
} from '../../../../domain/commissions/commission.ts';
import { picoUsd, usd, ZERO_USD } from '../../../../domain/money.ts';

const TEN_PERCENT = 100_000;

describe('commission', () => {
  for (const [base, ppm, expected] of [
    ['10', TEN_PERCENT, '1'],
    ['0.000000000009', TEN_PERCENT, '0'],
    ['0.000000000019', TEN_PERCENT, '0.000000000001'],
    ['33.333333333333', 77_777, '2.592566666666'],
    ['10', 0, '0'],
    ['10', 1_000_000, '10'],
    ['0', TEN_PERCENT, '0'],
    ['99999999999999999999.999999999999', 1, '99999999999999.999999999999'],
  ] as const) {
    it(`a commission of ${base} USD at ${ppm} ppm is ${expected}`, () => {
      assert.equal(commissionOn(usd(base), ppm), usd(expected));
    });
  }

  it('a commission is a share of an amount: other inputs are refused', () => {
    assert.throws(() => commissionOn(usd('-1'), 1), /invariant/);
    assert.throws(() => commissionOn(usd('1'), 0.5), /invariant/);
    assert.throws(() => commissionLost(usd('1'), 1, usd('2')), /invariant/);
  });

  for (const [reversed, lost] of [
    ['0', '0'],
    ['3.333333333333', '0.333333333333'],
    ['9.999999999999', '0.999999999999'],
    ['10', '1'],
  ] as const) {
    it(`a commission of 10 USD loses ${lost} when ${reversed} are gone`, () => {
      assert.equal(commissionLost(usd('10'), TEN_PERCENT, usd(reversed)), usd(lost));
    });
  }

  it('a commission never loses more than itself, loses all with the last part, and gets back exactly what it lost', () => {
    const amounts = fc.bigInt({ min: 1n, max: 10n ** 20n });
    fc.assert(
      fc.property(
        amounts,
        fc.integer({ min: 0, max: 1_000_000 }),
        fc.array(fc.integer({ min: 0, max: 1000 }), { maxLength: 20 }),
        (units, ppm, states) => {
          const base = picoUsd(units);
          const earned = commissionOn(base, ppm);
          let gone = ZERO_USD;
          let sum: bigint = earned;
          for (const state of [...states, 1000, 0]) {
            const next = picoUsd((units * BigInt(state)) / 1000n);
            const facts = { base, ratePpm: ppm, reversedFrom: gone, reversedTo: next, amount: ZERO_USD };
            sum += recomputeAccrual({ ...facts, kind: next > gone ? 'reversed' : 'restored' });
            gone = next;
            assert.ok(sum >= 0n && sum <= earned);
            assert.equal(sum, earned - commissionLost(base, ppm, gone));
            if (gone === base) assert.equal(sum, 0n);
          }
          assert.equal(sum, earned);
        },
      ),
    );
  });

  it('a correction is what was approved; an accrual of a payment without its facts is a bug', () => {
    const none = { base: null, ratePpm: null, reversedFrom: null, reversedTo: null };
    assert.equal(recomputeAccrual({ kind: 'correction', amount: usd('-3'), ...none }), usd('-3'));
    assert.throws(() => recomputeAccrual({ kind: 'earned', amount: usd('1'), ...none }), /invariant/);
  });
});

describe('a period', () => {
  it('a period is a month of this century', () => {
    for (const text of ['2026-01', '2026-12', '2099-10']) assert.ok(isPeriod(text), text);
    for (const text of ['2026-00', '2026-13', '2026-1', '1999-12', '2026-10-01', ' 2026-10', '']) {
      assert.ok(!isPeriod(text), text);
    }
  });

  it('a period ends with the first moment of the next one, in UTC', () => {
    assert.equal(periodEnd('2026-10').toISOString(), '2026-11-01T00:00:00.000Z');
    assert.equal(periodEnd('2026-12').toISOString(), '2027-01-01T00:00:00.000Z');
    assert.equal(periodOf(new Date('2026-11-01T00:00:00Z')), '2026-11');
    assert.equal(periodBefore(new Date('2026-11-01T00:30:00Z')), '2026-10');
    assert.equal(periodBefore(new Date('2027-01-31T23:59:59Z')), '2026-12');
  });
});

describe('the result file', () => {
  const line: CommissionLine = {
    n: 1,
    accrualId: 'acr_1',
    kind: 'earned',
    affiliateId: 'acct_1',
    accountId: 'acct_2',
    paymentId: 'pay_1',
    topUpId: 'top_1',
    base: usd('10'),
    ratePpm: TEN_PERCENT,
    ruleVersion: 1,
    reversedFrom: ZERO_USD,
    reversedTo: ZERO_USD,
    amount: usd('1'),
    accruedAt: new Date('2026-08-01T12:00:00.123Z'),
    maturesAt: new Date('2026-09-30T12:00:00.123Z'),
  };
  const correction: CommissionLine = {
    ...line,
    n: 2,
    accrualId: 'acr_2',
    kind: 'correction',
    amount: usd('-0.25'),
    accountId: null,
    paymentId: null,
    topUpId: null,
    base: null,
    ratePpm: null,
    reversedFrom: null,
    reversedTo: null,
  };

  it('the result file has a line per accrual, with as many cells as its header names', () => {
    assert.equal(
      commissionFileLine(line, line.amount),
      '1,acr_1,earned,acct_1,acct_2,pay_1,top_1,10.000000000000,100000,1,0.000000000000,0.000000000000,' +
        '1.000000000000,2026-08-01T12:00:00.123Z,2026-09-30T12:00:00.123Z\r\n',
    );
    const cells = (text: string): number => text.split(',').length;
    for (const each of [line, correction]) {
      assert.equal(cells(commissionFileLine(each, each.amount)), cells(COMMISSION_FILE_HEADER));
    }
  });

  it('the manifest of the result file names its list, sum, rates and rules', () => {
    const sum = new CommissionSum();
    sum.add(line, line.amount);
    sum.add(correction, correction.amount);
    const manifest = JSON.parse(
      commissionManifest({
        period: '2026-09',
        isDryRun: false,
        totals: sum.totals,
        rules: [{ version: 1, ratePpm: TEN_PERCENT, holdDays: 60, finalHoldDays: 0, disputeDays: 120 }],
        list: { sha256: 'l', first: 'acr_1', last: 'acr_2' },
        csv: { sha256: 'c', bytes: 7 },
      }),
    ) as Record<string, unknown>;
    assert.deepEqual(manifest['list'], { accruals: 2, affiliates: 1, sha256: 'l', first: 'acr_1', last: 'acr_2' });
    assert.deepEqual(manifest['totals'], {
      credited_usd: '1.000000000000',
      debited_usd: '0.250000000000',
      net_usd: '0.750000000000',
    });
    assert.deepEqual(manifest['rates'], [
      { kind: 'correction', rate_ppm: null, rule_version: 1, accruals: 1, amount_usd: '-0.250000000000' },
      { kind: 'earned', rate_ppm: TEN_PERCENT, rule_version: 1, accruals: 1, amount_usd: '1.000000000000' },
    ]);
    assert.equal(manifest['ends_at'], '2026-10-01T00:00:00.000Z');
  });
});
