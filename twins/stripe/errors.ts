/** Stripe's error answers: what a failed call says, and with which HTTP status. Messages follow Stripe's own. */
import type Stripe from 'stripe';

export interface StripeErrorBody {
  readonly type: 'invalid_request_error' | 'card_error' | 'api_error' | 'idempotency_error';
  readonly message: string;
  readonly code?: string;
  readonly param?: string;
  readonly decline_code?: string;
  readonly charge?: string;
  readonly payment_intent?: Stripe.PaymentIntent;
  readonly payment_method?: Stripe.PaymentMethod;
}

/** Ends an API call with an error of Stripe's. */
export class StripeFailure extends Error {
  readonly status: number;
  readonly body: StripeErrorBody;

  constructor(status: number, body: StripeErrorBody) {
    super(body.message);
    this.name = 'StripeFailure';
    this.status = status;
    this.body = body;
  }

  /** Stripe keeps no answer to an idempotency key when the parameters were never accepted. */
  get isRefusedBeforeExecution(): boolean {
    return (
      this.status === 401 || this.status === 403 || this.status === 409 || this.status === 429 || this.#isBadParameter
    );
  }

  get #isBadParameter(): boolean {
    return this.body.code?.startsWith('parameter_') === true;
  }
}

export function invalidRequest(message: string, param?: string, code?: string): StripeFailure {
  return new StripeFailure(400, {
    type: 'invalid_request_error',
    message,
    ...(param !== undefined && { param }),
    ...(code !== undefined && { code }),
  });
}

/** 404 where the id is the call's path, 400 where it is one of its parameters. */
export function noSuch(what: string, id: string, param = 'id'): StripeFailure {
  return new StripeFailure(param === 'id' ? 404 : 400, {
    type: 'invalid_request_error',
    code: 'resource_missing',
    message: `No such ${what}: '${id}'`,
    param,
  });
}

export function errorText(body: StripeErrorBody): string {
  return JSON.stringify({ error: body }, null, 2);
}
