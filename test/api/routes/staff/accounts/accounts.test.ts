/** Accounts as staff manage them: created with a token, found by what an operator has, frozen with a reason. */
import assert from 'node:assert/strict';
import { createApiKey } from '../../../../../db/accounts/api-keys.ts';
import { formatId, parseId } from '../../../../../domain/ids.ts';
import { pick, readPages, refusal, rowsOf, startManagement, textOf, type Management } from '../../management.ts';

describe('/admin/accounts', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_admin_accounts');
  });
  after(() => management.stop());

  const create = async (body: object) => {
    const answer = await management.call('POST', '/admin/accounts', { body });
    assert.equal(answer.status, 201, answer.text);
    return answer.body;
  };

  it('a new account is empty and has a management token that works and is shown once', async () => {
    const made = await create({ name: 'Ada', email: 'Ada@Example.com' });
    assert.deepEqual(pick(made, 'name', 'email', 'balance_usd', 'frozen'), [
      'Ada',
      'Ada@Example.com',
      '0.000000000000',
      false,
    ]);
    const token = textOf(made, 'management_token');
    const own = await management.call('GET', '/api/account', { token });
    assert.equal(own.body['id'], made['id']);
    const shown = await management.call('GET', `/admin/accounts/${textOf(made, 'id')}`);
    assert.ok(!shown.text.includes(token));
    await management.call('DELETE', `/admin/tokens/${textOf(made, 'token_id')}`);
    assert.equal((await management.call('GET', '/api/account', { token })).status, 401);
  });

  it('the e-mail address of an account is unique, ignoring case', async () => {
    await create({ name: 'One', email: 'taken@example.com' });
    const again = await management.call('POST', '/admin/accounts', {
      body: { name: 'Two', email: 'TAKEN@example.com' },
    });
    assert.deepEqual(refusal(again), { status: 409, code: 'conflict', param: 'email' });
    const { rows } = await management.admin.query(
      `select 1 from access_token t join account a on a.id = t.account_id where a.name = 'Two'`,
    );
    assert.equal(rows.length, 0, 'nothing is half made');
    await create({ name: 'Without address' });
    await create({ name: 'Without address', email: null });
  });

  it('POST /admin/accounts names the field that is not valid', async () => {
    const cases: [object, string][] = [
      [{}, 'name'],
      [{ name: '' }, 'name'],
      [{ name: 'x'.repeat(201) }, 'name'],
      [{ name: 'x', email: 'nobody' }, 'email'],
      [{ name: 'x', email: `${'x'.repeat(320)}@example.com` }, 'email'],
      [{ name: 'x', email: 5 }, 'email'],
      [{ name: 'x', balance_usd: '100' }, 'balance_usd'],
      [{ name: 'x', kind: 'system' }, 'kind'],
    ];
    for (const [body, param] of cases) {
      const answer = await management.call('POST', '/admin/accounts', { body });
      assert.deepEqual(refusal(answer), { status: 422, code: 'invalid_field', param }, JSON.stringify(body));
    }
  });

  describe('search', () => {
    let id: string;
    let keyId: string;
    let secret: string;
    before(async () => {
      id = textOf(await create({ name: 'Grace 100%_Hopper', email: 'grace_h@example.com' }), 'id');
      const { key, secret: made } = await createApiKey(management.management, {
        accountId: parseId('account', id)!,
        name: 'key',
        expiresAt: null,
        limit: null,
        limitReset: 'none',
        models: null,
        ipAllowlist: null,
      });
      keyId = formatId('key', key.id);
      secret = made;
    });

    const find = async (q: string) => {
      const { body } = await management.call('GET', `/admin/accounts?q=${encodeURIComponent(q)}`);
      return rowsOf(body).map((row) => row['id']);
    };

    it('the search finds by id, key id, key prefix, whole key, e-mail address and name', async () => {
      for (const q of [
        id,
        keyId,
        secret.slice(0, 12),
        secret.slice(0, 9),
        secret,
        'GRACE_H@example.com',
        'grace_',
        'Grace 100%_',
        ' grace_h',
      ]) {
        assert.deepEqual(await find(q), [id], q);
      }
    });

    it('the search takes % and _ literally and finds nothing where there is nothing', async () => {
      for (const q of [
        '%',
        '_',
        'graceXh',
        "' or true --",
        'acct_01980000000070008000000000000000',
        'sk-hf-zzzzzz',
        '\\',
        'revenue',
      ]) {
        assert.deepEqual(await find(q), [], q);
      }
    });

    it('an empty search lists all accounts in pages, newest first', async () => {
      const rows = await readPages(management, '/admin/accounts', { limit: 2 });
      const ids = rows.map((row) => row['id'] as string);
      assert.deepEqual(ids, [...ids].sort().reverse());
      const { rows: stored } = await management.admin.query(`select 1 from account where kind = 'customer'`);
      assert.equal(ids.length, stored.length);
      const own = rows.find((row) => row['id'] === formatId('account', management.accountId));
      assert.equal(own?.['balance_usd'], '10.000000000000');
    });

    it('the search text is never logged', () => {
      assert.ok(!JSON.stringify(management.logged).includes(secret));
    });
  });

  it('GET /admin/accounts/{id} shows a customer in full, and no unknown or system account', async () => {
    const { body } = await management.call('GET', `/admin/accounts/${formatId('account', management.accountId)}`);
    assert.deepEqual(pick(body, 'balance_usd', 'held_usd', 'available_usd'), [
      '10.000000000000',
      '0.000000000000',
      '10.000000000000',
    ]);
    const { rows } = await management.admin.query<{ id: string }>(`select id from account where name = 'revenue'`);
    for (const id of [rows[0]!.id.replaceAll('-', ''), '01980000000070008000000000000000']) {
      assert.equal(refusal(await management.call('GET', `/admin/accounts/acct_${id}`)).code, 'not_found');
      assert.equal(
        refusal(await management.call('POST', `/admin/accounts/acct_${id}/freeze`, { body: { reason: 'test' } })).code,
        'not_found',
      );
      assert.equal(refusal(await management.call('POST', `/admin/accounts/acct_${id}/unfreeze`)).code, 'not_found');
    }
  });

  it('an account is frozen with a reason and unfrozen, once each, by support too, with actor and reason on record', async () => {
    const id = textOf(await create({ name: 'Frosty' }), 'id');
    const token = management.tokens.support;
    const frozen = await management.call('POST', `/admin/accounts/${id}/freeze`, {
      token,
      body: { reason: 'chargeback' },
    });
    assert.deepEqual(pick(frozen.body, 'frozen', 'frozen_reason'), [true, 'chargeback']);
    const again = await management.call('POST', `/admin/accounts/${id}/freeze`, { body: { reason: 'another' } });
    assert.deepEqual(refusal(again), { status: 409, code: 'conflict', param: null });
    assert.equal((await management.call('GET', `/admin/accounts/${id}`)).body['frozen_reason'], 'chargeback');
    const thawed = await management.call('POST', `/admin/accounts/${id}/unfreeze`, { body: { reason: 'paid' } });
    assert.deepEqual(pick(thawed.body, 'frozen', 'frozen_at', 'frozen_reason'), [false, null, null]);
    assert.equal(refusal(await management.call('POST', `/admin/accounts/${id}/unfreeze`)).status, 409);
    const { body } = await management.call('GET', `/admin/actions?subject=${id}`);
    assert.deepEqual(
      rowsOf(body).map((row) => [
        row['action'],
        String(row['actor']).split(' (')[0],
        (row['details'] as Record<string, unknown>)['reason'],
      ]),
      [
        ['account.unfreeze', 'the operator', 'paid'],
        ['account.freeze', 'the support', 'chargeback'],
        ['account.create', 'the operator', undefined],
      ],
    );
    for (const body of [{}, { reason: 'no' }, { reason: 7 }, { reason: '👍👍' }]) {
      assert.equal(
        refusal(await management.call('POST', `/admin/accounts/${id}/freeze`, { body })).param,
        'reason',
        JSON.stringify(body),
      );
    }
  });

  it('support cannot lift a freeze by an operator or for fraud; it may freeze for fraud and not lift that', async () => {
    const id = textOf(await create({ name: 'Suspect' }), 'id');
    const { support, finance } = management.tokens;
    const freeze = (token: string, body: object) =>
      management.call('POST', `/admin/accounts/${id}/freeze`, { token, body: { reason: 'stolen cards', ...body } });
    const unfreeze = (token: string) =>
      management.call('POST', `/admin/accounts/${id}/unfreeze`, { token, body: { reason: 'asked nicely' } });
    const shown = async () =>
      pick((await management.call('GET', `/admin/accounts/${id}`)).body, 'frozen', 'frozen_kind');

    for (const [token, body, kind] of [
      [management.tokens.operator, {}, 'operator'],
      [finance, { kind: 'fraud' }, 'fraud'],
      [support, { kind: 'fraud' }, 'fraud'],
    ] as const) {
      assert.equal((await freeze(token, body)).status, 200);
      assert.deepEqual(refusal(await unfreeze(support)), { status: 403, code: 'forbidden', param: null });
      assert.deepEqual(await shown(), [true, kind]);
      assert.equal(
        refusal(await freeze(support, { kind: 'support' })).status,
        409,
        'a lighter one does not replace it',
      );
      assert.deepEqual(await shown(), [true, kind]);
      assert.equal((await unfreeze(finance)).status, 200);
    }
    // What support froze becomes a freeze for fraud, and then is not support's to lift any more.
    assert.equal((await freeze(support, {})).status, 200);
    assert.equal((await freeze(management.tokens.operator, { kind: 'fraud' })).status, 200);
    assert.equal(refusal(await unfreeze(support)).status, 403);
    assert.deepEqual(await shown(), [true, 'fraud']);
  });
});
