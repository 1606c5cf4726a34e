/**
 * Changes of the rules of money that nobody makes alone: kept as they were asked for, made when a second person
 * approves.
 */
import { uuidOf, type Uuid } from '../../domain/ids.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { decideOnce, type SecondDecision } from './decisions.ts';

export const CHANGE_KINDS = ['affiliate_rate', 'commission_rule', 'price_version', 'model'] as const;
export type ChangeKind = (typeof CHANGE_KINDS)[number];

export const CHANGE_STATES = ['waiting', 'applied', 'rejected'] as const;
export type ChangeState = (typeof CHANGE_STATES)[number];

export interface Change {
  readonly id: Uuid<'change'>;
  readonly kind: ChangeKind;
  /** The model, the affiliate's account, or the rule's name. */
  readonly subject: string;
  /** As it was asked for. */
  readonly change: Readonly<Record<string, unknown>>;
  /** The reason for a second person, in words. */
  readonly cause: string;
  readonly reason: string | null;
  readonly state: ChangeState;
  readonly requestedBy: string;
  readonly requestedAt: Date;
  readonly decidedBy: string | null;
  readonly decidedAt: Date | null;
}

interface ChangeRow {
  id: string;
  kind: ChangeKind;
  subject: string;
  change: Record<string, unknown>;
  cause: string;
  reason: string | null;
  state: ChangeState;
  requested_by: string;
  requested_at: Date;
  decided_by: string | null;
  decided_at: Date | null;
}

const toChange = (row: ChangeRow): Change => ({
  id: uuidOf('change', row.id),
  kind: row.kind,
  subject: row.subject,
  change: row.change,
  cause: row.cause,
  reason: row.reason,
  state: row.state,
  requestedBy: row.requested_by,
  requestedAt: row.requested_at,
  decidedBy: row.decided_by,
  decidedAt: row.decided_at,
});

/** Keeps a change that waits for a second person. */
export async function requestChange(
  session: Session,
  wanted: Pick<Change, 'kind' | 'subject' | 'change' | 'cause' | 'reason' | 'requestedBy'>,
): Promise<Change> {
  const row = await queryOne<ChangeRow>(session, {
    name: 'request_change',
    text: 'select * from request_change($1, $2, $3, $4, $5, $6)',
    values: [
      wanted.kind,
      wanted.subject,
      JSON.stringify(wanted.change),
      wanted.cause,
      wanted.reason,
      wanted.requestedBy,
    ],
  });
  return toChange(row);
}

/**
 * A second person decides; who approves makes the change in the same transaction. A repeat returns it as it was
 * decided, and `decidedNow` tells the call that decided. Refuses `request_ended` (unknown), `second_person_needed`.
 */
export async function decideChange(
  session: Session,
  decision: SecondDecision<Uuid<'change'>>,
): Promise<Change & { readonly decidedNow: boolean }> {
  return decideOnce(session, 'decide_change', [decision.id, decision.approve, decision.decidedBy], toChange);
}

/** Null when there is no such change. */
export async function findChange(session: Session, id: Uuid<'change'>): Promise<Change | null> {
  const [row] = await query<ChangeRow>(session, {
    name: 'find_change',
    text: 'select * from change_request where id = $1',
    values: [id],
  });
  return row === undefined ? null : toChange(row);
}
