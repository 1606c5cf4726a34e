/**
 * Vouchers for staff: codes exist in one answer only, money above the threshold needs a second person, ends have
 * reasons.
 */
import assert from 'node:assert/strict';
import { createAccessToken } from '../../../../../db/accounts/access-tokens.ts';
import { newVoucherCode } from '../../../../../db/payments/vouchers.ts';
import { formatId } from '../../../../../domain/ids.ts';
import { formatVoucherCode } from '../../../../../domain/payments/voucher.ts';
import { brokenRules } from '../../../../support/ledger-database.ts';
import {
  pick,
  readPages,
  refusal,
  rowsOf,
  startManagement,
  textOf,
  without,
  type Answer,
  type Management,
} from '../../management.ts';

const COUNTS = ['issued_count', 'redeemed_count', 'open_count', 'expired_count', 'void_count'] as const;

describe('/admin voucher batches', () => {
  let management: Management;
  /** A second person of finance. */
  let second: string;
  before(async () => {
    management = await startManagement('routes_admin_vouchers');
    const person = { role: 'finance', accountId: null, name: 'second' } as const;
    second = (await createAccessToken(management.management, person)).secret;
  });
  after(async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
    await management.stop();
  });

  const make = (given: object = {}, { key, csv = false }: { key?: string; csv?: boolean } = {}): Promise<Answer> =>
    management.call('POST', `/admin/voucher-batches${csv ? '.csv' : ''}`, {
      token: management.tokens.finance,
      body: { name: 'Fair', count: 3, amount_usd: '5', expires_at: null, reason: 'goodwill', ...given },
      ...(key === undefined ? {} : { headers: { 'idempotency-key': key } }),
    });
  const act = (batch: string, action: string, { token = second, body }: { token?: string; body?: object } = {}) =>
    management.call('POST', `/admin/voucher-batches/${batch}/${action}`, {
      token,
      ...(body === undefined ? {} : { body }),
    });
  const redeem = (code: string): Promise<Answer> => management.call('POST', '/api/vouchers/redeem', { body: { code } });
  const codesOf = ({ body }: Answer): string[] => body['codes'] as string[];
  const show = async (batch: string) => (await management.call('GET', `/admin/voucher-batches/${batch}`)).body;

  it('a new batch has its codes in the response, and never shows them again', async () => {
    const made = await make({ expires_at: '2099-01-01T00:00:00Z' });
    assert.equal(made.status, 201);
    assert.deepEqual(pick(made.body, 'state', 'amount_usd', 'total_usd', 'decided_by', ...COUNTS), [
      'issued',
      '5.000000000000',
      '15.000000000000',
      null,
      3,
      0,
      3,
      0,
      0,
    ]);
    const codes = codesOf(made);
    assert.equal(new Set(codes).size, 3);
    for (const code of codes) assert.match(code, /^([0-9A-Z]{5}-){3}[0-9A-Z]{5}$/);
    const batch = textOf(made.body, 'id');
    assert.deepEqual(await show(batch), without(made.body, 'codes'));
    const list = await management.call('GET', `/admin/voucher-batches/${batch}/vouchers`);
    assert.deepEqual(
      rowsOf(list.body)
        .map((row) => row['prefix'])
        .toSorted(),
      codes.map((code) => code.slice(0, 3)).toSorted(),
    );
    const { rows } = await management.admin.query<{ everything: string }>(
      `select (select string_agg(to_jsonb(v)::text, '') from voucher v) || (select string_agg(to_jsonb(i)::text, '')
        from idempotency_key i) || (select string_agg(to_jsonb(o)::text, '') from operator_action o) as everything`,
    );
    for (const code of codes) {
      for (const text of [JSON.stringify(management.logged), rows[0]!.everything ?? '']) {
        assert.ok(!text.includes(code) && !text.includes(code.replaceAll('-', '')));
      }
    }
  });

  it('a repeated Idempotency-Key makes no second batch and hands out no code', async () => {
    const first = await make({}, { key: 'batch' });
    const again = await make({}, { key: 'batch' });
    assert.deepEqual([again.status, without(again.body, 'codes')], [201, without(first.body, 'codes')]);
    assert.equal(again.body['codes'], null);
    const answer = await make({}, { key: 'csv', csv: true });
    assert.equal(answer.status, 200);
    assert.equal(refusal(await make({}, { key: 'csv', csv: true })).code, 'conflict');
  });

  it('a batch comes as CSV, whose codes redeem', async () => {
    const { text, headers } = await make({ count: 2, expires_at: '2099-01-01T00:00:00Z' }, { csv: true });
    assert.match(
      headers.get('content-disposition') ?? '',
      /^attachment; filename="holdfast-vouchers-vbt_[0-9a-f]{32}\.csv"$/,
    );
    const lines = text.trimEnd().split('\r\n');
    assert.equal(lines[0], 'code,amount_usd,expires_at,batch_id');
    const [code, amount, expiry, batch] = lines[1]!.split(',');
    assert.deepEqual([lines.length, amount, expiry], [3, '5.000000000000', '2099-01-01T00:00:00.000Z']);
    assert.equal((await redeem(code!)).status, 200);
    assert.deepEqual(pick(await show(batch!), ...COUNTS), [2, 1, 1, 0, 0]);
  });

  it('a batch above the threshold in total waits for a second person, listed among the approvals', async () => {
    const made = await make({ count: 21 });
    assert.deepEqual([made.status, made.body['state']], [202, 'waiting']);
    const batch = textOf(made.body, 'id');
    const [code] = codesOf(made);
    assert.equal(refusal(await redeem(code!)).code, 'voucher_not_active');
    const [waiting] = rowsOf((await management.call('GET', '/admin/approvals')).body);
    assert.deepEqual(pick(waiting!, 'kind', 'id', 'name', 'count', 'amount_usd'), [
      'voucher_batch',
      batch,
      'Fair',
      21,
      '105.000000000000',
    ]);
    assert.deepEqual(refusal(await act(batch, 'approve', { token: management.tokens.finance })), {
      status: 403,
      code: 'forbidden',
      param: null,
    });
    const approved = await act(batch, 'approve');
    assert.equal(approved.body['state'], 'issued');
    assert.match(textOf(approved.body, 'decided_by'), /^second /);
    assert.equal((await act(batch, 'approve')).status, 200);
    assert.equal(refusal(await act(batch, 'reject')).code, 'conflict');
    assert.equal((await redeem(code!)).status, 200);
    const { rows } = await management.admin.query<{ action: string }>(
      'select action from operator_action where subject = $1 order by id',
      [batch],
    );
    assert.deepEqual(
      rows.map(({ action }) => action),
      ['voucher_batch.create', 'voucher_batch.approve'],
    );
  });

  it('a batch rejected by its requester is worth nothing', async () => {
    const made = await make({ count: 21 });
    const batch = textOf(made.body, 'id');
    const rejected = await act(batch, 'reject', { token: management.tokens.finance });
    assert.deepEqual(pick(rejected.body, 'state', ...COUNTS), ['rejected', 21, 0, 0, 0, 21]);
    assert.equal(refusal(await redeem(codesOf(made)[0]!)).code, 'voucher_void');
    assert.equal(refusal(await act(batch, 'approve')).code, 'conflict');
  });

  it('a batch is withdrawn with a reason: redeemed vouchers stay, the rest is void', async () => {
    const made = await make();
    const batch = textOf(made.body, 'id');
    const [used, rest] = codesOf(made);
    await redeem(used!);
    assert.deepEqual(refusal(await act(batch, 'void', { body: {} })), {
      status: 422,
      code: 'invalid_field',
      param: 'reason',
    });
    const ended = await act(batch, 'void', { body: { reason: 'codes leaked' } });
    assert.deepEqual(pick(ended.body, 'state', 'void_reason', ...COUNTS), ['void', 'codes leaked', 3, 1, 0, 0, 2]);
    assert.equal(refusal(await redeem(rest!)).code, 'voucher_void');
    assert.equal((await redeem(used!)).status, 200);
    const waiting = textOf((await make({ count: 21 })).body, 'id');
    assert.equal(refusal(await act(waiting, 'void', { body: { reason: 'never mind' } })).code, 'conflict');
  });

  it('support can look up a voucher by code', async () => {
    const made = await make();
    const [code] = codesOf(made);
    const lookup = (text: string) =>
      management.call('POST', '/admin/vouchers/lookup', { token: management.tokens.support, body: { code: text } });
    assert.deepEqual(pick((await lookup(code!)).body, 'state', 'batch_id', 'redeemed_by'), [
      'issued',
      made.body['id'],
      null,
    ]);
    await redeem(code!);
    const { body } = await lookup(code!.toLowerCase());
    assert.deepEqual(pick(body, 'state', 'redeemed_by'), ['redeemed', formatId('account', management.accountId)]);
    const vouchers = `/admin/voucher-batches/${textOf(made.body, 'id')}/vouchers`;
    const { body: redeemed } = await management.call('GET', `${vouchers}?state=redeemed`);
    assert.deepEqual(rowsOf(redeemed), [body]);
    assert.equal(refusal(await lookup(formatVoucherCode(newVoucherCode()))).code, 'voucher_unknown');
  });

  it('batches are listed newest first, page by page', async () => {
    const ids = [textOf((await make()).body, 'id'), textOf((await make()).body, 'id')];
    const listed = await readPages(management, '/admin/voucher-batches', { limit: 2 });
    assert.deepEqual(
      listed.slice(0, 2).map((row) => row['id']),
      ids.toReversed(),
    );
    assert.equal(new Set(listed.map((row) => row['id'])).size, listed.length);
  });

  for (const [field, value] of [
    ['count', 0],
    ['count', 10_001],
    ['count', 1.5],
    ['count', '3'],
    ['amount_usd', '0'],
    ['amount_usd', '10000.000000000001'],
    ['amount_usd', 5],
    ['expires_at', '2020-01-01T00:00:00Z'],
    ['expires_at', undefined],
    ['name', ' '],
    ['reason', 'no'],
  ] as const) {
    it(`a batch with ${field} ${JSON.stringify(value)} is refused`, async () => {
      const made = await make({ [field]: value });
      assert.deepEqual(refusal(made), { status: 422, code: 'invalid_field', param: field });
    });
  }
});
