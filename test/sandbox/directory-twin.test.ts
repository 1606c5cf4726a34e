/**
 * The vote directories of the Discord twin: what each site sends, how it proves itself, how often it tries. The product's
 * adapters are checked against these senders, so a field that a site does not send must not appear here.
 */
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

import { SITE_NAMES } from '../../sandbox/twins/directories/sites.ts';
import {
  type DeliveryRow,
  type DiscordTwin,
  type SiteName,
  startDiscordTwin,
} from '../../sandbox/twins/discord/twin.ts';

const VOTER = '223456789012345678';
const OTHER_LISTING = '323456789012345678';

interface Received {
  readonly site: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly json: Record<string, unknown>;
}

interface Voted {
  readonly id: string;
  readonly at: string;
}

describe('vote directories', () => {
  let twin: DiscordTwin;
  let server: Server;
  let received: Received[];
  /** What the endpoint answers; null closes the connection without a word. */
  let answer: number | null;

  beforeEach(async () => {
    received = [];
    answer = 200;
    server = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part));
      request.on('end', () => {
        const body = Buffer.concat(parts).toString();
        const json = JSON.parse(body) as Record<string, unknown>;
        received.push({ site: (request.url ?? '').replace('/hooks/votes/', ''), headers: request.headers, body, json });
        if (answer === null) response.destroy();
        else response.writeHead(answer).end();
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    twin = await startDiscordTwin({ webhookUrl: `http://127.0.0.1:${port}/hooks`, retrySecondMs: 1 });
  });
  afterEach(async () => {
    await twin.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  async function control<T>(method: string, path: string, body?: unknown): Promise<{ status: number; body: T }> {
    const response = await fetch(`${twin.url}/_twin/${path}`, {
      method,
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    return { status: response.status, body: (await response.json()) as T };
  }

  async function vote(site: SiteName, more: Record<string, unknown> = {}): Promise<Voted> {
    const { status, body } = await control<Voted>('POST', 'votes', { site, discord_user_id: VOTER, ...more });
    assert.equal(status, 200, JSON.stringify(body));
    return body;
  }

  function delivery({ id }: Voted): DeliveryRow {
    return twin.deliveries().find((row) => row.id === id)!;
  }

  async function ended(voted: Voted): Promise<DeliveryRow> {
    await until('the end of the delivery', () => delivery(voted).state !== 'pending');
    return delivery(voted);
  }

  const answersOf = ({ attempts }: DeliveryRow): unknown[] => attempts.flatMap(({ answers }) => answers);

  function isSigned({ headers, body }: Received, secret = twin.voteSecrets.topgg): boolean {
    const [, timestamp, signature] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['x-topgg-signature'])) ?? [];
    return createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex') === signature;
  }

  it('sign at top.gg, with the vote’s own id, time, weight and next time', async () => {
    const voted = await vote('topgg', { weight: 2, at: '2026-01-02T03:04:05Z' });
    await ended(voted);
    const [sent] = received as [Received];
    assert.equal(sent.site, 'topgg');
    assert.ok(isSigned(sent));
    assert.ok(!isSigned(sent, 'another secret'));
    assert.match(String(sent.headers['x-topgg-trace']), /^[0-9a-f-]{36}$/);
    const { user, ...data } = sent.json['data'] as Record<string, Record<string, unknown>>;
    assert.equal(sent.json['type'], 'vote.create');
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
    const [{ json }] = received as [Received];
    assert.equal(json['type'], 'webhook.test');
    assert.deepEqual(Object.keys(json['data'] as object).sort(), ['project', 'user']);
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
      const [sent] = received as [Received];
      assert.deepEqual([sent.site, sent.headers.authorization], [site, twin.voteSecrets[site]]);
      assert.deepEqual(sent.json, expected());
    });
  }

  it('name another listing where they can name one', async () => {
    for (const site of ['topgg', 'topgg-v0', 'discordplace', 'guildsme'] as const) {
      await ended(await vote(site, { project_id: OTHER_LISTING }));
      assert.ok(received.at(-1)?.body.includes(OTHER_LISTING), site);
      assert.ok(!received.at(-1)?.body.includes(guild()), site);
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
          answer = status;
          const voted = await vote(site);
          // The longest waits are minutes even in a scaled-down directory.
          const row = await endedByClock(voted);
          assert.deepEqual([row.state, answersOf(row)], ['given_up', Array.from({ length: count }, () => status)]);
        }
      });
    }

    it('after a connection that broke, until a 2xx, and with the same bytes', async () => {
      answer = null;
      const voted = await vote('topgg');
      await until('an attempt', () => received.length > 0);
      answer = 204;
      const row = await ended(voted);
      assert.equal(row.state, 'delivered');
      assert.equal(answersOf(row).at(-1), 204);
      assert.equal(new Set(received.map(({ body }) => body)).size, 1);
    });

    it('when only the answer was lost, so that the product gets the vote twice', async () => {
      twin.faults.add({ on: 'delivery', match: { channel: 'topgg' }, fault: { lose_answer: true } });
      const row = await ended(await vote('topgg'));
      assert.deepEqual(answersOf(row), ['the answer was lost', 200]);
      assert.equal(received.length, 2);
    });

    it('on request, long after', async () => {
      const voted = await vote('guildsme');
      await ended(voted);
      await control('POST', `deliveries/${voted.id}/redeliver`);
      assert.deepEqual(received[0]?.json, received[1]?.json);
      assert.equal((await control('POST', 'deliveries/1/redeliver')).status, 404);
    });

    async function endedByClock(voted: Voted): Promise<DeliveryRow> {
      for (let known = -1; delivery(voted).state === 'pending';) {
        const { attempts: made, next_attempt_ms: next } = delivery(voted);
        if (made.length > known && next !== null) {
          known = made.length;
          twin.advanceClock(2);
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return delivery(voted);
    }
  });

  describe('go wrong', () => {
    it('by several copies at once, by none, and late', async () => {
      twin.faults.add({ on: 'delivery', fault: { duplicate: 5 } });
      assert.deepEqual(answersOf(await ended(await vote('topgg'))), [200, 200, 200, 200, 200]);
      assert.equal(new Set(received.map(({ body }) => body)).size, 1);

      twin.faults.add({ on: 'delivery', fault: { drop: true } });
      assert.equal((await ended(await vote('topgg'))).state, 'dropped');
      assert.equal(received.length, 5);

      twin.faults.add({ on: 'delivery', fault: { delay_ms: 3_600_000 } });
      const late = await vote('discordplace');
      await ended(await vote('guildsme'));
      assert.equal(delivery(late).state, 'pending');
      twin.advanceClock(3_600);
      await ended(late);
      assert.deepEqual(
        received.slice(5).map(({ site }) => site),
        ['guildsme', 'discordplace'],
      );
    });

    for (const site of SITE_NAMES) {
      it(`by a wrong secret at ${site}`, async () => {
        twin.faults.add({ on: 'delivery', match: { channel: site }, fault: { wrong_secret: true } });
        await ended(await vote(site));
        const [sent] = received as [Received];
        if (site === 'topgg') assert.ok(!isSigned(sent) && isSigned(sent, 'not-the-secret'));
        else assert.notEqual(sent.headers.authorization, twin.voteSecrets[site]);
      });
    }

    it('by a byte that changed on the way, which is still JSON', async () => {
      twin.faults.add({ on: 'delivery', fault: { altered_byte: true } });
      const voted = await vote('topgg');
      await ended(voted);
      const [sent] = received as [Received];
      assert.ok(!isSigned(sent));
      assert.notEqual(sent.body, delivery(voted).body);
    });

    for (const [name, fault, offset] of [
      ['old', { stale_seconds: 301 }, -301],
      ['future', { future_seconds: 301 }, 301],
    ] as const) {
      it(`by a signature with a time in the ${name === 'old' ? 'past' : 'future'}`, async () => {
        twin.faults.add({ on: 'delivery', fault });
        await ended(await vote('topgg'));
        const [sent] = received as [Received];
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
      const answered = await control<{ error: { field: string } }>('POST', 'votes', {
        discord_user_id: VOTER,
        ...body,
      });
      assert.deepEqual([answered.status, answered.body.error.field], [400, field]);
    }
    assert.equal(twin.deliveries().length, 0);
  });

  describe('on their page', () => {
    async function person(): Promise<string> {
      const { body } = await control<{ id: string }>('POST', 'users', { username: 'ada' });
      return body.id;
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
      await until('four webhooks', () => received.length === 4);
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

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 10_000; !(await holds());) {
    assert.ok(performance.now() < deadline, `waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
