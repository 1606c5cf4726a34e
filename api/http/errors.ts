/**
 * How a failed management call is answered: one table for the ledger's refusals, one for violated constraints, one
 * handler. A refusal names the field at fault; a fault is 503 and may be repeated; anything else is a bug, logged under
 * the request id and never explained to the caller.
 */
import type { ErrorRequestHandler } from 'express';
import type { Logger } from 'pino';
import type { z } from 'zod';
import {
  type LedgerRefusal,
  type LedgerRefusalCode,
  isFault,
  ledgerRefusal,
  violatedConstraint,
} from '../../db/shared/client.ts';
import { BatchQueueFull } from '../../db/shared/batch-queue.ts';
import { isReporterFault } from '../../db/shared/reporter.ts';
import { openAiErrorBody, Refusal, type ErrorCode } from '../../domain/errors.ts';

interface RefusalRow {
  readonly code: ErrorCode;
  readonly param?: string;
  readonly message: string;
  readonly retryAfterSeconds?: number;
}

/** Each refusal of the ledger as an error of the management interface. */
const LEDGER_REFUSALS = {
  not_found: { code: 'not_found', message: 'Not found.' },
  request_ended: { code: 'not_found', message: 'Not found.' },
  key_revoked: { code: 'conflict', message: 'The key is revoked.' },
  key_expired: { code: 'conflict', message: 'The key has expired.' },
  key_limit: { code: 'conflict', message: "The key's limit does not allow this." },
  model_not_allowed: { code: 'conflict', message: 'The key may not use this model.' },
  account_frozen: { code: 'conflict', message: 'The account is frozen.' },
  insufficient_quota: {
    code: 'conflict',
    param: 'amount_usd',
    message: 'The debit is greater than the customer’s available balance.',
  },
  id_reused: { code: 'conflict', message: 'This id is already in use for something else.' },
  valid_from_too_soon: { code: 'invalid_field', param: 'valid_from', message: 'valid_from: is too soon' },
  valid_from_not_after_last: {
    code: 'invalid_field',
    param: 'valid_from',
    message: 'valid_from: must be later than the start of the last price version',
  },
  refund_too_large: {
    code: 'conflict',
    param: 'amount_usd',
    message: 'The refund is greater than the rest of the charge.',
  },
  request_not_charged: { code: 'conflict', message: 'The request was not charged, so there is nothing to refund.' },
  period_not_ended: { code: 'invalid_field', param: 'period', message: 'period: has not ended' },
  run_not_done: { code: 'conflict', message: 'The run of this period is not done.' },
  free_tokens_used_up: { code: 'free_quota_exceeded', message: 'The tokens of free models are used up for today.' },
  free_requests_used_up: { code: 'free_quota_exceeded', message: 'Too many requests to free models.' },
  free_requests_open: { code: 'free_quota_exceeded', message: 'Too many open requests to free models.' },
  token_revoked: { code: 'invalid_token', message: 'The token is revoked.' },
  too_many_new_tokens: {
    code: 'rate_limit_exceeded',
    message: 'Too many tokens were created within a day.',
    retryAfterSeconds: 3600,
  },
  not_a_person: { code: 'forbidden', message: 'Only a member of staff may do that.' },
  second_person_needed: { code: 'forbidden', message: 'A second person must approve.' },
  no_saved_card: {
    code: 'conflict',
    message: 'No card is saved: top up by card with save_card first.',
  },
  auto_top_up_frozen: {
    code: 'conflict',
    message: 'Automatic top-up is frozen; `GET /api/auto-top-up` says why. Please contact support.',
  },
  payment_credited: { code: 'conflict', message: 'This payment is already credited.' },
  too_many_open_top_ups: {
    code: 'rate_limit_exceeded',
    message: 'Too many top-ups of this account are open. Pay one of them, or wait until one expires, then order again.',
    // A checkout lasts for the better part of an hour; a paid order makes room within seconds.
    retryAfterSeconds: 60,
  },
  too_many_keys: { code: 'conflict', message: 'This account has reached its limit of API keys. Revoke one first.' },
  too_many_tokens: { code: 'conflict', message: 'The limit of tokens is reached. Revoke one first.' },
  too_many_new_keys: {
    code: 'rate_limit_exceeded',
    message: 'This account has created too many API keys within a day.',
    retryAfterSeconds: 3600,
  },
  payment_unknown: {
    code: 'invalid_field',
    param: 'payment_id',
    message: 'payment_id: the provider does not show this payment; choose one of the order’s payments',
  },
  payment_of_another_order: {
    code: 'conflict',
    param: 'payment_id',
    message: 'The payment belongs to another order: credit it there.',
  },
  credit_waits: { code: 'conflict', message: 'A credit of this payment is already waiting for a second person.' },
} as const satisfies Record<LedgerRefusalCode, RefusalRow>;

/** Constraints that a caller's input can violate although it is well-formed. */
const CONSTRAINTS: Readonly<Record<string, RefusalRow>> = {
  account_email: { code: 'conflict', param: 'email', message: 'Another account already uses this e-mail address.' },
};

