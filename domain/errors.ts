/**
 * The one error table of the HTTP interface: code → status, type in OpenAI's shape, type in Anthropic's
 * shape, public text, and whether asking again can help. A new code does not compile until its row exists.
 *
 * These are refusals, expected answers that are returned as values. Faults (time-outs, lost connections)
 * are thrown and retried; `ledger_unavailable` is what a client sees while a fault lasts.
 */

export interface ErrorRow {
  readonly status: number;
  readonly type: string;
  readonly anthropicType: string;
  /** Text for the customer when the place that refuses has nothing more exact to say. */
  readonly publicMessage: string;
  /** True when the same call may succeed later; the answer then carries `retry-after`. */
  readonly retryable: boolean;
}

const invalidRequest = { type: 'invalid_request_error', anthropicType: 'invalid_request_error', retryable: false };
const authentication = { type: 'authentication_error', anthropicType: 'authentication_error', retryable: false };
const permission = { type: 'permission_error', anthropicType: 'permission_error', retryable: false };

const TABLE = {
  invalid_api_key: { status: 401, ...authentication, publicMessage: 'The API key is missing or unknown.' },
  key_revoked: { status: 401, ...authentication, publicMessage: 'This API key has been revoked.' },
  key_expired: { status: 401, ...authentication, publicMessage: 'This API key has expired.' },
  ip_not_allowed: { status: 403, ...permission, publicMessage: 'This API key may not be used from your IP address.' },
  model_not_allowed: { status: 403, ...permission, publicMessage: 'This API key may not use this model.' },
  account_frozen: { status: 403, ...permission, publicMessage: 'This account is frozen. Please contact support.' },
  invalid_body: { status: 400, ...invalidRequest, publicMessage: 'The request body is not valid.' },
  body_too_large: {
    status: 413,
    ...invalidRequest,
    anthropicType: 'request_too_large',
    publicMessage: 'The request body is too large.',
  },
  body_timeout: {
    status: 408,
    type: 'invalid_request_error',
    anthropicType: 'timeout_error',
    publicMessage: 'The request body came too slowly.',
    retryable: true,
  },
  unsupported_content_encoding: {
    status: 415,
    ...invalidRequest,
    publicMessage: 'The encoding of the request body is not supported.',
  },
  unsupported_parameter: {
    status: 400,
    ...invalidRequest,
    publicMessage: 'The request has a parameter that changes the price and is not supported.',
  },
  model_not_found: {
    status: 404,
    ...invalidRequest,
    anthropicType: 'not_found_error',
    publicMessage: 'The model does not exist.',
  },
  model_not_priced: { status: 400, ...invalidRequest, publicMessage: 'The model has no price yet.' },
  rate_limit_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    anthropicType: 'rate_limit_error',
    publicMessage: 'Too many requests at once with this API key.',
    retryable: true,
  },
  body_budget_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    anthropicType: 'rate_limit_error',
    publicMessage: 'This account has too much request data in flight. Wait until some of its requests have ended.',
    retryable: true,
  },
  overloaded: {
    status: 503,
    type: 'service_unavailable',
    anthropicType: 'overloaded_error',
    publicMessage: 'The gateway cannot accept more large requests right now. You were not charged. Please retry.',
    retryable: true,
  },
  free_quota_exceeded: {
    status: 429,
    type: 'rate_limit_error',
    anthropicType: 'rate_limit_error',
    publicMessage: 'This account has used up its quota of free models for now. Paid models still work.',
    retryable: true,
  },
  key_limit_exceeded: {
    status: 402,
    type: 'insufficient_quota',
    anthropicType: 'billing_error',
    publicMessage: "The key's spending limit is used up or too small for this request.",
    retryable: false,
  },
  insufficient_user_quota: {
    status: 403,
    type: 'insufficient_quota',
    anthropicType: 'permission_error',
    publicMessage: 'insufficient quota: the account balance is empty or too small for this request.',
    retryable: false,
  },
  upstream_rejected: {
    status: 400,
    type: 'upstream_error',
    anthropicType: 'invalid_request_error',
    publicMessage: 'The model provider rejected the request.',
    retryable: false,
  },
  upstream_rate_limited: {
    status: 429,
    type: 'upstream_error',
    anthropicType: 'overloaded_error',
    publicMessage: 'The model provider is rate limiting. Please retry.',
    retryable: true,
  },
  upstream_failed: {
    status: 502,
    type: 'upstream_error',
    anthropicType: 'api_error',
    publicMessage: 'The model provider failed. You were not charged.',
    retryable: false,
  },
  upstream_timeout: {
    status: 504,
    type: 'upstream_error',
    anthropicType: 'timeout_error',
    publicMessage: 'The model provider did not answer in time. You were not charged.',
    retryable: false,
  },
  ledger_unavailable: {
    status: 503,
    type: 'service_unavailable',
    anthropicType: 'api_error',
    publicMessage: 'Requests cannot be accounted for right now. You were not charged. Please retry.',
    retryable: true,
  },
  // Management interface only.
  not_found: { status: 404, ...invalidRequest, anthropicType: 'not_found_error', publicMessage: 'Not found.' },
  method_not_allowed: { status: 405, ...invalidRequest, publicMessage: 'This method is not allowed here.' },
  invalid_token: { status: 401, ...authentication, publicMessage: 'The token is missing or unknown.' },
  forbidden: { status: 403, ...permission, publicMessage: 'This token may not do that.' },
  invalid_field: { status: 422, ...invalidRequest, publicMessage: 'A field is not valid.' },
  conflict: { status: 409, ...invalidRequest, publicMessage: 'The current state does not allow this operation.' },
  idempotency_key_reused: {
    status: 422,
    ...invalidRequest,
    publicMessage: 'This Idempotency-Key was used with another request body.',
  },
  voucher_unknown: {
    status: 404,
    ...invalidRequest,
    anthropicType: 'not_found_error',
    publicMessage: 'No voucher has this code.',
  },
  voucher_not_active: { status: 409, ...invalidRequest, publicMessage: 'This voucher is not active yet.' },
  voucher_expired: { status: 409, ...invalidRequest, publicMessage: 'This voucher has expired.' },
  voucher_void: { status: 409, ...invalidRequest, publicMessage: 'This voucher was withdrawn.' },
  voucher_held_back: {
    status: 409,
    ...invalidRequest,
    publicMessage: 'This voucher waits for approval by our staff. Please contact support.',
  },
  voucher_redeemed: { status: 409, ...invalidRequest, publicMessage: 'This voucher has already been redeemed.' },
  top_up_unavailable: {
    status: 503,
    type: 'service_unavailable',
    anthropicType: 'api_error',
    publicMessage:
      'This top-up method is unavailable right now. Nothing was ordered. Please retry later or choose another.',
    retryable: true,
  },
  temporal_unavailable: {
    status: 503,
    type: 'service_unavailable',
    anthropicType: 'api_error',
    publicMessage: 'The workflow service cannot be reached right now. Nothing was changed. Please retry.',
    retryable: true,
  },
  internal_error: {
    status: 500,
    type: 'internal_error',
    anthropicType: 'api_error',
    publicMessage: 'An internal error happened. It has been logged under the request id.',
    retryable: false,
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof TABLE;

export const ERRORS: Readonly<Record<ErrorCode, ErrorRow>> = TABLE;

/** An expected "no", with what the customer may read. Thrown inside api/ only; its error handler renders it. */
export class Refusal extends Error {
  readonly code: ErrorCode;
  /** The body field or query parameter at fault. */
  readonly param: string | null;
  /** Overrides the table's status where an upstream's own status is passed on. */
  readonly status: number;
  readonly retryAfterSeconds: number | null;
  /** The code that the client reads; differs from `code` only where a provider's own code is passed on. */
  readonly shownCode: string;

  constructor(
    code: ErrorCode,
    options: {
      message?: string;
      param?: string;
      status?: number;
      retryAfterSeconds?: number;
      shownCode?: string;
    } = {},
  ) {
    const row = ERRORS[code];
    super(options.message ?? row.publicMessage);
    this.name = 'Refusal';
    this.code = code;
    this.param = options.param ?? null;
    this.status = options.status ?? row.status;
    this.retryAfterSeconds = options.retryAfterSeconds ?? (row.retryable ? 1 : null);
    this.shownCode = options.shownCode ?? code;
  }
}

/** The JSON body of a refusal in OpenAI's shape. */
export function openAiErrorBody(refusal: Refusal): {
  error: { message: string; type: string; param: string | null; code: string };
} {
  const { code, message, param, shownCode } = refusal;
  return { error: { message, type: ERRORS[code].type, param, code: shownCode } };
}
