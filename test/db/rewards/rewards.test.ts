/** Rewards in SQL: a reward is paid once, for any source, number and order of events; caps wait, links last. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { bountyById, createBounty, takeBountyStep, type Bounty } from '../../../db/rewards/bounties.ts';
import { ledgerRefusal } from '../../../db/shared/client.ts';
import {
  beginDiscordLink,
  findDiscordLink,
  linkDiscord,
  noteDeauthorized,
  noteMember,
  takeGatewayLease,
  unlinkDiscord,
  useDiscordState,
} from '../../../db/rewards/discord.ts';
import {
  decideReward,
  expireClaims,
  findWaitingClaims,
  listDenials,
  listRewards,
  recordBoosts,
  recordPremium,
  releaseClaims,
  type Reward,
} from '../../../db/rewards/rewards.ts';
import { nextVotes, recordVote, voteSpans } from '../../../db/rewards/votes.ts';
import { uuidOf, type AccountUuid } from '../../../domain/ids.ts';
import { usd, type PicoUsd } from '../../../domain/money.ts';
import type { BountyStep } from '../../../domain/rewards/bounty.ts';
import type { RewardRules } from '../../../domain/rewards/reward.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import { until } from '../../support/until.ts';
import { ANN, BOB, upTo } from '../../support/staff.ts';

const CALLERS = 16;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const RULES = rewardSettingsOf().rules;

describe('rewards in SQL', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let discordUserId: string;
  let users = 0;
  /** Days of its own for each test, because caps count by day. */
  let at: Date;

  before(async () => {
    ledger = await createLedgerDatabase('rewards', 8);
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    accountId = await createCustomer(ledger, '0');
    users++;
    discordUserId = newUser();
    at = new Date(Date.UTC(2026, 2, 1, 9) + users * 10 * DAY_MS);
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  let made = 0;
  const newUser = (): string => String(100_000_000_000_000_000n + BigInt(++made));
  const newMessage = (): string => String(900_000_000_000_000_000n + BigInt(++made));
  const later = (ms: number): Date => new Date(at.getTime() + ms);

  const link = (given: Partial<Parameters<typeof linkDiscord>[1]> = {}) =>
    linkDiscord(ledger.worker, {
      discordUserId,
      accountId,
      username: 'ada',
      refusal: null,
      rules: RULES,
      at,
      ...given,
    });

  async function balance(of = accountId): Promise<PicoUsd> {
    const { rows } = await ledger.admin.query<{ balance: string }>('select balance from account where id = $1', [of]);
    return usd(rows[0]!.balance);
  }

  const all = async (state: Reward['state'] | null = null): Promise<Reward[]> => [
    ...(await listRewards(ledger.management, { accountId: null, discordUserId, state }, { after: null, limit: 200 }))
      .rows,
  ];

  function vote(
    given: {
      voteId?: string | null;
      votedAt?: Date;
      until?: Date;
      rules?: RewardRules;
      eventId?: string;
      user?: string;
    } = {},
  ) {
    const votedAt = given.votedAt ?? at;
    const until = given.until ?? new Date(votedAt.getTime() + 12 * HOUR_MS);
    const voteId = given.voteId === undefined ? `v${++made}` : given.voteId;
    return recordVote(ledger.worker, {
      eventId: given.eventId ?? voteId ?? `e${++made}`,
      facts: {
        site: 'topgg',
        voteId,
        discordUserId: given.user ?? discordUserId,
        votedAt,
        nextVoteAt: null,
        weight: 2,
        isTest: false,
        isOurs: true,
      },
      arrivedAt: votedAt,
      decision: { outcome: 'accepted', span: { from: votedAt, until } },
      rules: given.rules ?? RULES,
      at: votedAt,
    });
  }

  describe('linking', () => {
    it('linking pays once by many at once, and a repeat does nothing', async () => {
      const outcomes = await Promise.all(Array.from({ length: CALLERS }, () => link()));
      assert.deepEqual(new Set(outcomes), new Set(['linked']));
      assert.equal(await balance(), usd('1'));
      assert.equal((await findDiscordLink(ledger.management, accountId))?.discordUserId, discordUserId);
    });

    it('the link reward is paid once per Discord user and account, even after an unlink', async () => {
      await link();
      assert.equal(await unlinkDiscord(ledger.management, accountId, later(1)), true);
      assert.equal(await unlinkDiscord(ledger.management, accountId, later(1)), false);
      const other = await createCustomer(ledger, '0');
      assert.equal(await link({ accountId: other, at: later(2) }), 'linked');
      assert.equal(await balance(other), 0n);
      const second = newUser();
      assert.equal(await link({ discordUserId: second, at: later(3) }), 'linked');
      assert.equal(await balance(), usd('1'));
      const denials = await listDenials(ledger.management, { accountId, discordUserId: second, limit: 10 });
      assert.deepEqual(
        denials.map(({ reason }) => reason),
        ['account_rewarded'],
      );
    });

    it('linking is refused while the user or the account has another link, by many at once too', async () => {
      await link();
      const other = await createCustomer(ledger, '0');
      assert.equal(await link({ accountId: other }), 'linked_elsewhere');
      assert.equal(await link({ discordUserId: newUser() }), 'account_has_link');
      const user = newUser();
      const accounts = await Promise.all(Array.from({ length: 6 }, () => createCustomer(ledger, '0')));
      const raced = await Promise.all(accounts.map((id) => link({ accountId: id, discordUserId: user })));
      assert.equal(raced.filter((outcome) => outcome === 'linked').length, 1);
      const target = await createCustomer(ledger, '0');
      const many = await Promise.all(
        Array.from({ length: 6 }, () => link({ accountId: target, discordUserId: newUser() })),
      );
      assert.equal(many.filter((outcome) => outcome === 'linked').length, 1);
      assert.equal(await balance(target), usd('1'));
    });

    it('a link that the rules refuse is on record with its reason, and possible later', async () => {
      assert.equal(await link({ refusal: 'account_too_young' }), 'account_too_young');
      assert.equal(await link({ refusal: 'account_too_young', at: later(5) }), 'account_too_young');
      assert.equal(await findDiscordLink(ledger.management, accountId), null);
      const [denial, ...others] = await listDenials(ledger.management, { accountId, discordUserId: null, limit: 10 });
      assert.deepEqual(
        [denial?.reason, denial?.at.getTime(), others.length],
        ['account_too_young', later(5).getTime(), 0],
      );
      assert.equal(await link({ at: later(DAY_MS) }), 'linked');
      assert.equal(await balance(), usd('1'));
    });

    it('an attempt is used once, in time, and only by the browser or token that began it', async () => {
      const hash = (n: number): Buffer => Buffer.alloc(32, n);
      const tokenId = uuidOf('token', uuidAt(Date.now()));
      const begin = (n: number) =>
        beginDiscordLink(ledger.management, {
          stateHash: hash(n),
          browserHash: hash(n + 100),
          accountId,
          tokenId,
          ttlSeconds: 600,
          at,
        });
      const use = (n: number, given: Partial<Parameters<typeof useDiscordState>[1]>) =>
        useDiscordState(ledger.management, { stateHash: hash(n), browserHash: null, tokenId: null, at, ...given });
      await Promise.all([begin(1), begin(2), begin(3)]);
      assert.equal(await use(1, {}), null);
      assert.equal(await use(1, { browserHash: hash(102) }), null);
      const raced = await Promise.all(Array.from({ length: 8 }, () => use(1, { browserHash: hash(101) })));
      assert.deepEqual(
        raced.filter((id) => id !== null),
        [accountId],
      );
      assert.equal(await use(2, { tokenId, at: later(600_000) }), null);
      assert.equal(await use(3, { tokenId, at: later(599_999) }), accountId);
    });

    it('attempts of an account are kept ten at most, and cost other accounts none of theirs', async () => {
      const begin = (n: number, whose: AccountUuid) =>
        beginDiscordLink(ledger.management, {
          stateHash: randomBytes(32),
          browserHash: Buffer.alloc(32, n),
          accountId: whose,
          tokenId: uuidOf('token', uuidAt(Date.now())),
          ttlSeconds: 600,
          at: later(n),
        });
      const other = await createCustomer(ledger, '0');
      await begin(0, other);
      for (let n = 0; n < 25; n++) await begin(n, accountId);
      const kept = async (whose: AccountUuid): Promise<number> =>
        (await ledger.admin.query('select from discord_state where account_id = $1', [whose])).rowCount!;
      assert.deepEqual([await kept(accountId), await kept(other)], [10, 1]);
    });

    it('a user who revokes the authorization keeps everything; the link is stale until it is made again', async () => {
      await link();
      assert.equal(await noteDeauthorized(ledger.worker, discordUserId, later(1)), true);
      assert.notEqual((await findDiscordLink(ledger.management, accountId))?.staleAt, null);
      assert.equal(await balance(), usd('1'));
      await link({ at: later(2) });
      assert.equal((await findDiscordLink(ledger.management, accountId))?.staleAt, null);
    });
  });

  describe('before linking', () => {
    it('a reward earned before linking waits, and is paid once when many links release it at once', async () => {
      await vote();
      await recordBoosts(ledger.worker, {
        discordUserId,
        messageId: newMessage(),
        count: 2,
        boostedAt: at,
        rules: RULES,
        at,
      });
      assert.deepEqual((await all('claimable')).map(({ kind }) => kind).sort(), ['boost', 'boost', 'vote']);
      await link();
      assert.ok((await findWaitingClaims(ledger.worker, 1000)).includes(discordUserId));
      const release = () => releaseClaims(ledger.worker, { discordUserId, rules: RULES, limit: 2, at: later(1) });
      const released = await Promise.all(Array.from({ length: 8 }, release));
      assert.equal(
        released.reduce((sum, n) => sum + n, 0),
        3,
      );
      assert.equal(await balance(), usd('3.05'));
      assert.ok(!(await findWaitingClaims(ledger.worker, 1000)).includes(discordUserId));
    });

    it('an unclaimed reward lapses, also at the last moment', async () => {
      await vote();
      const lapse = later(RULES.claimDays * DAY_MS);
      assert.equal(await expireClaims(ledger.worker, 1000, new Date(lapse.getTime() - 1)), 0);
      const stranger = newUser();
      await vote({ user: stranger, votedAt: later(-DAY_MS) });
      const early = new Date(lapse.getTime() - 1);
      const expired = await Promise.all(Array.from({ length: 4 }, () => expireClaims(ledger.worker, 1000, early)));
      assert.equal(
        expired.reduce((sum, n) => sum + n, 0),
        1,
      );
      await link({ at: lapse });
      await releaseClaims(ledger.worker, { discordUserId, rules: RULES, limit: 10, at: lapse });
      assert.equal(await balance(), usd('1'));
      const [denial] = await listDenials(ledger.management, { accountId, discordUserId, limit: 10 });
      assert.equal(denial?.reason, 'claim_expired');
    });
  });

  describe('votes', () => {
    it('a vote is paid once by many at once, whatever its weight', async () => {
      await link();
      const outcomes = await Promise.all(
        Array.from({ length: CALLERS }, () => vote({ voteId: `same${discordUserId}` })),
      );
      assert.deepEqual(new Set(outcomes.map(({ outcome }) => outcome)), new Set(['accepted']));
      assert.equal(await balance(), usd('1.05'));
    });

    it('one of many different votes at once in one cooldown is paid, the others are refused with the reason', async () => {
      await link();
      const outcomes = await Promise.all(Array.from({ length: CALLERS }, (_, n) => vote({ votedAt: later(n * 1000) })));
      assert.equal(outcomes.filter(({ outcome }) => outcome === 'accepted').length, 1);
      assert.ok(outcomes.every(({ outcome, reason }) => outcome === 'accepted' || reason === 'cooldown'));
      assert.equal(await balance(), usd('1.05'));
      const denials = await listDenials(ledger.management, { accountId, discordUserId, limit: 50 });
      assert.equal(denials.length, CALLERS - 1);
    });

    it('the constraint itself keeps 11:59:59 apart and lets 12:00:00 through, past every decision', async () => {
      await vote();
      assert.equal((await vote({ votedAt: later(12 * HOUR_MS - 1000) })).outcome, 'refused');
      assert.equal((await vote({ votedAt: later(12 * HOUR_MS) })).outcome, 'accepted');
      assert.equal((await vote({ votedAt: later(-12 * HOUR_MS) })).outcome, 'accepted');
      const spans = await voteSpans(ledger.worker, { site: 'topgg', discordUserId, from: at });
      assert.equal(spans.length, 2);
      const next = await nextVotes(ledger.management, discordUserId);
      assert.equal(next.get('topgg')?.getTime(), later(24 * HOUR_MS).getTime());
    });

    it('one vote id is never paid twice, not even for another user', async () => {
      await vote({ voteId: `id${discordUserId}` });
      const user = newUser();
      await vote({ voteId: `id${discordUserId}`, eventId: 'again', user });
      const page = await listRewards(
        ledger.management,
        { accountId: null, discordUserId: user, state: null },
        { after: null, limit: 10 },
      );
      assert.equal(page.rows.length, 0);
    });
  });

  describe('boosts', () => {
    const boosts = (messageId: string, count: number, boostedAt = at) =>
      recordBoosts(ledger.worker, { discordUserId, messageId, count, boostedAt, rules: RULES, at });
    const premium = (since = at) => recordPremium(ledger.worker, { discordUserId, since, rules: RULES, at });

    it('several at once are that many, each once, by many at once', async () => {
      await link();
      const messageId = newMessage();
      const news = await Promise.all(Array.from({ length: CALLERS }, () => boosts(messageId, 3)));
      assert.equal(
        news.reduce((sum, n) => sum + n, 0),
        3,
      );
      assert.equal(await balance(), usd('4'));
    });

    for (const order of ['the message first', 'the member first', 'both at once'] as const) {
      it(`a boost that message and member both report is one boost: ${order}`, async () => {
        await link();
        const messageId = newMessage();
        const tell = { message: () => boosts(messageId, 2), member: () => premium(later(1500)) };
        if (order === 'the message first') {
          await tell.message();
          await tell.member();
        } else if (order === 'the member first') {
          await tell.member();
          await tell.message();
        } else await Promise.all([tell.message(), tell.member(), tell.message(), tell.member()]);
        assert.equal(await balance(), usd('3'));
      });
    }

    it('a later boost of a booster, and a booster who came back, are boosts of their own', async () => {
      await link();
      await boosts(newMessage(), 1);
      await premium();
      await boosts(newMessage(), 1, later(HOUR_MS));
      await premium(later(5 * HOUR_MS));
      assert.equal(await balance(), usd('4'));
    });

    it('a role that is still held is no new vote, however often the member is seen; a role that came back is', async () => {
      const note = (roles: string[], when: Date) =>
        noteMember(ledger.worker, {
          discordUserId,
          roles,
          premiumSince: null,
          voteRoles: { discords: '77' },
          at: when,
        });
      assert.equal((await note(['77'], at)).length, 1);
      const again = await Promise.all(Array.from({ length: 8 }, () => note(['5', '77'], later(1000))));
      assert.equal(again.flat().length, 0);
      assert.equal((await note([], later(2000))).length, 0);
      assert.equal((await note(['77'], later(13 * HOUR_MS))).length, 1);
      await ledger.admin.query("update provider_event set handled_at = now() where provider = 'votes/discords'");
    });

    it('one process at a time may listen to the gateway, and the next one takes over', async () => {
      const first = await takeGatewayLease(ledger.worker);
      assert.notEqual(first, null);
      assert.equal(await takeGatewayLease(ledger.worker), null);
      assert.equal(await first!.isHeld(), true);
      await first!.release();
      const second = await until('the lease', () => takeGatewayLease(ledger.worker));
      await second.release();
    });
  });

  describe('caps', () => {
    const capped = (perDay: string, perAccount: string): RewardRules => ({
      ...RULES,
      kinds: { ...RULES.kinds, boost: { amount: usd('1'), capPerDay: usd(perDay), capPerAccountDay: usd(perAccount) } },
    });
    const boost = (rules: RewardRules, count: number, boostedAt = at) =>
      recordBoosts(ledger.worker, { discordUserId, messageId: newMessage(), count, boostedAt, rules, at });

    it('a reward above the cap of an account waits, a person pays or refuses it, and the next day is free', async () => {
      await link();
      await boost(capped('100', '2'), 4);
      assert.equal(await balance(), usd('3'));
      const [first, second] = await all('waiting');
      assert.deepEqual([first!.reason, second!.reason], ['account_cap', 'account_cap']);
      const decide = (id: Reward['id'], approve: boolean) =>
        decideReward(ledger.management, {
          ...{ id, approve, by: ANN, reason: approve ? null : 'too many', at },
          limits: upTo('1'),
        });
      const paid = await Promise.all(Array.from({ length: 6 }, () => decide(first!.id, true)));
      assert.ok(paid.every(({ state }) => state === 'posted'));
      assert.equal((await decide(second!.id, false)).state, 'rejected');
      assert.equal((await decide(second!.id, true)).state, 'rejected');
      assert.equal(await balance(), usd('4'));
      await boost(capped('100', '2'), 1, later(DAY_MS));
      assert.equal(await balance(), usd('5'));
    });

    it('many rewards of one source at once never exceed the cap of its day', async () => {
      const accounts = await Promise.all(Array.from({ length: 8 }, () => createCustomer(ledger, '0')));
      const linked = await Promise.all(
        accounts.map(async (id) => {
          const user = newUser();
          await link({ accountId: id, discordUserId: user });
          return user;
        }),
      );
      const rules = capped('5', '100');
      await Promise.all(
        linked.map((user) =>
          recordBoosts(ledger.worker, {
            discordUserId: user,
            messageId: newMessage(),
            count: 2,
            boostedAt: at,
            rules,
            at,
          }),
        ),
      );
      const balances = await Promise.all(accounts.map(balance));
      const paid = balances.reduce<bigint>((sum, amount) => sum + amount, 0n) - BigInt(accounts.length) * usd('1');
      assert.equal(paid, usd('5'));
      const { rows } = await ledger.admin.query<{ reason: string }>(
        "select reason from reward where state = 'waiting' and reason = 'source_cap'",
      );
      assert.equal(rows.length, 11);
    });

    it('a frozen account is paid by a person only', async () => {
      await link();
      await ledger.admin.query("update account set frozen_at = now(), frozen_reason = 'test' where id = $1", [
        accountId,
      ]);
      await vote();
      assert.deepEqual(
        (await all('waiting')).map(({ reason }) => reason),
        ['account_frozen'],
      );
    });
  });

  describe('bug reports', () => {
    async function triaged(): Promise<Bounty['id']> {
      const id = uuidOf('bounty', uuidAt(Date.now()));
      const report = { id, accountId, title: 'A bug', description: 'It breaks.', reportedBy: 'ann', reportedAt: at };
      await createBounty(ledger.management, report);
      await step(id, { kind: 'triage', by: ANN });
      return id;
    }
    const step = (id: Bounty['id'], taken: BountyStep, rules = RULES) =>
      takeBountyStep(ledger.management, { id, step: taken, duplicateOf: null, rules, sums: upTo('0'), at });

    for (const { severity, amount } of [
      { severity: 'high', amount: '25' },
      { severity: 'medium', amount: '10' },
      { severity: 'low', amount: '3' },
    ] as const) {
      it(`bug reports of severity ${severity} pay ${amount} at once, and once`, async () => {
        const id = await triaged();
        const taken = await Promise.all(
          Array.from({ length: 8 }, () => step(id, { kind: 'accept', by: ANN, severity })),
        );
        assert.ok(taken.every(({ state }) => state === 'rewarded'));
        assert.equal(await balance(), usd(amount));
      });
    }

    it('a critical bug report waits for a second person, who pays it once', async () => {
      const id = await triaged();
      assert.equal((await step(id, { kind: 'accept', by: ANN, severity: 'critical' })).state, 'accepted');
      assert.equal(await balance(), 0n);
      await assert.rejects(
        step(id, { kind: 'approve', by: ANN }),
        (error) => ledgerRefusal(error)?.code === 'second_person_needed',
      );
      await Promise.all(Array.from({ length: 8 }, () => step(id, { kind: 'approve', by: BOB })));
      assert.equal(await balance(), usd('50'));
      assert.equal((await bountyById(ledger.management, id))?.decidedBy, BOB);
    });

    it('a bug report beyond the month’s budget waits for a second person, and may be refused with a reason', async () => {
      at = new Date(Date.UTC(2027, 5, 1));
      const rules = { ...RULES, bountyMonthlyBudget: usd('12') };
      const first = await triaged();
      assert.equal((await step(first, { kind: 'accept', by: ANN, severity: 'medium' }, rules)).state, 'rewarded');
      at = new Date(Date.UTC(2027, 5, 30, 23, 59, 59));
      const second = await triaged();
      assert.equal((await step(second, { kind: 'accept', by: ANN, severity: 'low' }, rules)).state, 'accepted');
      assert.equal((await step(second, { kind: 'reject', by: BOB, reason: 'no budget left' })).state, 'rejected');
      at = new Date(Date.UTC(2027, 6, 1));
      const third = await triaged();
      assert.equal((await step(third, { kind: 'accept', by: ANN, severity: 'low' }, rules)).state, 'rewarded');
      assert.equal(await balance(), usd('13'));
      const denials = await listDenials(ledger.management, { accountId, discordUserId: null, limit: 10 });
      assert.deepEqual(
        denials.map(({ reason }) => reason),
        ['no budget left'],
      );
    });

    it('a bug report never earns more than 50, for any settings', async () => {
      const id = await triaged();
      const rules = { ...RULES, bountyAmounts: { ...RULES.bountyAmounts, critical: usd('50.01') } };
      await assert.rejects(step(id, { kind: 'accept', by: ANN, severity: 'critical' }, rules), /bounty_at_most_50/);
    });
  });

  it('every posting explains itself: event, rules, amount', async () => {
    await link();
    await vote({ voteId: `explained${discordUserId}` });
    const { rows } = await ledger.admin.query<{ memo: Record<string, unknown> }>(
      "select memo from posting where kind = 'reward_vote' and credit = $1",
      [accountId],
    );
    const memo = rows[0]!.memo;
    assert.equal(memo['source_event'], `topgg/explained${discordUserId}`);
    assert.equal(memo['rule_version'], RULES.version);
    assert.equal(memo['amount_usd'], '0.050000000000');
    assert.equal(memo['weight'], 2);
  });
});
