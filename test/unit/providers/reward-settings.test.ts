/** The configuration of rewards: what stops a process, and what each directory's webhook must be to count. */
import assert from 'node:assert/strict';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { isSignedByDiscord } from '../../../providers/discord/settings.ts';
import { ConfigError } from '../../../runtime/environment.ts';
import { subjectOfRewardEvent } from '../../../providers/reward-events.ts';
import { usd } from '../../../domain/money.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';

const GUILD = '1216402938470400002';
const USER = '700000000000000001';
const SECRETS = {
  DISCORD_GUILD_ID: GUILD,
  VOTE_TOPGG_SECRET: 'whs_a-secret',
  VOTE_TOPGG_PROJECT_ID: 'p1',
  VOTE_TOPGG_V0_SECRET: 'another-secret',
  VOTE_DISCORDPLACE_SECRET: 'a-third-secret',
  VOTE_GUILDSME_SECRET: 'a-fourth-secret',
  VOTE_DISCORDBOTLIST_SECRET: 'a-fifth-secret',
};
const NOW = new Date('2026-03-01T00:00:00Z');

describe('reward settings', () => {
  it('reward settings without any variable have the public amounts, for sources that are off', () => {
    const { rules, discord, votes } = rewardSettingsOf();
    assert.deepEqual(
      [
        rules.kinds.discord_link.amount,
        rules.kinds.boost.amount,
        rules.kinds.vote.amount,
        rules.bountyAmounts.critical,
      ],
      [usd('1'), usd('1'), usd('0.05'), usd('50')],
    );
    assert.deepEqual([discord.oauth, discord.bot, discord.publicKey, votes.sites], [null, null, null, []]);
  });

  it('the version of reward settings changes with every number, and with nothing else', () => {
    const { version } = rewardSettingsOf().rules;
    assert.equal(rewardSettingsOf(SECRETS).rules.version, version);
    for (const name of [
      'REWARD_VOTE_USD',
      'REWARD_BOOST_DAILY_USD',
      'REWARD_BOUNTY_LOW_USD',
      'BOUNTY_MONTHLY_BUDGET_USD',
    ]) {
      assert.notEqual(rewardSettingsOf({ [name]: '2' }).rules.version, version, name);
    }
  });

  for (const { env, fault } of [
    { env: { DISCORD_CLIENT_ID: '1' }, fault: 'DISCORD_CLIENT_SECRET' },
    { env: { DISCORD_BOT_TOKEN: 'x' }, fault: 'DISCORD_GUILD_ID' },
    { env: { DISCORD_GUILD_ID: 'here' }, fault: 'DISCORD_GUILD_ID' },
    { env: { DISCORD_PUBLIC_KEY: 'abc' }, fault: 'DISCORD_PUBLIC_KEY' },
    { env: { DISCORD_REQUIRE_MEMBERSHIP: 'true' }, fault: 'DISCORD_REQUIRE_MEMBERSHIP' },
    { env: { VOTE_ROLES: 'discords' }, fault: 'VOTE_ROLES' },
    { env: { VOTE_ROLES: 'elsewhere=1' }, fault: 'VOTE_ROLES' },
    { env: { VOTE_TOPGG_SECRET: 'whs_a-secret' }, fault: 'VOTE_TOPGG_PROJECT_ID' },
    { env: { VOTE_GUILDSME_SECRET: 'short' }, fault: 'VOTE_GUILDSME_SECRET' },
    { env: { VOTE_TOLERANCE_SECONDS: '43200' }, fault: 'VOTE_TOLERANCE_SECONDS' },
    { env: { REWARD_BOUNTY_CRITICAL_USD: '50.01' }, fault: 'REWARD_BOUNTY_CRITICAL_USD' },
    { env: { REWARD_VOTE_USD: '0' }, fault: 'REWARD_VOTE_USD' },
    { env: { REWARD_BOOST_USD: '0.001' }, fault: 'REWARD_BOOST_USD' },
    { env: { REWARD_CLAIM_DAYS: '0' }, fault: 'REWARD_CLAIM_DAYS' },
  ]) {
    it(`reward settings with ${JSON.stringify(env)} stop the process and name ${fault}, without its value`, () => {
      assert.throws(
        () => rewardSettingsOf(env),
        (error) => error instanceof ConfigError && error.message.includes(`  ${fault}`),
      );
    });
  }
});

