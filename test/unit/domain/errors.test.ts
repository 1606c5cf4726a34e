/**
 * The error table, written out a second time from the public interface: clients branch on these values, so a change
 * of one must be made here as well, on purpose.
 */
import assert from 'node:assert/strict';
import { ERRORS, openAiErrorBody, Refusal, type ErrorCode } from '../../../domain/errors.ts';

type ExpectedRow = readonly [
  code: ErrorCode,
  status: number,
  type: string,
  anthropicType: string,
  carries: 'retry-after' | '-',
];

const GATEWAY: readonly ExpectedRow[] = [
  ['invalid_api_key', 401, 'authentication_error', 'authentication_error', '-'],
  ['key_revoked', 401, 'authentication_error', 'authentication_error', '-'],
  ['key_expired', 401, 'authentication_error', 'authentication_error', '-'],
  ['ip_not_allowed', 403, 'permission_error', 'permission_error', '-'],
  ['model_not_allowed', 403, 'permission_error', 'permission_error', '-'],
  ['account_frozen', 403, 'permission_error', 'permission_error', '-'],
  ['invalid_body', 400, 'invalid_request_error', 'invalid_request_error', '-'],
  ['body_too_large', 413, 'invalid_request_error', 'request_too_large', '-'],
  ['body_timeout', 408, 'invalid_request_error', 'timeout_error', 'retry-after'],
  ['unsupported_content_encoding', 415, 'invalid_request_error', 'invalid_request_error', '-'],
  ['unsupported_parameter', 400, 'invalid_request_error', 'invalid_request_error', '-'],
  ['model_not_found', 404, 'invalid_request_error', 'not_found_error', '-'],
  ['model_not_priced', 400, 'invalid_request_error', 'invalid_request_error', '-'],
  ['rate_limit_exceeded', 429, 'rate_limit_error', 'rate_limit_error', 'retry-after'],
  ['body_budget_exceeded', 429, 'rate_limit_error', 'rate_limit_error', 'retry-after'],
  ['overloaded', 503, 'service_unavailable', 'overloaded_error', 'retry-after'],
  ['free_quota_exceeded', 429, 'rate_limit_error', 'rate_limit_error', 'retry-after'],
  ['key_limit_exceeded', 402, 'insufficient_quota', 'billing_error', '-'],
  ['insufficient_user_quota', 403, 'insufficient_quota', 'permission_error', '-'],
  ['upstream_rejected', 400, 'upstream_error', 'invalid_request_error', '-'],
  ['upstream_rate_limited', 429, 'upstream_error', 'overloaded_error', 'retry-after'],
  ['upstream_failed', 502, 'upstream_error', 'api_error', '-'],
  ['upstream_timeout', 504, 'upstream_error', 'timeout_error', '-'],
  ['ledger_unavailable', 503, 'service_unavailable', 'api_error', 'retry-after'],
];

/** Codes that only the account and operator interface gives. */
const MANAGEMENT: readonly ExpectedRow[] = [
  ['not_found', 404, 'invalid_request_error', 'not_found_error', '-'],
  ['method_not_allowed', 405, 'invalid_request_error', 'invalid_request_error', '-'],
  ['invalid_token', 401, 'authentication_error', 'authentication_error', '-'],
  ['forbidden', 403, 'permission_error', 'permission_error', '-'],
  ['invalid_field', 422, 'invalid_request_error', 'invalid_request_error', '-'],
  ['conflict', 409, 'invalid_request_error', 'invalid_request_error', '-'],
  ['idempotency_key_reused', 422, 'invalid_request_error', 'invalid_request_error', '-'],
  ['voucher_unknown', 404, 'invalid_request_error', 'not_found_error', '-'],
  ['voucher_not_active', 409, 'invalid_request_error', 'invalid_request_error', '-'],
  ['voucher_expired', 409, 'invalid_request_error', 'invalid_request_error', '-'],
  ['voucher_void', 409, 'invalid_request_error', 'invalid_request_error', '-'],
  ['voucher_held_back', 409, 'invalid_request_error', 'invalid_request_error', '-'],
  ['voucher_redeemed', 409, 'invalid_request_error', 'invalid_request_error', '-'],
  ['top_up_unavailable', 503, 'service_unavailable', 'api_error', 'retry-after'],
  ['temporal_unavailable', 503, 'service_unavailable', 'api_error', 'retry-after'],
  ['internal_error', 500, 'internal_error', 'api_error', '-'],
];

