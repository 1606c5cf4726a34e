/**
 * What many look-ups, wrong keys and wrong tokens may not do: slow down or keep out anybody else. Real processes; what
 * it costs is asserted by counting statements and answers.
 */
import assert from 'node:assert/strict';
import type pg from 'pg';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { createApiKey } from '../../../../../db/accounts/api-keys.ts';
import { API_KEY_PREFIX, newSecret, TOKEN_PREFIX } from '../../../../../db/shared/secrets.ts';
import { metric } from '../../../../recovery/evidence.ts';
import {
  addKey,
  createCustomer,
  get,
  MESSAGES,
  post,
  refusalOf,
  STACK_START_MS,
  type Customer,
} from '../../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

const RATES = { LOOKUPS_PER_SECOND: '10', ACCOUNT_LOOKUPS_PER_SECOND: '15' };
/** Four seconds' worth. */
const KEY_BURST = 40;

describe('gateway: look-ups and strangers', () => {
  let stack: TestStack;
  let management: pg.Pool;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-lookup-limit', worker: false, env: RATES });
    management = stack.database.pool('management', { max: 2 });
  });
  after(() => stack.stop());

  const chat = ({ secret }: Customer): Promise<Response> =>
    post(stack, secret, { model: 'test/small', messages: MESSAGES });

  async function tokenOf({ account }: Customer, secret?: string): Promise<string> {
    const given = { role: 'account', accountId: account.uuid, name: 'test' } as const;
    return (await createAccessToken(management, secret === undefined ? given : { ...given, secret })).secret;
  }

  async function statusOf(call: Promise<Response>): Promise<number> {
    const response = await call;
    await response.arrayBuffer();
    return response.status;
  }

  it('2,000 wrong tokens and 2,000 wrong keys are some hundred statements, and every valid call gets its answer meanwhile', async function () {
    this.timeout(60_000);
    const customer = await createCustomer(stack, '1');
    const token = await tokenOf(customer);
    const floods = [
      { kind: 'management_token', prefix: TOKEN_PREFIX, path: '/api/account' },
      { kind: 'api_key', prefix: API_KEY_PREFIX, path: '/v1/credits' },
    ];
    const wrong = 2000;
    let sent = 0;
    const statuses = new Set<number>();
    const flood = floods.map(async ({ prefix, path }) => {
      let left = wrong;
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          while (left-- > 0) {
            statuses.add(await statusOf(get(stack, newSecret(prefix), path)));
            sent++;
          }
        }),
      );
    });
    let valid = 0;
    while (sent < floods.length * wrong * 0.9) {
      assert.equal(await statusOf(get(stack, token, '/api/account')), 200);
      assert.equal(await statusOf(chat(customer)), 200);
      // Never seen by this process, from an address of which thousands are unknown.
      assert.equal(await statusOf(chat(await addKey(stack, customer.account))), 200);
      assert.equal(await statusOf(get(stack, await tokenOf(customer), '/api/account')), 200);
      valid++;
    }
    await Promise.all(flood);
    assert.ok(valid > 0);
    assert.deepEqual([...statuses].sort(), [401, 429]);
    for (const { kind } of floods) {
      const lookups = await metric(stack, 'holdfast_authentication_lookups_total', { kind });
      assert.ok(lookups < wrong / 4 + 3 * valid, `${lookups} statements for ${wrong} secrets and ${valid} valid calls`);
      const failures = await Promise.all(
        ['refused', 'throttled'].map((answer) =>
          metric(stack, 'holdfast_authentication_failures_total', { kind, answer }),
        ),
      );
      assert.equal(failures[0]! + failures[1]!, wrong);
    }
  });

  it('a key or token that was tried before it was created works as soon as it is', async () => {
    const customer = await createCustomer(stack, '1');
    const [key, token] = [newSecret(API_KEY_PREFIX), newSecret(TOKEN_PREFIX)];
    const wrongStatus = async (path: string, secret: string): Promise<boolean> =>
      [401, 429].includes(await statusOf(get(stack, secret, path)));
    assert.ok(await wrongStatus('/v1/key', key));
    assert.ok(await wrongStatus('/api/account', token));
    await createApiKey(management, {
      accountId: customer.account.uuid,
      name: 'late',
      expiresAt: null,
      limit: null,
      limitReset: 'none',
      models: null,
      ipAllowlist: null,
      secret: key,
    });
    await tokenOf(customer, token);
    // The cache would remember for 0.5 and 5 seconds; the notification comes in milliseconds.
    await until('the key', async () => (await statusOf(get(stack, key, '/v1/key'))) === 200, 400);
    await until('the token', async () => (await statusOf(get(stack, token, '/api/account'))) === 200, 2000);
  });

  it('a key that polls is told when it may again, and no other account notices', async () => {
    const [polling, other] = [await createCustomer(stack, '1'), await createCustomer(stack, '1')];
    const second = await addKey(stack, polling.account);
    const poll = async ({ secret }: Customer, times: number): Promise<Response[]> =>
      Promise.all(Array.from({ length: times }, () => get(stack, secret, '/v1/models')));
    const answers = await poll(polling, KEY_BURST + 30);
    const refused = answers.filter(({ status }) => status === 429);
    assert.ok(refused.length >= 10, `${refused.length} refused`);
    assert.equal(refused[0]!.headers.get('retry-after'), '1');
    const { code, type } = await refusalOf(refused[0]!);
    assert.deepEqual([code, type], ['rate_limit_exceeded', 'rate_limit_error']);
    // The account's bucket is not much larger than that of one key.
    assert.ok((await poll(second, KEY_BURST)).some(({ status }) => status === 429));
    assert.equal(await statusOf(get(stack, other.secret, '/v1/credits')), 200);
    assert.equal(await statusOf(chat(polling)), 200);
  });

  it('look-ups that the database does not answer take no connection from anything else, nor from other accounts', async function () {
    this.timeout(40_000);
    const [polling, other] = [await createCustomer(stack, '1'), await createCustomer(stack, '1')];
    const tokens = [await tokenOf(polling), await tokenOf(other)];
    const session = await stack.admin.connect();
    await session.query('begin');
    // What look-ups of spending read, and no request writes before it is settled.
    await session.query('lock table usage_hour in access exclusive mode');
    const held = Array.from({ length: KEY_BURST }, () => get(stack, polling.secret, '/v1/credits'));
    try {
      const early = await Promise.race(held);
      assert.equal(early.status, 429, 'what is too much at once is refused, not queued without bound');
      for (let n = 0; n < 5; n++) {
        for (const customer of [polling, other]) assert.equal(await statusOf(chat(customer)), 200);
        assert.equal(await statusOf(get(stack, other.secret, '/v1/models/test/small')), 200);
        for (const token of tokens) assert.equal(await statusOf(get(stack, token, '/api/account')), 200);
        assert.equal(await statusOf(fetch(`${stack.baseUrl}/readyz`)), 200);
      }
    } finally {
      await session.query('rollback');
      session.release();
    }
    const statuses = await Promise.all(held.map(statusOf));
    const answered = statuses.filter((status) => status === 200).length;
    assert.ok(answered >= 2 && answered <= 2 + 16, `${answered} answered: two at once, sixteen waiting`);
    assert.deepEqual([...new Set(statuses)].sort(), [200, 429]);
  });
});
