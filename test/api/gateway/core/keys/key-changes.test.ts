/**
 * Changes of keys and accounts while their holders are calling: seen at once through the database's notification, and
 * by `place_hold` itself where a notification was lost. The key cache lives ten minutes here, so it never helps by
 * ageing.
 */
import assert from 'node:assert/strict';
import { freezeAccount, unfreezeAccount } from '../../../../../db/accounts/accounts.ts';
import { revokeApiKey, updateApiKey, type KeySettings } from '../../../../../db/accounts/api-keys.ts';
import type { ErrorCode } from '../../../../../domain/errors.ts';
import {
  addKey,
  createCustomer,
  dollars,
  endedRow,
  get,
  MESSAGES,
  post,
  refusalOf,
  requestIdOf,
  upstreamCalls,
  type Customer,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

const PAST = new Date(Date.now() - 3_600_000);
const SETTINGS: KeySettings = {
  name: 'test',
  expiresAt: null,
  limit: null,
  limitReset: 'none',
  models: null,
  ipAllowlist: null,
};

describe('gateway: changes of keys and accounts', () => {
  let stack: TestStack;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({ name: 'gateway-key-changes', worker: false, env: { KEY_CACHE_SECONDS: '600' } });
  });
  after(() => stack.stop());

  const change = (customer: Customer, settings: Partial<KeySettings>): Promise<boolean> =>
    updateApiKey(stack.admin, { id: customer.keyId, accountId: customer.account.uuid }, { ...SETTINGS, ...settings });
  const freeze = ({ account }: Customer): Promise<unknown> =>
    freezeAccount(stack.admin, account.uuid, { kind: 'operator', reason: 'test' });

  /** Changes that `place_hold` sees as well, and what is then answered. */
  const CHANGES: readonly {
    readonly name: string;
    readonly make: (customer: Customer) => Promise<unknown>;
    readonly code: ErrorCode;
  }[] = [
    {
      name: 'a key that is revoked',
      make: ({ keyId, account }) => revokeApiKey(stack.admin, { id: keyId, accountId: account.uuid }),
      code: 'key_revoked',
    },
    {
      name: 'a key whose expiry is moved into the past',
      make: (customer) => change(customer, { expiresAt: PAST }),
      code: 'key_expired',
    },
    {
      name: 'a key whose models change',
      make: (customer) => change(customer, { models: ['test/large'] }),
      code: 'model_not_allowed',
    },
    { name: 'an account that is frozen', make: freeze, code: 'account_frozen' },
  ];

  const ask = (customer: Customer, more: object = {}): Promise<Response> =>
    post(stack, customer.secret, { model: 'test/small', messages: MESSAGES, ...more });

  async function assertWorks(customer: Customer, more: object = {}): Promise<void> {
    const response = await ask(customer, more);
    assert.equal(response.status, 200, await response.text());
  }

  async function assertRefusedEverywhere(customer: Customer, code: ErrorCode): Promise<void> {
    const before = upstreamCalls(stack);
    for (const model of ['test/small', 'test/small:free']) {
      for (const stream of [false, true]) {
        assert.equal((await refusalOf(await ask(customer, { model, stream }))).code, code, `${model} ${stream}`);
      }
    }
    assert.equal(upstreamCalls(stack), before, 'the upstream is not called');
  }

  for (const { name, make, code } of CHANGES) {
    it(`${name}: the very next request is refused`, async () => {
      const customer = await createCustomer(stack, '1');
      await assertWorks(customer);
      await make(customer);
      await assertRefusedEverywhere(customer, code);
    });
  }

  for (const { name, make, code } of CHANGES) {
    it(`${name}: the next request is refused also when the notification is lost`, async () => {
      const customer = await createCustomer(stack, '1');
      await assertWorks(customer);
      await withoutNotifications(() => make(customer));
      // The cache still knows the old state: what needs no hold is answered by it.
      assert.equal((await get(stack, customer.secret, '/v1/models')).status, 200);
      await assertRefusedEverywhere(customer, code);
    });
  }

  /** Makes a change of which no gateway hears. */
  async function withoutNotifications(make: () => Promise<unknown>): Promise<void> {
    const toggle = (how: 'disable' | 'enable'): Promise<unknown> =>
      stack.admin.query(
        `alter table api_key ${how} trigger key_changed; alter table account ${how} trigger account_changed`,
      );
    await toggle('disable');
    try {
      await make();
    } finally {
      await toggle('enable');
    }
  }

  it('what needs no hold follows the notification within a moment, too', async () => {
    for (const [make, status] of [
      [CHANGES[0]!.make, 401],
      [freeze, 403],
      [(customer: Customer) => change(customer, { ipAllowlist: ['203.0.113.0/24'] }), 403],
    ] as const) {
      const customer = await createCustomer(stack, '1');
      assert.equal((await get(stack, customer.secret, '/v1/models')).status, 200);
      await make(customer);
      await until(
        'the change to be heard',
        async () => (await get(stack, customer.secret, '/v1/models')).status === status,
        2000,
      );
      assert.equal((await get(stack, customer.secret, '/api/v1/key')).status, status);
      assert.equal((await ask(customer)).status, status);
    }
  });

  it('a change back is heard as well: unfrozen, prolonged, allowed again, more to spend', async () => {
    const customer = await createCustomer(stack, '1', { limit: dollars('0') });
    const steps: readonly { readonly make: () => Promise<unknown>; readonly code: ErrorCode | null }[] = [
      { make: async () => undefined, code: 'key_limit_exceeded' },
      { make: () => change(customer, { limit: dollars('0.5') }), code: null },
      { make: () => freeze(customer), code: 'account_frozen' },
      { make: () => unfreezeAccount(stack.admin, customer.account.uuid, ['operator']), code: null },
      { make: () => change(customer, { expiresAt: PAST }), code: 'key_expired' },
      { make: () => change(customer, { expiresAt: new Date(Date.now() + 60_000) }), code: null },
      { make: () => change(customer, { models: [] }), code: 'model_not_allowed' },
      { make: () => change(customer, { models: ['test/small'] }), code: null },
    ];
    for (const { make, code } of steps) {
      await make();
      await until(
        `${code ?? 'an answer'}`,
        async () => {
          const response = await ask(customer);
          if (code !== null) return response.status !== 200 && (await refusalOf(response)).code === code;
          return response.status === 200;
        },
        2000,
      );
    }
  });

  it('a key that expires while it is cached is refused from that moment on', async () => {
    const customer = await createCustomer(stack, '1', { expiresAt: new Date(Date.now() + 700) });
    await assertWorks(customer);
    await until(
      'the key to be refused',
      async () => (await get(stack, customer.secret, '/v1/models')).status === 401,
      2000,
    );
    await assertRefusedEverywhere(customer, 'key_expired');
  });

  it('what changed while the listener had no connection is known once it is back', async () => {
    const customer = await createCustomer(stack, '1');
    assert.equal((await get(stack, customer.secret, '/v1/models')).status, 200);
    const { rowCount } = await stack.admin.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'listen %'`,
    );
    assert.equal(rowCount, 1);
    await CHANGES[0]!.make(customer);
    await until(
      'the revoked key to be refused',
      async () => (await get(stack, customer.secret, '/v1/models')).status === 401,
    );
  });

  it('a :free model works at zero balance, in debt and with an exhausted key, is logged at 0 and has no workflow', async () => {
    const customer = await createCustomer(stack, '0', { limit: dollars('0') });
    await stack.admin.query('update account set balance = -5 where id = $1', [customer.account.uuid]);
    for (const stream of [false, true]) {
      const response = await ask(customer, { model: 'test/small:free', stream });
      await response.text();
      assert.equal(response.status, 200);
      const row = await endedRow(stack, requestIdOf(response));
      assert.deepEqual(
        [row.state, row.outcome, row.free, row.cost, row.hold, row.workflowId],
        ['released', 'completed', true, 0n, 0n, null],
      );
      assert.ok(row.outputTokens! > 0);
    }
    assert.equal((await refusalOf(await ask(customer))).code, 'key_limit_exceeded');
    const other = await addKey(stack, customer.account);
    assert.equal((await refusalOf(await ask(other))).code, 'insufficient_user_quota');
    await stack.admin.query('update account set balance = 0 where id = $1', [customer.account.uuid]);
  });

  describe('the allowlist of addresses', () => {
    const allowing = (...ipAllowlist: string[]): Promise<Customer> => createCustomer(stack, '1', { ipAllowlist });
    const askFrom = (customer: Customer, forwarded: string | null): Promise<Response> =>
      post(
        stack,
        customer.secret,
        { model: 'test/small', messages: MESSAGES },
        {
          headers:
            forwarded === null
              ? {}
              : { 'x-forwarded-for': forwarded, 'x-real-ip': forwarded, forwarded: `for=${forwarded}` },
        },
      );

    it('lets the addresses in that it names, single ones and ranges', async () => {
      for (const range of ['127.0.0.1', '127.0.0.0/8', '0.0.0.0/0'])
        await assertWorks(await allowing('10.0.0.0/8', range));
      for (const range of ['127.0.0.2', '10.0.0.0/8', '::1', '::/0']) {
        assert.equal((await refusalOf(await ask(await allowing(range)))).code, 'ip_not_allowed', range);
      }
      assert.equal(
        (await refusalOf(await ask(await allowing()))).code,
        'ip_not_allowed',
        'an empty list allows nobody',
      );
    });

    it('does not believe what a client says about its address when no proxy is trusted', async () => {
      const customer = await allowing('203.0.113.9');
      assert.equal((await refusalOf(await askFrom(customer, '203.0.113.9'))).code, 'ip_not_allowed');
    });

    it('behind trusted proxies counts the rightmost address that is not one of them', async () => {
      await stack.startApi({ TRUSTED_PROXIES: '127.0.0.0/8, 10.0.0.0/8, fd00::/8' });
      const v4 = await allowing('203.0.113.0/24');
      const v6 = await allowing('2001:db8::/32');
      const own = await allowing('127.0.0.1');
      for (const [customer, forwarded, allowed] of [
        [v4, '203.0.113.9', true],
        [v4, ' 203.0.113.9 ,10.1.2.3,  127.0.0.5', true],
        [v4, '203.0.113.9, fd00::7', true],
        [v4, '::ffff:203.0.113.9', true],
        [v4, '203.0.113.9, 198.51.100.1', false],
        [v4, '203.0.113.9, 198.51.100.1, 10.1.2.3', false],
        [v4, '198.51.100.1, 203.0.113.9', true],
        [v4, 'unknown', false],
        [v4, '203.0.113.9, unknown', false],
        [v4, null, false],
        [v4, '', false],
        [v6, '2001:db8::1', true],
        [v6, '2001:db9::1', false],
        [own, null, true],
        [own, '127.0.0.1', true],
      ] as const) {
        const response = await askFrom(customer, forwarded);
        assert.equal(response.status, allowed ? 200 : 403, `${forwarded}`);
        if (!allowed) assert.equal((await refusalOf(response)).code, 'ip_not_allowed');
        else await response.text();
      }
    });
  });

  it("the cache's age is the backstop for what needs no hold when a notification is lost", async () => {
    await stack.startApi({ KEY_CACHE_SECONDS: '0.3' });
    const customer = await createCustomer(stack, '1');
    assert.equal((await get(stack, customer.secret, '/v1/models')).status, 200);
    await withoutNotifications(() => CHANGES[0]!.make(customer));
    await until(
      'the cached key to age',
      async () => (await get(stack, customer.secret, '/v1/models')).status === 401,
      2000,
    );
  });
});