const ALL = [...GATEWAY, ...MANAGEMENT];

describe('error table', () => {
  for (const [code, status, type, anthropicType, carries] of ALL) {
    it(`${code}: ${status} ${type}, ${anthropicType} for Anthropic clients, ${carries}`, () => {
      const row = ERRORS[code];
      assert.equal(row.status, status);
      assert.equal(row.type, type);
      assert.equal(row.anthropicType, anthropicType);
      assert.equal(row.retryable, carries === 'retry-after');
      assert.match(row.publicMessage, /^\S.+\.$/, 'the public text is a sentence');

      const refusal = new Refusal(code);
      assert.equal(refusal.status, status);
      assert.equal(refusal.retryAfterSeconds, carries === 'retry-after' ? 1 : null);
      assert.deepEqual(openAiErrorBody(refusal), { error: { message: row.publicMessage, type, param: null, code } });
    });
  }

  it('the error table has no row that the public interface does not name', () => {
    assert.deepEqual(Object.keys(ERRORS).toSorted(), ALL.map(([code]) => code).toSorted());
  });

  it('a key at its limit and an empty account differ in status and code: they have different remedies', () => {
    const key = new Refusal('key_limit_exceeded');
    const account = new Refusal('insufficient_user_quota');
    assert.deepEqual([key.status, account.status], [402, 403]);
    assert.notEqual(openAiErrorBody(key).error.code, openAiErrorBody(account).error.code);
  });

  it('an empty account says "insufficient quota", which older clients look for', () => {
    assert.match(ERRORS.insufficient_user_quota.publicMessage, /insufficient quota/);
  });

  it("a failure that is not the customer's says that nothing was charged", () => {
    for (const code of ['upstream_failed', 'upstream_timeout', 'ledger_unavailable'] as const) {
      assert.match(ERRORS[code].publicMessage, /not charged/, code);
    }
  });
});

describe('refusal', () => {
  it('carries a more exact text and the field at fault into the body', () => {
    const refusal = new Refusal('unsupported_parameter', {
      message: '`service_tier` is not supported.',
      param: 'service_tier',
    });
    assert.deepEqual(openAiErrorBody(refusal), {
      error: {
        message: '`service_tier` is not supported.',
        type: 'invalid_request_error',
        param: 'service_tier',
        code: 'unsupported_parameter',
      },
    });
  });

  it("a refusal passes an upstream's own status on", () => {
    for (const status of [400, 404, 413, 415, 422]) {
      assert.equal(new Refusal('upstream_rejected', { status }).status, status);
    }
  });

  it("a refusal passes an upstream's own retry-after on", () => {
    assert.equal(new Refusal('upstream_rate_limited', { retryAfterSeconds: 30 }).retryAfterSeconds, 30);
    assert.equal(new Refusal('upstream_rate_limited', { retryAfterSeconds: 0 }).retryAfterSeconds, 0);
  });

  it('a refusal is an error with a stack and its public text, so that a log line shows its origin', () => {
    const refusal = new Refusal('account_frozen');
    assert.ok(refusal instanceof Error);
    assert.equal(refusal.name, 'Refusal');
    assert.equal(refusal.message, ERRORS.account_frozen.publicMessage);
    assert.match(refusal.stack ?? '', /errors\.test\.ts/);
  });

  it('the body of a refusal is JSON of exactly four fields', () => {
    const body = JSON.parse(JSON.stringify(openAiErrorBody(new Refusal('invalid_api_key')))) as { error: object };
    assert.deepEqual(Object.keys(body), ['error']);
    assert.deepEqual(Object.keys(body.error).toSorted(), ['code', 'message', 'param', 'type']);
  });
});
