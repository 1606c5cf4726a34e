/**
 * The order of the checks: of two things that are wrong at once, the earlier one in the table of docs/api.md is
 * answered, for every pair that one request can break, and without the upstream being called.
 */
import assert from 'node:assert/strict';
import { freezeAccount } from '../../../../db/accounts/accounts.ts';
import { revokeApiKey, type KeySettings } from '../../../../db/accounts/api-keys.ts';
import type { ErrorCode } from '../../../../domain/errors.ts';
import {
  createCustomer,
  dollars,
  MESSAGES,
  post,
  refusalOf,
  STACK_START_MS,
  upstreamCalls,
  type Customer,
} from '../../../support/gateway-client.ts';
import { startTestStack, type TestStack } from '../../../support/stack.ts';
import { until } from '../../../support/until.ts';

const BODY_LIMIT_BYTES = 100_000;
const PAST = new Date(Date.now() - 3_600_000);
/** The address of no test client. */
const ELSEWHERE = ['203.0.113.0/24'];

describe('gateway: the order of checks', () => {
  let stack: TestStack;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-check-order',
      worker: false,
      env: { KEY_CONCURRENCY: '2', BODY_LIMIT_BYTES: String(BODY_LIMIT_BYTES), DRAIN_SECONDS: '0.5' },
    });
  });
  after(async () => {
    hanging.abort();
    await stack.stop();
  });

  /** What a caller breaks, in the order in which it must be found. `body` rules replace fields of the body. */
  const RULES: readonly {
    readonly code: ErrorCode;
    readonly key?: Partial<KeySettings>;
    readonly balance?: string;
    readonly state?: (customer: Customer) => Promise<unknown>;
    readonly body?: Readonly<Record<string, unknown>>;
  }[] = [
    {
      code: 'key_revoked',
      state: ({ keyId, account }) => revokeApiKey(stack.admin, { id: keyId, accountId: account.uuid }),
    },
    { code: 'key_expired', key: { expiresAt: PAST } },
    { code: 'ip_not_allowed', key: { ipAllowlist: ELSEWHERE } },
    {
      code: 'account_frozen',
      state: ({ account }) => freezeAccount(stack.admin, account.uuid, { kind: 'operator', reason: 'test' }),
    },
    { code: 'invalid_body', body: { messages: [] } },
    { code: 'model_not_found', body: { model: 'test/none' } },
    { code: 'model_not_allowed', key: { models: ['test/large'] } },
    { code: 'model_not_priced', body: { model: 'test/unpriced' } },
    { code: 'rate_limit_exceeded', state: fillPlaces },
    { code: 'key_limit_exceeded', key: { limit: dollars('0') } },
    { code: 'insufficient_user_quota', balance: '0' },
  ];
  const hanging = new AbortController();

  /** Uses up the places of a key with requests that cost nothing and do not end. */
  async function fillPlaces({ openai, keyId }: Customer): Promise<void> {
    // What would refuse these as well is put in place around them; they must find a key that works.
    const { rows } = await stack.admin.query<{ models: string[] | null }>('select models from api_key where id = $1', [
      keyId,
    ]);
    await stack.admin.query('update api_key set models = null where id = $1', [keyId]);
    stack.twin.faults.add({ match: { model: 'small:free' }, times: 2, fault: { type: 'hang', after_chunks: 1 } });
    for (let place = 0; place < 2; place += 1) {
      await openai.chat.completions.create(
        { model: 'test/small:free', messages: MESSAGES, stream: true },
        { signal: hanging.signal },
      );
    }
    if (rows[0]?.models === null) return;
    await stack.admin.query('update api_key set models = $2 where id = $1', [keyId, rows[0]?.models]);
    await until('the list of models to be known', async () => {
      const response = await fetch(`${stack.baseUrl}/v1/models`, {
        headers: { authorization: `Bearer ${openai.apiKey}` },
      });
      return ((await response.json()) as { data: unknown[] }).data.length === 1;
    });
  }

  RULES.forEach((first, index) => {
    for (const second of RULES.slice(index + 1)) {
      const isSameField =
        first.body !== undefined && second.body !== undefined && 'model' in first.body && 'model' in second.body;
      // Places can only be filled by a key that works.
      const isImpossible = second.code === 'rate_limit_exceeded' && index < 4;
      if (isSameField || isImpossible) continue;
      it(`${first.code} is found before ${second.code}`, async () => {
        const customer = await createCustomer(stack, first.balance ?? second.balance ?? '1', {
          ...first.key,
          ...second.key,
        });
        await first.state?.(customer);
        await second.state?.(customer);
        const before = upstreamCalls(stack);
        const body = { model: 'test/small', messages: MESSAGES, ...first.body, ...second.body };
        const refusal = await refusalOf(await post(stack, customer.secret, body));
        assert.equal(refusal.code, first.code);
        assert.equal(upstreamCalls(stack), before);
      });
    }
  });

  it('an unknown key is found before anything else', async () => {
    const refusal = await refusalOf(await post(stack, 'sk-hf-unknown', 'no JSON'));
    assert.equal(refusal.code, 'invalid_api_key');
  });

  it('a body that is too large or has an unsupported field is found before the unknown model', async () => {
    const customer = await createCustomer(stack, '1');
    for (const [body, code] of [
      [{ model: 'test/none', messages: [{ role: 'user', content: 'x'.repeat(BODY_LIMIT_BYTES) }] }, 'body_too_large'],
      [{ model: 'test/none', messages: MESSAGES, background: true }, 'unsupported_parameter'],
    ] as const) {
      assert.equal((await refusalOf(await post(stack, customer.secret, body))).code, code);
    }
  });
});
