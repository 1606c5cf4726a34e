/**
 * Redeeming over HTTP: what a customer is told about a code, once per code and Idempotency-Key, and never who had it.
 */
import assert from 'node:assert/strict';
import {
  createVoucherBatch,
  newVoucherCode,
  voidVoucherBatch,
  type NewVoucherBatch,
} from '../../../../../db/payments/vouchers.ts';
import { formatId, parseId, uuidOf } from '../../../../../domain/ids.ts';
import { usd } from '../../../../../domain/money.ts';
import { formatVoucherCode } from '../../../../../domain/payments/voucher.ts';
import { brokenRules, createCustomer, uuidAt } from '../../../../support/ledger-database.ts';
import { refusal, startManagement, textOf, tokenOf, type Answer, type Management } from '../../management.ts';
import { ANN, BOB, upTo } from '../../../../support/staff.ts';

describe('/api/vouchers/redeem', () => {
  let management: Management;
  /** A customer of this test alone. */
  let token: string;
  let accountId: string;
  before(async () => {
    management = await startManagement('routes_vouchers');
  });
  after(async () => {
    assert.deepEqual(await brokenRules(management.admin), []);
    await management.stop();
  });
  beforeEach(async () => {
    const account = await createCustomer(management, '0');
    accountId = formatId('account', account);
    token = await tokenOf(management, 'account', account);
  });

  async function voucher(
    given: Partial<NewVoucherBatch> = {},
  ): Promise<{ code: string; batchId: NewVoucherBatch['id'] }> {
    const { batch, codes } = await createVoucherBatch(management.management, {
      id: uuidOf('voucherBatch', uuidAt(Date.now())),
      name: 'Fair',
      count: 1,
      amount: usd('5'),
      expiresAt: null,
      reason: 'for a test',
      requestedBy: ANN,
      limits: upTo('100'),
      ...given,
    });
    return { code: formatVoucherCode(codes[0]!), batchId: batch.id };
  }

  const redeem = (code: string, { as = token, key }: { as?: string; key?: string } = {}): Promise<Answer> =>
    management.call('POST', '/api/vouchers/redeem', {
      token: as,
      body: { code },
      ...(key === undefined ? {} : { headers: { 'idempotency-key': key } }),
    });
  const balance = async () => (await management.call('GET', '/api/account', { token })).body['balance_usd'];

  it('redeeming credits the voucher’s amount, for every spelling of the code, and names the posting', async () => {
    const { code } = await voucher();
    const answer = await redeem(` ${code.toLowerCase().replaceAll('-', ' ')} `);
    assert.equal(answer.status, 200);
    assert.equal(answer.body['amount_usd'], '5.000000000000');
    assert.equal(await balance(), '5.000000000000');
    const posting = await management.call('GET', `/admin/postings/${textOf(answer.body, 'posting_id')}`);
    assert.deepEqual(
      [posting.body['kind'], posting.body['business_id'], (posting.body['source'] as { type: string }).type],
      ['voucher', answer.body['voucher_id'], 'voucher'],
    );
  });

  it('a repeat by the same account returns the same response, with or without a key', async () => {
    const { code } = await voucher();
    const first = await redeem(code, { key: 'a' });
    for (const again of [await redeem(code, { key: 'a' }), await redeem(code), await redeem(code, { key: 'b' })]) {
      assert.deepEqual([again.status, again.body], [200, first.body]);
    }
    assert.equal(await balance(), '5.000000000000');
  });

  it('a key that was used for another code is refused', async () => {
    await redeem((await voucher()).code, { key: 'c' });
    assert.equal(refusal(await redeem((await voucher()).code, { key: 'c' })).code, 'idempotency_key_reused');
  });

  it('a redeemed code is refused to another account without naming its redeemer', async () => {
    const { code } = await voucher();
    await redeem(code, { as: management.tokens.account });
    const answer = await redeem(code);
    assert.deepEqual(refusal(answer), { status: 409, code: 'voucher_redeemed', param: 'code' });
    assert.ok(!answer.text.includes(formatId('account', management.accountId)));
    assert.doesNotMatch(answer.text, /acct_|\d{4}-\d\d-\d\d/);
  });

  it('a refusal says what is wrong with a code', async () => {
    const { code, batchId } = await voucher();
    await voidVoucherBatch(management.management, { id: batchId, reason: 'leaked', voidedBy: BOB });
    const cases: [string, number, string][] = [
      [formatVoucherCode(newVoucherCode()), 404, 'voucher_unknown'],
      [code, 409, 'voucher_void'],
      [(await voucher({ expiresAt: new Date(Date.now() - 1000) })).code, 409, 'voucher_expired'],
      [(await voucher({ limits: upTo('1') })).code, 409, 'voucher_not_active'],
      ['0'.repeat(19), 422, 'invalid_field'],
      [`${code.slice(0, -1)}${code.endsWith('2') ? '3' : '2'}`, 422, 'invalid_field'],
      ['x'.repeat(1000), 422, 'invalid_field'],
    ];
    for (const [text, status, expected] of cases) {
      assert.deepEqual(refusal(await redeem(text)), { status, code: expected, param: 'code' }, text);
    }
    assert.equal(await balance(), '0.000000000000');
  });

  it('too many invalid codes are refused for a while; a valid code does not count', async () => {
    for (let n = 0; n < 25; n++) assert.equal((await redeem((await voucher()).code)).status, 200);
    const guesses = await Promise.all(
      Array.from({ length: 30 }, () => redeem(formatVoucherCode(newVoucherCode()), { key: `guess-${uuidAt(0)}` })),
    );
    assert.equal(guesses.filter(({ status }) => status === 404).length, 20);
    const refused = guesses.filter(({ status }) => status === 429);
    assert.equal(refused.length, 10);
    const wait = Number(refused[0]!.headers.get('retry-after'));
    assert.ok(wait > 3000 && wait <= 3600, String(wait));
    const good = (await voucher()).code;
    assert.equal(refusal(await redeem(good, { key: 'later' })).code, 'rate_limit_exceeded');
    // When the hour is over, the same key is no longer refused.
    await management.admin.query(
      "update voucher_attempt set window_start = now() - interval '1 hour' where account_id = $1",
      [parseId('account', accountId)],
    );
    assert.equal((await redeem(good, { key: 'later' })).status, 200);
  });

  it('a redemption is logged with the voucher, without the code', async () => {
    const { code } = await voucher();
    const answer = await redeem(code);
    const line = management.logged.find((each) => each['voucher_id'] === answer.body['voucher_id']);
    assert.deepEqual([line?.['msg'], line?.['account_id']], ['voucher redeemed', accountId]);
    assert.ok(!JSON.stringify(management.logged).includes(code));
  });
});
