/**
 * Spending limits of keys by day, week and month: windows begin in UTC, a request belongs to the window of its hold,
 * and editing a limit never touches a counter.
 */
import assert from 'node:assert/strict';
import { findApiKey, type ApiKey, type LimitReset } from '../../../db/accounts/api-keys.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import { extendHold, finishRequests, placeHold, placeHolds, type HoldRequest } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid, RequestUuid } from '../../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../../domain/money.ts';
import {
  beginNextWindow,
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { limitWindow } from '../../support/ledger-model.ts';

/** Longer than any window, so that the next call meets a new one. */
const NEXT_WINDOW_MS = 40 * 24 * 3600 * 1000;

describe('limit windows', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('limit_windows');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  describe('begin', () => {
    const rows: readonly [reset: LimitReset, at: string, window: string, why: string][] = [
      ['daily', '2026-03-29T00:00:00Z', '2026-03-29T00:00:00Z', 'at midnight UTC, inclusive'],
      ['daily', '2026-03-28T23:59:59.999999Z', '2026-03-28T00:00:00Z', 'not before midnight UTC'],
      [
        'daily',
        '2026-03-29T00:30:00+02:00',
        '2026-03-28T00:00:00Z',
        'by UTC, whatever the offset in which a time is written',
      ],
      ['daily', '2026-03-29T02:30:00+01:00', '2026-03-29T00:00:00Z', 'also on the day of a clock change in Europe'],
      ['daily', '2024-02-29T12:00:00Z', '2024-02-29T00:00:00Z', 'on a leap day'],
      ['weekly', '2026-11-23T00:00:00Z', '2026-11-23T00:00:00Z', 'on Monday, inclusive'],
      ['weekly', '2026-11-22T23:59:59.999999Z', '2026-11-16T00:00:00Z', 'not on Sunday'],
      ['weekly', '2026-11-29T12:00:00Z', '2026-11-23T00:00:00Z', 'on the Monday before a Sunday'],
      ['weekly', '2027-01-01T12:00:00Z', '2026-12-28T00:00:00Z', 'on a Monday of the year before'],
      ['monthly', '2026-11-01T00:00:00Z', '2026-11-01T00:00:00Z', 'on the first, inclusive'],
      ['monthly', '2026-10-31T23:59:59.999999Z', '2026-10-01T00:00:00Z', 'not on the last of a month'],
      ['monthly', '2024-02-29T23:59:59Z', '2024-02-01T00:00:00Z', 'on the first, also of a February'],
      ['none', '2026-11-01T00:00:00Z', '-infinity', 'never without a reset'],
    ];
    for (const [reset, at, window, why] of rows) {
      it(`${reset} ${why}: ${at}`, async () => {
        for (const timezone of ['UTC', 'America/New_York', 'Pacific/Kiritimati']) {
          const client = await ledger.admin.connect();
          try {
            await client.query("select set_config('timezone', $1, false)", [timezone]);
            const { rows: found } = await client.query<{ same: boolean }>(
              'select limit_window($1, $2::timestamptz) = $3::timestamptz as same',
              [reset, at, window],
            );
            assert.deepEqual(found, [{ same: true }], timezone);
          } finally {
            client.release(true);
          }
        }
        if (window !== '-infinity') assert.equal(limitWindow(reset, Date.parse(at)), Date.parse(window), 'the model');
      });
    }
  });

  interface Key {
    readonly accountId: AccountUuid;
    readonly keyId: KeyUuid;
  }

  async function limitedKey(limit: string, limitReset: LimitReset): Promise<Key> {
    const accountId = await createCustomer(ledger, '100');
    return { accountId, keyId: await createKey(ledger, accountId, { limit: usd(limit), limitReset }) };
  }

  async function hold(key: Key, amount: string): Promise<RequestUuid> {
    const request = holdOf(key, amount);
    assert.equal(await placeHold(ledger.gateway, request), usd(amount));
    return request.requestId;
  }

  async function charge(requestId: RequestUuid, cost: string): Promise<void> {
    await finishRequests(ledger.gateway, [endOf(requestId, cost)]);
    await settleRequests(ledger.worker, [requestId], 'meter/windows');
  }

  async function spend(key: Key, amount: string): Promise<void> {
    await charge(await hold(key, amount), amount);
  }

  const begin = (key: Key): Promise<void> => beginNextWindow(ledger.admin, key.keyId, NEXT_WINDOW_MS);

  async function shown(key: Key): Promise<Record<'spent' | 'window' | 'held' | 'left', string>> {
    const found = (await findApiKey(ledger.management, { id: key.keyId, accountId: key.accountId })) as ApiKey;
    const short = (amount: PicoUsd): string => formatUsd(amount).replace(/\.?0+$/, '');
    return {
      spent: short(found.spentTotal),
      window: short(found.windowSpent),
      held: short(found.held),
      left: short(found.remaining!),
    };
  }

  async function edit(key: Key, limit: string, reset: LimitReset): Promise<void> {
    const text = 'update api_key set limit_usd = $2, limit_reset = $3 where id = $1';
    await ledger.management.query(text, [key.keyId, limit, reset]);
  }

  /** Whether the key can hold exactly `room` and not one pico-USD more. */
  async function assertRoom(key: Key, room: string): Promise<void> {
    const more: HoldRequest = holdOf(key, formatUsd((usd(room) + 1n) as PicoUsd));
    await assert.rejects(placeHold(ledger.gateway, more), (error) => ledgerRefusal(error)?.code === 'key_limit');
    assert.deepEqual(await placeHolds(ledger.gateway, [more]), [null]);
    const all = await hold(key, room);
    await charge(all, '0');
  }

  for (const reset of ['daily', 'weekly', 'monthly'] as const) {
    describe(`of a ${reset} limit`, () => {
      it('a new window gives the whole limit again, for single holds and for batches', async () => {
        for (const batched of [false, true]) {
          const key = await limitedKey('1', reset);
          await spend(key, '0.7');
          await assertRoom(key, '0.3');
          await begin(key);
          assert.deepEqual(await shown(key), { spent: '0.7', window: '0', held: '0', left: '1' });
          if (batched) assert.deepEqual(await placeHolds(ledger.gateway, [holdOf(key, '0.6')]), [usd('0.6')]);
          else await hold(key, '0.6');
          assert.deepEqual(await shown(key), { spent: '0.7', window: '0', held: '0.6', left: '0.4' });
          await assertRoom(key, '0.4');
        }
      });

      it('a hold before midnight that is settled after it counts in the old window only', async () => {
        const key = await limitedKey('1', reset);
        const old = await hold(key, '0.8');
        await begin(key);
        await hold(key, '0.9');
        assert.deepEqual(await shown(key), { spent: '0', window: '0', held: '1.7', left: '0.1' });
        await charge(old, '0.75');
        assert.deepEqual(await shown(key), { spent: '0.75', window: '0', held: '0.9', left: '0.1' });
      });

      it('a hold before midnight that is settled after it, with nobody in between, leaves the new window whole', async () => {
        const key = await limitedKey('1', reset);
        const old = await hold(key, '0.8');
        await begin(key);
        await charge(old, '0.75');
        assert.deepEqual(await shown(key), { spent: '0.75', window: '0', held: '0', left: '1' });
        await assertRoom(key, '1');
      });

      it('a finished, unsettled request of the old window does not weigh on the new one', async () => {
        const key = await limitedKey('1', reset);
        const old = await hold(key, '0.8');
        await finishRequests(ledger.gateway, [endOf(old, '0.5')]);
        await begin(key);
        await hold(key, '1');
        assert.deepEqual(await shown(key), { spent: '0.5', window: '0', held: '1', left: '0' });
        await settleRequests(ledger.worker, [old], 'meter/windows');
        assert.deepEqual(await shown(key), { spent: '0.5', window: '0', held: '1', left: '0' });
      });

      it('an extension across a window is not held against the new one, but against what one window allows', async () => {
        const key = await limitedKey('1', reset);
        const old = await hold(key, '0.8');
        await begin(key);
        await hold(key, '0.9');
        await assert.rejects(
          extendHold(ledger.gateway, old, usd('1.000000000001')),
          (error) => ledgerRefusal(error)?.code === 'key_limit',
        );
        assert.equal(await extendHold(ledger.gateway, old, usd('1')), usd('1'));
        assert.deepEqual(await shown(key), { spent: '0', window: '0', held: '1.9', left: '0.1' });
        await charge(old, '0.95');
        assert.deepEqual(await shown(key), { spent: '0.95', window: '0', held: '0.9', left: '0.1' });
      });

      it('an extension across a window is held against the account', async () => {
        const key = await limitedKey('150', reset);
        const old = await hold(key, '1');
        await begin(key);
        await hold(key, '1');
        await assert.rejects(
          extendHold(ledger.gateway, old, usd('99.000000000001')),
          (error) => ledgerRefusal(error)?.code === 'insufficient_quota',
        );
        assert.equal(await extendHold(ledger.gateway, old, usd('99')), usd('99'));
      });

      it('an extension within the window is bound by the limit to the last pico-USD', async () => {
        const key = await limitedKey('1', reset);
        const requestId = await hold(key, '0.8');
        await assert.rejects(
          extendHold(ledger.gateway, requestId, usd('1.000000000001')),
          (error) => ledgerRefusal(error)?.code === 'key_limit',
        );
        assert.equal(await extendHold(ledger.gateway, requestId, usd('1')), usd('1'));
        assert.deepEqual(await shown(key), { spent: '0', window: '0', held: '1', left: '0' });
      });
    });
  }

  describe('and edits', () => {
    it('a smaller limit counts what was spent under the larger one, and a larger one opens the difference', async () => {
      const key = await limitedKey('1', 'daily');
      await spend(key, '0.6');
      await edit(key, '0.5', 'daily');
      assert.deepEqual(await shown(key), { spent: '0.6', window: '0.6', held: '0', left: '-0.1' });
      await edit(key, '2', 'daily');
      await assertRoom(key, '1.4');
    });

    it('a limit changed from monthly to daily does not count what was spent earlier this month', async () => {
      const key = await limitedKey('1', 'monthly');
      await spend(key, '0.6');
      await begin(key);
      await edit(key, '1', 'daily');
      await assertRoom(key, '1');
    });

    it('a change from a shorter to a longer reset keeps the running window: an edit never gives money back', async () => {
      const key = await limitedKey('1', 'daily');
      await spend(key, '0.6');
      for (const reset of ['weekly', 'monthly'] as const) {
        await edit(key, '1', reset);
        await assertRoom(key, '0.4');
      }
    });

    it('a change to no reset counts everything ever spent, and a change back only the running window', async () => {
      const key = await limitedKey('1', 'daily');
      await spend(key, '0.6');
      await begin(key);
      await spend(key, '0.3');
      await edit(key, '1', 'none');
      await assertRoom(key, '0.1');
      await edit(key, '1', 'daily');
      await assertRoom(key, '0.7');
    });

    it('a change from no reset to one begins a whole limit, and a running request stays outside it', async () => {
      const key = await limitedKey('1', 'none');
      await spend(key, '0.5');
      const running = await hold(key, '0.4');
      await edit(key, '1', 'daily');
      await assertRoom(key, '1');
      await charge(running, '0.4');
      await assertRoom(key, '1');
      await edit(key, '1', 'none');
      await assertRoom(key, '0.1');
    });

    it('the counters go on through a change to unlimited and back', async () => {
      const key = await limitedKey('1', 'daily');
      await ledger.management.query('update api_key set limit_usd = null where id = $1', [key.keyId]);
      await spend(key, '3');
      await edit(key, '4', 'daily');
      await assertRoom(key, '1');
    });
  });
});
