/**
 * The Discord twin against the unmodified `@discordjs` clients, a signature check of our own, and a plain browser's forms.
 * Whatever the twin does differently from Discord would let a wrong reward pass every other test.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createPublicKey, verify } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { API } from '@discordjs/core';
import { DiscordAPIError, REST } from '@discordjs/rest';
import { WebSocketManager, WebSocketShardEvents } from '@discordjs/ws';
import {
  type APIMessage,
  type GatewayDispatchPayload,
  GatewayDispatchEvents,
  GatewayIntentBits,
  MessageType,
  OAuth2Scopes,
} from 'discord-api-types/v10';

import { productEnvironment } from '../../sandbox/twins/discord/config.ts';
import { startDiscordTwin, type DiscordTwin, type DiscordTwinOptions } from '../../sandbox/twins/discord/twin.ts';

const MAIN = join(import.meta.dirname, '../../sandbox/twins/discord/main.ts');
const ALL_INTENTS =
  GatewayIntentBits.Guilds |
  GatewayIntentBits.GuildMembers |
  GatewayIntentBits.GuildMessages |
  GatewayIntentBits.MessageContent;
const DAY_MS = 86_400_000;
const DISCORD_EPOCH_MS = 1_420_070_400_000n;

interface Person {
  readonly id: string;
}

/** What a real client got, in order. */
interface Listener {
  readonly dispatches: GatewayDispatchPayload[];
  readonly manager: WebSocketManager;
  of(event: string): Record<string, unknown>[];
}

