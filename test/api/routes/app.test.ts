/** Common rules of all routes: access, naming of mistakes, and secrets that are never shown. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createManagementApp } from '../../../api/routes/app.ts';
import { refusalOf } from '../../../api/http/errors.ts';
import { isForCustomers } from '../../../api/http/access.ts';
import type { Route } from '../../../api/http/route.ts';
import { TOKEN_ROLES, type TokenRole } from '../../../db/accounts/access-tokens.ts';
import { formatId } from '../../../domain/ids.ts';
import { testServices } from '../../support/services.ts';
import { startTcpProxyFor, type TcpProxy } from '../../support/tcp-proxy.ts';
import { examplePath } from './example-path.ts';
import { refusal, startManagement, tokenOf, type Answer, type Management } from './management.ts';

function mayCall(route: Route, role: TokenRole): boolean {
  if (isForCustomers(route.access)) return role === 'account';
  return role !== 'account' && route.access.includes(role);
}

describe('management interface', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_app');
  });
  after(() => management.stop());

  describe('access', () => {
    it('is refused on every route without a token, and the answer says how to come back', async () => {
      for (const route of management.routes) {
        const answer = await management.call(route.method.toUpperCase(), examplePath(route), { token: null });
        assert.deepEqual(refusal(answer), { status: 401, code: 'invalid_token', param: null }, route.path);
        assert.equal(answer.headers.get('www-authenticate'), 'Bearer');
      }
    });

    it('is refused to unknown, revoked and expired tokens and to API keys', async () => {
      const { admin } = management;
      const revoked = await tokenOf(management, 'operator', null);
      await admin.query(
        `update access_token set revoked_at = now() where id = (select id from access_token order by id desc limit 1)`,
      );
      const expired = await tokenOf(management, 'operator', null);
      await admin.query(
        `update access_token set expires_at = now() where id = (select id from access_token order by id desc limit 1)`,
      );
      for (const token of [
        revoked,
        expired,
        'hft-0',
        `sk-hf-${'0'.repeat(48)}`,
        `${management.tokens.operator} x`,
        '\u00e9',
      ]) {
        const answer = await management.call('GET', '/admin/accounts', { token });
        assert.equal(refusal(answer).code, 'invalid_token', token);
      }
    });

    it('is given on each route to exactly the roles it names', async () => {
      for (const route of management.routes) {
        for (const role of TOKEN_ROLES) {
          const answer = await management.call(route.method.toUpperCase(), examplePath(route), {
            token: management.tokens[role],
          });
          assert.equal(
            answer.status === 403 && refusal(answer).code === 'forbidden',
            !mayCall(route, role),
            `${role} on ${route.method} ${route.path}: ${answer.status}`,
          );
        }
      }
    });

    it('of auditors is read-only, and customers reach no staff route', () => {
      for (const route of management.routes) {
        if (route.method !== 'get') assert.ok(!mayCall(route, 'auditor'), route.path);
        assert.equal(isForCustomers(route.access), route.path.startsWith('/api/'), route.path);
      }
    });
  });

  describe('mistakes', () => {
    it('in an id of the path are named', async () => {
      const wrong = [
        'x',
        'req_1',
        'KEY_01980000000070008000000000000000',
        'key_0198000000007000800000000000000g',
        '%27--',
        'acct_%00',
      ];
      for (const route of management.routes.filter(({ path }) => /\{(id|request_id)\}/.test(path))) {
        const [, name = ''] = /\{(id|request_id)\}/.exec(route.path) ?? [];
        for (const id of wrong) {
          const path = route.path.replace(/\{(id|request_id)\}/, id).replace('{n}', '1');
          const token = isForCustomers(route.access) ? management.tokens.account : management.tokens.operator;
          const answer = await management.call(route.method.toUpperCase(), path, { token });
          assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: name }, path);
        }
      }
    });

    it('in an id of another kind are named: a key is no request', async () => {
      const answer = await management.call('GET', `/api/logs/${formatId('key', management.keyId)}`);
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'request_id' });
    });

    it('like a field nobody knows are named on every route that takes a body', async () => {
      for (const route of management.routes.filter(({ method }) => method === 'post' || method === 'patch')) {
        const token = isForCustomers(route.access) ? management.tokens.account : management.tokens.operator;
        const body = { __proto__x: 1 };
        const answer = await management.call(route.method.toUpperCase(), examplePath(route), { token, body });
        const { status, param } = refusal(answer);
        assert.equal(status, 422, route.path);
        assert.ok(
          param === '__proto__x' || Object.keys(route.body.shape).includes(param ?? ''),
          `${route.path}: ${param}`,
        );
      }
    });

    it('like a query parameter nobody knows, or one given twice, are named', async () => {
      for (const route of management.routes.filter(({ method }) => method === 'get')) {
        const token = isForCustomers(route.access) ? management.tokens.account : management.tokens.operator;
        const answer = await management.call('GET', `${examplePath(route)}?form=2026`, { token });
        assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param: 'form' }, route.path);
      }
      assert.equal(refusal(await management.call('GET', '/api/logs?limit=1&limit=2')).param, 'limit');
      assert.equal(refusal(await management.call('GET', '/api/logs?model[a]=1')).param, 'model[a]');
    });

    it('in JSON are 400, whatever the content type says', async () => {
      for (const body of ['{', '{"name":}', 'nonsense', '[]', '"text"', '7', 'null']) {
        for (const type of ['application/json', 'text/plain', 'application/x-www-form-urlencoded']) {
          const answer = await management.call('POST', '/api/keys', { body, headers: { 'content-type': type } });
          assert.equal(answer.status, 400, `${body} as ${type}`);
          assert.equal(refusal(answer).code, 'invalid_body');
        }
      }
    });

    it('like an unreadable encoding or charset are 400', async () => {
      for (const headers of [
        { 'content-encoding': 'compress' },
        { 'content-type': 'application/json; charset=klingon' },
      ]) {
        const answer = await management.call('POST', '/api/keys', { body: '{"name":"x"}', headers });
        assert.deepEqual(refusal(answer), { status: 400, code: 'invalid_body', param: null });
      }
    });

    it('like a body of 20 MB are 413 and do no harm', async () => {
      const answer = await management.call('POST', '/api/keys', { body: { name: 'x'.repeat(20 * 1024 * 1024) } });
      assert.deepEqual(refusal(answer), { status: 413, code: 'body_too_large', param: null });
      assert.equal((await management.call('GET', '/api/account')).status, 200);
    });

    it('in the path are 404 as JSON, and a wrong method is 405 with what is allowed', async () => {
      for (const path of [
        '/api',
        '/api/nothing',
        '/admin/nothing',
        '/API/account',
        '/api/keys/%zz',
        '/api/logs.csv/x',
      ]) {
        assert.equal(refusal(await management.call('GET', path)).code, 'not_found', path);
      }
      const answer = await management.call('PUT', '/api/keys');
      assert.deepEqual(refusal(answer), { status: 405, code: 'method_not_allowed', param: null });
      assert.equal(answer.headers.get('allow'), 'POST, GET, HEAD');
      const options = await management.call('OPTIONS', '/admin/models/a/b/retire');
      assert.deepEqual([options.status, options.headers.get('allow')], [204, 'POST']);
    });
  });

  it('gives every answer a request id of its own, unless the server in front has set one', async () => {
    const ids = await Promise.all(
      Array.from({ length: 3 }, async () => (await management.call('GET', '/api/account')).headers.get('x-request-id')),
    );
    assert.equal(new Set(ids).size, 3);
    const given = 'req_01980000000070008000000000000001';
    const app = createManagementApp(management.deps);
    const front = createServer((request, response) => {
      response.setHeader('x-request-id', given);
      app(request, response);
    });
    front.listen(0, '127.0.0.1');
    await once(front, 'listening');
    try {
      const answer = await fetch(`http://127.0.0.1:${(front.address() as AddressInfo).port}/api/account`);
      assert.deepEqual([answer.status, answer.headers.get('x-request-id')], [401, given]);
    } finally {
      front.closeAllConnections();
      front.close();
    }
  });

  it('describes itself in bytes that are made once: who has them gets 304', async () => {
    const url = `${management.url}/openapi.json`;
    const first = await fetch(url);
    const text = await first.text();
    assert.match(first.headers.get('content-type') ?? '', /^application\/json/);
    assert.equal((JSON.parse(text) as { openapi: string }).openapi, '3.1.0');
    assert.equal(Number(first.headers.get('content-length')), Buffer.byteLength(text));
    const etag = first.headers.get('etag') ?? '';
    assert.match(etag, /^"[\w-]{43}"$/);
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await fetch(url, { headers: { 'if-none-match': known } });
      assert.deepEqual([again.status, await again.text(), again.headers.get('etag')], [304, '', etag], known);
    }
    const other = await fetch(url, { headers: { 'if-none-match': '"other"' } });
    assert.deepEqual([other.status, await other.text()], [200, text]);
    const head = await fetch(url, { method: 'HEAD' });
    assert.deepEqual([head.status, head.headers.get('etag'), await head.text()], [200, etag, '']);
  });

  it('keeps answers out of caches, frames and sniffing', async () => {
    for (const path of ['/api/account', '/nothing', '/openapi.json']) {
      const { headers } = await management.call('GET', path);
      assert.equal(headers.get('cache-control'), 'no-store');
      assert.equal(headers.get('x-content-type-options'), 'nosniff');
      assert.equal(headers.get('x-frame-options'), 'DENY');
      assert.equal(headers.get('x-powered-by'), null);
      assert.match(headers.get('content-security-policy') ?? '', /default-src 'none'/);
    }
  });

  it('survives a client that breaks off in the middle of its body, and does not take it for the database', async () => {
    const before = management.logged.length;
    const broken = httpRequest(`${management.url}/api/keys`, {
      method: 'POST',
      headers: { authorization: `Bearer ${management.tokens.account}`, 'content-length': '1000' },
    });
    const ended = new Promise((resolve) => broken.once('error', resolve));
    broken.write('{"name":');
    setImmediate(() => broken.destroy());
    await ended;
    assert.equal((await management.call('GET', '/api/account')).status, 200);
    assert.deepEqual(management.logged.slice(before), []);
  });

  it('does not take a body that ends too early for the database', () => {
    const aborted = Object.assign(new Error('request aborted'), { code: 'ECONNABORTED', type: 'request.aborted' });
    assert.equal(refusalOf(aborted)?.code, 'invalid_body');
    assert.equal(
      refusalOf(Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' }))?.code,
      'ledger_unavailable',
    );
  });

  it('logs one line per change with who did it, and no secret in any', async () => {
    const before = management.logged.length;
    const created = await management.call('POST', '/admin/accounts', { body: { name: 'Logged' } });
    const key = await management.call('POST', '/api/keys', { body: { name: 'logged' } });
    assert.equal(created.status, 201);
    const lines = management.logged.slice(before);
    assert.deepEqual(
      lines.map((line) => [line['msg'], line['action'] ?? null]),
      [
        ['operator action', 'account.create'],
        ['key created', null],
      ],
    );
    for (const line of lines) {
      assert.match(String(line['request_id']), /^req_/);
      assert.match(String(line['actor']), /^the (operator|account) \(tok_[0-9a-f]{32}\)$/);
    }
    const everything = JSON.stringify(management.logged);
    const secrets = [
      ...Object.values(management.tokens),
      created.body['management_token'] as string,
      key.body['secret'] as string,
    ];
    for (const secret of secrets) assert.ok(!everything.includes(secret));
  });

  it('documents every route with its parameters and refusals', async () => {
    const { body } = await management.call('GET', '/openapi.json', { token: null });
    const paths = body['paths'] as Record<
      string,
      Record<string, { parameters: { name: string; in: string }[]; responses: object }>
    >;
    for (const route of management.routes) {
      const operation = paths[route.path.replace('{+', '{')]?.[route.method];
      assert.ok(operation !== undefined, route.path);
      const inPath = operation.parameters.filter((parameter) => parameter.in === 'path').map(({ name }) => name);
      assert.deepEqual(
        inPath,
        [...route.path.matchAll(/\{\+?(\w+)\}/g)].map(([, name]) => name),
      );
      assert.deepEqual(Object.keys(operation.responses), [...route.statuses.map(String), 'default']);
    }
    assert.ok(JSON.stringify(body).includes('"Idempotency-Key"'));
  });
});

describe('management interface without a database', () => {
  let management: Management;
  let proxy: TcpProxy;
  before(async () => {
    proxy = await startTcpProxyFor(testServices().databaseUrl);
    management = await startManagement('routes_no_database', { throughProxy: (url) => proxy.through(url) });
  });
  after(async () => {
    await management.stop();
    await proxy.close();
  });

  const askBothConnections = (): Promise<Answer[]> =>
    Promise.all([
      management.call('GET', '/admin/accounts'),
      management.call('GET', '/admin/actions'),
      management.call('POST', `/admin/accounts/${formatId('account', management.accountId)}/freeze`, {
        body: { reason: 'while the database is away' },
      }),
    ]);

  for (const [how, away, back] of [
    ['refuses connections', () => proxy.refuse(), () => proxy.accept()],
    ['does not answer', () => proxy.pause(), () => proxy.resume()],
  ] as const) {
    it(`that ${how}: 503 with retry-after, and everything works when it is back`, async () => {
      for (const answer of await askBothConnections()) assert.notEqual(answer.status, 503);
      away();
      try {
        for (const answer of await askBothConnections()) {
          assert.deepEqual(refusal(answer), { status: 503, code: 'ledger_unavailable', param: null });
          assert.equal(answer.headers.get('retry-after'), '1');
        }
      } finally {
        back();
      }
      await management.call('GET', '/admin/accounts');
      for (const answer of await askBothConnections()) assert.notEqual(answer.status, 503);
    });
  }
});

describe('management interface whose reports alone hang', () => {
  it('answers 503 instead of keeping the caller', async () => {
    const proxy = await startTcpProxyFor(testServices().databaseUrl);
    const reportsThroughProxy = (url: string): string => proxy.through(url);
    const management = await startManagement('routes_reports_hang', { reportsThroughProxy, callTimeoutSeconds: 0.3 });
    try {
      assert.equal((await management.call('GET', '/admin/actions')).status, 200);
      proxy.pause();
      const answer = await management.call('GET', '/admin/actions');
      assert.deepEqual(refusal(answer), { status: 503, code: 'ledger_unavailable', param: null });
      assert.equal((await management.call('GET', '/admin/accounts')).status, 200);
    } finally {
      proxy.resume();
      await management.stop();
      await proxy.close();
    }
  });
});
