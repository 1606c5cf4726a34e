/**
 * The gateway of the Discord twin under Discord's own client: its events about boosts and members, and how it resumes
 * or starts again when its connection is cut in each of Discord's ways.
 */
import assert from 'node:assert/strict';

import type { API } from '@discordjs/core';
import { type SessionInfo, WebSocketManager, WebSocketShardEvents } from '@discordjs/ws';
import { type APIMessage, type GatewayDispatchPayload, GatewayIntentBits, MessageType } from 'discord-api-types/v10';

import { startDiscordTwin, type DiscordTwin, type DiscordTwinOptions } from '../../../twins/discord/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { botOf, member } from './fixture.ts';

const ALL_INTENTS =
  GatewayIntentBits.Guilds |
  GatewayIntentBits.GuildMembers |
  GatewayIntentBits.GuildMessages |
  GatewayIntentBits.MessageContent;

/** The events of a real client, in order. */
interface Listener {
  readonly dispatches: GatewayDispatchPayload[];
  readonly manager: WebSocketManager;
  of(event: string): Record<string, unknown>[];
}

describe('discord twin: gateway', () => {
  let twin: DiscordTwin;
  let api: API;
  const control = new TwinControl(() => twin.url);
  const managers: WebSocketManager[] = [];

  beforeEach(() => start());
  afterEach(async () => {
    for (const manager of managers.splice(0)) await manager.destroy();
    await twin.close();
  });

  async function start(options: DiscordTwinOptions = {}): Promise<void> {
    twin = await startDiscordTwin(options);
    api = botOf(twin);
  }

  /** The library's own client of the gateway, not yet connected. */
  function managerOf(token: string, intents: number): WebSocketManager {
    const sessions = new Map<number, SessionInfo | null>();
    const manager = new WebSocketManager({
      token,
      intents,
      rest: botOf(twin).rest,
      // The client's own waits five seconds between two identifies, which Discord asks for and no test needs.
      buildIdentifyThrottler: () => Promise.resolve({ waitForIdentify: () => Promise.resolve() }),
      // The client's own store is one for the whole process.
      retrieveSessionInfo: (shardId) => sessions.get(shardId) ?? null,
      updateSessionInfo: (shardId, session) => void sessions.set(shardId, session),
    });
    managers.push(manager);
    manager.on(WebSocketShardEvents.Error, () => undefined);
    manager.on(WebSocketShardEvents.SocketError, () => undefined);
    return manager;
  }

  async function listen(intents = ALL_INTENTS): Promise<Listener> {
    const dispatches: GatewayDispatchPayload[] = [];
    const manager = managerOf(twin.application.botToken, intents);
    manager.on(WebSocketShardEvents.Dispatch, (payload) => void dispatches.push(payload));
    await manager.connect();
    const of = (event: string): Record<string, unknown>[] =>
      dispatches.filter(({ t }) => (t as string) === event).map(({ d }) => d as never);
    await until('the guild', () => of('GUILD_CREATE').length > 0);
    return { dispatches, manager, of };
  }

  it('takes the real client from hello to the guild, and tells it of boosts and members', async () => {
    const client = await listen();
    const ada = await member(control, 'ada');
    await control.steer(`members/${ada.id}/boost`, { count: 2 });
    await until('the guild’s change', () => client.of('GUILD_UPDATE').length === 1);
    assert.deepEqual(
      client.dispatches.map(({ t }) => t),
      [
        'READY',
        'GUILD_CREATE',
        'GUILD_MEMBER_ADD',
        'MESSAGE_CREATE',
        'MESSAGE_CREATE',
        'GUILD_MEMBER_UPDATE',
        'GUILD_UPDATE',
      ],
    );
    assert.deepEqual(
      client.dispatches.map(({ s }) => s),
      [1, 2, 3, 4, 5, 6, 7],
    );
    const [joined, boosted] = client.of('MESSAGE_CREATE') as unknown as [APIMessage, APIMessage];
    assert.deepEqual([joined.type, joined.content], [MessageType.UserJoin, '']);
    assert.deepEqual([boosted.type, boosted.content, boosted.author.id], [MessageType.GuildBoostTier1, '2', ada.id]);
    const update = client.of('GUILD_MEMBER_UPDATE')[0]!;
    assert.equal(typeof update['premium_since'], 'string');
    assert.equal(client.of('GUILD_UPDATE')[0]?.['premium_subscription_count'], 2);
  });

  it('a boost’s own message announces the new tier', async () => {
    const client = await listen();
    const ada = await member(control, 'ada');
    for (const count of [1, 1, 4, 1, 7, 1]) await control.steer(`members/${ada.id}/boost`, { count });
    await until('all messages', () => client.of('MESSAGE_CREATE').length === 7);
    const boosts = client.of('MESSAGE_CREATE').slice(1);
    assert.deepEqual(
      boosts.map(({ type, content }) => [type, content]),
      [
        [8, ''],
        [9, ''],
        [8, '4'],
        [10, ''],
        [11, '7'],
        [8, ''],
      ],
    );
  });

  it('changes a member’s premium time only with the first boost and the last end', async () => {
    const client = await listen();
    const ada = await member(control, 'ada');
    const boosted = (await control.steer<{ premium_since: string }>(`members/${ada.id}/boost`)).premium_since;
    await control.steer(`members/${ada.id}/boost`, { count: 2 });
    await control.steer(`members/${ada.id}/end-boosts`, { count: 2 });
    await control.steer(`members/${ada.id}/end-boosts`, { split: true });
    await until('four changes of the guild', () => client.of('GUILD_UPDATE').length === 4);
    const updates = client.of('GUILD_MEMBER_UPDATE');
    assert.deepEqual(
      updates.map(({ premium_since, roles }) => [premium_since, (roles as string[]).length]),
      [
        [boosted, 1],
        [null, 1],
        [null, 0],
      ],
    );
  });

  it('can keep a boost to itself, so that only the REST listing shows it', async () => {
    const client = await listen();
    const { guildId } = twin.application;
    const ada = await member(control, 'ada');
    await control.steer(`members/${ada.id}/boost`, { message: false, member_update: false });
    await until('the guild’s change', () => client.of('GUILD_UPDATE').length === 1);
    assert.equal(client.of('GUILD_MEMBER_UPDATE').length, 0);
    assert.equal(client.of('MESSAGE_CREATE').length, 1, 'only that she joined');
    const listed = await api.guilds.getMembers(guildId, { limit: 1_000 });
    assert.equal(typeof listed.find(({ user }) => user.id === ada.id)?.premium_since, 'string');
  });

  it('events announce vote roles, given and taken', async () => {
    const client = await listen();
    const ada = await member(control, 'ada');
    const roles = (await api.guilds.getRoles(twin.application.guildId)).filter(({ name }) => name.includes('voter'));
    assert.equal(roles.length, 3);
    await control.steer(`members/${ada.id}/roles`, { role: roles[0]!.id, held: true });
    await control.steer(`members/${ada.id}/roles`, { role: roles[1]!.name, held: true });
    await control.steer(`members/${ada.id}/roles`, { role: roles[0]!.id, held: false });
    await until('three changes', () => client.of('GUILD_MEMBER_UPDATE').length === 3);
    assert.deepEqual(
      client.of('GUILD_MEMBER_UPDATE').map(({ roles: held }) => held),
      [[roles[0]!.id], [roles[0]!.id, roles[1]!.id], [roles[1]!.id]],
    );
    const booster = (await api.guilds.getRoles(twin.application.guildId)).find(({ managed }) => managed)!;
    const { status } = await control.call('POST', `members/${ada.id}/roles`, { role: booster.id, held: true });
    assert.equal(status, 409);
    await control.steer(`members/${ada.id}/leave`);
    await until('the removal', () => client.of('GUILD_MEMBER_REMOVE').length === 1);
  });

  it('hides from a client what it has no intent for, even the number of boosts', async () => {
    const blind = await listen(GatewayIntentBits.Guilds | GatewayIntentBits.GuildMessages);
    const ada = await member(control, 'ada');
    await control.steer(`members/${ada.id}/boost`, { count: 5 });
    await until('the guild’s change', () => blind.of('GUILD_UPDATE').length === 1);
    assert.equal(blind.of('GUILD_MEMBER_ADD').length + blind.of('GUILD_MEMBER_UPDATE').length, 0);
    assert.equal(blind.of('MESSAGE_CREATE').at(-1)?.['content'], '');
  });

  it('sends any dispatch on command, none or several copies of it by a fault', async () => {
    const client = await listen();
    const dispatch = (name: string): Promise<unknown> =>
      control.steer('dispatch', { event: 'TYPING_START', data: { name } });
    twin.faults.add({ on: 'dispatch', match: { event: 'TYPING_START' }, fault: { drop: true } });
    await dispatch('dropped');
    twin.faults.add({ on: 'dispatch', fault: { duplicate: 3 } });
    for (const name of ['doubled', 'plain']) await dispatch(name);
    await until('four', () => client.of('TYPING_START').length === 4);
    assert.deepEqual(
      client.of('TYPING_START').map(({ name }) => name),
      ['doubled', 'doubled', 'doubled', 'plain'],
    );
  });

  for (const [name, path, body] of [
    ['a lost connection', 'gateway/disconnect', {}],
    ['a close code', 'gateway/disconnect', { code: 4_000 }],
    ['a request to reconnect (op 7)', 'gateway/reconnect', {}],
    ['an invalid session that may be resumed (op 9)', 'gateway/invalidate', { resumable: true }],
  ] as const) {
    it(`lets the client resume after ${name}, with what it missed`, async () => {
      const client = await listen();
      await control.steer(path, body);
      await control.steer('dispatch', { event: 'TYPING_START', data: { missed: true } });
      await until('the resume', () => client.of('RESUMED').length === 1);
      await control.steer('dispatch', { event: 'TYPING_START', data: { missed: false } });
      await until('both', () => client.of('TYPING_START').length >= 2);
      assert.deepEqual(
        client.of('TYPING_START').map(({ missed }) => missed),
        [true, false],
      );
      assert.equal(client.of('READY').length, 1);
    });
  }

  for (const [name, path, body] of [
    ['an invalid session (op 9)', 'gateway/invalidate', { resumable: false }],
    ['a forgotten one', 'gateway/disconnect', { forget: true }],
  ] as const) {
    it(`restarts the client after ${name}, without the events it missed`, async () => {
      const client = await listen();
      await control.steer(path, body);
      await control.steer('dispatch', { event: 'TYPING_START', data: { missed: true } });
      await until('a new session', () => client.of('READY').length === 2);
      await until('the guild again', () => client.of('GUILD_CREATE').length === 2);
      await control.steer('dispatch', { event: 'TYPING_START', data: { missed: false } });
      await until('the later one', () => client.of('TYPING_START').length > 0);
      assert.deepEqual(
        client.of('TYPING_START').map(({ missed }) => missed),
        [false],
      );
    });
  }

  it('forgets a session whose client has said good-bye', async () => {
    const client = await listen();
    await client.manager.destroy();
    await until('no session', async () => {
      const { sessions } = await control.show<{ sessions: unknown[] }>('state');
      return sessions.length === 0;
    });
  });

  it('does not keep a session for long that nobody resumes', async () => {
    const client = await listen();
    await control.steer('gateway/disconnect', { code: 4_000 });
    twin.advanceClock(301);
    await control.steer('dispatch', { event: 'TYPING_START', data: { missed: true } });
    await until('a new session', () => client.of('READY').length === 2);
    assert.equal(client.of('TYPING_START').length, 0);
  });

  it('acknowledges heartbeats', async () => {
    await twin.close();
    await start({ heartbeatMs: 20 });
    const client = await listen();
    let beats = 0;
    client.manager.on(WebSocketShardEvents.HeartbeatComplete, () => void (beats += 1));
    await until('three heartbeats', () => beats >= 3);
    assert.equal(client.of('READY').length, 1);
  });

  it('ends the connection of a client with a wrong token, for good', async () => {
    const closes: number[] = [];
    const manager = managerOf('wrong', 0);
    manager.on(WebSocketShardEvents.Closed, (code) => void closes.push(code));
    void manager.connect().catch(() => undefined);
    await until('the close', () => closes.length > 0);
    assert.deepEqual(closes, [4_004]);
  });

  it('sends the members that a client asks for', async () => {
    const client = await listen();
    for (const name of ['ada', 'adele', 'bob']) await member(control, name);
    await client.manager.send(0, {
      op: 8,
      d: { guild_id: twin.application.guildId, query: 'ad', limit: 0, nonce: 'n' },
    });
    await until('the chunk', () => client.of('GUILD_MEMBERS_CHUNK').length === 1);
    const chunk = client.of('GUILD_MEMBERS_CHUNK')[0]!;
    assert.deepEqual([(chunk['members'] as unknown[]).length, chunk['chunk_count'], chunk['nonce']], [2, 1, 'n']);
  });
});
