/** API keys as their owner manages them: every field, and that no edit touches what was spent. */
import assert from 'node:assert/strict';
import { findKeyByHash } from '../../../../../db/accounts/api-keys.ts';
import { saveModel } from '../../../../../db/requests/catalogue.ts';
import { hashSecret } from '../../../../../db/shared/secrets.ts';
import { parseId } from '../../../../../domain/ids.ts';
import { createCustomer, createKey } from '../../../../support/ledger-database.ts';
import {
  finishedRequest,
  heldRequest,
  readPages,
  refusal,
  rowsOf,
  settledRequest,
  startManagement,
  textOf,
  tokenOf,
  without,
  type Management,
} from '../../management.ts';

const FAR = '2099-01-01T00:00:00.000Z';

describe('/api/keys', () => {
  let management: Management;
  before(async () => {
    management = await startManagement('routes_keys');
    for (const id of ['demo/model', 'demo/other']) {
      await saveModel(management.management, {
        id,
        dialect: 'openai',
        context_length: 1000,
        default_output_tokens: 100,
        upstreams: [],
        prices: {},
      });
    }
  });
  after(() => management.stop());

  const create = async (body: object) => {
    const answer = await management.call('POST', '/api/keys', { body });
    assert.equal(answer.status, 201, answer.text);
    return { ...answer.body, id: textOf(answer.body, 'id'), secret: textOf(answer.body, 'secret') };
  };

  it('a new key is unlimited by default and its secret works', async () => {
    const key: Record<string, unknown> & { id: string; secret: string } = await create({ name: 'Plain' });
    assert.match(key['secret'], /^sk-hf-[0-9a-f]{48}$/);
    assert.ok(key['secret'].startsWith(key['prefix'] as string));
    const rest = without(key, 'id', 'secret', 'prefix', 'created_at');
    const zero = '0.000000000000';
    assert.deepEqual(rest, {
      name: 'Plain',
      expires_at: null,
      revoked_at: null,
      limit_usd: null,
      limit_reset: 'none',
      models: null,
      ip_allowlist: null,
      spent_usd: zero,
      window_spent_usd: zero,
      held_usd: zero,
      remaining_usd: null,
    });
    const found = await findKeyByHash(management.gateway, hashSecret(key['secret']));
    assert.equal(found?.keyId, parseId('key', key['id']));
  });

  it('the secret of a key is shown once: no other response has it', async () => {
    const { id, secret } = await create({ name: 'Secret' });
    for (const path of ['/api/keys', `/api/keys/${id}`]) {
      assert.ok(!(await management.call('GET', path)).text.includes(secret));
    }
    assert.ok(!(await management.call('PATCH', `/api/keys/${id}`, { body: {} })).text.includes(secret));
  });

  it('POST /api/keys takes every field and writes addresses and times in one form', async () => {
    const made: Record<string, unknown> = await create({
      name: ' All ',
      expires_at: '2099-01-01T02:00:00+02:00',
      limit_usd: '5',
      limit_reset: 'daily',
      models: ['demo/model', 'demo/other', 'demo/model'],
      ip_allowlist: ['10.0.0.7', '2001:DB8::/32', '10.0.0.7/32'],
    });
    const key = without(made, 'secret');
    assert.deepEqual(
      [key['name'], key['expires_at'], key['limit_usd'], key['limit_reset'], key['remaining_usd']],
      ['All', FAR, '5.000000000000', 'daily', '5.000000000000'],
    );
    assert.deepEqual(key['models'], ['demo/model', 'demo/other']);
    assert.deepEqual(key['ip_allowlist'], ['10.0.0.7/32', '2001:db8::/32']);
    assert.deepEqual((await management.call('GET', `/api/keys/${textOf(made, 'id')}`)).body, key);
  });

  it('PATCH /api/keys changes given fields, leaves absent ones, and clears null ones', async () => {
    const { id } = await create({ name: 'Change', limit_usd: '5', models: ['demo/model'], expires_at: FAR });
    const change = async (body: object) => {
      const { status, body: key } = await management.call('PATCH', `/api/keys/${id}`, { body });
      assert.equal(status, 200);
      return [key['name'], key['limit_usd'], key['limit_reset'], key['models'], key['expires_at'], key['ip_allowlist']];
    };
    assert.deepEqual(await change({}), ['Change', '5.000000000000', 'none', ['demo/model'], FAR, null]);
    assert.deepEqual(await change({ limit_reset: 'monthly' }), [
      'Change',
      '5.000000000000',
      'monthly',
      ['demo/model'],
      FAR,
      null,
    ]);
    assert.deepEqual(await change({ name: 'New', models: null, ip_allowlist: ['::1'] }), [
      'New',
      '5.000000000000',
      'monthly',
      null,
      FAR,
      ['::1/128'],
    ]);
    assert.deepEqual(await change({ limit_usd: null, limit_reset: 'none', expires_at: null, ip_allowlist: null }), [
      'New',
      null,
      'none',
      null,
      null,
      null,
    ]);
  });

  it('a new limit counts what was spent before, and editing a limit touches no counter', async () => {
    const { id } = await create({ name: 'Counted', limit_usd: '5' });
    const hold = { keyId: parseId('key', id)! };
    await settledRequest(management, '0.4', { hold });
    await finishedRequest(management, '0.1', { hold });
    await heldRequest(management, hold);
    const counters = (key: Record<string, unknown>) =>
      ['spent_usd', 'window_spent_usd', 'held_usd', 'remaining_usd'].map((field) => key[field]);
    const spent = ['0.500000000000', '0.500000000000', '0.500000000000'];
    assert.deepEqual(counters((await management.call('GET', `/api/keys/${id}`)).body), [...spent, '4.000000000000']);
    const columns = 'held, spent_total, window_start, window_spent, window_held';
    const stored = async (): Promise<unknown> =>
      (await management.admin.query(`select ${columns} from api_key where id = $1`, [hold.keyId])).rows;
    const before = await stored();
    for (const [limit, remaining] of [
      ['1.25', '0.250000000000'],
      ['0.75', '0.000000000000'],
      ['0', '0.000000000000'],
      [null, null],
      ['7', '6.000000000000'],
    ] as const) {
      const { body } = await management.call('PATCH', `/api/keys/${id}`, { body: { limit_usd: limit } });
      assert.deepEqual(counters(body), [...spent, remaining]);
      assert.deepEqual(await stored(), before);
    }
  });

  it('changes of different fields at once both count', async () => {
    const { id } = await create({ name: 'Race', limit_usd: '5' });
    await Promise.all([
      management.call('PATCH', `/api/keys/${id}`, { body: { name: 'Won' } }),
      management.call('PATCH', `/api/keys/${id}`, { body: { limit_usd: '6' } }),
      management.call('PATCH', `/api/keys/${id}`, { body: { limit_reset: 'weekly' } }),
      management.call('PATCH', `/api/keys/${id}`, { body: { models: ['demo/other'] } }),
    ]);
    const { body } = await management.call('GET', `/api/keys/${id}`);
    assert.deepEqual(
      [body['name'], body['limit_usd'], body['limit_reset'], body['models']],
      ['Won', '6.000000000000', 'weekly', ['demo/other']],
    );
  });

  it('a key is revoked permanently and repeatably, and a revoked key cannot change', async () => {
    const { id } = await create({ name: 'Revoked' });
    const first = await management.call('DELETE', `/api/keys/${id}`);
    assert.ok(first.body['revoked_at'] !== null);
    assert.deepEqual((await management.call('DELETE', `/api/keys/${id}`)).body, first.body);
    const change = await management.call('PATCH', `/api/keys/${id}`, { body: { name: 'Back' } });
    assert.deepEqual(refusal(change), { status: 409, code: 'conflict', param: null });
    assert.deepEqual((await management.call('GET', `/api/keys/${id}`)).body, first.body);
  });

  it('POST /api/keys names the field, and the element of a list, that is not valid', async () => {
    const cases: [object, string][] = [
      [{}, 'name'],
      [{ name: '' }, 'name'],
      [{ name: 'x'.repeat(101) }, 'name'],
      [{ name: 7 }, 'name'],
      [{ name: 'a\nb\u0007' }, 'name'],
      [{ name: 'k', expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
      [{ name: 'k', expires_at: '2099-01-01' }, 'expires_at'],
      [{ name: 'k', expires_at: '2099-01-01T00:00:00' }, 'expires_at'],
      [{ name: 'k', expires_at: '2099-02-30T00:00:00Z' }, 'expires_at'],
      [{ name: 'k', expires_at: 4070908800 }, 'expires_at'],
      [{ name: 'k', limit_usd: 5 }, 'limit_usd'],
      [{ name: 'k', limit_usd: '-0.1' }, 'limit_usd'],
      [{ name: 'k', limit_usd: 'NaN' }, 'limit_usd'],
      [{ name: 'k', limit_usd: '1'.repeat(30) }, 'limit_usd'],
      [{ name: 'k', limit_reset: 'hourly' }, 'limit_reset'],
      [{ name: 'k', limit_reset: null }, 'limit_reset'],
      [{ name: 'k', models: [] }, 'models'],
      [{ name: 'k', models: 'demo/model' }, 'models'],
      [{ name: 'k', models: ['demo/model', 'demo/modle'] }, 'models[1]'],
      [{ name: 'k', models: ['demo/model', ''] }, 'models[1]'],
      [{ name: 'k', models: Array.from({ length: 201 }, () => 'demo/model') }, 'models'],
      [{ name: 'k', ip_allowlist: [] }, 'ip_allowlist'],
      [{ name: 'k', ip_allowlist: ['10.0.0.1', '10.0.0.1/8'] }, 'ip_allowlist[1]'],
      [{ name: 'k', ip_allowlist: ['example.com'] }, 'ip_allowlist[0]'],
      [{ name: 'k', ip_allowlist: [null] }, 'ip_allowlist[0]'],
      [{ name: 'k', secret: 'sk-hf-mine' }, 'secret'],
      [{ name: 'k', spent_usd: '0' }, 'spent_usd'],
    ];
    const { id } = await create({ name: 'Target' });
    for (const [body, param] of cases) {
      const wanted = { status: 422, code: 'invalid_field', param };
      assert.deepEqual(refusal(await management.call('POST', '/api/keys', { body })), wanted, JSON.stringify(body));
      if (Object.keys(body).length === 0) continue;
      assert.deepEqual(
        refusal(await management.call('PATCH', `/api/keys/${id}`, { body })),
        wanted,
        JSON.stringify(body),
      );
    }
  });

  it('an account gets a hundred unrevoked keys, and the next is refused with that limit', async () => {
    const accountId = await createCustomer(management, '0');
    const token = await tokenOf(management, 'account', accountId);
    for (let n = 0; n < 100; n++) await createKey(management, accountId);
    const post = () => management.call('POST', '/api/keys', { token, body: { name: 'one more' } });
    const refused = await post();
    assert.deepEqual(refusal(refused), { status: 409, code: 'conflict', param: null });
    assert.match(refused.text, /100 API keys that are not revoked/);
    const { body } = await management.call('GET', '/api/keys?limit=1', { token });
    await management.call('DELETE', `/api/keys/${textOf(rowsOf(body)[0]!, 'id')}`, { token });
    assert.equal((await post()).status, 201);
  });

  it('keys of other accounts are hidden', async () => {
    const token = await tokenOf(management, 'account', await createCustomer(management, '0'));
    const { id } = await create({ name: 'Mine' });
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const answer = await management.call(method, `/api/keys/${id}`, {
        token,
        ...(method === 'PATCH' ? { body: { name: 'Taken' } } : {}),
      });
      assert.deepEqual(refusal(answer), { status: 404, code: 'not_found', param: null });
    }
    assert.deepEqual((await management.call('GET', '/api/keys', { token })).body, { data: [], next_cursor: null });
    assert.equal((await management.call('GET', `/api/keys/${id}`)).body['name'], 'Mine');
  });

  it('keys are listed newest first in pages that neither repeat nor skip while keys are added', async () => {
    const accountId = await createCustomer(management, '0');
    const token = await tokenOf(management, 'account', accountId);
    const add = async (name: string) => management.call('POST', '/api/keys', { token, body: { name } });
    for (const name of ['1', '2', '3', '4', '5']) await add(name);
    const rows = await readPages(management, '/api/keys', { limit: 2, token, between: () => add('added meanwhile') });
    const names = rows.map(({ name }) => name);
    assert.deepEqual(names, ['5', '4', '3', '2', '1']);
  });

  it('revoked keys and the others can be listed apart', async () => {
    const token = await tokenOf(management, 'account', await createCustomer(management, '0'));
    const made = await management.call('POST', '/api/keys', { token, body: { name: 'gone' } });
    await management.call('POST', '/api/keys', { token, body: { name: 'here' } });
    await management.call('DELETE', `/api/keys/${textOf(made.body, 'id')}`, { token });
    const names = async (query: string) =>
      ((await management.call('GET', `/api/keys${query}`, { token })).body['data'] as { name: string }[]).map(
        ({ name }) => name,
      );
    assert.deepEqual(await names(''), ['here', 'gone']);
    assert.deepEqual(await names('?revoked=true'), ['gone']);
    assert.deepEqual(await names('?revoked=false'), ['here']);
    for (const [query, param] of [
      ['?revoked=yes', 'revoked'],
      ['?limit=0', 'limit'],
      ['?limit=201', 'limit'],
      ['?limit=-1', 'limit'],
      ['?limit=1.5', 'limit'],
      ['?limit=', 'limit'],
      ['?cursor=abc', 'cursor'],
      ['?cursor=', 'cursor'],
    ] as const) {
      assert.deepEqual(refusal(await management.call('GET', `/api/keys${query}`)), {
        status: 422,
        code: 'invalid_field',
        param,
      });
    }
  });
});
