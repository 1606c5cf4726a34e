/** What an operator sees of a run without opening its history: the current details and the search attributes. */
import { setCurrentDetails, upsertSearchAttributes } from '@temporalio/workflow';
import { SEARCH_ATTRIBUTES } from '../../contract/search-attributes.ts';

export interface ShownAttributes {
  /** The code of what keeps the run from going on; null when nothing does. */
  readonly stuck: string | null;
  readonly paymentState?: string | null;
  /** `acct_…` */
  readonly accountId?: string;
  readonly provider?: string;
}

/** Shows `details` (Markdown) beside the run and sets the attributes that it is found by; those not given stay. */
export function showStatus(details: string, { stuck, paymentState, accountId, provider }: ShownAttributes): void {
  setCurrentDetails(details);
  upsertSearchAttributes([
    { key: SEARCH_ATTRIBUTES.stuck, value: stuck },
    ...(paymentState === undefined ? [] : [{ key: SEARCH_ATTRIBUTES.paymentState, value: paymentState }]),
    ...(accountId === undefined ? [] : [{ key: SEARCH_ATTRIBUTES.accountId, value: accountId }]),
    ...(provider === undefined ? [] : [{ key: SEARCH_ATTRIBUTES.provider, value: provider }]),
  ]);
}

/** The details of a run that fails and retries: what fails, why, and the update that retries now. */
export function stuckText(what: string, cause: string, update: string): string {
  return `**Stuck: ${what}** (${cause}). It is retried automatically; \`${update}\` retries now.`;
}
