/** The page of the Discord twin's server, with a plain browser's forms, and what its control interface refuses. */
import assert from 'node:assert/strict';

import { startDiscordTwin, type DiscordTwin } from '../../../twins/discord/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { botOf, member, type Person } from './fixture.ts';

describe('discord twin: pages and control', () => {
  let twin: DiscordTwin;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    twin = await startDiscordTwin();
  });
  afterEach(() => twin.close());

  it('let a person join, boost, get a vote role and leave', async () => {
    const { guildId } = twin.application;
    const { guilds } = botOf(twin);
    const ada = await control.steer<Person>('users', { username: 'ada' });
    const press = (action: string, more: Record<string, string> = {}): Promise<Response> =>
      fetch(`${twin.url}/_twin`, { method: 'POST', body: new URLSearchParams({ user: ada.id, action, ...more }) });
    const role = (await guilds.getRoles(guildId)).find(({ name }) => name.includes('voter'))!;
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
    assert.ok((await guilds.getMember(guildId, ada.id)).roles.includes(role.id));
    assert.equal((await guilds.get(guildId)).premium_subscription_count, 3);
    assert.equal((await press('boost', { count: '99' })).status, 409);
    assert.equal((await press('leave')).status, 200);
    assert.equal((await guilds.get(guildId)).premium_subscription_count, 0);
  });

  it('name the bad field of a control call', async () => {
    const ada = await member(control, 'ada');
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
      const answer = await control.call<{ error: { field: string | null } }>('POST', path, body);
      assert.deepEqual([answer.status, answer.body.error.field], [status, field], path);
    }
    const broken = await fetch(`${twin.url}/_twin/users`, { method: 'POST', body: '{' });
    assert.equal(broken.status, 400);
  });
});
