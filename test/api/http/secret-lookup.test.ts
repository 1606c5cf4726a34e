/**
 * Looking up whose a secret is: wrong ones cost next to nothing, are told so or slowed down, and never keep a valid one
 * out. The cost is asserted by counting statements.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mock } from 'node:test';
import type pg from 'pg';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { FailedAttempts } from '../../../api/http/failed-attempts.ts';
import { createTokenLookup, type TokenLookup } from '../../../api/http/authenticate.ts';
import { createAccessToken, revokeAccessToken } from '../../../db/accounts/access-tokens.ts';
import { createPool } from '../../../db/shared/client.ts';
import { newSecret, TOKEN_PREFIX } from '../../../db/shared/secrets.ts';
import { Refusal } from '../../../domain/errors.ts';
import type { AccountUuid } from '../../../domain/ids.ts';
import { createCustomer, createLedgerDatabase, type LedgerDatabase } from '../../support/ledger-database.ts';
import { until } from '../../support/until.ts';

const ADDRESS = '192.0.2.1';
const BATCH = 256;

describe('looking secrets up', () => {
  let ledger: LedgerDatabase;
  let accountId: AccountUuid;
  let pool: pg.Pool;
  let statements = 0;
  let registry: Registry;
  let lookup: TokenLookup;
  let lines: Record<string, unknown>[];

  before(async () => {
    ledger = await createLedgerDatabase('secret_lookup');
    accountId = await createCustomer(ledger, '0');
    pool = createPool({ url: ledger.database.url, role: 'management', max: 1 });
    pool.on('acquire', () => statements++);
  });
  beforeEach(() => {
    statements = 0;
    lines = [];
    registry = new Registry();
    lookup = createLookup(pool);
  });
  after(async () => {
    await pool.end();
    await ledger.database.drop();
  });

  function createLookup(database: pg.Pool): TokenLookup {
    const logger = pino({}, { write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>) });
    return createTokenLookup(database, new FailedAttempts({ logger, registry }));
  }

  const wrong = (): string => newSecret(TOKEN_PREFIX);

  async function validToken(): Promise<string> {
    return (await createAccessToken(ledger.management, { role: 'account', accountId, name: 'test' })).secret;
  }

  /** The answer to a secret. */
  async function answerTo(secret: string, address = ADDRESS): Promise<'known' | 'unknown' | 'throttled'> {
    try {
      return (await lookup.find(secret, address)) === null ? 'unknown' : 'known';
    } catch (error) {
      assert.ok(error instanceof Refusal && error.code === 'rate_limit_exceeded', String(error));
      assert.ok(error.retryAfterSeconds !== null && error.retryAfterSeconds >= 1);
      return 'throttled';
    }
  }

  function count<T>(answers: readonly T[], answer: T): number {
    return answers.filter((candidate) => candidate === answer).length;
  }

  it('2,000 wrong secrets at once are eight statements, not 2,000', async () => {
    const answers = await Promise.all(Array.from({ length: 2000 }, (_, n) => answerTo(wrong(), `10.0.${n % 250}.1`)));
    assert.equal(count(answers, 'unknown'), 2000);
    assert.ok(statements <= Math.ceil(2000 / BATCH) + 1, `${statements} statements`);
  });

  it('one wrong secret in a loop is one statement, and soon has to wait', async () => {
    const secret = wrong();
    const answers = [];
    for (let n = 0; n < 500; n++) answers.push(await answerTo(secret));
    assert.equal(statements, 1);
    assert.ok(count(answers, 'unknown') >= 60 && count(answers, 'throttled') > 400, answers.join());
  });

  it('a site that goes on failing is told to wait, by all the addresses of its own', async () => {
    const site = (): string => `2001:db8:1:2:${randomBytes(2).toString('hex')}::1`;
    const answers = await Promise.all(Array.from({ length: 300 }, () => answerTo(wrong(), site())));
    assert.ok(count(answers, 'unknown') >= 100 && count(answers, 'throttled') >= 150);
    assert.equal(await answerTo(wrong(), '2001:db8:1:3::1'), 'unknown');
  });

  it('a valid secret that was never seen gets in through the failures of its own address and its own prefix', async () => {
    const valid = await validToken();
    const alike = (): string => valid.slice(0, 10) + randomBytes(21).toString('hex');
    let flooding = true;
    const flood = Array.from({ length: 50 }, async () => {
      const answers = [];
      while (flooding) answers.push(await answerTo(alike()));
      return answers;
    });
    await until('the failures to be throttled', async () => (await answerTo(alike())) === 'throttled');
    for (let n = 0; n < 20; n++) assert.equal(await answerTo(valid), 'known');
    assert.equal(await answerTo(await validToken()), 'known');
    flooding = false;
    const answers = (await Promise.all(flood)).flat();
    assert.ok(count(answers, 'throttled') > 100);
    assert.equal(count(answers, 'known'), 0);
    assert.ok(statements < answers.length / 3, `${statements} statements for ${answers.length} wrong secrets`);
  });

  it("somebody else's keys, sent here by mistake, cost no statement and are never throttled", async () => {
    const foreign = ['sk-proj-abcdefghijklmnop', 'x', '', TOKEN_PREFIX, TOKEN_PREFIX + 'x'.repeat(200)];
    for (let n = 0; n < 200; n++) assert.equal(await answerTo(foreign[n % foreign.length]!), 'unknown');
    assert.equal(statements, 0);
  });

  it('many callers with one secret share its look-up', async () => {
    const valid = await validToken();
    const answers = await Promise.all(Array.from({ length: 100 }, () => answerTo(valid)));
    assert.equal(count(answers, 'known'), 100);
    assert.equal(statements, 1);
  });

  it('a revoked secret is unknown from the next look-up on', async () => {
    const { token, secret } = await createAccessToken(ledger.management, { role: 'account', accountId, name: 'test' });
    assert.equal(await answerTo(secret), 'known');
    await revokeAccessToken(ledger.management, { id: token.id, keys: false });
    assert.equal(await answerTo(secret), 'unknown');
  });

  it('a secret that was tried before it was created works once its creation is heard of', async () => {
    const secret = wrong();
    assert.equal(await answerTo(secret), 'unknown');
    await createAccessToken(ledger.management, { role: 'account', accountId, name: 'test', secret });
    assert.equal(await answerTo(secret), 'unknown', 'remembered');
    lookup.forgetUnknown();
    assert.equal(await answerTo(secret), 'known');
  });

  it('a look-up that was under way when a secret was created is not remembered', async () => {
    const secret = wrong();
    const connection = await pool.connect();
    const first = answerTo(secret);
    await until('the look-up to wait for the connection', () => pool.waitingCount === 1);
    lookup.forgetUnknown();
    connection.release();
    assert.equal(await first, 'unknown');
    await createAccessToken(ledger.management, { role: 'account', accountId, name: 'test', secret });
    assert.equal(await answerTo(secret), 'known');
  });

  it('a database that does not answer is our fault, and what waits for it is bounded', async () => {
    const connection = await pool.connect();
    // Two calls under way, and two queues.
    const calls = Array.from({ length: 6000 }, () =>
      lookup.find(wrong(), ADDRESS).then(
        () => 'answered',
        (error: unknown) => String(error),
      ),
    );
    const refused = await Promise.race([...calls, Promise.resolve('none')]).then(() =>
      Promise.all(calls.map((call) => Promise.race([call, new Promise((resolve) => setImmediate(resolve, 'waits'))]))),
    );
    assert.ok(count(refused, 'waits') <= 2 * (2048 + BATCH), `${count(refused, 'waits')} wait`);
    connection.release();
    await Promise.all(calls);
  });

  it('failures are counted, and logged in one line with their beginnings and never a secret', async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    // A pool of its own: a timer that was set by the real clock could not be cleared by the stopped one.
    const ownPool = createPool({ url: ledger.database.url, role: 'management', max: 1 });
    registry = new Registry();
    lookup = createLookup(ownPool);
    const secrets = Array.from({ length: 30 }, wrong);
    const foreign = 'sk-proj-0123456789abcdef';
    try {
      // With the clock stopped nothing may wait for it: the look-ups are answered by the database alone.
      await Promise.all([...secrets, foreign].map((secret) => answerTo(secret)));
      assert.deepEqual(lines, []);
      mock.timers.tick(10_000);
    } finally {
      await ownPool.end();
      mock.timers.reset();
    }
    assert.equal(lines.length, 1);
    const [line] = lines;
    assert.deepEqual([line!['level'], line!['attempts']], [40, 31]);
    const text = JSON.stringify(line);
    for (const secret of [...secrets, foreign]) assert.ok(!text.includes(secret.slice(0, 14)), text);
    const shown = (line!['most'] as { prefix: string }[]).map(({ prefix }) => prefix);
    assert.ok(shown.length > 0 && shown.length <= 10);
    const beginnings = new Set([...secrets.map((secret) => secret.slice(0, 10)), 'sk-p']);
    assert.ok(
      shown.every((prefix) => beginnings.has(prefix)),
      shown.join(),
    );
    const text2 = await registry.metrics();
    assert.match(text2, /holdfast_authentication_failures_total\{kind="management_token",answer="refused"\} 31/);
    assert.match(text2, /holdfast_authentication_lookups_total\{kind="management_token"\} 1\b/);
  });
});
