/**
 * Votes end to end: the directories' webhooks as they send them, api, worker, PostgreSQL and Temporal as they run.
 * Retries, lost answers, forged signatures, outages: each vote is paid once and each refused one is on record with its
 * reason.
 */
import assert from 'node:assert/strict';
import { usd } from '../../domain/money.ts';
import { voteStatusQuery, voteWorkflowId } from '../../contract/index.ts';
import { brokenRules } from '../support/ledger-database.ts';
import { startRewards, type Customer, type RewardsFixture } from './fixture.ts';
import { until } from '../support/until.ts';

const STACK_START_MS = 90_000;
const HOUR_MS = 3_600_000;
const SITES = ['topgg', 'topgg-v0', 'discordbotlist', 'discordplace', 'guildsme'] as const;

interface SentVote {
  readonly id: string;
  readonly delivery: { readonly id: string };
}

describe('votes by webhook', () => {
  let fixture: RewardsFixture;
  let customer: Customer;
  let user: string;

  before(async function () {
    this.timeout(STACK_START_MS);
    fixture = await startRewards('rewards-votes');
  });
  after(() => fixture.close());
  beforeEach(async () => {
    customer = await fixture.customer();
    user = await fixture.person();
    assert.equal((await fixture.link(customer, user)).status, 200);
  });
  afterEach('no rule is broken', async () => {
    fixture.twin.faults.clear();
    assert.deepEqual(await brokenRules(fixture.stack.admin), []);
  });

  const vote = (body: Record<string, unknown> & { site: string }): Promise<SentVote> =>
    fixture.control<SentVote>('votes', { discord_user_id: user, ...body });
  const hoursAgo = (hours: number, ms = 0): string => new Date(Date.now() - hours * HOUR_MS + ms).toISOString();
  const fault = (given: object, count: number | null = null): void =>
    void fixture.twin.faults.add({ on: 'delivery', fault: given, count });

  /** The recorded votes of the user, oldest first, once there are `count`. */
  async function onRecord(count: number): Promise<string[]> {
    return until(`${count} votes on record`, async () => {
      const { rows } = await fixture.stack.admin.query<{ said: string }>(
        `select site || ' ' || outcome || coalesce(' ' || reason, '') as said from vote where discord_user_id = $1 order by voted_at, id`,
        [user],
      );
      return rows.length >= count && rows.map(({ said }) => said);
    });
  }
  const nextVote = async (site: string): Promise<number | null> => {
    const { sites } = await fixture.rewards(customer);
    const at = sites.find((row) => row.site === site)!.next_vote_at;
    return at === null ? null : Date.parse(at);
  };

  for (const site of SITES) {
    it(`of ${site}: five copies at once pay once, and the next possible vote is shown`, async () => {
      fault({ duplicate: 5 });
      await vote({ site });
      await fixture.untilBalance(customer, '1.05');
      const shown = await nextVote(site === 'topgg-v0' ? 'topgg' : site);
      const hours = { topgg: 12, 'topgg-v0': 11, discordbotlist: 11, discordplace: 23, guildsme: 11 }[site];
      assert.ok(shown !== null && Math.abs(shown - Date.now() - hours * HOUR_MS) < 60_000, `in ${hours} h`);
    });

    it(`of ${site}: with a wrong secret it is refused and nothing is stored`, async () => {
      fault({ wrong_secret: true });
      const { delivery } = await vote({ site });
      await until('the answer', () =>
        fixture.twin.deliveries().find(({ id, state }) => id === delivery.id && state === 'given_up'),
      );
      const row = fixture.twin.deliveries().find(({ id }) => id === delivery.id)!;
      assert.ok(row.attempts.every(({ answers }) => answers.every((answer) => answer === 401)));
      assert.equal(await fixture.balance(customer), usd('1'));
    });
  }

  it('of top.gg: an altered byte, or a time too far in either direction, is refused', async () => {
    for (const given of [{ altered_byte: true }, { stale_seconds: 301 }, { future_seconds: 310 }]) {
      fault(given);
      const { delivery } = await vote({ site: 'topgg' });
      const row = await until('the answer', () =>
        fixture.twin.deliveries().find(({ id, state }) => id === delivery.id && state === 'given_up'),
      );
      assert.ok(
        row.attempts.every(({ answers }) => answers.every((answer) => answer === 401)),
        JSON.stringify(given),
      );
      fixture.twin.faults.clear();
    }
    assert.equal(await fixture.balance(customer), usd('1'));
  });

  it('of top.gg count by the site’s own times: 11:59:59 is refused with its reason, 12:00:00 is paid, late ones too', async () => {
    const first = hoursAgo(30);
    await vote({ site: 'topgg', at: first });
    await fixture.untilBalance(customer, '1.05');
    await vote({ site: 'topgg', at: new Date(Date.parse(first) + 12 * HOUR_MS - 1000).toISOString() });
    await onRecord(2);
    await vote({ site: 'topgg', at: new Date(Date.parse(first) + 12 * HOUR_MS).toISOString() });
    await fixture.untilBalance(customer, '1.10');
    await vote({ site: 'topgg', at: new Date(Date.parse(first) - 12 * HOUR_MS).toISOString() });
    await fixture.untilBalance(customer, '1.15');
    assert.deepEqual(await onRecord(4), [
      'topgg accepted',
      'topgg accepted',
      'topgg refused cooldown',
      'topgg accepted',
    ]);
    const { denials } = await fixture.rewards(customer);
    assert.match(denials[0]!.message, /cooldown/);
  });

  it('of one directory’s two interfaces are one vote', async () => {
    await vote({ site: 'topgg' });
    await fixture.untilBalance(customer, '1.05');
    await vote({ site: 'topgg-v0' });
    assert.deepEqual((await onRecord(2)).sort(), ['topgg accepted', 'topgg repeated']);
    assert.equal(await fixture.balance(customer), usd('1.05'));
  });

  it('S34: at the weekend weigh two and pay one, and the record says two', async () => {
    await vote({ site: 'topgg', weight: 2 });
    await vote({ site: 'guildsme', weight: 2 });
    await fixture.untilBalance(customer, '1.10');
    const { rows } = await fixture.stack.admin.query<{ weight: number }>(
      'select weight from vote where discord_user_id = $1',
      [user],
    );
    assert.deepEqual(
      rows.map(({ weight }) => weight),
      [2, 2],
    );
  });

  it('that are tests never pay, and votes for another listing are refused with the reason', async () => {
    await vote({ site: 'topgg', test: true });
    await vote({ site: 'topgg-v0', test: true });
    await vote({ site: 'discordplace', test: true });
    await vote({ site: 'topgg', project_id: '99' });
    await vote({ site: 'topgg-v0', project_id: '99' });
    await vote({ site: 'guildsme', project_id: '99' });
    assert.deepEqual((await onRecord(6)).sort(), [
      'discordplace test',
      'guildsme refused wrong_project',
      'topgg refused wrong_project',
      'topgg refused wrong_project',
      'topgg test',
      'topgg test',
    ]);
    assert.equal(await fixture.balance(customer), usd('1'));
    assert.equal(await nextVote('topgg'), null);
  });

  it('count whatever their voters call themselves, and a genuine body that is no vote is kept and closed', async () => {
    const send = (body: string) =>
      fetch(`${fixture.stack.baseUrl}/webhooks/votes/discordbotlist`, {
        method: 'POST',
        headers: { authorization: fixture.twin.voteSecrets.discordbotlist, 'content-type': 'application/json' },
        body,
      });
    const odd = await send(`{"id":"${user}","username":"a\\u0000b\\ud800","avatar":null,"admin":false}`);
    assert.equal(odd.status, 200);
    await fixture.untilBalance(customer, '1.05');
    for (const body of ['{"id":7}', '[]', 'no JSON', '']) assert.equal((await send(body)).status, 200, body);
    await until('the sweep', async () => {
      const { rows } = await fixture.stack.admin.query('select from provider_event where handled_at is null');
      return rows.length === 0;
    });
  });

  it('of somebody who has not linked yet wait, and are paid on linking', async () => {
    const stranger = await fixture.person();
    const owner = await fixture.customer();
    await vote({ site: 'topgg', discord_user_id: stranger });
    await vote({ site: 'discordplace', discord_user_id: stranger });
    await until('the claims', async () => {
      const { rows } = await fixture.stack.admin.query(
        "select from reward where discord_user_id = $1 and state = 'claimable'",
        [stranger],
      );
      return rows.length === 2;
    });
    await fixture.link(owner, stranger);
    await fixture.untilBalance(owner, '1.10');
  });

  it('S33, S34: whose answer the site never saw are sent again and paid once', async () => {
    fault({ lose_answer: true }, 2);
    const sent = await vote({ site: 'topgg' });
    await until('the last attempt', () =>
      fixture.twin.deliveries().find(({ id, attempts }) => id === sent.delivery.id && attempts.length === 3),
    );
    await fixture.untilBalance(customer, '1.05');
    assert.deepEqual(await onRecord(1), ['topgg accepted']);
  });

  it('whose booking’s answer is lost are booked once', async () => {
    const lost = fixture.databaseProxy.loseAnswerTo('record_vote');
    await vote({ site: 'topgg' });
    await lost;
    await fixture.untilBalance(customer, '1.05');
    assert.deepEqual(await onRecord(1), ['topgg accepted']);
  });

  it('that come while the database is away get a 503 and are paid when the site sends them again', async function () {
    this.timeout(120_000);
    fixture.databaseProxy.refuse();
    let sent: SentVote;
    try {
      sent = await vote({ site: 'topgg' });
      await until('a refused attempt', () =>
        fixture.twin.deliveries().find(({ id, attempts }) => id === sent.delivery.id && attempts.length > 0),
      );
    } finally {
      fixture.databaseProxy.accept();
    }
    await fixture.twin.control('POST', `deliveries/${sent.delivery.id}/redeliver`);
    await fixture.untilBalance(customer, '1.05');
  });

  it('that come while Temporal is away are stored, and paid by the sweep', async function () {
    this.timeout(120_000);
    fixture.temporalProxy.refuse();
    try {
      await vote({ site: 'discordbotlist' });
      await until('the event', async () => {
        const { rows } = await fixture.stack.admin.query(
          "select from provider_event where provider = 'votes/discordbotlist' and payload -> 'body' ->> 'id' = $1",
          [user],
        );
        return rows.length === 1;
      });
      assert.equal(await fixture.balance(customer), usd('1'));
    } finally {
      fixture.temporalProxy.accept();
    }
    await fixture.untilBalance(customer, '1.05');
  });

  it('while the worker is killed in between are paid once', async function () {
    this.timeout(120_000);
    fixture.stack.worker.signal('SIGKILL');
    await fixture.stack.worker.exited;
    fault({ duplicate: 3 });
    await vote({ site: 'topgg' });
    await fixture.stack.startWorker();
    await fixture.untilBalance(customer, '1.05');
    assert.deepEqual(await onRecord(1), ['topgg accepted']);
  });

  it('a run tells when the next vote counts, and every posting explains itself', async () => {
    const sent = await vote({ site: 'topgg' });
    await fixture.untilBalance(customer, '1.05');
    const handle = fixture.temporal.workflow.getHandle(voteWorkflowId('topgg', user));
    const status = await until('the status', async () => {
      const now = await handle.query(voteStatusQuery);
      return now.nextVoteAt !== null && now;
    });
    assert.ok(Math.abs(Date.parse(status.nextVoteAt!) - Date.now() - 12 * HOUR_MS) < 60_000);
    assert.deepEqual(
      status.steps.map(({ what }) => what),
      ['accepted'],
    );
    const auditor = await fixture.staff('operator', 'ops');
    const history = await fixture.call<{ data: { posting_id: string; kind: string }[] }>(
      'GET',
      '/api/rewards/history',
      customer.token,
    );
    const paid = history.body.data.find(({ kind }) => kind === 'vote')!;
    const posting = await fixture.call<{ kind: string; memo: Record<string, unknown> }>(
      'GET',
      `/admin/postings/${paid.posting_id}`,
      auditor,
    );
    assert.equal(posting.body.kind, 'reward_vote');
    const { memo } = posting.body;
    const { rule_version: version } = await fixture.rewards(customer);
    assert.deepEqual(
      [memo['source_event'], memo['rule_version'], memo['amount_usd'], memo['site']],
      [`topgg/${sent.id}`, version, '0.050000000000', 'topgg'],
    );
  });
});

describe('votes on a short cooldown', () => {
  let fixture: RewardsFixture;
  before(async function () {
    this.timeout(STACK_START_MS);
    fixture = await startRewards('rewards-cooldown', { VOTE_COOLDOWN_SECONDS: '3', VOTE_TOLERANCE_SECONDS: '0.5' });
  });
  after(() => fixture.close());

  it('are paid again when the run of the last one has ended, and that is when the cooldown is over', async () => {
    const customer = await fixture.customer();
    const user = await fixture.person();
    await fixture.link(customer, user);
    const vote = () => fixture.control('votes', { site: 'discordbotlist', discord_user_id: user });
    await vote();
    await fixture.untilBalance(customer, '1.05');
    const handle = fixture.temporal.workflow.getHandle(voteWorkflowId('discordbotlist', user));
    await handle.result();
    await vote();
    await fixture.untilBalance(customer, '1.10');
    assert.deepEqual(await brokenRules(fixture.stack.admin), []);
  });
});
