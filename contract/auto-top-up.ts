/** Automatic top-ups as others may know them, see contract.ts. */
import { defineQuery, defineUpdate } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from './search-attributes.ts';
import type { Signature } from './wake.ts';

export function autoTopUpWorkflowId(accountId: string): string {
  return `auto-top-up/${accountId}`;
}

export interface AutoTopUpInput {
  readonly accountId: string;
  /**
   * The first wait between two checks of a charge that is not decided; each further one is twice as long, up to the
   * maximum.
   */
  readonly pollSeconds: number;
  readonly pollMaxSeconds: number;
  /** How long one run goes on before it continues as new. */
  readonly runSeconds: number;
}

/** What is to be done for an account now. Amounts are decimal USD, times RFC 3339. */
export type AutoTopUpStep =
  | {
      readonly kind: 'charge';
      readonly topUpId: string;
      readonly amountUsd: string;
      readonly card: string;
      /** True when an earlier run began it. */
      readonly isResumed: boolean;
    }
  | { readonly kind: 'wait'; readonly why: 'slot_used' | 'cap_reached'; readonly until: string }
  | { readonly kind: 'rest'; readonly why: 'off' | 'paused' | 'frozen' | 'no_card' | 'enough' };

/** What became of an attempt, and what follows. */
export interface AutoTopUpOutcome {
  readonly state: 'succeeded' | 'failed' | 'abandoned';
  readonly failure: string | null;
  /** Charges that were declined, one after the other. */
  readonly declinesInARow: number;
  readonly pause: string | null;
}

export interface AutoTopUpStatus {
  readonly step: AutoTopUpStep | null;
  /** What happened, oldest first, each with its time. */
  readonly steps: readonly { readonly at: string; readonly what: string }[];
}

/** An operator: decide again now. `by` is for the run's story; nobody checks it. */
export const checkAutoTopUpUpdate = defineUpdate<AutoTopUpStatus, [Signature]>('checkNow');

export const autoTopUpStatusQuery = defineQuery<AutoTopUpStatus>('status');

/** How a run is started, by whatever sees that an account may need one. The run decides whether it does. */
export function autoTopUpStart(
  accountId: string,
  taskQueue: string,
  { pollSeconds, pollMaxSeconds, runSeconds }: Omit<AutoTopUpInput, 'accountId'>,
) {
  const args: [AutoTopUpInput] = [{ accountId, pollSeconds, pollMaxSeconds, runSeconds }];
  return {
    workflowId: autoTopUpWorkflowId(accountId),
    taskQueue,
    args,
    typedSearchAttributes: [{ key: SEARCH_ATTRIBUTES.accountId, value: accountId }],
    staticSummary: `Automatic top-up: ${accountId}`,
  };
}