describe('discord twin', () => {
  let twin: DiscordTwin;
  let api: API;
  let managers: WebSocketManager[] = [];

  beforeEach(async () => {
    twin = await startDiscordTwin();
    api = new API(restOf(twin));
  });
  afterEach(async () => {
    for (const manager of managers) await manager.destroy();
    managers = [];
    await twin.close();
  });

  function restOf({ apiUrl, application }: DiscordTwin, retries = 0): REST {
    return new REST({ api: apiUrl, retries, timeout: 5_000 }).setToken(application.botToken);
  }

  async function control<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
    const response = await fetch(`${twin.url}/_twin/${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  async function steer<T>(path: string, body: object = {}): Promise<T> {
    const answer = await control<T>('POST', path, body);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body;
  }

  async function restart(options: DiscordTwinOptions): Promise<void> {
    await twin.close();
    twin = await startDiscordTwin(options);
    api = new API(restOf(twin));
  }

  function member(username: string): Promise<Person> {
    return steer('users', { username, join: true });
  }

  async function listen(intents = ALL_INTENTS): Promise<Listener> {
    const dispatches: GatewayDispatchPayload[] = [];
    const sessions = new Map<number, unknown>();
    const manager = new WebSocketManager({
      token: twin.application.botToken,
      intents,
      rest: restOf(twin),
      // The client's own waits five seconds between two identifies, which Discord asks for and no test needs.
      buildIdentifyThrottler: () => Promise.resolve({ waitForIdentify: () => Promise.resolve() }),
      // The client's own store is one for the whole process.
      retrieveSessionInfo: (shardId) => (sessions.get(shardId) as never) ?? null,
      updateSessionInfo: (shardId, session) => void sessions.set(shardId, session),
    });
    managers.push(manager);
    manager.on(WebSocketShardEvents.Error, () => undefined);
    manager.on(WebSocketShardEvents.SocketError, () => undefined);
    manager.on(WebSocketShardEvents.Dispatch, (payload) => void dispatches.push(payload));
    await manager.connect();
    const of = (event: string): Record<string, unknown>[] =>
      dispatches.filter(({ t }) => t === (event as GatewayDispatchEvents)).map(({ d }) => d as never);
    await until('the guild', () => of('GUILD_CREATE').length > 0);
    return { dispatches, manager, of };
  }

  const refusedWith = (status: number, code: number | string) => (error: unknown) =>
    error instanceof DiscordAPIError && error.status === status && error.code === code;

  describe('rest', () => {
    it('shows guild, roles and members to the bot', async () => {
      const { guildId } = twin.application;
      const ada = await member('ada');
      await steer(`members/${ada.id}/boost`, { count: 2 });
      const guild = await api.guilds.get(guildId, { with_counts: true });
      assert.deepEqual(
        [guild.premium_subscription_count, guild.premium_tier, guild.approximate_member_count],
        [2, 1, 2],
      );
      const { user, roles, premium_since: since } = await api.guilds.getMember(guildId, ada.id);
      const booster = (await api.guilds.getRoles(guildId)).find(({ tags }) => tags?.premium_subscriber === null);
      assert.deepEqual([user.username, roles], ['ada', [booster?.id]]);
      assert.ok(Date.parse(since ?? '') <= Date.now());
      assert.equal((await api.users.get(ada.id)).id, ada.id);
    });

    it('lists members by id, a page at a time', async () => {
      const { guildId } = twin.application;
      const ages = [5, 900, 40, 0];
      for (const days of ages) await steer('users', { username: `u${days}`, account_age_days: days, join: true });
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
      const { guildId } = twin.application;
      const ada = await member('ada');
      const channel = (await api.guilds.get(guildId)).system_channel_id!;
      for (const count of [1, 3]) await steer(`members/${ada.id}/boost`, { count });
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
      const stranger = await steer<Person>('users', { username: 'stranger' });
      await assert.rejects(api.guilds.get('100000000000000000'), refusedWith(404, 10_004));
      await assert.rejects(api.guilds.getMember(guildId, stranger.id), refusedWith(404, 10_007));
      await assert.rejects(api.guilds.getMember(guildId, '100000000000000000'), refusedWith(404, 10_013));
      await assert.rejects(api.channels.getMessages('100000000000000000'), refusedWith(404, 10_003));
      const forged = new API(new REST({ api: twin.apiUrl, retries: 0 }).setToken('wrong'));
      await assert.rejects(forged.guilds.get(guildId), refusedWith(401, 0));
      await assert.rejects(api.rest.get('/users/@me/connections'), refusedWith(404, 0));
    });

    it('can rate-limit, fail, hang, and lose an answer after the effect', async () => {
      const { guildId } = twin.application;
      const channel = (await api.guilds.get(guildId)).system_channel_id!;
      const answers: number[] = [];
      const rest = restOf(twin, 2);
      rest.on('response', (_, { status }) => void answers.push(status));
      const patient = new API(rest);

      await steer('faults', { on: 'rest', match: { path: '/guilds' }, count: 2, fault: { retry_after: 0.02 } });
      assert.equal((await patient.guilds.get(guildId)).id, guildId);
      assert.deepEqual(answers, [429, 429, 200]);

      await steer('faults', { on: 'rest', count: 3, fault: { fail_status: 503 } });
      await assert.rejects(api.guilds.get(guildId), /Service Unavailable/);
      assert.equal((await patient.guilds.get(guildId)).id, guildId, 'the client repeats a 5xx by itself');

      await steer('faults', { on: 'rest', fault: { hang_ms: 200 } });
      const hasty = new API(
        new REST({ api: twin.apiUrl, retries: 0, timeout: 30 }).setToken(twin.application.botToken),
      );
      await assert.rejects(hasty.guilds.get(guildId), { name: 'AbortError' });

      for (const fault of [{ drop_response_after_commit: true }, { fail_status: 500, after_commit: true }]) {
        await steer('faults', { on: 'rest', match: { method: 'post' }, fault });
        await assert.rejects(api.channels.createMessage(channel, { content: 'once' }));
      }
      assert.equal((await api.channels.getMessages(channel)).length, 2);
    });
  });

  describe('people', () => {
    it('have ids that tell the age of the account', async () => {
      const { id } = await steer<Person>('users', { username: 'old', created_at: '2020-02-03T04:05:06.789Z' });
      const createdMs = (BigInt(id) >> 22n) + DISCORD_EPOCH_MS;
      assert.equal(new Date(Number(createdMs)).toISOString(), '2020-02-03T04:05:06.789Z');
      const fixed = await steer<Person>('users', { username: 'fixed', id: '123456789012345678' });
      assert.equal(fixed.id, '123456789012345678');
      const { status } = await control('POST', 'users', { username: 'again', id: fixed.id });
      assert.equal(status, 409);
    });
  });

  describe('oauth', () => {
    const verifier = 'v'.repeat(43);

    function authorizeUrl(change: Record<string, string> = {}): string {
      const { clientId, redirectUris } = twin.application;
      const query = {
        client_id: clientId,
        redirect_uri: redirectUris[0]!,
        response_type: 'code',
        scope: 'identify guilds.members.read',
        state: 'st&te=1',
        ...change,
      };
      return `${twin.oauthUrl}?${new URLSearchParams(query).toString()}`;
    }

    async function submit(form: Record<string, string>, url = authorizeUrl()): Promise<URL> {
      const response = await fetch(url, { method: 'POST', redirect: 'manual', body: new URLSearchParams(form) });
      assert.equal(response.status, 302, await response.text());
      return new URL(response.headers.get('location')!);
    }

    async function codeOf(user: Person, change: Record<string, string> = {}): Promise<string> {
      return (await submit({ user: user.id }, authorizeUrl(change))).searchParams.get('code')!;
    }

    function exchange(
      code: string,
      change: Record<string, string> = {},
    ): Promise<{ access_token: string; scope: string }> {
      const { clientId, clientSecret, redirectUris } = twin.application;
      return api.oauth2.tokenExchange({
        ...{ client_id: clientId, client_secret: clientSecret, grant_type: 'authorization_code' as const },
        ...{ code, redirect_uri: redirectUris[0]! },
        ...change,
      });
    }

    function personApi(token: string): API {
      return new API(new REST({ api: twin.apiUrl, authPrefix: 'Bearer', retries: 0 }).setToken(token));
    }

    it('lets a person in on the page and the application learn who it is', async () => {
      const ada = await member('ada');
      const page = await (await fetch(authorizeUrl())).text();
      assert.match(page, /Authorize as ada/);
      assert.match(page, /Read your member info/);
      const back = await submit({ user: ada.id });
      assert.equal(`${back.origin}${back.pathname}`, twin.application.redirectUris[0]);
      assert.equal(back.searchParams.get('state'), 'st&te=1');

      const token = await exchange(back.searchParams.get('code')!);
      assert.equal(token.scope, 'identify guilds.members.read');
      const person = personApi(token.access_token);
      assert.deepEqual(
        [(await person.users.getCurrent()).id, (await person.users.getCurrent()).email],
        [ada.id, undefined],
      );
      assert.equal((await person.users.getGuildMember(twin.application.guildId)).premium_since, null);
      assert.deepEqual((await person.oauth2.getCurrentAuthorizationInformation()).scopes, [
        OAuth2Scopes.Identify,
        OAuth2Scopes.GuildsMembersRead,
      ]);
      await assert.rejects(person.guilds.get(twin.application.guildId), refusedWith(401, 0));
    });

    it('makes a new person on the page, with the age that was asked for', async () => {
      const form = { user: 'new', username: 'fresh', account_age_days: '3', join: 'yes' };
      const back = await submit(form, authorizeUrl({ scope: 'identify email' }));
      const person = personApi((await exchange(back.searchParams.get('code')!)).access_token);
      const { id, username, email, verified } = await person.users.getCurrent();
      assert.deepEqual([username, email, verified], ['fresh', 'fresh@people.test', true]);
      const ageDays = (Date.now() - Number((BigInt(id) >> 22n) + DISCORD_EPOCH_MS)) / DAY_MS;
      assert.equal(Math.round(ageDays), 3);
      assert.equal((await api.guilds.getMember(twin.application.guildId, id)).user.id, id);

      const refused = await fetch(authorizeUrl(), {
        method: 'POST',
        body: new URLSearchParams({ ...form, username: '<b>' }),
      });
      assert.equal(refused.status, 422);
      assert.match(await refused.text(), /role="alert"/);
    });

    it('sends back who cancels, and nobody to an address that is not registered', async () => {
      const back = await submit({ action: 'deny' });
      assert.deepEqual([back.searchParams.get('error'), back.searchParams.get('state')], ['access_denied', 'st&te=1']);
      const wrong = [
        { redirect_uri: 'http://elsewhere.test/' },
        { redirect_uri: `${twin.application.redirectUris[0]}/` },
        { client_id: '100000000000000000' },
        { scope: 'identify everything' },
        { scope: '' },
        { response_type: 'token' },
      ];
      for (const change of wrong) {
        const response = await fetch(authorizeUrl(change), { redirect: 'manual' });
        assert.equal(response.status, 400, JSON.stringify(change));
      }
    });

    it('changes a code for a token once, soon, and only for who it was made for', async () => {
      const ada = await member('ada');
      const code = await codeOf(ada);
      await assert.rejects(exchange(code, { client_secret: 'wrong' }), refusedWith(401, 'invalid_client'));
      await assert.rejects(exchange(code, { redirect_uri: 'http://x.test/' }), refusedWith(400, 'invalid_grant'));
      await exchange(code);
      await assert.rejects(exchange(code), refusedWith(400, 'invalid_grant'));

      const late = await codeOf(ada);
      twin.advanceClock(601);
      await assert.rejects(exchange(late), refusedWith(400, 'invalid_grant'));

      const challenge = '7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM';
      const proved = await codeOf(ada, { code_challenge: challenge, code_challenge_method: 'S256' });
      await assert.rejects(exchange(proved), refusedWith(400, 'invalid_grant'));
      await exchange(proved, { code_verifier: verifier });
    });

    it('reads nothing but forms', async () => {
      const { clientId, clientSecret, redirectUris } = twin.application;
      const code = await codeOf(await member('ada'));
      const asked = { grant_type: 'authorization_code', code, redirect_uri: redirectUris[0]! };
      const secrets = { client_id: clientId, client_secret: clientSecret };
      const post = (body: string | URLSearchParams, headers: Record<string, string>): Promise<Response> =>
        fetch(`${twin.apiUrl}/v10/oauth2/token`, { method: 'POST', headers, body });
      const json = await post(JSON.stringify({ ...asked, ...secrets }), { 'content-type': 'application/json' });
      assert.deepEqual(
        [json.status, ((await json.json()) as { error: string }).error],
        [400, 'unsupported_grant_type'],
      );
      const basic = Buffer.from(`${clientId}:${clientSecret}`).toString('base64');
      const form = await post(new URLSearchParams(asked), { authorization: `Basic ${basic}` });
      assert.equal(form.status, 200);
    });

    it('loses an answer after the code was used, so that the repetition is refused', async () => {
      const code = await codeOf(await member('ada'));
      twin.faults.add({ on: 'rest', match: { path: '/oauth2/token' }, fault: { drop_response_after_commit: true } });
      await assert.rejects(exchange(code));
      await assert.rejects(exchange(code), refusedWith(400, 'invalid_grant'));
    });

    it('ends tokens when they are given back, expire, or the person takes the permission away', async () => {
      const { clientId, clientSecret } = twin.application;
      const ada = await member('ada');
      const tokens: string[] = [];
      for (let index = 0; index < 3; index += 1) tokens.push((await exchange(await codeOf(ada))).access_token);
      const [given, taken] = tokens as [string, string, string];
      await api.oauth2.revokeToken(clientId, clientSecret, { token: given });
      await api.oauth2.revokeToken(clientId, clientSecret, { token: 'unknown' });
      await assert.rejects(personApi(given).users.getCurrent(), refusedWith(401, 0));
      await personApi(taken).users.getCurrent();
      await steer(`users/${ada.id}/deauthorize`);
      await assert.rejects(personApi(taken).users.getCurrent(), refusedWith(401, 0));

      const old = (await exchange(await codeOf(ada))).access_token;
      twin.advanceClock(604_801);
      await assert.rejects(personApi(old).users.getCurrent(), refusedWith(401, 0));
    });

    it('can be gone through without a browser', async () => {
      const ada = await member('ada');
      const { code, location } = await steer<{ code: string; location: string }>(`users/${ada.id}/authorize`, {
        state: 's',
      });
      assert.equal(new URL(location).searchParams.get('state'), 's');
      assert.equal((await exchange(code)).scope, 'identify');
    });
  });

  describe('gateway', () => {
    it('takes the real client from hello to the guild, and tells it of boosts and members', async () => {
      const client = await listen();
      const ada = await member('ada');
      await steer(`members/${ada.id}/boost`, { count: 2 });
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

    it('tells of a tier in the boost’s own message', async () => {
      const client = await listen();
      const ada = await member('ada');
      for (const count of [1, 1, 4, 1, 7, 1]) await steer(`members/${ada.id}/boost`, { count });
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
      const ada = await member('ada');
      const boosted = (await steer<{ premium_since: string }>(`members/${ada.id}/boost`)).premium_since;
      await steer(`members/${ada.id}/boost`, { count: 2 });
      await steer(`members/${ada.id}/end-boosts`, { count: 2 });
      await steer(`members/${ada.id}/end-boosts`, { split: true });
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
      const ada = await member('ada');
      await steer(`members/${ada.id}/boost`, { message: false, member_update: false });
      await until('the guild’s change', () => client.of('GUILD_UPDATE').length === 1);
      assert.equal(client.of('GUILD_MEMBER_UPDATE').length, 0);
      assert.equal(client.of('MESSAGE_CREATE').length, 1, 'only that she joined');
      const listed = await api.guilds.getMembers(guildId, { limit: 1_000 });
      assert.equal(typeof listed.find(({ user }) => user.id === ada.id)?.premium_since, 'string');
    });

    it('tells of vote roles, given and taken', async () => {
      const client = await listen();
      const ada = await member('ada');
      const roles = (await api.guilds.getRoles(twin.application.guildId)).filter(({ name }) => name.includes('voter'));
      assert.equal(roles.length, 3);
      await steer(`members/${ada.id}/roles`, { role: roles[0]!.id, held: true });
      await steer(`members/${ada.id}/roles`, { role: roles[1]!.name, held: true });
      await steer(`members/${ada.id}/roles`, { role: roles[0]!.id, held: false });
      await until('three changes', () => client.of('GUILD_MEMBER_UPDATE').length === 3);
      assert.deepEqual(
        client.of('GUILD_MEMBER_UPDATE').map(({ roles: held }) => held),
        [[roles[0]!.id], [roles[0]!.id, roles[1]!.id], [roles[1]!.id]],
      );
      const booster = (await api.guilds.getRoles(twin.application.guildId)).find(({ managed }) => managed)!;
      const { status } = await control('POST', `members/${ada.id}/roles`, { role: booster.id, held: true });
      assert.equal(status, 409);
      await steer(`members/${ada.id}/leave`);
      await until('the removal', () => client.of('GUILD_MEMBER_REMOVE').length === 1);
    });

    it('hides from a client what it has no intent for, even the number of boosts', async () => {
      const blind = await listen(GatewayIntentBits.Guilds | GatewayIntentBits.GuildMessages);
      const ada = await member('ada');
      await steer(`members/${ada.id}/boost`, { count: 5 });
      await until('the guild’s change', () => blind.of('GUILD_UPDATE').length === 1);
      assert.equal(blind.of('GUILD_MEMBER_ADD').length + blind.of('GUILD_MEMBER_UPDATE').length, 0);
      assert.equal(blind.of('MESSAGE_CREATE').at(-1)?.['content'], '');
    });

    it('sends any dispatch on command, none or several copies of it by a fault', async () => {
      const client = await listen();
      const dispatch = (name: string): Promise<unknown> => steer('dispatch', { event: 'TYPING_START', data: { name } });
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
        await steer(path, body);
        await steer('dispatch', { event: 'TYPING_START', data: { missed: true } });
        await until('the resume', () => client.of('RESUMED').length === 1);
        await steer('dispatch', { event: 'TYPING_START', data: { missed: false } });
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
      it(`starts the client anew after ${name}, without what it missed`, async () => {
        const client = await listen();
        await steer(path, body);
        await steer('dispatch', { event: 'TYPING_START', data: { missed: true } });
        await until('a new session', () => client.of('READY').length === 2);
        await until('the guild again', () => client.of('GUILD_CREATE').length === 2);
        await steer('dispatch', { event: 'TYPING_START', data: { missed: false } });
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
        const { body } = await control<{ sessions: unknown[] }>('GET', 'state');
        return body.sessions.length === 0;
      });
    });

    it('does not keep a session for long that nobody resumes', async () => {
      const client = await listen();
      await steer('gateway/disconnect', { code: 4_000 });
      twin.advanceClock(301);
      await steer('dispatch', { event: 'TYPING_START', data: { missed: true } });
      await until('a new session', () => client.of('READY').length === 2);
      assert.equal(client.of('TYPING_START').length, 0);
    });

    it('acknowledges heartbeats', async () => {
      await restart({ heartbeatMs: 20 });
      const client = await listen();
      let beats = 0;
      client.manager.on(WebSocketShardEvents.HeartbeatComplete, () => void (beats += 1));
      await until('three heartbeats', () => beats >= 3);
      assert.equal(client.of('READY').length, 1);
    });

    it('ends the connection of a client with a wrong token, for good', async () => {
      const closes: number[] = [];
      const manager = new WebSocketManager({
        token: 'wrong',
        intents: 0,
        rest: restOf(twin),
      });
      managers.push(manager);
      manager.on(WebSocketShardEvents.Error, () => undefined);
      manager.on(WebSocketShardEvents.Closed, (code) => void closes.push(code));
      void manager.connect().catch(() => undefined);
      await until('the close', () => closes.length > 0);
      assert.deepEqual(closes, [4_004]);
    });

    it('sends the members that a client asks for', async () => {
      const client = await listen();
      for (const name of ['ada', 'adele', 'bob']) await member(name);
      await client.manager.send(0, {
        op: 8,
        d: { guild_id: twin.application.guildId, query: 'ad', limit: 0, nonce: 'n' },
      });
      await until('the chunk', () => client.of(GatewayDispatchEvents.GuildMembersChunk).length === 1);
      const chunk = client.of('GUILD_MEMBERS_CHUNK')[0]!;
      assert.deepEqual([(chunk['members'] as unknown[]).length, chunk['chunk_count'], chunk['nonce']], [2, 1, 'n']);
    });
  });

  describe('webhook events', () => {
    interface Received {
      readonly body: Buffer;
      readonly signature: string;
      readonly timestamp: string;
    }

    let received: Received[];
    let statuses: number[];
    let close: () => Promise<void>;

    beforeEach(async () => {
      received = [];
      statuses = [];
      const server = createServer((request, response) => {
        const parts: Buffer[] = [];
        request.on('data', (part: Buffer) => parts.push(part));
        request.on('end', () => {
          const headers = request.headers as Record<string, string>;
          assert.equal(request.url, '/hooks/discord');
          received.push({
            body: Buffer.concat(parts),
            signature: headers['x-signature-ed25519']!,
            timestamp: headers['x-signature-timestamp']!,
          });
          response.writeHead(isSigned(received.at(-1)!) ? (statuses.shift() ?? 204) : 401).end();
        });
      });
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
      close = async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      };
      const { port } = server.address() as AddressInfo;
      await restart({ webhookUrl: `http://127.0.0.1:${port}/hooks`, retrySecondMs: 5 });
    });
    afterEach(() => close());

    function isSigned({ body, signature, timestamp }: Received): boolean {
      const der = Buffer.from(`302a300506032b6570032100${twin.application.signingKey.publicKey}`, 'hex');
      const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
      return verify(null, Buffer.concat([Buffer.from(timestamp), body]), key, Buffer.from(signature, 'hex'));
    }

    it('are signed over timestamp and body, and tried again until a 2xx', async () => {
      statuses = [500, 404];
      const ada = await member('ada');
      await steer(`users/${ada.id}/deauthorize`);
      await until('the delivery', () => twin.deliveries()[0]?.state === 'delivered');
      assert.deepEqual(
        twin.deliveries()[0]?.attempts.map(({ answers }) => answers),
        [[500], [404], [204]],
      );
      const event = JSON.parse(received[0]!.body.toString()) as {
        application_id: string;
        type: number;
        event: { type: string; data: { user: Person } };
      };
      assert.deepEqual([event.application_id, event.type], [twin.application.clientId, 1]);
      assert.deepEqual([event.event.type, event.event.data.user.id], ['APPLICATION_DEAUTHORIZED', ada.id]);
      assert.equal(new Set(received.map(({ body }) => body.toString())).size, 1);
    });

    it('are checked with a PING that is signed and one that is not', async () => {
      assert.deepEqual(await steer('check'), { ping: 204, forged_ping: 401 });
      assert.deepEqual(
        received.map(({ body }) => (JSON.parse(body.toString()) as { type: number }).type),
        [0, 0],
      );
    });

    for (const [name, fault] of [
      ['a wrong key', { wrong_secret: true }],
      ['an altered byte', { altered_byte: true }],
    ] as const) {
      it(`can be forged with ${name}, and the repetition is real`, async () => {
        twin.faults.add({ on: 'delivery', match: { channel: 'discord' }, fault });
        await steer(`users/${(await member('ada')).id}/deauthorize`);
        await until('the delivery', () => twin.deliveries()[0]?.state === 'delivered');
        assert.deepEqual(
          twin.deliveries()[0]?.attempts.map(({ answers }) => answers),
          [[401], [204]],
        );
      });
    }
  });

  describe('pages and control', () => {
    it('let a person join, boost, get a vote role and leave', async () => {
      const { guildId } = twin.application;
      const ada = await steer<Person>('users', { username: 'ada' });
      const press = (action: string, more: Record<string, string> = {}): Promise<Response> =>
        fetch(`${twin.url}/_twin`, { method: 'POST', body: new URLSearchParams({ user: ada.id, action, ...more }) });
      const role = (await api.guilds.getRoles(guildId)).find(({ name }) => name.includes('voter'))!;
      assert.match(await (await fetch(twin.url)).text(), /ada/);
      for (const [action, more] of [
        ['join', {}],
        ['boost', { count: '3' }],
        [`give ${role.id}`, {}],
      ] as const) {
        const response = await press(action, more);
        assert.equal(response.status, 200);
        await response.text();
      }
      assert.ok((await api.guilds.getMember(guildId, ada.id)).roles.includes(role.id));
      assert.equal((await api.guilds.get(guildId)).premium_subscription_count, 3);
      assert.equal((await press('boost', { count: '99' })).status, 409);
      assert.equal((await press('leave')).status, 200);
      assert.equal((await api.guilds.get(guildId)).premium_subscription_count, 0);
    });

    it('name the bad field of a control call', async () => {
      const ada = await member('ada');
      const cases = [
        ['users', { name: 'x' }, 400, 'name'],
        ['users', { username: 'x', account_age_days: -1 }, 400, 'account_age_days'],
        [`members/${ada.id}/boost`, { count: 0 }, 400, 'count'],
        [`members/${ada.id}/boosts`, {}, 404, null],
        ['members/100000000000000000/boost', {}, 404, null],
        ['faults', { on: 'rest', fault: { retry_later: 1 } }, 400, 'retry_later'],
        ['faults', { on: 'weather', fault: { drop: true } }, 400, 'on'],
        ['gateway/disconnect', { code: 1_000 }, 400, 'code'],
      ] as const;
      for (const [path, body, status, field] of cases) {
        const answer = await control<{ error: { field: string | null } }>('POST', path, body);
        assert.deepEqual([answer.status, answer.body.error.field], [status, field], path);
      }
      const broken = await fetch(`${twin.url}/_twin/users`, { method: 'POST', body: '{' });
      assert.equal(broken.status, 400);
    });
  });

  describe('as a process', () => {
    let folder: string;
    let child: ChildProcess | null = null;

    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'discord-twin-'));
    });
    afterEach(() => {
      child?.kill('SIGKILL');
      child = null;
      rmSync(folder, { recursive: true });
    });

    async function run(env: Record<string, string>): Promise<string> {
      const started = spawn(process.execPath, [MAIN], {
        env: { ...process.env, ...env },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      child = started;
      const [line] = (await once(createInterface(started.stdout), 'line')) as [string];
      return `http://127.0.0.1:${(JSON.parse(line) as { listening: number }).listening}`;
    }

    it('keeps people, boosts and tokens through kill -9, and takes what the product is told', async () => {
      const shared = productEnvironment(twin);
      const env = { ...shared, TWIN_PORT: '0', TWIN_DATA_FILE: join(folder, 'discord.json'), TWIN_SIGNING_SEED: 's' };
      const url = await run(env);
      const post = async (path: string, body: object): Promise<Record<string, string>> => {
        const response = await fetch(`${url}/_twin/${path}`, { method: 'POST', body: JSON.stringify(body) });
        return (await response.json()) as Record<string, string>;
      };
      const { id } = (await post('users', { username: 'ada', join: true })) as unknown as Person;
      await post(`members/${id}/boost`, { count: 4 });
      const { code } = await post(`users/${id}/authorize`, {});
      child?.kill('SIGKILL');
      await once(child!, 'exit');
      appendFileSync(join(folder, 'discord.json'), '["users","half');

      const again = new API(
        new REST({ api: `${await run(env)}/api`, retries: 0 }).setToken(shared['DISCORD_BOT_TOKEN']!),
      );
      assert.equal((await again.guilds.get(twin.application.guildId)).premium_subscription_count, 4);
      assert.equal(
        (await again.guilds.getMembers(twin.application.guildId, { limit: 1_000 })).length,
        4,
        'bot, ada, two demo users',
      );
      const token = await again.oauth2.tokenExchange({
        client_id: shared['DISCORD_CLIENT_ID']!,
        client_secret: shared['DISCORD_CLIENT_SECRET']!,
        grant_type: 'authorization_code',
        code: code!,
        redirect_uri: twin.application.redirectUris[0]!,
      });
      assert.equal(token.token_type, 'Bearer');
      child?.kill('SIGTERM');
      assert.deepEqual(await once(child!, 'exit'), [0, null]);
    });

    it('names every bad variable', async () => {
      const bad = { TWIN_PORT: '-1', DISCORD_GUILD_ID: 'x', TWIN_WEBHOOK_URL: 'nowhere' };
      const started = spawn(process.execPath, [MAIN], {
        env: { ...process.env, ...bad },
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      const lines: string[] = [];
      createInterface(started.stderr).on('line', (line) => void lines.push(line));
      const [code] = (await once(started, 'close')) as [number];
      assert.equal(code, 1);
      for (const name of Object.keys(bad)) assert.ok(lines.join().includes(name), lines.join());
    });
  });
});

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 10_000; !(await holds());) {
    assert.ok(performance.now() < deadline, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