/** Errors of express and its body parser, by their `type`. */
const BODY_ERRORS: Readonly<Record<string, ErrorCode>> = {
  'entity.too.large': 'body_too_large',
  'entity.parse.failed': 'invalid_body',
  'entity.verify.failed': 'invalid_body',
  'encoding.unsupported': 'invalid_body',
  'charset.unsupported': 'invalid_body',
  'request.size.invalid': 'invalid_body',
  'request.aborted': 'invalid_body',
  'stream.encoding.set': 'invalid_body',
};

/** Reads a thrown error as an answer; null when it is a bug. */
export function refusalOf(error: unknown): Refusal | null {
  if (error instanceof Refusal) return error;
  const ledger = ledgerRefusal(error);
  if (ledger !== null) return ledgerAnswer(ledger);
  const constraint = violatedConstraint(error);
  if (constraint !== null && constraint in CONSTRAINTS) return refusalOfRow(CONSTRAINTS[constraint]!);
  // Before the faults: a client that breaks its connection while sending looks like a database that does.
  const transport = transportRefusal(error);
  if (transport !== null) return transport;
  return isFault(error) || isReporterFault(error) || error instanceof BatchQueueFull ? ledgerUnavailable() : null;
}

export function ledgerUnavailable(): Refusal {
  return new Refusal('ledger_unavailable', {
    message: 'The ledger cannot be reached right now. Please retry; with an Idempotency-Key a repeat is safe.',
  });
}

function ledgerAnswer({ code, remaining, required }: LedgerRefusal): Refusal {
  const row: RefusalRow = LEDGER_REFUSALS[code];
  const figures = [
    ...(remaining === null ? [] : [`available: ${remaining} USD`]),
    ...(required === null ? [] : [`asked: ${required} USD`]),
  ];
  return refusalOfRow(figures.length === 0 ? row : { ...row, message: `${row.message} (${figures.join(', ')})` });
}

function refusalOfRow({ code, param, message, retryAfterSeconds }: RefusalRow): Refusal {
  return new Refusal(code, {
    message,
    ...(param === undefined ? {} : { param }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

function transportRefusal(error: unknown): Refusal | null {
  if (!(error instanceof Error)) return null;
  const { type } = error as { type?: unknown };
  if (typeof type === 'string' && type in BODY_ERRORS) return new Refusal(BODY_ERRORS[type]!);
  // Broken percent-encoding: no such path can exist.
  if (error instanceof URIError) return new Refusal('not_found');
  return null;
}

/** A refusal that names the field at fault. */
export function invalidField(param: string, message: string): Refusal {
  return new Refusal('invalid_field', { param, message: `${param}: ${message}` });
}

/** The first problem of a parsed input, with the path of its field. */
export function refusalOfIssues({ issues }: z.ZodError): Refusal {
  const [issue] = issues;
  if (issue === undefined) return new Refusal('invalid_field');
  if (issue.code === 'unrecognized_keys') {
    return invalidField(fieldPath([...issue.path, issue.keys[0] ?? '']), 'is not a known field');
  }
  return invalidField(fieldPath(issue.path), issue.message);
}

function fieldPath(path: readonly PropertyKey[]): string {
  const text = path
    .map((part, index) => (typeof part === 'number' ? `[${part}]` : `${index === 0 ? '' : '.'}${String(part)}`))
    .join('');
  // A field with an empty name is named too.
  return text === '' ? '""' : text;
}

/** Parses with messages that read well after a field's name. */
export function parseWith<Schema extends z.ZodType>(schema: Schema, input: unknown): z.output<Schema> {
  const result = schema.safeParse(input, {
    error: (issue) => {
      if (issue.input === undefined) return 'is required';
      return issue.code === 'invalid_type' ? `must be ${article(issue.expected)}` : undefined;
    },
  });
  if (result.success) return result.data;
  throw refusalOfIssues(result.error);
}

function article(expected: string): string {
  return /^[aeio]/.test(expected) ? `an ${expected}` : `a ${expected}`;
}

/** The last handler of the app. */
export function createErrorHandler(logger: Logger): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    const requestId = response.getHeader('x-request-id');
    let refusal = refusalOf(error);
    if (refusal === null) {
      logger.error(
        { request_id: requestId, method: request.method, path: request.path, err: error },
        'management call failed',
      );
      refusal = new Refusal('internal_error');
    } else if (refusal.status >= 500) {
      logger.warn(
        { request_id: requestId, method: request.method, path: request.path, err: error },
        'management call not possible now',
      );
    }
    if (response.headersSent) {
      // Half an answer must not look whole: express ends the connection.
      next(error);
      return;
    }
    if (refusal.retryAfterSeconds !== null) response.setHeader('retry-after', String(refusal.retryAfterSeconds));
    if (refusal.status === 401) response.setHeader('www-authenticate', 'Bearer');
    response.status(refusal.status).json(openAiErrorBody(refusal));
  };
}
