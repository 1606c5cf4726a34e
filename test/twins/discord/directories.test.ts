/**
 * The vote directories of the Discord twin: what each site sends, how it proves itself, how often it tries. The
 * product's adapters are checked against these senders, so a field that a site does not send must not appear here.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';

import { SITE_NAMES } from '../../../twins/discord/directories/vote.ts';
import {
  type ChannelDelivery,
  type DiscordTwin,
  type SiteName,
  startDiscordTwin,
} from '../../../twins/discord/twin.ts';
import { TwinControl } from '../../support/twin-control.ts';
import { until } from '../../support/until.ts';
import { type Delivery, WebhookEndpoint } from '../../support/webhook-endpoint.ts';

const VOTER = '223456789012345678';
const OTHER_LISTING = '323456789012345678';

interface Voted {
  readonly id: string;
  readonly at: string;
}

describe('vote directories', () => {
  let twin: DiscordTwin;
  let endpoint: WebhookEndpoint;
  const control = new TwinControl(() => twin.url);

  beforeEach(async () => {
    endpoint = await WebhookEndpoint.start();
    twin = await startDiscordTwin({ webhookUrl: endpoint.url, retrySecondMs: 1 });
  });
  afterEach(async () => {
    await twin.close();
    await endpoint.close();
  });

  function vote(site: SiteName, more: Record<string, unknown> = {}): Promise<Voted> {
    return control.steer('votes', { site, discord_user_id: VOTER, ...more });
  }

  function rowOf({ id }: Voted): ChannelDelivery {
    return twin.deliveries().find((row) => row.id === id)!;
  }

  async function ended(voted: Voted): Promise<ChannelDelivery> {
    await until('the end of the delivery', () => rowOf(voted).state !== 'pending');
    return rowOf(voted);
  }

  const answersOf = ({ attempts }: ChannelDelivery): unknown[] => attempts.flatMap(({ answers }) => answers);

  const jsonOf = ({ body }: Delivery): Record<string, unknown> => JSON.parse(body) as Record<string, unknown>;

  function isSigned({ headers, body }: Delivery, secret = twin.voteSecrets.topgg): boolean {
    const [, timestamp, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['x-topgg-signature'])) ?? [];
    return createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex') === signature;
  }

  it('sign at top.gg, with the vote’s own id, time, weight and next time', async () => {
    const voted = await vote('topgg', { weight: 2, at: '2026-01-02T03:04:05Z' });
    await ended(voted);
    const sent = endpoint.received[0]!;
    assert.equal(sent.path, '/votes/topgg');
    assert.ok(isSigned(sent));
    assert.ok(!isSigned(sent, 'another secret'));
    assert.match(String(sent.headers['x-topgg-trace']), /^[0-9a-f-]{36}$/);
    const { type, data: payload } = jsonOf(sent);
    const { user, ...data } = payload as Record<string, Record<string, unknown>>;
    assert.equal(type, 'vote.create');
    assert.equal(user?.['platform_id'], VOTER);
    assert.deepEqual(data, {
      id: voted.id,
      weight: 2,
      created_at: '2026-01-02T03:04:05.000Z',
      expires_at: '2026-01-02T15:04:05.000Z',
      project: {
        id: twin.topggProjectId,
        type: 'server',
        platform: 'discord',
        platform_id: twin.application.guildId,
      },
    });
  });

  it('send tests of top.gg without a vote', async () => {
    await ended(await vote('topgg', { test: true }));
    const { type, data } = jsonOf(endpoint.received[0]!);
    assert.equal(type, 'webhook.test');
    assert.deepEqual(Object.keys(data as object).sort(), ['project', 'user']);
  });

  const guild = (): string => twin.application.guildId;
  const plain: readonly (readonly [SiteName, Record<string, unknown>, () => Record<string, unknown>])[] = [
    ['topgg-v0', { weight: 2 }, () => ({ guild: guild(), user: VOTER, type: 'upvote', isWeekend: true, query: '' })],
    ['topgg-v0', { test: true }, () => ({ guild: guild(), user: VOTER, type: 'test', isWeekend: false, query: '' })],
    ['discordbotlist', {}, () => ({ admin: false, avatar: null, username: 'somebody', id: VOTER })],
    ['discordplace', {}, () => ({ guild: guild(), user: VOTER, test: false })],
    [
      'discordplace',
      { test: true, project_id: OTHER_LISTING },
      () => ({ guild: OTHER_LISTING, user: VOTER, test: true }),
    ],
    [
      'guildsme',
      { weight: 2 },
      () => ({
        event: 'vote',
        guildId: guild(),
        double: true,
        user: { id: VOTER, discord: true, avatar: null, global_name: null, username: 'somebody' },
      }),
    ],
  ];
  for (const [site, more, expected] of plain) {
    it(`send at ${site} (${JSON.stringify(more)}) the shared secret and what the site says of a vote`, async () => {
      await ended(await vote(site, more));
      const sent = endpoint.received[0]!;
      assert.deepEqual([sent.path, sent.headers.authorization], [`/votes/${site}`, twin.voteSecrets[site]]);
      assert.deepEqual(jsonOf(sent), expected());
    });
  }

  it('name another listing where they can name one', async () => {
    for (const site of ['topgg', 'topgg-v0', 'discordplace', 'guildsme'] as const) {
      await ended(await vote(site, { project_id: OTHER_LISTING }));
      assert.ok(endpoint.received.at(-1)?.body.includes(OTHER_LISTING), site);
      assert.ok(!endpoint.received.at(-1)?.body.includes(guild()), site);
    }
  });

  describe('try again', () => {
    const attempts: readonly (readonly [SiteName, { fails: number; refused: number }])[] = [
      ['topgg', { fails: 4, refused: 1 }],
      ['topgg-v0', { fails: 11, refused: 1 }],
      ['discordbotlist', { fails: 1, refused: 1 }],
      ['discordplace', { fails: 4, refused: 4 }],
      ['guildsme', { fails: 11, refused: 1 }],
    ];
    for (const [site, { fails, refused }] of attempts) {
      it(`at ${site}: ${fails} attempts while the endpoint fails, ${refused} when it refuses`, async () => {
        for (const [status, count] of [
          [500, fails],
          [404, refused],
        ] as const) {
          endpoint.answer = () => status;
          const voted = await vote(site);
          const row = await endedByClock(voted);
          assert.deepEqual([row.state, answersOf(row)], ['given_up', Array.from({ length: count }, () => status)]);
        }
      });
    }

    it('after a connection that broke, until a 2xx, and with the same bytes', async () => {
      endpoint.answer = () => (endpoint.received.length === 1 ? null : 204);
      const row = await ended(await vote('topgg'));
      assert.equal(row.state, 'delivered');
      assert.equal(answersOf(row).at(-1), 204);
      assert.equal(new Set(endpoint.received.map(({ body }) => body)).size, 1);
    });

    it('when only the answer was lost, so that the product gets the vote twice', async () => {
      twin.faults.add({ on: 'delivery', match: { channel: 'topgg' }, fault: { lose_answer: true } });
      const row = await ended(await vote('topgg'));
      assert.deepEqual(answersOf(row), ['the answer was lost', 200]);
      assert.equal(endpoint.received.length, 2);
    });

    it('on request, long after', async () => {
      const voted = await vote('guildsme');
      await ended(voted);
      await control.steer(`deliveries/${voted.id}/redeliver`);
      const [first, again] = endpoint.received as [Delivery, Delivery];
      assert.deepEqual(jsonOf(again), jsonOf(first));
      assert.equal((await control.call('POST', 'deliveries/1/redeliver')).status, 404);
    });

    /** Moves the clock after each attempt: the longest waits are minutes even in a scaled-down directory. */
    function endedByClock(voted: Voted): Promise<ChannelDelivery> {
      let known = -1;
      return until('the end of the delivery', () => {
        const row = rowOf(voted);
        if (row.state !== 'pending') return row;
        if (row.attempts.length > known && row.next_attempt_ms !== null) {
          known = row.attempts.length;
          twin.advanceClock(2);
        }
        return null;
      });
    }
  });

  describe('go wrong', () => {
    it('by several copies at once, by none, and late', async () => {
      twin.faults.add({ on: 'delivery', fault: { duplicate: 5 } });
      assert.deepEqual(answersOf(await ended(await vote('topgg'))), [200, 200, 200, 200, 200]);
      assert.equal(new Set(endpoint.received.map(({ body }) => body)).size, 1);

      twin.faults.add({ on: 'delivery', fault: { drop: true } });
      assert.equal((await ended(await vote('topgg'))).state, 'dropped');
      assert.equal(endpoint.received.length, 5);

      twin.faults.add({ on: 'delivery', fault: { delay_ms: 3_600_000 } });
      const late = await vote('discordplace');
      await ended(await vote('guildsme'));
      assert.equal(rowOf(late).state, 'pending');
      twin.advanceClock(3_600);
      await ended(late);
      assert.deepEqual(
        endpoint.received.slice(5).map(({ path }) => path),
        ['/votes/guildsme', '/votes/discordplace'],
      );
    });

    for (const site of SITE_NAMES) {
      it(`by a wrong secret at ${site}`, async () => {
        twin.faults.add({ on: 'delivery', match: { channel: site }, fault: { wrong_secret: true } });
        await ended(await vote(site));
        const sent = endpoint.received[0]!;
        if (site === 'topgg') assert.ok(!isSigned(sent) && isSigned(sent, 'not-the-secret'));
        else assert.notEqual(sent.headers.authorization, twin.voteSecrets[site]);
      });
    }

    it('by a byte that changed on the way, which is still JSON', async () => {
      twin.faults.add({ on: 'delivery', fault: { altered_byte: true } });
      const voted = await vote('topgg');
      await ended(voted);
      const sent = endpoint.received[0]!;
      assert.ok(!isSigned(sent));
      assert.notEqual(sent.body, rowOf(voted).body);
      assert.doesNotThrow(() => jsonOf(sent));
    });

    for (const [name, fault, offset] of [
      ['old', { stale_seconds: 301 }, -301],
      ['future', { future_seconds: 301 }, 301],
    ] as const) {
      it(`by a signature with a time in the ${name === 'old' ? 'past' : 'future'}`, async () => {
        twin.faults.add({ on: 'delivery', fault });
        await ended(await vote('topgg'));
        const sent = endpoint.received[0]!;
        assert.ok(isSigned(sent));
        const timestamp = Number(/t=(\d+)/.exec(String(sent.headers['x-topgg-signature']))?.[1]);
        const away = timestamp - Date.now() / 1000;
        assert.equal(Math.sign(away), Math.sign(offset));
        assert.ok(Math.abs(away) > 200);
      });
    }
  });

  it('refuse fields that a site has no place for, and others that are wrong', async () => {
    const cases = [
      [{ site: 'discordbotlist', test: true }, 'test'],
      [{ site: 'discordbotlist', project_id: OTHER_LISTING }, 'project_id'],
      [{ site: 'discordplace', weight: 2 }, 'weight'],
      [{ site: 'guildsme', test: true }, 'test'],
      [{ site: 'topgg', weight: 3 }, 'weight'],
      [{ site: 'topgg', at: 'yesterday' }, 'at'],
      [{ site: 'elsewhere' }, 'site'],
      [{ site: 'topgg', discord_user_id: 'ada' }, 'discord_user_id'],
      [{ site: 'topgg', vote: 1 }, 'vote'],
    ] as const;
    for (const [body, field] of cases) {
      const answer = await control.call<{ error: { field: string } }>('POST', 'votes', {
        discord_user_id: VOTER,
        ...body,
      });
      assert.deepEqual([answer.status, answer.body.error.field], [400, field]);
    }
    assert.equal(twin.deliveries().length, 0);
  });

  describe('on their page', () => {
    async function person(): Promise<string> {
      return (await control.steer<{ id: string }>('users', { username: 'ada' })).id;
    }

    const press = (user: string, site: string): Promise<Response> =>
      fetch(`${twin.url}/directories`, { method: 'POST', body: new URLSearchParams({ user, site }) });

    it('let a person vote, once in the site’s own cooldown, and show what became of it', async () => {
      const ada = await person();
      for (const [site, hours] of [
        ['topgg', 12],
        ['discordplace', 24],
      ] as const) {
        assert.equal((await press(ada, site)).status, 200);
        twin.advanceClock(hours * 3_600 - 60);
        const early = await press(ada, site);
        assert.equal(early.status, 409);
        assert.match(await early.text(), /next vote on .* is possible at/);
        twin.advanceClock(60);
        assert.equal((await press(ada, site)).status, 200);
      }
      await until('four webhooks', () => endpoint.received.length === 4);
      await until('their ends', () => twin.deliveries().every(({ state }) => state === 'delivered'));
      const page = await (await fetch(`${twin.url}/directories`)).text();
      assert.equal(page.match(/webhook delivered: 200/g)?.length, 4);
      assert.match(page, /ada on discord\.place/);
    });

    it('know neither strangers nor other sites', async () => {
      assert.equal((await press(VOTER, 'topgg')).status, 404);
      assert.equal((await press(await person(), 'elsewhere')).status, 422);
    });
  });
});
