/**
 * Writes by staff: the change and the record of it commit together, and a call with an `Idempotency-Key` is done
 * once. Handlers say what to do inside the transaction; this file owns the transaction, the record, the claim and the
 * log line.
 */
import type pg from 'pg';
import { uuidv7 } from 'uuidv7';
import { behindSavepoint, inTransaction } from '../../db/shared/client.ts';
import { claimIdempotencyKey, storeAnswer } from '../../db/shared/idempotency.ts';
import { recordAction, type NewOperatorAction } from '../../db/accounts/operator-actions.ts';
import { openAiErrorBody, Refusal } from '../../domain/errors.ts';
import { refusalOf } from './errors.ts';
import type { Call, JsonReply } from './route.ts';

/** The record of a write; the actor is the caller's. */
export type ActionText = Omit<NewOperatorAction, 'actor'>;

export interface Recorded<T> {
  readonly result: T;
  /** Null when it turned out that there was nothing to change. */
  readonly action: ActionText | null;
}

type Caller = Pick<Call<unknown, unknown, unknown>, 'actor' | 'log' | 'idempotency'>;

/** Runs `work` and records what it did in one transaction. */
export async function recordWrite<T>(
  pool: pg.Pool,
  call: Caller,
  work: (client: pg.PoolClient) => Promise<Recorded<T>>,
): Promise<T> {
  const { result, action } = await inTransaction(pool, async (client) => {
    const done = await work(client);
    if (done.action !== null) await recordAction(client, { actor: call.actor, ...done.action });
    return done;
  });
  logAction(call, action);
  return result;
}

/** What a call that moves money has made, and how it answers. */
export interface Answered<Body, Made> {
  readonly reply: JsonReply<Body>;
  readonly made: Made;
  /** Null when it turned out that there was nothing to change. */
  readonly action: ActionText | null;
}

export interface WrittenOnce<Body, Made> {
  readonly reply: JsonReply<Body>;
  /** The business id under which the call acted: the same one for every repeat of an `Idempotency-Key`. */
  readonly subject: string;
  /** What this call has made; null where it repeats an earlier call or was refused. */
  readonly made: Made | null;
}

/**
 * `recordWrite` for a call that moves money. `work` gets the business id under which it acts. A refusal is an answer
 * too, and is repeated like one, unless it says to ask again later.
 */
export async function recordWriteOnce<Body, Made>(
  pool: pg.Pool,
  call: Caller,
  work: (client: pg.PoolClient, subject: string) => Promise<Answered<Body, Made>>,
): Promise<WrittenOnce<Body, Made>> {
  const { idempotency } = call;
  if (idempotency === null) {
    const subject = uuidv7();
    return recordWrite(pool, call, async (client) => {
      const { reply, made, action } = await work(client, subject);
      return { result: { reply, subject, made }, action };
    });
  }

  const { action, ...written } = await inTransaction(pool, async (client) => {
    const claim = await claimIdempotencyKey(client, idempotency);
    if (claim.kind === 'reused') throw new Refusal('idempotency_key_reused', { param: 'Idempotency-Key' });
    if (claim.kind === 'too many') {
      const message = 'Too many Idempotency-Keys of this token within a day.';
      throw new Refusal('rate_limit_exceeded', { message, retryAfterSeconds: 3600 });
    }
    const { subject } = claim;
    if (claim.kind === 'repeat') return { reply: repeated<Body>(claim.answer), subject, made: null, action: null };
    const done = await answerOf(client, call, () => work(client, subject));
    await storeAnswer(client, idempotency, { status: done.reply.status, body: done.reply.body });
    return { ...done, subject };
  });
  logAction(call, action);
  return written;
}

/** The stored body is what this route answered before, so it has this route's type. */
function repeated<Body>(answer: { status: number; body: unknown }): JsonReply<Body> {
  return { status: answer.status, body: answer.body as Body, headers: { 'idempotent-replayed': 'true' } };
}

async function answerOf<Body, Made>(
  client: pg.PoolClient,
  call: Caller,
  work: () => Promise<Answered<Body, Made>>,
): Promise<Answered<Body, Made | null>> {
  try {
    return await behindSavepoint(client, async () => {
      const answered = await work();
      const { action } = answered;
      if (action !== null) await recordAction(client, { actor: call.actor, ...action });
      return answered;
    });
  } catch (error) {
    const refusal = refusalOf(error);
    // A passing failure is no answer yet: the same call, repeated later, must be tried again.
    if (refusal === null || refusal.status >= 500 || refusal.retryAfterSeconds !== null) throw error;
    return { reply: { status: refusal.status, body: openAiErrorBody(refusal) as Body }, made: null, action: null };
  }
}

function logAction(call: Caller, action: ActionText | null): void {
  if (action !== null)
    call.log.info({ action: action.action, subject: action.subject, ...action.details }, 'operator action');
}
