/**
 * Cooldowns over real durations: twelve hours, and a month of votes of 20 users on 4 sites through the workflows, on a
 * server that skips what nobody has to wait for, against the same model as the month through SQL. Needs a JVM.
 */
import assert from 'node:assert/strict';
import { Client } from '@temporalio/client';
import { NativeConnection, Worker } from '@temporalio/worker';
import { pino } from 'pino';
import { createDiscordActivities } from '../../activities/rewards/discord.ts';
import { createRewardActivities } from '../../activities/rewards/rewards.ts';
import { linkDiscord } from '../../db/rewards/discord.ts';
import { storeEvent } from '../../db/payments/provider-events.ts';
import { uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { rewardEventSignal, rewardStart, type RewardRoute } from '../../contract/index.ts';
import { brokenRules, createLedgerDatabase, type LedgerDatabase } from '../support/ledger-database.ts';
import { rewardSettingsOf } from '../support/reward-settings.ts';
import { startTimeSkippingServer, type TimeSkippingServer } from '../support/time-skipping.ts';
import { productBundle, quietTemporalRuntime } from '../support/workflow-environment.ts';
import { expectedCents, makeMonth, MODEL_ENVIRONMENT } from './vote-model.ts';
import { until } from '../support/until.ts';

const USERS = 20;
const SEED = 12;
const HOUR_MS = 3_600_000;
/**
 * How long an event is under way. The server cannot cope with a signal in the very second in which a timer of the same
 * run is due; what decides is the time in the event.
 */
const DELIVERY_MS = 10_000;
const TASK_QUEUE = 'time-skipping';

describe('votes over real durations', () => {
  let server: TimeSkippingServer;
  let ledger: LedgerDatabase;
  let client: Client;
  let native: NativeConnection;
  let worker: Worker;
  let running: Promise<void>;
  const rewards = rewardSettingsOf(MODEL_ENVIRONMENT);

  before(async function () {
    this.timeout(300_000);
    const started = await startTimeSkippingServer();
    if ('missing' in started) {
      console.log(`    skipped: ${started.missing}, which the time-skipping server needs`);
      this.skip();
    }
    server = started;
    quietTemporalRuntime();
    ledger = await createLedgerDatabase('time-skipping');
    client = new Client({ connection: server.connection, namespace: 'default' });
    native = await NativeConnection.connect({ address: server.address });
    const resources = { pool: ledger.worker, logger: pino({ level: 'silent' }), rewards };
    worker = await Worker.create({
      connection: native,
      namespace: 'default',
      taskQueue: TASK_QUEUE,
      workflowBundle: await productBundle(),
      activities: { ...createRewardActivities(resources), ...createDiscordActivities(resources) },
    });
    running = worker.run();
  });
  after(async () => {
    if (server === undefined) return;
    worker.shutdown();
    await running;
    await native.close();
    await server.close();
    await ledger.database.drop();
  });

  /** Stores an event and hands it to its process, as a webhook does; returns once it is handled. */
  async function tell(site: string, discordUserId: string, eventId: string, payload: unknown): Promise<void> {
    const provider = `votes/${site}`;
    await storeEvent(ledger.management, { provider, eventId, type: 'vote', payload });
    const event = { provider, eventId };
    const route: RewardRoute = { process: 'vote', site, discordUserId, event };
    const { workflowType, start } = rewardStart(route, TASK_QUEUE);
    await client.workflow.signalWithStart(workflowType, {
      ...start,
      ...{ signal: rewardEventSignal, signalArgs: [event] },
    });
    await until('the vote to be handled', async () => {
      const { rows } = await ledger.admin.query(
        'select from provider_event where provider = $1 and event_id = $2 and handled_at is not null',
        [provider, eventId],
      );
      return rows.length === 1;
    });
  }

  async function createAccount(): Promise<AccountUuid> {
    const { rows } = await ledger.admin.query<{ id: string }>(
      "insert into account (kind, name) values ('customer', 'Voter') returning id",
    );
    return uuidOf('account', rows[0]!.id);
  }

  it('a run lasts for the twelve hours of its vote, and ends with them', async function () {
    this.timeout(60_000);
    const discordUserId = '710000000000000001';
    const start = await server.now();
    const vote = (atMs: number, id: string) => ({
      arrived_at: new Date(atMs).toISOString(),
      body: {
        type: 'vote.create',
        data: {
          ...{ id, weight: 1, created_at: new Date(atMs).toISOString() },
          project: { id: 'p1' },
          user: { platform_id: discordUserId },
        },
      },
    });
    const handle = client.workflow.getHandle(`vote/topgg/${discordUserId}`);
    const isRunning = async (): Promise<boolean> => (await handle.describe()).status.name === 'RUNNING';
    await tell('topgg', discordUserId, 'first', vote(start, 'first'));
    await server.skipTo(start + 12 * HOUR_MS - 60_000);
    assert.equal(await isRunning(), true);
    await tell('topgg', discordUserId, 'early', vote(start + 12 * HOUR_MS - 1000, 'early'));
    await server.skipTo(start + 12 * HOUR_MS + 1000);
    await until('the end of the run', async () => !(await isRunning()));
    await tell('topgg', discordUserId, 'second', vote(start + 12 * HOUR_MS, 'second'));
    const { rows } = await ledger.admin.query<{ outcome: string }>('select outcome from vote order by voted_at');
    assert.deepEqual(
      rows.map(({ outcome }) => outcome),
      ['accepted', 'refused', 'accepted'],
    );
  });

  it(`a month of ${USERS} users on 4 sites pays what the model says, to the cent`, async function () {
    this.timeout(300_000);
    const startMs = await server.now();
    const month = makeMonth(USERS, SEED, 8, startMs);
    const accounts = await Promise.all(month.map(createAccount));
    const events = month
      .flatMap((user, n) => user.events.map((event) => ({ event, user, accountId: accounts[n]! })))
      .toSorted((a, b) => a.event.atMs - b.event.atMs);
    for (const { event, user, accountId } of events) {
      await server.skipTo(event.atMs + DELIVERY_MS);
      const { discordUserId } = user;
      if (event.kind === 'vote') {
        const payload = { arrived_at: new Date(event.atMs).toISOString(), body: event.body };
        await tell(event.site, discordUserId, event.eventId, payload);
        continue;
      }
      const at = new Date(event.atMs);
      await linkDiscord(ledger.worker, {
        ...{ discordUserId, accountId, username: 'u', refusal: null, rules: rewards.rules, at },
      });
      const { workflowType, start } = rewardStart({ process: 'link', discordUserId }, TASK_QUEUE);
      await client.workflow.execute(workflowType, start);
    }
    const { rows } = await ledger.admin.query<{ id: string; balance: string }>('select id, balance from account');
    const balances = new Map(rows.map(({ id, balance }) => [id, usd(balance) / 10_000_000_000n]));
    const paid = accounts.map((id) => balances.get(id));
    assert.deepEqual(
      paid,
      month.map((user) => BigInt(expectedCents(user))),
    );
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });
});
