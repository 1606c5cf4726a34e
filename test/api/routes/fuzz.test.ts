/** The answer to any input is a success or a refusal that names its field: never a 500, never a broken ledger. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { isForCustomers } from '../../../api/http/access.ts';
import type { Route } from '../../../api/http/route.ts';
import { formatId } from '../../../domain/ids.ts';
import { brokenRules } from '../../support/ledger-database.ts';
import { refusal, settledRequest, startManagement, type Management } from './management.ts';

/** Values that have broken parsers and databases before, beside arbitrary ones. */
const NASTY: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  '',
  ' ',
  '0',
  '-0',
  '1',
  '99999999999999999999',
  '0.000000000001',
  '1e5',
  'NaN',
  'Infinity',
  '\u0000',
  '\ud800',
  '\u202e',
  '👩‍👩‍👧',
  "'; drop table account; --",
  '%',
  '../..',
  '2027-01-01T00:00:00Z',
  '9999-12-31T23:59:59.999Z',
  '0001-01-01T00:00:00Z',
  '+275760-09-13T00:00:00.001Z',
  '10.0.0.0/8',
  'demo/model',
  'none',
  'operator',
  [],
  {},
  [null],
  [['x']],
  { __proto__: null, constructor: 1 },
];

const value = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(...NASTY) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
);

/** A valid value of a single field, so that calls get past it to the others. */
const GOOD: Readonly<Record<string, readonly unknown[]>> = {
  name: ['A name'],
  email: ['someone@example.com', null],
  reason: ['because'],
  resolution: ['done'],
  amount_usd: ['1', '-1', '1000'],
  low_balance_usd: ['2'],
  limit_usd: ['3', null],
  expires_at: ['2099-01-01T00:00:00Z', null],
  role: ['auditor', 'account'],
  id: ['fuzz/model'],
  dialect: ['openai'],
  context_length: [1000],
  default_output_tokens: [100],
  upstreams: [[{ base_url: 'https://x.test/v1', model: 'x' }]],
  prices: [{ input: '1', output: '2' }],
  count: [2],
  code: ['0000000000000000014U'],
};

/** A body in which each field is good, nasty or absent, and now and then one is unknown. */
function bodyOf(route: Route): fc.Arbitrary<Record<string, unknown>> {
  const fields = Object.keys(route.body.shape).map((field): [string, fc.Arbitrary<unknown>] => {
    const good = GOOD[field];
    return [
      field,
      good === undefined
        ? value
        : fc.oneof({ weight: 2, arbitrary: fc.constantFrom(...good) }, { weight: 1, arbitrary: value }),
    ];
  });
  const known = fc.record(Object.fromEntries(fields), { requiredKeys: [] });
  const stranger = fc.dictionary(fc.string({ unit: 'binary', maxLength: 5 }), value, { maxKeys: 1 });
  return fc.oneof({ weight: 9, arbitrary: known }, { weight: 1, arbitrary: stranger });
}

/** A route that a counterexample prints as one line. */
function readable(route: Route): Route {
  return Object.assign(Object.create(route) as Route, { [fc.toStringMethod]: () => `${route.method} ${route.path}` });
}

describe('any input', function () {
  this.timeout(60_000);

  let management: Management;
  let ids: Readonly<Record<string, string>>;
  before(async () => {
    management = await startManagement('routes_fuzz');
    ids = {
      '/api/keys': formatId('key', management.keyId),
      '/api/logs': formatId('request', await settledRequest(management, '0.1')),
      '/admin/accounts': formatId('account', management.accountId),
      '/admin/requests': formatId('request', await settledRequest(management, '0.1')),
    };
  });
  after(() => management.stop());

  /** The route's path with an id that exists where there is one. */
  function pathOf(route: Route): string {
    const known = Object.entries(ids).find(([start]) => route.path.startsWith(`${start}/`))?.[1];
    return route.path
      .replace('{+model_id}', 'demo/model')
      .replace('{n}', '1')
      .replace(/\{(id|request_id)\}/, known ?? 'key_01980000000070008000000000000000');
  }

  function checkAnswer(answer: Parameters<typeof refusal>[0], what: string): void {
    if (answer.status < 400) return;
    const { status, param } = refusal(answer);
    assert.ok(status < 500 || status === 503, what);
    if (status === 422) assert.ok(param !== null && param !== '', what);
  }

  const tokenFor = (route: Route): string =>
    isForCustomers(route.access) ? management.tokens.account : management.tokens.operator;

  it('in a body, field by field', async () => {
    const writes = management.routes.filter(
      // Needs Temporal for every call that is well-formed; its bodies are tried in its own tests.
      ({ method, path }) => (method === 'post' || method === 'patch') && !path.endsWith('/refund'),
    );
    const call = fc
      .constantFrom(...writes)
      .chain((route) => fc.record({ route: fc.constant(readable(route)), body: bodyOf(route) }));
    await fc.assert(
      fc.asyncProperty(call, async ({ route, body }) => {
        const answer = await management.call(route.method.toUpperCase(), pathOf(route), {
          token: tokenFor(route),
          body,
        });
        checkAnswer(answer, `${route.path} ${JSON.stringify(body)}`);
      }),
      { numRuns: 600 },
    );
    assert.deepEqual(await brokenRules(management.admin), []);
  });

  it('in a query, parameter by parameter', async () => {
    const lists = management.routes.filter(
      ({ method, query }) => method === 'get' && Object.keys(query.shape).length > 0,
    );
    const text = fc.oneof(
      fc.constantFrom(...NASTY.filter((one): one is string => typeof one === 'string')),
      fc.string({ unit: 'binary', maxLength: 20 }),
    );
    const call = fc.constantFrom(...lists).chain((route) => {
      const names = Object.keys(route.query.shape);
      return fc.record({
        route: fc.constant(readable(route)),
        query: fc.record(Object.fromEntries(names.map((name) => [name, text])), { requiredKeys: [] }),
      });
    });
    await fc.assert(
      fc.asyncProperty(call, async ({ route, query }) => {
        const pairs = Object.entries(query).map(
          ([name, given]) => `${name}=${encodeURIComponent((given ?? '').toWellFormed())}`,
        );
        const answer = await management.call('GET', `${pathOf(route)}?${pairs.join('&')}`, { token: tokenFor(route) });
        checkAnswer(answer, `${route.path} ${pairs.join('&')}`);
      }),
      { numRuns: 400 },
    );
  });

  it('in a raw query string or path', async () => {
    const raw = fc.string({ unit: fc.constantFrom(...'%&=?/.;:@[]+ab01_-~!*'), maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom('/api/logs', '/api/keys/', '/admin/models/', '/admin/requests/', '/'),
        raw,
        raw,
        async (start, path, query) => {
          const answer = await management.call('GET', `${start}${path}?${query}`);
          checkAnswer(answer, `${start}${path}?${query}`);
        },
      ),
      { numRuns: 400 },
    );
  });

  it('as a raw body', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string({ unit: 'binary' }), fc.json()), async (body) => {
        if (body === '') return;
        checkAnswer(await management.call('POST', '/api/keys', { body }), JSON.stringify(body));
      }),
      { numRuns: 200 },
    );
  });
});
