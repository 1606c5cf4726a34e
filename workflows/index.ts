/** The bundle's entry: every workflow type, nothing else. */
export { maintainLedger } from './maintain-ledger.ts';
export { meterRequests } from './meter-requests.ts';
export { noticeLowBalance } from './notice-low-balance.ts';
export { refundRequest } from './refund-request.ts';
export { resolveOrphan } from './resolve-orphan.ts';
export { reverseTopUp } from './reverse-top-up.ts';
export { sweepEvents } from './sweep-events.ts';
export { sweepRequests } from './sweep-requests.ts';
export { topUp } from './top-up.ts';
