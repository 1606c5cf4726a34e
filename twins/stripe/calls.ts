/**
 * One API call from its headers to its answer: the key, the idempotency store, faults, the effect, the stored answer.
 * The first answer to an idempotency key is the answer for a day, errors of ours included.
 */
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

import { answerCall } from './api.ts';
import { errorText, type StripeErrorBody, StripeFailure } from './errors.ts';
import { API_VERSION } from './events.ts';
import type { ApiFault, FaultRules } from '../kit/payment-faults.ts';
import { parseForm } from './form.ts';
import { checkPermission } from './permissions.ts';
import { newId } from './store.ts';
import type { World } from './world.ts';

export interface ApiCall {
  readonly method: string;
  readonly path: string;
  /** The query of a GET, the body of everything else. */
  readonly form: string;
  readonly headers: IncomingHttpHeaders;
}

export interface ApiAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The connection breaks instead of an answer. */
export const LOST = Symbol('lost');

interface Outcome {
  readonly status: number;
  readonly text: string;
  readonly isStored: boolean;
}

const KEY_MS = 86_400_000;
const KEY_LENGTH_MAX = 255;

export class StripeApi {
  readonly #world: World;
  readonly #faults: FaultRules;
  readonly #inFlight = new Set<string>();

  constructor(world: World, faults: FaultRules) {
    this.#world = world;
    this.#faults = faults;
  }

  async answer(call: ApiCall): Promise<ApiAnswer | typeof LOST> {
    const requestId = newId('req');
    const key = keyOf(call);
    const headers = {
      'request-id': requestId,
      'stripe-version': API_VERSION,
      ...(key !== null && { 'idempotency-key': key }),
    };
    const refusal = refusalOf(call, key);
    if (refusal !== null) return { ...outcomeOf(refusal), headers };
    if (key === null) return this.#perform(call, requestId, null, headers);
    if (this.#inFlight.has(key)) return { ...outcomeOf(keyInUse()), headers };
    this.#inFlight.add(key);
    try {
      return await this.#perform(call, requestId, key, headers);
    } finally {
      this.#inFlight.delete(key);
    }
  }

  async #perform(
    call: ApiCall,
    requestId: string,
    key: string | null,
    headers: Readonly<Record<string, string>>,
  ): Promise<ApiAnswer | typeof LOST> {
    const { store, clock } = this.#world;
    const stored = key === null ? undefined : this.#storedAnswer(key);
    const fingerprint = fingerprintOf(call);
    if (stored !== undefined && stored.fingerprint !== fingerprint) {
      return { ...outcomeOf(otherParameters(stored.id)), headers };
    }

    const fault = this.#faults.takeForCall(call.method, call.path, stored !== undefined);
    if (fault.rate_limit === true) return { ...outcomeOf(rateLimited()), headers };
    if (fault.hang_ms !== undefined) await this.#wait(fault.hang_ms);
    if (stored !== undefined) {
      if (fault.drop_response_after_commit === true) return LOST;
      const { status, text, requestId: original } = stored;
      return { status, text, headers: { ...headers, 'idempotent-replayed': 'true', 'original-request': original } };
    }
    const { status, text, isStored } = this.#execute(call, requestId, key, fault);
    if (key !== null && isStored) {
      store.keys.put({ id: key, createdMs: clock.nowMs(), fingerprint, status, text, requestId });
    }
    store.flush();
    return fault.drop_response_after_commit === true ? LOST : { status, text, headers };
  }

  #execute(call: ApiCall, requestId: string, key: string | null, fault: ApiFault): Outcome {
    const failure = fault.fail_status === undefined ? null : outcomeOf(injected(fault.fail_status));
    if (failure !== null && fault.after_commit !== true) return failure;
    try {
      const params = parseForm(call.form);
      checkPermission(this.#world.store, { ...call, secret: secretOf(call), expand: params.strings('expand') });
      const answer = this.#world.events.during({ requestId, idempotencyKey: key }, () =>
        answerCall(this.#world, call.method, call.path, params),
      );
      return failure ?? { status: 200, text: JSON.stringify(answer, null, 2), isStored: true };
    } catch (error) {
      if (error instanceof StripeFailure) return failure ?? outcomeOf(error);
      process.stderr.write(`stripe twin: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
      return outcomeOf(injected(500));
    }
  }

  #storedAnswer(key: string): ReturnType<World['store']['keys']['get']> {
    const { store, clock } = this.#world;
    const row = store.keys.get(key);
    if (row === undefined || row.createdMs + KEY_MS > clock.nowMs()) return row;
    store.keys.delete(key);
    return undefined;
  }

  #wait(ms: number): Promise<void> {
    const { clock } = this.#world;
    return new Promise((resolve) => void clock.at(clock.nowMs() + ms, resolve));
  }
}

function keyOf({ method, headers }: ApiCall): string | null {
  const key = headers['idempotency-key'];
  return method === 'POST' && typeof key === 'string' && key !== '' ? key : null;
}

/** Empty where there is none. */
function secretOf({ headers }: Pick<ApiCall, 'headers'>): string {
  return /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1] ?? '';
}

function refusalOf({ headers }: ApiCall, key: string | null): StripeFailure | null {
  const secret = secretOf({ headers });
  if (secret === '') {
    return failure(401, { type: 'invalid_request_error', message: 'You did not provide an API key.' });
  }
  if (!/^(sk|rk)_test_./.test(secret)) {
    return failure(401, {
      type: 'invalid_request_error',
      message: `Invalid API Key provided: ${secret.slice(0, 8)}***`,
    });
  }
  if (key !== null && key.length > KEY_LENGTH_MAX) {
    return failure(400, {
      type: 'invalid_request_error',
      message: 'Idempotency keys are at most 255 characters long.',
    });
  }
  return null;
}

/** Form fields in another order are the same parameters. */
function fingerprintOf({ method, path, form }: ApiCall): string {
  const params = new URLSearchParams(form);
  params.sort();
  return createHash('sha256').update(`${method} ${path}\n${params.toString()}`).digest('hex');
}

function outcomeOf(error: StripeFailure): Outcome {
  return { status: error.status, text: errorText(error.body), isStored: !error.isRefusedBeforeExecution };
}

function failure(status: number, body: StripeErrorBody): StripeFailure {
  return new StripeFailure(status, body);
}

function keyInUse(): StripeFailure {
  return failure(409, {
    type: 'idempotency_error',
    code: 'idempotency_key_in_use',
    message: 'There is currently another in-progress request using this Idempotent Key.',
  });
}

function otherParameters(key: string): StripeFailure {
  return failure(400, {
    type: 'idempotency_error',
    message:
      'Keys for idempotent requests can only be used with the same parameters they were first used with. ' +
      `Try using a key other than '${key}' if you meant to execute a different request.`,
  });
}

function rateLimited(): StripeFailure {
  return failure(429, {
    type: 'invalid_request_error',
    code: 'rate_limit',
    message: 'Request rate limit exceeded.',
  });
}

function injected(status: number): StripeFailure {
  return failure(status, {
    type: status < 500 ? 'invalid_request_error' : 'api_error',
    message: 'An unknown error occurred.',
  });
}
