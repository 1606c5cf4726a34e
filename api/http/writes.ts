/**
 * Writes by staff: the change and the record of it commit together, and a call with an `Idempotency-Key` is done once.
 * Handlers say what to do inside the transaction; this file owns the transaction, the record, the claim and the log line.
 */
import type pg from 'pg';
import { uuidv7 } from 'uuidv7';
import { behindSavepoint, inTransaction } from '../../db/shared/client.ts';
import { claimIdempotencyKey, storeAnswer } from '../../db/shared/idempotency.ts';
import { recordAction, type NewOperatorAction } from '../../db/accounts/operator-actions.ts';
import { openAiErrorBody, Refusal } from '../../domain/errors.ts';
import { refusalOf } from './errors.ts';
import type { Call, JsonReply } from './route.ts';

/** What is recorded of a write; the actor is the caller's. */
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

/**
 * `recordWrite` for a call that moves money. `work` gets the business id under which it acts: the same one for every
 * repeat of an `Idempotency-Key`. A refusal is an answer too, and is repeated like one, unless it says to ask again later.
 */
export async function recordWriteOnce<Body>(
  pool: pg.Pool,
  call: Caller,
  work: (client: pg.PoolClient, subject: string) => Promise<Recorded<JsonReply<Body>>>,
): Promise<JsonReply<Body>> {
  const { idempotency } = call;
  if (idempotency === null) return recordWrite(pool, call, (client) => work(client, uuidv7()));

  const { reply, action } = await inTransaction(pool, async (client) => {
    const claim = await claimIdempotencyKey(client, idempotency);
    if (claim.kind === 'reused') throw new Refusal('idempotency_key_reused', { param: 'Idempotency-Key' });
    if (claim.kind === 'too many') {
      const message = 'Too many Idempotency-Keys of this token within a day.';
      throw new Refusal('rate_limit_exceeded', { message, retryAfterSeconds: 3600 });
    }
    if (claim.kind === 'repeat') return { reply: repeated<Body>(claim.answer), action: null };
    const done = await answerOf(client, call, () => work(client, claim.subject));
    await storeAnswer(client, idempotency, { status: done.reply.status, body: done.reply.body });
    return done;
  });
  logAction(call, action);
  return reply;
}

/** The stored body is what this route answered before, so it has this route's type. */
function repeated<Body>(answer: { status: number; body: unknown }): JsonReply<Body> {
  return { status: answer.status, body: answer.body as Body, headers: { 'idempotent-replayed': 'true' } };
}

async function answerOf<Body>(
  client: pg.PoolClient,
  call: Caller,
  work: () => Promise<Recorded<JsonReply<Body>>>,
): Promise<{ reply: JsonReply<Body>; action: ActionText | null }> {
  try {
    return await behindSavepoint(client, async () => {
      const { result, action } = await work();
      if (action !== null) await recordAction(client, { actor: call.actor, ...action });
      return { reply: result, action };
    });
  } catch (error) {
    const refusal = refusalOf(error);
    // What passes with time is no answer yet: the same call, repeated later, must be tried again.
    if (refusal === null || refusal.status >= 500 || refusal.retryAfterSeconds !== null) throw error;
    return { reply: { status: refusal.status, body: openAiErrorBody(refusal) as Body }, action: null };
  }
}

function logAction(call: Caller, action: ActionText | null): void {
  if (action !== null)
    call.log.info({ action: action.action, subject: action.subject, ...action.details }, 'operator action');
}
