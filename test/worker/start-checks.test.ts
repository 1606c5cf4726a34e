/** Warnings of a worker about its set-up soon after its start: each with its cure, and never a reason to stop. */
import assert from 'node:assert/strict';
import { pino, type Logger } from 'pino';
import { startStripeTwin, type StripeTwin } from '../../twins/stripe/twin.ts';
import { parseWorkerConfig } from '../../worker/config.ts';
import { warnOfSetUp } from '../../worker/start-checks.ts';
import { createTestDatabase, type TestDatabase } from '../support/services.ts';

describe('the set-up at the start of a worker', () => {
  let database: TestDatabase;
  let stripe: StripeTwin;
  before(async () => {
    database = await createTestDatabase('start-checks');
    stripe = await startStripeTwin();
  });
  after(async () => {
    await stripe.close();
    await database.drop();
  });

  function collecting(): { logger: Logger; lines: Record<string, unknown>[] } {
    const lines: Record<string, unknown>[] = [];
    const write = (line: string): void => void lines.push(JSON.parse(line) as Record<string, unknown>);
    return { logger: pino({ formatters: { level: (level) => ({ level }) } }, { write }), lines };
  }

  const environment = () => ({
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: '127.0.0.1:1',
    PUBLIC_URL: 'http://127.0.0.1:1',
    STRIPE_SECRET_KEY: 'sk_test_start_checks',
    STRIPE_WEBHOOK_SECRETS: 'whsec_0123456789abcdef0123',
    STRIPE_API_URL: stripe.url,
  });

  it('is told as warnings with their cures, without a secret', async () => {
    const { logger, lines } = collecting();
    const stopping = new AbortController().signal;
    await warnOfSetUp({
      ...{ config: parseWorkerConfig(environment()), environment: environment(), logger, stopping, afterMs: 0 },
    });
    const told = new Map(lines.map(({ check, ...line }) => [check, line]));
    for (const [check, message, cure] of [
      ['temporal', /^set-up: no Temporal server answers at TEMPORAL_ADDRESS/, /^start it/],
      ['public address', /^set-up: nobody answers at PUBLIC_URL/, /^start the api/],
      ['stripe webhook', /^set-up: no webhook endpoint .* leads to .*: there is none/, /^add it/],
    ] as const) {
      const line = told.get(check);
      assert.equal(line?.['level'], 'warn', check);
      assert.match(String(line['msg']), message);
      assert.match(String(line['cure']), cure);
    }
    // The worker's own role may ask for all that is looked at.
    assert.equal(told.has('postgresql') || told.has('webhooks') || told.has('stripe events'), false);
    assert.doesNotMatch(JSON.stringify(lines), /sk_test|whsec_/);
  });

  it('is not looked at by a worker that is stopped before', async () => {
    const { logger, lines } = collecting();
    await warnOfSetUp({
      ...{ config: parseWorkerConfig(environment()), environment: environment(), logger },
      stopping: AbortSignal.abort(),
    });
    assert.deepEqual(lines, []);
  });
});
