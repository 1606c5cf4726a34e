/** The Discord twin as a process of its own: what it keeps when it is killed, and what it does not start with. */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

import { DEFAULT_TOPGG_PROJECT, DEFAULT_VOTE_SECRETS } from '../../../twins/discord/directories/sites.ts';
import { DEFAULT_APPLICATION } from '../../../twins/discord/application.ts';
import { productEnvironment } from '../../../twins/discord/config.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { complaintOf, TwinProcesses } from '../../support/twin-process.ts';
import { clientOf, member } from './fixture.ts';

describe('discord twin as a process', () => {
  let twins: TwinProcesses;

  beforeEach(() => {
    twins = new TwinProcesses('discord');
  });
  afterEach(() => twins.end());

  it('keeps people, boosts and tokens through kill -9, and takes what the product is told', async () => {
    const { botToken, clientId, clientSecret, guildId, redirectUris } = DEFAULT_APPLICATION;
    const dataFile = join(twins.folder, 'discord.json');
    const environment = {
      ...productEnvironment({
        url: 'http://discord.test',
        application: DEFAULT_APPLICATION,
        voteSecrets: DEFAULT_VOTE_SECRETS,
        topggProjectId: DEFAULT_TOPGG_PROJECT,
      }),
      TWIN_PORT: '0',
      TWIN_DATA_FILE: dataFile,
      TWIN_SIGNING_SEED: 's',
    };
    const killed = await twins.start(environment);
    const control = new TwinControl(() => killed.url);
    const ada = await member(control, 'ada');
    await control.steer(`members/${ada.id}/boost`, { count: 4 });
    const { code } = await control.steer<{ code: string }>(`users/${ada.id}/authorize`);
    await killed.stop('SIGKILL');
    appendFileSync(dataFile, '["users","half');

    const again = await twins.start(environment);
    const api = clientOf({ apiUrl: `${again.url}/api` }, botToken);
    assert.equal((await api.guilds.get(guildId)).premium_subscription_count, 4);
    assert.equal((await api.guilds.getMembers(guildId, { limit: 1_000 })).length, 4, 'bot, ada, two demo users');
    const token = await api.oauth2.tokenExchange({
      client_id: clientId,
      client_secret: clientSecret,
      grant_type: 'authorization_code',
      code,
      redirect_uri: redirectUris[0]!,
    });
    assert.equal(token.token_type, 'Bearer');
    assert.equal(await again.stop('SIGTERM'), 0);
  });

  it('names every bad variable', async () => {
    const bad = { TWIN_PORT: '-1', DISCORD_GUILD_ID: 'x', TWIN_WEBHOOK_URL: 'nowhere' };
    const complaint = await complaintOf('discord', bad);
    for (const name of Object.keys(bad)) assert.ok(complaint.includes(name), complaint);
  });
});
