/** The bundle's entry: every workflow type, nothing else. */
export { maintainLedger } from './maintain-ledger.ts';
export { meterRequests } from './meter-requests.ts';
export { noticeLowBalance } from './notice-low-balance.ts';
export { refundRequest } from './refund-request.ts';
export { resolveOrphan } from './resolve-orphan.ts';
export { sweepRequests } from './sweep-requests.ts';
