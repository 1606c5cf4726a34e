/**
 * What waits for a second person, and the two routes that approve or reject it. The decision, its effect and the
 * record of it commit together. A repeat of the same decision answers as the first did and records nothing; the
 * opposite decision is a conflict.
 */
import type pg from 'pg';
import { z } from 'zod';
import { Refusal } from '../../../domain/errors.ts';
import { reason } from '../../http/fields.ts';
import { accepted, ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../../http/route.ts';
import { recordWrite } from '../../http/writes.ts';

export interface Decision {
  readonly approve: boolean;
  /** Null where the route asks for none. */
  readonly reason: string | null;
}

/** What was decided, now or by an earlier call. */
export interface Decided {
  readonly state: string;
  /** True for the call that decided. */
  readonly decidedNow: boolean;
}

/** One of the two routes. */
export interface Verdict {
  /** Last part of the path. */
  readonly segment: string;
  readonly summary: string;
  /** The name in the record of what staff did. */
  readonly action: string;
  /** The state that it leads to. */
  readonly state: string;
  /** True where the body is `{reason}`. */
  readonly takesReason?: boolean;
}

export interface Approvable<Params extends z.ZodObject, Response extends z.ZodType, Result extends Decided> {
  /** The path of what is decided. */
  readonly path: string;
  readonly params: Params;
  readonly response: Response;
  readonly approve: Verdict;
  readonly reject: Verdict;
  /** True where some take two approvals: the first one leaves the state `waiting` and is answered with 202. */
  readonly mayTakeTwo?: boolean;
  /** The message of the conflict where another decision was taken. */
  conflict(state: string): string;
  /** Decides inside the transaction, and makes what follows. */
  decide(
    client: pg.PoolClient,
    call: StaffCall<z.output<Params>, unknown, unknown>,
    decision: Decision,
  ): Promise<Result>;
  /** What is recorded of a decision. */
  record(
    result: Result,
    decision: Decision & { readonly waits: boolean },
  ): { readonly subject: string; readonly details: Record<string, unknown> };
  /** The answer, after the transaction. Also the place to wake the run of what was decided. */
  render(
    result: Result,
    call: StaffCall<z.output<Params>, unknown, unknown>,
  ): z.output<Response> | Promise<z.output<Response>>;
}

/** The routes by which a second person approves or rejects. */
export function approvalPair<Params extends z.ZodObject, Response extends z.ZodType, Result extends Decided>(
  pool: pg.Pool,
  subject: Approvable<Params, Response, Result>,
): Route[] {
  const { path, params, response, mayTakeTwo = false } = subject;

  const decide = async (
    call: StaffCall<z.output<Params>, unknown, unknown>,
    verdict: Verdict,
    words: string | null,
  ): Promise<JsonReply<z.output<Response>>> => {
    const decision = { approve: verdict === subject.approve, reason: words };
    const result = await recordWrite(pool, call, async (client) => {
      const decided = await subject.decide(client, call, decision);
      const waits = mayTakeTwo && decision.approve && decided.state === 'waiting';
      if (decided.state !== verdict.state && !waits) {
        throw new Refusal('conflict', { message: subject.conflict(decided.state) });
      }
      const action = { action: verdict.action, ...subject.record(decided, { ...decision, waits }) };
      return { result: decided, action: decided.decidedNow || waits ? action : null };
    });
    const view = await subject.render(result, call);
    return result.state === 'waiting' ? accepted(view) : ok(view);
  };

  const routeOf = (verdict: Verdict): Route => {
    const common = {
      method: 'post',
      path: `${path}/${verdict.segment}`,
      summary: verdict.summary,
      ...(mayTakeTwo && verdict === subject.approve && { statuses: [200, 202] }),
      roles: ['operator', 'finance'],
      params,
      response,
    } as const;
    return verdict.takesReason === true
      ? staffRoute({
          ...common,
          body: z.strictObject({ reason: reason() }),
          handle: (call) => decide(call, verdict, call.body.reason),
        })
      : staffRoute({ ...common, handle: (call) => decide(call, verdict, null) });
  };

  return [routeOf(subject.approve), routeOf(subject.reject)];
}
