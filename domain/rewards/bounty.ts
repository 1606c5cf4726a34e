/**
 * Bug reports and what they are worth. Pure: which step is possible in which state. The amount follows from the
 * severity; the right to take a step (a second person above a threshold) is checked where the money moves, in the
 * database.
 */
import { assertNever } from '../assert.ts';
import type { BountySeverity } from './reward.ts';

/** `accepted` has a severity and waits for a second person; `rewarded`, `duplicate`, `rejected` are ends. */
export const BOUNTY_STATES = ['submitted', 'triaged', 'accepted', 'rewarded', 'duplicate', 'rejected'] as const;
export type BountyState = (typeof BOUNTY_STATES)[number];

export function isOpenBounty(state: BountyState): boolean {
  return state === 'submitted' || state === 'triaged' || state === 'accepted';
}

/** The steps of staff with a report. `by` names the person. */
export type BountyStep =
  | { readonly kind: 'triage'; readonly by: string }
  | { readonly kind: 'accept'; readonly by: string; readonly severity: BountySeverity }
  | { readonly kind: 'approve'; readonly by: string }
  | { readonly kind: 'duplicate'; readonly by: string; readonly of: string | null; readonly reason: string }
  | { readonly kind: 'reject'; readonly by: string; readonly reason: string };

/** Why a step cannot be taken now; null when it can. A repeat of the step that led here is no refusal. */
export function refusalOfStep(state: BountyState, step: BountyStep): string | null {
  const needs = (...states: readonly BountyState[]): string | null =>
    states.includes(state) ? null : `a report that is ${state} cannot be ${PAST[step.kind]}`;
  switch (step.kind) {
    case 'triage':
      return needs('submitted', 'triaged');
    case 'accept':
      return needs('triaged');
    case 'approve':
      return needs('accepted', 'rewarded');
    case 'duplicate':
      return needs('submitted', 'triaged', 'duplicate');
    case 'reject':
      return needs('submitted', 'triaged', 'accepted', 'rejected');
    default:
      return assertNever(step, 'bounty step');
  }
}

const PAST = {
  triage: 'triaged',
  accept: 'given a severity',
  approve: 'approved',
  duplicate: 'closed as a duplicate',
  reject: 'rejected',
} as const satisfies Record<BountyStep['kind'], string>;
