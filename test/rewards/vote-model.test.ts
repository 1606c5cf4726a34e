/**
 * A month of votes against a model: 1,000 users on four sites, with retries, late and early votes, tests, other
 * listings, users who link at once, later, too late, or never. The events go the product's way (stored, read, decided,
 * recorded) with an injected clock; the model is arithmetic on numbers and knows none of that code. Equal to the cent
 * for every account.
 */
import assert from 'node:assert/strict';
import { pino } from 'pino';
import { createRewardActivities } from '../../activities/rewards/rewards.ts';
import { linkDiscord } from '../../db/rewards/discord.ts';
import { releaseClaims } from '../../db/rewards/rewards.ts';
import { uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { brokenRules, createLedgerDatabase, type LedgerDatabase } from '../support/ledger-database.ts';
import { rewardSettingsOf } from '../support/reward-settings.ts';
import { expectedCents, makeMonth, MODEL_ENVIRONMENT, type ModelUser } from './vote-model.ts';

const USERS = 1000;
const PARALLEL = 8;
const SEED = 20260501;

describe('a month of votes', () => {
  let ledger: LedgerDatabase;
  before(async () => {
    ledger = await createLedgerDatabase('vote-model', PARALLEL);
  });
  after(() => ledger.database.drop());

  it(`of ${USERS} users on 4 sites pays what the model says, to the cent`, async function () {
    this.timeout(180_000);
    const rewards = rewardSettingsOf(MODEL_ENVIRONMENT);
    const logger = pino({ level: 'silent' });
    const activities = createRewardActivities({ pool: ledger.worker, logger, rewards });
    const month = makeMonth(USERS, SEED);
    const accounts = await createAccounts(month);
    await storeEvents(month);

    const queue = [...month.entries()];
    await Promise.all(
      Array.from({ length: PARALLEL }, async () => {
        for (let next = queue.pop(); next !== undefined; next = queue.pop()) await live(next[1], accounts[next[0]]!);
      }),
    );

    const { rows } = await ledger.admin.query<{ id: string; balance: string }>(
      "select id, balance from account where kind = 'customer'",
    );
    const balances = new Map(rows.map(({ id, balance }) => [id, usd(balance) / 10_000_000_000n]));
    const wrong = month.flatMap((user, n) => {
      const paid = balances.get(accounts[n]!);
      const expected = BigInt(expectedCents(user));
      return paid === expected ? [] : [{ user: user.discordUserId, paid, expected }];
    });
    assert.deepEqual(wrong, []);
    const total = [...balances.values()].reduce((sum, cents) => sum + cents, 0n);
    assert.ok(total > 10_000n, `the month was not idle: ${total} cents`);
    await ledger.admin.query('update provider_event set handled_at = now() where handled_at is null');
    assert.deepEqual(await brokenRules(ledger.admin), []);

    /** Lets one user's month happen in the order of arrival. */
    async function live(user: ModelUser, accountId: AccountUuid): Promise<void> {
      for (const event of user.events) {
        const at = new Date(event.atMs);
        if (event.kind === 'link') {
          const { discordUserId } = user;
          const { rules } = rewards;
          await linkDiscord(ledger.worker, { discordUserId, accountId, username: 'u', refusal: null, rules, at });
          await releaseClaims(ledger.worker, { discordUserId, rules, limit: 1000, at });
        } else {
          await activities.rewardVotes({
            site: event.site,
            discordUserId: user.discordUserId,
            events: [{ provider: `votes/${event.site}`, eventId: event.eventId }],
            at: at.toISOString(),
          });
        }
      }
    }
  });

  async function createAccounts(month: readonly ModelUser[]): Promise<AccountUuid[]> {
    const { rows } = await ledger.admin.query<{ id: string }>(
      "insert into account (kind, name) select 'customer', 'Voter' from generate_series(1, $1) returning id",
      [month.length],
    );
    return rows.map(({ id }) => uuidOf('account', id));
  }

  async function storeEvents(month: readonly ModelUser[]): Promise<void> {
    const votes = month.flatMap((user) => user.events.filter((event) => event.kind === 'vote'));
    await ledger.admin.query(
      `insert into provider_event (provider, event_id, type, payload)
        select 'votes/' || site, event_id, 'vote', payload from unnest($1::text[], $2::text[], $3::jsonb[]) as t (site, event_id, payload)
        on conflict do nothing`,
      [
        votes.map(({ site }) => site),
        votes.map(({ eventId }) => eventId),
        votes.map(({ atMs, body }) => JSON.stringify({ arrived_at: new Date(atMs).toISOString(), body })),
      ],
    );
  }
});
