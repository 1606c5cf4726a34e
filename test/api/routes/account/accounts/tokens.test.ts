/**
 * A customer's own management tokens over HTTP: what each may do, that none can make more of itself than it is, and
 * that a stolen one is taken back with all that was made with it.
 */
import assert from 'node:assert/strict';
import { isForCustomers } from '../../../../../api/http/access.ts';
import { createAccessToken, TOKEN_SCOPES, type TokenScope } from '../../../../../db/accounts/access-tokens.ts';
import { formatId, parseId, type AccountUuid } from '../../../../../domain/ids.ts';
import { brokenRules, createCustomer } from '../../../../support/ledger-database.ts';
import { examplePath } from '../../example-path.ts';
import {
  pick,
  readPages,
  refusal,
  rowsOf,
  startManagement,
  textOf,
  type Answer,
  type Management,
} from '../../management.ts';

const HOUR_MS = 3_600_000;
const inHours = (hours: number): string => new Date(Date.now() + hours * HOUR_MS).toISOString();

describe('/api/tokens', () => {
  let management: Management;
  let accountId: AccountUuid;
  /** May do everything. */
  let root: string;
  before(async () => {
    management = await startManagement('routes_tokens');
  });
  after(async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
    await management.stop();
  });
  beforeEach(async () => {
    accountId = await createCustomer(management, '10');
    ({ secret: root } = await createAccessToken(management.management, { role: 'account', accountId, name: 'root' }));
  });

  const make = (token: string, body: object): Promise<Answer> =>
    management.call('POST', '/api/tokens', { token, body: { name: 'made', scopes: TOKEN_SCOPES, ...body } });
  const made = async (token: string, body: object = {}): Promise<{ id: string; secret: string }> => {
    const answer = await make(token, body);
    assert.equal(answer.status, 201, answer.text);
    return { id: textOf(answer.body, 'id'), secret: textOf(answer.body, 'secret') };
  };
  const revoke = (token: string, id: string, query = ''): Promise<Answer> =>
    management.call('DELETE', `/api/tokens/${id}${query}`, { token });
  const works = async (token: string): Promise<boolean> =>
    (await management.call('GET', '/api/account', { token })).status === 200;
  const makeKey = (token: string): Promise<Answer> =>
    management.call('POST', '/api/keys', { token, body: { name: 'a key' } });

  it('tokens are created with scopes and an end, shown once, and listed with their maker', async () => {
    const end = inHours(1);
    const answer = await make(root, { name: 'reports', scopes: ['read'], expires_at: end });
    assert.deepEqual(pick(answer.body, 'name', 'scopes', 'expires_at', 'made_by_staff', 'is_this'), [
      'reports',
      ['read'],
      end,
      false,
      false,
    ]);
    const secret = textOf(answer.body, 'secret');
    assert.ok(await works(secret));
    const rows = await readPages(management, '/api/tokens', { limit: 1, token: secret });
    assert.deepEqual(
      rows.map((row) => pick(row, 'name', 'is_this', 'secret')),
      [
        ['reports', true, undefined],
        ['root', false, undefined],
      ],
    );
    assert.deepEqual([rows[0]!['created_by'], rows[1]!['created_by']], [rows[1]!['id'], null]);
  });

  it('a token may use exactly the routes of its scopes', async () => {
    const { secret: reader } = await made(root, { scopes: ['read'] });
    const { secret: keeper } = await made(root, { scopes: ['keys'] });
    const { secret: payer } = await made(root, { scopes: ['money'] });
    const tokens: Readonly<Record<TokenScope, string>> = { read: reader, keys: keeper, money: payer };
    for (const route of management.routes) {
      const { access } = route;
      if (!isForCustomers(access)) continue;
      // That a notice was read is all that looking may leave behind; a GET that begins a link does more than look.
      const isLook =
        (route.method === 'get' && route.path !== '/api/discord/link') || route.path === '/api/notices/{id}/read';
      assert.equal(access.scope === 'read', isLook, `${route.method} ${route.path}`);
      for (const scope of TOKEN_SCOPES) {
        const answer = await management.call(route.method.toUpperCase(), examplePath(route), { token: tokens[scope] });
        assert.equal(answer.status === 403, scope !== access.scope, `${scope} on ${route.method} ${route.path}`);
        if (answer.status === 403) assert.equal(refusal(answer).code, 'forbidden');
      }
    }
  });

  it('a token has no more rights and lives no longer than its maker', async () => {
    const { secret } = await made(root, { scopes: ['read', 'keys'], expires_at: inHours(2) });
    const cases: [object, string][] = [
      [{ scopes: TOKEN_SCOPES, expires_at: inHours(1) }, 'scopes'],
      [{ scopes: ['money'], expires_at: inHours(1) }, 'scopes'],
      [{ scopes: ['read'], expires_at: inHours(3) }, 'expires_at'],
      [{ scopes: ['read'], expires_at: null }, 'expires_at'],
      [{ scopes: ['read'] }, 'expires_at'],
      [{ scopes: ['read'], expires_at: inHours(-1) }, 'expires_at'],
      [{ scopes: [] }, 'scopes'],
      [{ scopes: ['read', 'read'] }, 'scopes'],
      [{ scopes: ['admin'] }, 'scopes[0]'],
      [{ name: '' }, 'name'],
      [{ role: 'operator' }, 'role'],
      [{ account_id: formatId('account', management.accountId) }, 'account_id'],
    ];
    for (const [body, param] of cases) {
      assert.deepEqual(
        refusal(await make(secret, body)),
        { status: 422, code: 'invalid_field', param },
        JSON.stringify(body),
      );
    }
    assert.equal((await make(secret, { scopes: ['read'], expires_at: inHours(1) })).status, 201);
  });

  it('a token ends at its end', async () => {
    const { secret, id } = await made(root, { expires_at: inHours(1) });
    assert.ok(await works(secret));
    await management.admin.query('update access_token set expires_at = now() where id = $1', [parseId('token', id)]);
    assert.equal(refusal(await management.call('GET', '/api/account', { token: secret })).code, 'invalid_token');
  });

  it('a token is narrowed with every token created with it, and never widened', async () => {
    const { id, secret } = await made(root, { scopes: ['read', 'keys'] });
    const reads = await made(secret, { scopes: ['read'] });
    const keeps = await made(secret, { scopes: ['keys'] });
    const narrow = (body: object, token = root): Promise<Answer> =>
      management.call('PATCH', `/api/tokens/${id}`, { token, body });
    assert.deepEqual(refusal(await narrow({ scopes: TOKEN_SCOPES })).param, 'scopes');
    const end = inHours(1);
    assert.deepEqual(pick((await narrow({ scopes: ['read'], expires_at: end })).body, 'scopes', 'expires_at'), [
      ['read'],
      end,
    ]);
    assert.deepEqual(refusal(await narrow({ expires_at: inHours(2) })).param, 'expires_at');
    assert.equal(refusal(await makeKey(secret)).code, 'forbidden');
    const rows = await readPages(management, '/api/tokens', { limit: 10, token: root });
    const shown = (wanted: string) => rows.find((row) => row['id'] === wanted)!;
    assert.deepEqual(pick(shown(reads.id), 'scopes', 'expires_at', 'revoked_at'), [['read'], end, null]);
    assert.notEqual(shown(keeps.id)['revoked_at'], null, 'nothing is left of it');
    assert.equal(await works(keeps.secret), false);
  });

  it('revoking a token revokes every token created with it', async () => {
    const stolen = await made(root);
    const child = await made(stolen.secret);
    const grandchild = await made(child.secret, { scopes: ['read', 'keys'] });
    const sibling = await made(root);
    const answer = await revoke(root, stolen.id);
    assert.equal(answer.status, 200);
    assert.deepEqual([...(answer.body['revoked'] as string[])].sort(), [stolen.id, child.id, grandchild.id].sort());
    for (const { secret } of [stolen, child, grandchild]) assert.equal(await works(secret), false);
    assert.ok(await works(sibling.secret));
    assert.ok(await works(root));
    assert.deepEqual((await revoke(root, stolen.id)).body, answer.body, 'a repeat changes nothing');
  });

  it('revoking a token revokes the API keys created with it, unless keys=false', async () => {
    const stolen = await made(root);
    const child = await made(stolen.secret);
    const keys = [await makeKey(root), await makeKey(stolen.secret), await makeKey(child.secret)];
    const revoked = async (): Promise<boolean[]> => {
      const rows = await readPages(management, '/api/keys', { limit: 50, token: root });
      return keys.map(({ body }) => rows.find((row) => row['id'] === body['id'])?.['revoked_at'] !== null);
    };
    await revoke(root, child.id, '?keys=false');
    assert.deepEqual(await revoked(), [false, false, false]);
    await revoke(root, stolen.id);
    assert.deepEqual(await revoked(), [false, true, true]);
  });

  it('a token revoked while it creates others leaves none behind', async () => {
    for (let round = 0; round < 5; round++) {
      const stolen = await made(root, { name: `stolen ${round}` });
      const racing = await Promise.all([
        ...Array.from({ length: 4 }, () => make(stolen.secret, { name: 'racing' })),
        ...Array.from({ length: 4 }, () => makeKey(stolen.secret)),
        revoke(root, stolen.id),
      ]);
      assert.equal(racing.at(-1)!.status, 200);
      const { rows } = await management.admin.query(
        `select id from access_token where revoked_at is null and created_by = $1
         union all select id from api_key where revoked_at is null and created_by = $1`,
        [parseId('token', stolen.id)],
      );
      assert.deepEqual(rows, []);
      const live = await readPages(management, '/api/tokens', { limit: 50, token: root });
      assert.equal(live.filter((row) => row['revoked_at'] === null).length, 1);
    }
  });

  it('a token cannot change a token with more rights, nor a token of another account', async () => {
    const { secret } = await made(root, { scopes: ['read', 'keys'] });
    const rootId = String(
      rowsOf((await management.call('GET', '/api/tokens', { token: root })).body).find(
        (row) => row['name'] === 'root',
      )?.['id'],
    );
    for (const answer of [
      await revoke(secret, rootId),
      await management.call('PATCH', `/api/tokens/${rootId}`, { token: secret, body: { scopes: ['read'] } }),
    ]) {
      assert.deepEqual(refusal(answer), { status: 403, code: 'forbidden', param: null });
    }
    for (const answer of [
      await revoke(management.tokens.account, rootId),
      await management.call('PATCH', `/api/tokens/${rootId}`, { token: management.tokens.account, body: {} }),
    ]) {
      assert.equal(refusal(answer).code, 'not_found');
    }
    assert.ok(await works(root));
  });

  it('an account has no more tokens than the limit, for parallel calls too, and creates no more than ten times as many a day', async () => {
    const most = management.deps.settings.tokensMax;
    const answers = await Promise.all(Array.from({ length: most + 5 }, () => make(root, {})));
    assert.equal(answers.filter(({ status }) => status === 201).length, most - 1, 'the first one is among them');
    for (const answer of answers) {
      if (answer.status !== 201) assert.deepEqual([answer.status, refusal(answer).code], [409, 'conflict']);
    }
    await management.admin.query(
      `insert into access_token (hash, role, account_id, name, revoked_at)
       select sha256(n::text::bytea || $1::uuid::text::bytea), 'account', $1, 'old', now() from generate_series(1, $2::integer) n`,
      [accountId, 10 * most - most],
    );
    const last = answers.find(({ status }) => status === 201)!;
    await revoke(root, textOf(last.body, 'id'));
    const refused = await make(root, {});
    assert.deepEqual([refused.status, refusal(refused).code], [429, 'rate_limit_exceeded']);
  });

  describe('and staff', () => {
    const notices = async (): Promise<Record<string, unknown>[]> =>
      (await management.call('GET', '/api/account', { token: root })).body['notices'] as Record<string, unknown>[];

    it('a customer gets a notice of a token that staff create, sees it, and can revoke it', async () => {
      const body = {
        role: 'account',
        name: 'support session',
        account_id: formatId('account', accountId),
        scopes: ['read'],
      };
      const answer = await management.call('POST', '/admin/tokens', { body });
      assert.equal(answer.status, 201, answer.text);
      const id = textOf(answer.body, 'id');
      const [notice] = await notices();
      assert.deepEqual(pick(notice!, 'kind', 'details'), [
        'token_made_by_staff',
        { token_id: id, name: 'support session', scopes: ['read'], expires_at: null },
      ]);
      const [shown] = rowsOf((await management.call('GET', '/api/tokens', { token: root })).body);
      assert.deepEqual(pick(shown!, 'id', 'made_by_staff', 'created_by'), [id, true, null]);
      assert.deepEqual((await revoke(root, id)).body['revoked'], [id]);
      assert.equal(await works(textOf(answer.body, 'secret')), false);
    });

    it('a token of a leaver ends with the tokens it created, and customers get a notice of theirs', async () => {
      const { secret: leaver, token } = await createAccessToken(management.management, {
        role: 'operator',
        accountId: null,
        name: `leaver ${accountId}`,
      });
      const mint = async (secret: string, body: object): Promise<{ id: string; secret: string }> => {
        const answer = await management.call('POST', '/admin/tokens', { token: secret, body });
        assert.equal(answer.status, 201, answer.text);
        return { id: textOf(answer.body, 'id'), secret: textOf(answer.body, 'secret') };
      };
      const other = await mint(leaver, { role: 'operator', name: 'another name' });
      const ofCustomer = await mint(other.secret, {
        role: 'account',
        name: 'backdoor',
        account_id: formatId('account', accountId),
      });
      const answer = await management.call('DELETE', `/admin/tokens/${formatId('token', token.id)}`);
      assert.deepEqual(
        [...(answer.body['revoked'] as string[])].sort(),
        [formatId('token', token.id), other.id, ofCustomer.id].sort(),
      );
      assert.equal((await management.call('GET', '/admin/accounts', { token: other.secret })).status, 401);
      assert.equal(await works(ofCustomer.secret), false);
      assert.deepEqual(
        (await notices()).map((notice) => notice['kind']),
        ['token_revoked_by_staff', 'token_made_by_staff'],
      );
    });

    it('an account that staff open has a first token that no leaver takes along', async () => {
      const answer = await management.call('POST', '/admin/accounts', { body: { name: 'New', email: null } });
      const { rows } = await management.admin.query('select created_by from access_token where account_id = $1', [
        parseId('account', textOf(answer.body, 'id')),
      ]);
      assert.deepEqual(rows, [{ created_by: null }]);
    });
  });
});
