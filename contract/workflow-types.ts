import { REWARD_WORKFLOW_TYPES } from './rewards.ts';

/** Names of the workflow types, for starting them without importing their bodies. */
export const WORKFLOW_TYPES = {
  meterRequests: 'meterRequests',
  sweepRequests: 'sweepRequests',
  resolveOrphan: 'resolveOrphan',
  refundRequest: 'refundRequest',
  noticeLowBalance: 'noticeLowBalance',
  maintainLedger: 'maintainLedger',
  topUp: 'topUp',
  reverseTopUp: 'reverseTopUp',
  sweepEvents: 'sweepEvents',
  autoTopUp: 'autoTopUp',
  commissionRun: 'commissionRun',
  checkCommissions: 'checkCommissions',
  monthlyCommissions: 'monthlyCommissions',
  watchChain: 'watchChain',
  reconcile: 'reconcile',
  ...REWARD_WORKFLOW_TYPES,
} as const;
