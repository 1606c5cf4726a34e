/**
 * How people let the application in at the Discord twin: the page they are sent to, with a plain browser's forms, and
 * what a code and a token are good for afterwards.
 */
import assert from 'node:assert/strict';

import type { API } from '@discordjs/core';
import { OAuth2Scopes } from 'discord-api-types/v10';

import { startDiscordTwin, type DiscordTwin } from '../../../twins/discord/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { botOf, clientOf, createdMsOf, member, type Person, refusedWith } from './fixture.ts';

const DAY_MS = 86_400_000;
const VERIFIER = 'v'.repeat(43);
/** S256 of the verifier. */
const CHALLENGE = '7w_YNF9DSfIdPf_pRjSq646_kPr-2-o9NAl16JGghdM';

describe('discord twin: oauth', () => {
  let twin: DiscordTwin;
  let api: API;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startDiscordTwin();
    api = botOf(twin);
  });
  afterEach(() => twin.close());

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

  /** Where the page sends the browser back to. */
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

  /** What the application sees as the person whose token it is. */
  function personApi(token: string): API {
    return clientOf(twin, token, { authPrefix: 'Bearer' });
  }

  it('lets a person in on the page and the application learn who it is', async () => {
    const ada = await member(control, 'ada');
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
    assert.equal(Math.round((Date.now() - createdMsOf({ id })) / DAY_MS), 3);
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
    const ada = await member(control, 'ada');
    const code = await codeOf(ada);
    await assert.rejects(exchange(code, { client_secret: 'wrong' }), refusedWith(401, 'invalid_client'));
    await assert.rejects(exchange(code, { redirect_uri: 'http://x.test/' }), refusedWith(400, 'invalid_grant'));
    await exchange(code);
    await assert.rejects(exchange(code), refusedWith(400, 'invalid_grant'));

    const late = await codeOf(ada);
    twin.advanceClock(601);
    await assert.rejects(exchange(late), refusedWith(400, 'invalid_grant'));

    const proved = await codeOf(ada, { code_challenge: CHALLENGE, code_challenge_method: 'S256' });
    await assert.rejects(exchange(proved), refusedWith(400, 'invalid_grant'));
    await exchange(proved, { code_verifier: VERIFIER });
  });

  it('reads nothing but forms', async () => {
    const { clientId, clientSecret, redirectUris } = twin.application;
    const code = await codeOf(await member(control, 'ada'));
    const asked = { grant_type: 'authorization_code', code, redirect_uri: redirectUris[0]! };
    const secrets = { client_id: clientId, client_secret: clientSecret };
    const post = (body: string | URLSearchParams, headers: Record<string, string>): Promise<Response> =>
      fetch(`${twin.apiUrl}/v10/oauth2/token`, { method: 'POST', headers, body });
    const json = await post(JSON.stringify({ ...asked, ...secrets }), { 'content-type': 'application/json' });
    assert.deepEqual([json.status, ((await json.json()) as { error: string }).error], [400, 'unsupported_grant_type']);
    const basic = Buffer.from(`${clientId}:${clientSecret}`).toString('base64');
    const form = await post(new URLSearchParams(asked), { authorization: `Basic ${basic}` });
    assert.equal(form.status, 200);
  });

  it('loses an answer after the code was used, so that the repetition is refused', async () => {
    const code = await codeOf(await member(control, 'ada'));
    twin.faults.add({ on: 'rest', match: { path: '/oauth2/token' }, fault: { drop_response_after_commit: true } });
    await assert.rejects(exchange(code));
    await assert.rejects(exchange(code), refusedWith(400, 'invalid_grant'));
  });

  it('ends tokens when they are given back, expire, or the person takes the permission away', async () => {
    const { clientId, clientSecret } = twin.application;
    const ada = await member(control, 'ada');
    const tokens: string[] = [];
    for (let index = 0; index < 3; index += 1) tokens.push((await exchange(await codeOf(ada))).access_token);
    const [given, taken] = tokens as [string, string, string];
    await api.oauth2.revokeToken(clientId, clientSecret, { token: given });
    await api.oauth2.revokeToken(clientId, clientSecret, { token: 'unknown' });
    await assert.rejects(personApi(given).users.getCurrent(), refusedWith(401, 0));
    await personApi(taken).users.getCurrent();
    await control.steer(`users/${ada.id}/deauthorize`);
    await assert.rejects(personApi(taken).users.getCurrent(), refusedWith(401, 0));

    const old = (await exchange(await codeOf(ada))).access_token;
    twin.advanceClock(604_801);
    await assert.rejects(personApi(old).users.getCurrent(), refusedWith(401, 0));
  });

  it('can be gone through without a browser', async () => {
    const ada = await member(control, 'ada');
    const { code, location } = await control.steer<{ code: string; location: string }>(`users/${ada.id}/authorize`, {
      state: 's',
    });
    assert.equal(new URL(location).searchParams.get('state'), 's');
    assert.equal((await exchange(code)).scope, 'identify');
  });
});