describe('vote directories', () => {
  const { sites } = rewardSettingsOf(SECRETS).votes;
  const siteOf = (name: string) => sites.find((site) => site.name === name)!;

  it('two interfaces of one directory share a site', () => {
    assert.deepEqual([siteOf('topgg').site, siteOf('topgg-v0').site], ['topgg', 'topgg']);
    assert.equal(siteOf('discordplace').cooldownSeconds, 24 * 3600);
  });

  it('top.gg signs time and bytes; five minutes in either direction are accepted', () => {
    const body = Buffer.from('{}');
    const signed = (seconds: number, key = SECRETS.VOTE_TOPGG_SECRET): { 'x-topgg-signature': string } => {
      const time = NOW.getTime() / 1000 + seconds;
      const signature = createHmac('sha256', key).update(`${time}.{}`).digest('hex');
      return { 'x-topgg-signature': `t=${time},v1=${signature}` };
    };
    const verify = (headers: IncomingHttpHeaders): boolean => siteOf('topgg').refusalOf(body, headers, NOW) === null;
    for (const seconds of [-300, 0, 300]) assert.ok(verify(signed(seconds)), String(seconds));
    for (const seconds of [-301, 301]) assert.ok(!verify(signed(seconds)), String(seconds));
    assert.ok(!verify(signed(0, 'whs_other')));
    assert.notEqual(siteOf('topgg').refusalOf(Buffer.from('{ }'), signed(0), NOW), null);
    for (const header of ['', 't=1', 'v1=aa', `t=x,v1=${'0'.repeat(64)}`]) {
      assert.ok(!verify({ 'x-topgg-signature': header }), header);
    }
    assert.ok(!verify({}));
  });

  for (const name of ['topgg-v0', 'discordbotlist', 'discordplace', 'guildsme']) {
    it(`${name} sends its secret, and nothing else is accepted`, () => {
      const secret = {
        'topgg-v0': 'another-secret',
        discordbotlist: 'a-fifth-secret',
        discordplace: 'a-third-secret',
        guildsme: 'a-fourth-secret',
      }[name]!;
      const verify = (headers: IncomingHttpHeaders): boolean =>
        siteOf(name).refusalOf(Buffer.from('{}'), headers, NOW) === null;
      assert.ok(verify({ authorization: secret }));
      for (const authorization of ['', `${secret} `, `Bearer ${secret}`, secret.slice(1)]) {
        assert.ok(!verify({ authorization }), authorization);
      }
      assert.ok(!verify({}));
    });
  }

  for (const { name, body, facts } of [
    {
      name: 'topgg-v0',
      body: { guild: GUILD, user: USER, type: 'upvote', isWeekend: true },
      facts: { weight: 2, isTest: false, isOurs: true },
    },
    {
      name: 'topgg-v0',
      body: { bot: '5', user: USER, type: 'upvote' },
      facts: { weight: 1, isTest: false, isOurs: false },
    },
    {
      name: 'topgg-v0',
      body: { guild: GUILD, user: USER, type: 'test' },
      facts: { weight: 1, isTest: true, isOurs: true },
    },
    {
      name: 'guildsme',
      body: { event: 'vote', guildId: GUILD, double: true, user: { id: USER } },
      facts: { weight: 2, isTest: false, isOurs: true },
    },
    {
      name: 'guildsme',
      body: { event: 'test', guildId: GUILD, user: { id: USER } },
      facts: { weight: 1, isTest: true, isOurs: true },
    },
    {
      name: 'discordplace',
      body: { guild: '9', user: USER, test: false },
      facts: { weight: 1, isTest: false, isOurs: false },
    },
    { name: 'discordbotlist', body: { id: USER, username: 'u' }, facts: { weight: 1, isTest: false, isOurs: true } },
    {
      name: 'topgg',
      body: { type: 'webhook.test', data: { project: { id: 'p1' }, user: { platform_id: USER } } },
      facts: { weight: 1, isTest: true, isOurs: true },
    },
    {
      name: 'topgg',
      body: {
        type: 'vote.create',
        data: {
          id: '1',
          weight: 2,
          created_at: '2026-03-01T00:00:00Z',
          project: { id: 'p2' },
          user: { platform_id: USER },
        },
      },
      facts: { weight: 2, isTest: false, isOurs: false },
    },
  ]) {
    it(`${name} say of ${JSON.stringify(body).slice(0, 70)}… what they say`, () => {
      const vote = siteOf(name).read(body);
      assert.ok(vote !== null);
      const { weight, isTest, isOurs, discordUserId } = vote;
      assert.deepEqual({ weight, isTest, isOurs, discordUserId }, { ...facts, discordUserId: USER });
    });
  }

  it('a body that is no vote gives none', () => {
    for (const body of [null, 'vote', [], {}, { user: 'me' }, { id: '1e5' }, { type: 'vote.create', data: {} }]) {
      for (const site of sites) assert.equal(site.read(body), null, `${site.name}: ${JSON.stringify(body)}`);
    }
  });
});

describe('events of Discord', () => {
  it('an event is genuine when Discord signed exactly these bytes at that time', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const body = Buffer.from('{"type":0}');
    const signature = sign(null, Buffer.concat([Buffer.from('1700000000'), body]), privateKey).toString('hex');
    const given = { timestamp: '1700000000', body, signature };
    assert.ok(isSignedByDiscord(publicKey, given));
    assert.ok(!isSignedByDiscord(publicKey, { ...given, timestamp: '1700000001' }));
    assert.ok(!isSignedByDiscord(publicKey, { ...given, body: Buffer.from('{"type":1}') }));
    assert.ok(!isSignedByDiscord(publicKey, { ...given, signature: signature.slice(2) }));
  });

  it('an event of Discord belongs to the user it names, an event without one to nobody', () => {
    const settings = rewardSettingsOf(SECRETS);
    const of = (provider: string, type: string, payload: unknown) =>
      subjectOfRewardEvent(settings, { provider, type, payload });
    const boost = { discord_user_id: USER, message_id: '9', count: 2, boosted_at: NOW.toISOString() };
    assert.deepEqual(of('discord', 'boost', boost), { process: 'boost', discordUserId: USER });
    assert.equal(of('discord', 'boost', { ...boost, count: 0 }), null);
    assert.equal(of('stripe', 'boost', boost), null);
    assert.equal(of('votes/unknown', 'vote', { arrived_at: NOW.toISOString(), body: { id: USER } }), null);
    const gone = { type: 1, event: { type: 'APPLICATION_DEAUTHORIZED', data: { user: { id: USER } } } };
    assert.deepEqual(of('discord', 'APPLICATION_DEAUTHORIZED', gone), { process: 'link', discordUserId: USER });
    assert.deepEqual(of('votes/discordbotlist', 'vote', { arrived_at: NOW.toISOString(), body: { id: USER } }), {
      process: 'vote',
      site: 'discordbotlist',
      discordUserId: USER,
    });
  });
});
