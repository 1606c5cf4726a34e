/** The record of a request that nobody has worked on: nothing was consumed, nothing is paid. */
import type { RequestUuid } from '../../../../domain/ids.ts';
import { ZERO_USD } from '../../../../domain/money.ts';
import type { FinishOutcome } from '../../../../domain/requests/request.ts';
import { NO_USAGE } from '../../../../domain/usage/usage.ts';
import type { FinishRecord } from '../../../../db/requests/requests.ts';

export function unservedRecord(requestId: RequestUuid, outcome: FinishOutcome, latencyMs: number): FinishRecord {
  return {
    requestId,
    outcome,
    listCost: ZERO_USD,
    usage: NO_USAGE,
    estimated: false,
    rawUsage: null,
    latencyMs,
    firstTokenMs: null,
    upstream: null,
  };
}
