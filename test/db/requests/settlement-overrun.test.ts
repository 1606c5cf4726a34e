/** The charge of each request when costs exceed holds. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { findBalance } from '../../../db/accounts/accounts.ts';
import { finishRequests, placeHold } from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import { formatUsd, picoUsd, usd } from '../../../domain/money.ts';
import {
  chargesOf,
  customerWithKey,
  finished,
  restingBalance,
  type EndedRequest,
} from '../../support/finished-requests.ts';
import {
  brokenRules,
  createLedgerDatabase,
  endOf,
  holdOf,
  postReversal,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { overrunCharges } from '../../support/ledger-model.ts';

describe('settlement with overrun', function () {
  this.timeout(30_000);
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('overrun');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  /** `balance` is what the customer has; `reversed` is taken back from it after the holds. */
  const cases: readonly {
    what: string;
    balance: string;
    reversed?: string;
    rows: readonly EndedRequest[];
    charged: readonly string[];
    left: string;
  }[] = [
    {
      what: 'a cost equal to the hold is no overrun',
      balance: '1',
      rows: [{ hold: '1', cost: '1' }],
      charged: ['charged 1'],
      left: '0',
    },
    {
      what: 'an estimate takes nothing above its hold, though the account has the money',
      balance: '9',
      rows: [{ hold: '1', cost: '3', estimated: true }],
      charged: ['charged 1 lost 2'],
      left: '8',
    },
    {
      what: 'an estimate beside an overrun that the provider reported: only that one is taken from the account',
      balance: '5',
      rows: [
        { hold: '1', cost: '2', estimated: true },
        { hold: '1', cost: '2' },
      ],
      charged: ['charged 1 lost 1', 'charged 2'],
      left: '2',
    },
    {
      what: 'one pico-USD above the hold of all the money is lost',
      balance: '1',
      rows: [{ hold: '1', cost: '1.000000000001' }],
      charged: ['charged 1 lost 0.000000000001'],
      left: '0',
    },
    {
      what: 'what is above the hold is paid from money that is not held',
      balance: '3',
      rows: [{ hold: '1', cost: '2.5' }],
      charged: ['charged 2.5'],
      left: '0.5',
    },
    {
      what: 'where the money does not suffice, the rest is lost and the balance ends at zero, not below',
      balance: '1.2',
      rows: [{ hold: '1', cost: '2.5' }],
      charged: ['charged 1.2 lost 1.3'],
      left: '0',
    },
    {
      what: 'two overruns share the money in the order of their ids',
      balance: '2.3',
      rows: [
        { hold: '1', cost: '1.2' },
        { hold: '1', cost: '1.2' },
      ],
      charged: ['charged 1.2', 'charged 1.1 lost 0.1'],
      left: '0',
    },
    {
      what: 'what an earlier request gives back can pay for a later overrun',
      balance: '2',
      rows: [
        { hold: '1', cost: '0.6' },
        { hold: '1', cost: '1.5' },
      ],
      charged: ['charged 0.6', 'charged 1.4 lost 0.1'],
      left: '0',
    },
    {
      what: 'what a later request gives back cannot pay for an earlier overrun',
      balance: '2',
      rows: [
        { hold: '1', cost: '1.5' },
        { hold: '1', cost: '0.6' },
      ],
      charged: ['charged 1 lost 0.5', 'charged 0.6'],
      left: '0.4',
    },
    {
      what: 'a failed request gives its whole hold back and pays nothing, whatever it cost',
      balance: '2',
      rows: [
        { hold: '1', cost: '7', outcome: 'upstream_error' },
        { hold: '1', cost: '1.5' },
      ],
      charged: ['released 0', 'charged 1.5'],
      left: '0.5',
    },
    {
      what: 'a hold of nothing is charged from free money only',
      balance: '0.3',
      rows: [
        { hold: '0', cost: '0.2' },
        { hold: '0', cost: '0.2' },
      ],
      charged: ['charged 0.2', 'charged 0.1 lost 0.1'],
      left: '0',
    },
    {
      what: 'below zero by a reversal, the hold is still charged in full, and nothing above it',
      balance: '2',
      reversed: '1.5',
      rows: [{ hold: '1', cost: '1.4' }],
      charged: ['charged 1 lost 0.4'],
      left: '-0.5',
    },
    {
      what: 'below zero by a reversal, what is given back first fills the gap',
      balance: '3',
      reversed: '1.5',
      rows: [
        { hold: '1', cost: '0.2' },
        { hold: '1', cost: '0' },
        { hold: '1', cost: '1.4' },
      ],
      charged: ['charged 0.2', 'charged 0', 'charged 1.3 lost 0.1'],
      left: '0',
    },
  ];
  for (const { what, balance, reversed, rows, charged, left } of cases) {
    it(what, async () => {
      const key = await customerWithKey(ledger, balance);
      const ids = await finished(ledger, key, rows);
      if (reversed !== undefined) {
        const { accountId } = key;
        await postReversal(ledger.admin, { businessId: uuidAt(Date.now()), accountId, amount: usd(reversed) });
      }
      assert.equal(await settleRequests(ledger.worker, [...ids].reverse(), 'meter/overrun'), rows.length);
      assert.deepEqual(await chargesOf(ledger, ids), charged);
      assert.equal(await restingBalance(ledger, key), left);
    });
  }

  it('accounts of one batch do not pay for each other', async () => {
    const [rich, poor] = [await customerWithKey(ledger, '9'), await customerWithKey(ledger, '1')];
    const ids = [
      ...(await finished(ledger, poor, [{ hold: '1', cost: '2' }])),
      ...(await finished(ledger, rich, [{ hold: '1', cost: '2' }])),
    ];
    await settleRequests(ledger.worker, ids, 'meter/overrun');
    assert.deepEqual(await chargesOf(ledger, ids), ['charged 1 lost 1', 'charged 2']);
    assert.deepEqual([await restingBalance(ledger, poor), await restingBalance(ledger, rich)], ['0', '7']);
  });

  it('money that other requests hold is not taken', async () => {
    const key = await customerWithKey(ledger, '3');
    const running = holdOf(key, '1.9');
    await placeHold(ledger.gateway, running);
    const ids = await finished(ledger, key, [{ hold: '1', cost: '2' }]);
    await settleRequests(ledger.worker, ids, 'meter/overrun');
    assert.deepEqual(await chargesOf(ledger, ids), ['charged 1.1 lost 0.9']);
    await finishRequests(ledger.gateway, [endOf(running.requestId, '1.9')]);
    await settleRequests(ledger.worker, [running.requestId], 'meter/overrun');
    assert.equal(await restingBalance(ledger, key), '0');
  });

  it('a cost above the hold is shown as the hold until it is settled', async () => {
    const key = await customerWithKey(ledger, '3');
    await finished(ledger, key, [{ hold: '1', cost: '2' }]);
    const shown = (await findBalance(ledger.management, key.accountId))!;
    assert.deepEqual([shown.balance, shown.held, shown.available], [usd('2'), 0n, usd('2')]);
    await settleAccount(ledger.gateway, key.accountId);
    assert.equal(await restingBalance(ledger, key), '1');
  });

  it('any batch is charged as the pure rule says', () => {
    const amount = fc.bigInt({ min: 0n, max: 12n });
    const row = fc.record({ hold: amount, cost: amount, billed: fc.boolean() });
    return fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 8 }), amount, amount, async (rows, free, reversed) => {
        const total = rows.reduce((sum, { hold }) => sum + hold, free);
        const key = await customerWithKey(ledger, formatUsd(picoUsd(total)));
        const texts = rows.map(({ hold, cost, billed }): EndedRequest => ({
          hold: formatUsd(picoUsd(hold)),
          cost: formatUsd(picoUsd(cost)),
          outcome: billed ? 'cut_by_limit' : 'upstream_timeout',
        }));
        const ids = await finished(ledger, key, texts);
        if (reversed > 0n) {
          const amount = picoUsd(reversed);
          await postReversal(ledger.admin, { businessId: uuidAt(Date.now()), accountId: key.accountId, amount });
        }
        const expected = overrunCharges(
          rows.map(({ hold, cost, billed }) => ({ hold, billedCost: billed ? cost : 0n })),
          free - reversed,
        );
        await settleRequests(ledger.worker, ids, 'meter/rule');
        const { rows: found } = await ledger.admin.query<{ cost: string }>(
          'select cost::text from request where id = any($1) order by id',
          [ids],
        );
        assert.deepEqual(
          found.map(({ cost }) => usd(cost)),
          expected,
        );
      }),
      { numRuns: 60 },
    );
  });
});
