/**
 * The record of what staff did: one row per write, in the transaction of the write itself, append-only. It says who
 * ordered what on which subject; the subject's own row says what came of it.
 */
import type pg from 'pg';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import type { Reporter } from '../shared/reporter.ts';
import { queryOne } from '../shared/client.ts';

export interface NewOperatorAction {
  readonly actor: string;
  /** `account.freeze`, `refund.request`, … */
  readonly action: string;
  /** The wire id (or model id) of what was changed. */
  readonly subject: string;
  /** Further details. Never a secret. */
  readonly details: Readonly<Record<string, unknown>>;
}

export interface OperatorAction extends NewOperatorAction {
  /** UUIDv7. */
  readonly id: string;
  readonly at: Date;
}

/** Writes the record within the transaction that makes the change; returns the action's id. */
export async function recordAction(client: pg.PoolClient, action: NewOperatorAction): Promise<string> {
  const { id } = await queryOne<{ id: string }>(client, {
    name: 'record_action',
    text: 'insert into operator_action (actor, action, subject, details) values ($1, $2, $3, $4) returning id',
    values: [action.actor, action.action, action.subject, JSON.stringify(action.details)],
  });
  return id;
}

/** Which actions to list; null filters nothing. */
export interface ActionFilter {
  readonly actor: string | null;
  readonly action: string | null;
  readonly subject: string | null;
}

/** Actions, newest first. */
export async function listActions(
  reporter: Reporter,
  filter: ActionFilter,
  page: PageRequest,
): Promise<Page<OperatorAction>> {
  const rows = await reporter<
    { id: string; at: Date; actor: string; action: string; subject: string; details: Record<string, unknown> }[]
  >`
    select id, at, actor, action, subject, details from operator_action
    where (${filter.actor}::text is null or actor = ${filter.actor})
      and (${filter.action}::text is null or action = ${filter.action})
      and (${filter.subject}::text is null or subject = ${filter.subject})
      and (${page.after}::uuid is null or id < ${page.after})
    order by id desc limit ${page.limit + 1}`;
  return pageOf(rows, page.limit, (row) => row.id);
}
