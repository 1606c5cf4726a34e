/**
 * Nobody is refused because a settlement is late: a finished request weighs its cost, not its hold, as soon as the
 * refusing path has settled it. And nobody is granted more than that, by one pico-USD.
 */
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { pino } from 'pino';
import type pg from 'pg';
import { Holds, type HoldResult } from '../../../api/gateway/core/holds/holds.ts';
import { findBalance } from '../../../db/accounts/accounts.ts';
import { findApiKey, type LimitReset } from '../../../db/accounts/api-keys.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import { finishRequests, placeHold, type HoldRequest } from '../../../db/requests/requests.ts';
import { settleAccount, settleRequests } from '../../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid } from '../../../domain/ids.ts';
import { usd, type PicoUsd } from '../../../domain/money.ts';
import {
  brokenRules,
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

interface Key {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

/** 1 USD may be spent, by what the account has or by what the key may. */
const BOUNDS: readonly { by: string; balance: string; limit: PicoUsd | null; limitReset: LimitReset; code: string }[] =
  [
    { by: 'account', balance: '1', limit: null, limitReset: 'none', code: 'insufficient_quota' },
    { by: 'key limit', balance: '50', limit: usd('1'), limitReset: 'none', code: 'key_limit' },
    { by: 'daily key limit', balance: '50', limit: usd('1'), limitReset: 'daily', code: 'key_limit' },
  ];

describe('no false refusal', () => {
  let ledger: LedgerDatabase;

  before(async () => {
    ledger = await createLedgerDatabase('no_false_refusal');
  });
  after(() => ledger.database.drop());
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  for (const { by, balance, limit, limitReset, code } of BOUNDS) {
    describe(`1 USD by ${by}`, () => {
      async function key(): Promise<Key> {
        const accountId = await createCustomer(ledger, balance);
        return { accountId, keyId: await createKey(ledger, accountId, { limit, limitReset }) };
      }

      async function assertRefused(hold: HoldRequest): Promise<void> {
        await assert.rejects(placeHold(ledger.gateway, hold), (error) => ledgerRefusal(error)?.code === code);
      }

      it('a second hold of 0.9 is refused while the first is held, and granted once the first ended at 0.1 and was settled', async () => {
        const spender = await key();
        const [first, second] = [holdOf(spender, '0.9'), holdOf(spender, '0.9')];
        await placeHold(ledger.gateway, first);
        await assertRefused(second);
        assert.equal(await settleAccount(ledger.gateway, spender.accountId), 0);
        await finishRequests(ledger.gateway, [endOf(first.requestId, '0.1')]);
        await assertRefused(second);
        assert.equal(await settleAccount(ledger.gateway, spender.accountId), 1);
        assert.equal(await placeHold(ledger.gateway, second), usd('0.9'));
      });

      it('a hold of one pico-USD more than available is refused', async () => {
        const spender = await key();
        const first = holdOf(spender, '0.9');
        await placeHold(ledger.gateway, first);
        await finishRequests(ledger.gateway, [endOf(first.requestId, '0.1')]);
        await settleAccount(ledger.gateway, spender.accountId);
        await assertRefused(holdOf(spender, '0.900000000001'));
        assert.equal(await placeHold(ledger.gateway, holdOf(spender, '0.9')), usd('0.9'));
      });

      it('the amount shown as available before the settlement can be held after it', async () => {
        const spender = await key();
        const first = holdOf(spender, '0.9');
        await placeHold(ledger.gateway, first);
        await finishRequests(ledger.gateway, [endOf(first.requestId, '0.25')]);
        const shown =
          limit === null
            ? (await findBalance(ledger.management, spender.accountId))!.available
            : (await findApiKey(ledger.management, { id: spender.keyId, accountId: spender.accountId }))!.remaining;
        assert.equal(shown, usd('0.75'));
        await settleAccount(ledger.gateway, spender.accountId);
        await assertRefused(holdOf(spender, '0.750000000001'));
        assert.equal(await placeHold(ledger.gateway, holdOf(spender, '0.75')), usd('0.75'));
      });

      describe('as a gateway takes holds', () => {
        function createHolds(pool: pg.Pool = ledger.gateway): Holds {
          return new Holds({
            pool,
            logger: pino({ level: 'silent' }),
            timeoutSeconds: 10,
            freeQuota: null,
            onAbandoned: () => assert.fail('a hold was abandoned'),
          });
        }

        it('a hold is granted at the first call, with the settlement in between', async () => {
          const spender = await key();
          const first = holdOf(spender, '0.9');
          await placeHold(ledger.gateway, first);
          await finishRequests(ledger.gateway, [endOf(first.requestId, '0.1')]);
          assert.deepEqual(await createHolds().take(holdOf(spender, '0.9')), { kind: 'granted', hold: usd('0.9') });
        });

        it('a hold is granted when a worker settles between the refusal and the gateway’s own settlement', async () => {
          const spender = await key();
          const first = holdOf(spender, '0.9');
          await placeHold(ledger.gateway, first);
          await finishRequests(ledger.gateway, [endOf(first.requestId, '0.1')]);
          const pool = watched(ledger.gateway, {
            before: async (statement) => {
              if (statement.includes('settle_account'))
                await settleRequests(ledger.worker, [first.requestId], 'meter/first');
            },
          });
          assert.deepEqual(await createHolds(pool).take(holdOf(spender, '0.9')), { kind: 'granted', hold: usd('0.9') });
        });

        it('a hold is granted to a caller that is refused while a settlement for another caller is under way', async () => {
          const spender = await key();
          const [first, second] = [holdOf(spender, '0.4'), holdOf(spender, '0.5')];
          await placeHold(ledger.gateway, first);
          await placeHold(ledger.gateway, second);
          await finishRequests(ledger.gateway, [endOf(first.requestId, '0.1')]);
          const later: Promise<HoldResult>[] = [];
          const laterRefused = Promise.withResolvers<void>();
          const pool = watched(ledger.gateway, {
            after: async (statement) => {
              if (later.length > 0 && statement.includes('place_hold')) laterRefused.resolve();
              if (later.length > 0 || !statement.includes('settle_account')) return;
              // This settlement did not see the second request, which ends now, and the other caller is refused
              // meanwhile.
              await finishRequests(ledger.gateway, [endOf(second.requestId, '0.1')]);
              later.push(shared.take(holdOf(spender, '0.6')));
              await laterRefused.promise;
              await nextTurn();
            },
          });
          const shared = createHolds(pool);
          assert.deepEqual(await shared.take(holdOf(spender, '0.2')), { kind: 'granted', hold: usd('0.2') });
          assert.deepEqual(await Promise.all(later), [{ kind: 'granted', hold: usd('0.6') }]);
        });
      });
    });
  }
});

interface StatementHooks {
  readonly before?: (statement: string) => Promise<void>;
  readonly after?: (statement: string) => Promise<void>;
}

/** A pool that lets a test act at the moment before a statement is sent, or between its answer and its caller. */
function watched(pool: pg.Pool, { before, after }: StatementHooks): pg.Pool {
  return withMethod(pool, 'connect', async () =>
    withMethod(await pool.connect(), 'query', async (query, args) => {
      const [first] = args as [string | { text: string }];
      const statement = typeof first === 'string' ? first : first.text;
      await before?.(statement);
      try {
        return await query(...args);
      } finally {
        await after?.(statement);
      }
    }),
  );
}

type AnyMethod = (...args: unknown[]) => Promise<unknown>;

/** `target` with one method replaced; the replacement is given the original. */
function withMethod<T extends object>(
  target: T,
  name: keyof T,
  replacement: (original: AnyMethod, args: unknown[]) => Promise<unknown>,
): T {
  const methodOf = (property: string | symbol): AnyMethod | null => {
    const value: unknown = Reflect.get(target, property, target);
    return typeof value === 'function' ? (value.bind(target) as AnyMethod) : null;
  };
  return new Proxy(target, {
    get(_target, property) {
      const method = methodOf(property);
      if (property === name && method !== null) return (...args: unknown[]) => replacement(method, args);
      return method ?? (Reflect.get(target, property, target) as unknown);
    },
  });
}
