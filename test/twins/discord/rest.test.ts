/**
 * The REST interface of the Discord twin under Discord's own client: what the bot reads and posts, how it is refused,
 * and how calls fail on command.
 */
import assert from 'node:assert/strict';

import type { API } from '@discordjs/core';
import { type APIMessage, MessageType } from 'discord-api-types/v10';

import { startDiscordTwin, type DiscordTwin } from '../../../twins/discord/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { botOf, clientOf, createdMsOf, member, type Person, refusedWith } from './fixture.ts';

describe('discord twin: rest', () => {
  let twin: DiscordTwin;
  let api: API;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startDiscordTwin();
    api = botOf(twin);
  });
  afterEach(() => twin.close());

  it('shows guild, roles and members to the bot', async () => {
    const { guildId } = twin.application;
    const ada = await member(control, 'ada');
    await control.steer(`members/${ada.id}/boost`, { count: 2 });
    const guild = await api.guilds.get(guildId, { with_counts: true });
    assert.deepEqual([guild.premium_subscription_count, guild.premium_tier, guild.approximate_member_count], [2, 1, 2]);
    const { user, roles, premium_since: since } = await api.guilds.getMember(guildId, ada.id);
    const booster = (await api.guilds.getRoles(guildId)).find(({ tags }) => tags?.premium_subscriber === null);
    assert.deepEqual([user.username, roles], ['ada', [booster?.id]]);
    assert.ok(Date.parse(since ?? '') <= Date.now());
    assert.equal((await api.users.get(ada.id)).id, ada.id);
  });

  it('lists members by id, a page at a time', async () => {
    const { guildId } = twin.application;
    for (const days of [5, 900, 40, 0]) {
      await control.steer('users', { username: `u${days}`, account_age_days: days, join: true });
    }
    const seen: string[] = [];
    for (let after = '0'; ; after = seen.at(-1)!) {
      const page = await api.guilds.getMembers(guildId, { limit: 2, after });
      assert.ok(page.length <= 2);
      if (page.length === 0) break;
      seen.push(...page.map(({ user }) => user.id));
    }
    assert.equal(seen.length, 5);
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => (BigInt(a) < BigInt(b) ? -1 : 1)),
    );
    assert.equal((await api.guilds.getMembers(guildId)).length, 1, 'the default is one member, as Discord’s');
    await assert.rejects(api.guilds.getMembers(guildId, { limit: 1_001 }), refusedWith(400, 50_035));
  });

  it('keeps the channel’s messages and takes the bot’s', async () => {
    const ada = await member(control, 'ada');
    const channel = (await api.guilds.get(twin.application.guildId)).system_channel_id!;
    for (const count of [1, 3]) await control.steer(`members/${ada.id}/boost`, { count });
    const posted = await api.channels.createMessage(channel, { content: 'Thank you' });
    const messages = await api.channels.getMessages(channel, { limit: 3 });
    assert.deepEqual(
      messages.map(({ type, content }) => [type, content]),
      [
        [MessageType.Default, 'Thank you'],
        [MessageType.GuildBoostTier1, '3'],
        [MessageType.GuildBoost, ''],
      ],
    );
    const [newest, middle, oldest] = messages as [APIMessage, APIMessage, APIMessage];
    assert.equal(newest.id, posted.id);
    const after = await api.channels.getMessages(channel, { after: oldest.id, limit: 1 });
    assert.deepEqual(
      after.map(({ id }) => id),
      [middle.id],
    );
    const before = await api.channels.getMessages(channel, { before: middle.id, limit: 1 });
    assert.deepEqual(
      before.map(({ id }) => id),
      [oldest.id],
    );
  });

  it('refuses with Discord’s codes', async () => {
    const { guildId } = twin.application;
    const stranger = await control.steer<Person>('users', { username: 'stranger' });
    await assert.rejects(api.guilds.get('100000000000000000'), refusedWith(404, 10_004));
    await assert.rejects(api.guilds.getMember(guildId, stranger.id), refusedWith(404, 10_007));
    await assert.rejects(api.guilds.getMember(guildId, '100000000000000000'), refusedWith(404, 10_013));
    await assert.rejects(api.channels.getMessages('100000000000000000'), refusedWith(404, 10_003));
    await assert.rejects(clientOf(twin, 'wrong').guilds.get(guildId), refusedWith(401, 0));
    await assert.rejects(api.rest.get('/users/@me/connections'), refusedWith(404, 0));
  });

  it('can rate-limit, fail, hang, and lose an answer after the effect', async () => {
    const { guildId } = twin.application;
    const channel = (await api.guilds.get(guildId)).system_channel_id!;
    const answers: number[] = [];
    const patient = botOf(twin, { retries: 2 });
    patient.rest.on('response', (_, { status }) => void answers.push(status));

    await control.steer('faults', {
      on: 'rest',
      match: { path: '/guilds' },
      count: 2,
      fault: { retry_after: 0.02 },
    });
    assert.equal((await patient.guilds.get(guildId)).id, guildId);
    assert.deepEqual(answers, [429, 429, 200]);

    await control.steer('faults', { on: 'rest', count: 3, fault: { fail_status: 503 } });
    await assert.rejects(api.guilds.get(guildId), /Service Unavailable/);
    assert.equal((await patient.guilds.get(guildId)).id, guildId, 'the client retries a 5xx');

    await control.steer('faults', { on: 'rest', fault: { hang_ms: 200 } });
    await assert.rejects(botOf(twin, { timeout: 30 }).guilds.get(guildId), { name: 'AbortError' });

    for (const fault of [{ drop_response_after_commit: true }, { fail_status: 500, after_commit: true }]) {
      await control.steer('faults', { on: 'rest', match: { method: 'post' }, fault });
      await assert.rejects(api.channels.createMessage(channel, { content: 'once' }));
    }
    assert.equal((await api.channels.getMessages(channel)).length, 2);
  });

  describe('people', () => {
    it('have ids that tell the age of the account', async () => {
      const createdAt = '2020-02-03T04:05:06.789Z';
      const old = await control.steer<Person>('users', { username: 'old', created_at: createdAt });
      assert.equal(new Date(createdMsOf(old)).toISOString(), createdAt);
      const fixed = await control.steer<Person>('users', { username: 'fixed', id: '123456789012345678' });
      assert.equal(fixed.id, '123456789012345678');
      const { status } = await control.call('POST', 'users', { username: 'again', id: fixed.id });
      assert.equal(status, 409);
    });
  });
});
