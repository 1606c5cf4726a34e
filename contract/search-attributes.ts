/** What runs are found by in Temporal. The worker registers these attributes when it starts. */
import { defineSearchAttributeKey } from '@temporalio/common';

/** All are KEYWORD. `Stuck` holds the code of what keeps a run from going on, and is unset where nothing does. */
export const SEARCH_ATTRIBUTES = {
  accountId: defineSearchAttributeKey('AccountId', 'KEYWORD'),
  provider: defineSearchAttributeKey('Provider', 'KEYWORD'),
  paymentState: defineSearchAttributeKey('PaymentState', 'KEYWORD'),
  stuck: defineSearchAttributeKey('Stuck', 'KEYWORD'),
  runPeriod: defineSearchAttributeKey('RunPeriod', 'KEYWORD'),
};
