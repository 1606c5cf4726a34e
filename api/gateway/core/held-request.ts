/**
 * One metered request on its way through the gateway, once its price is held: the ledger knows it, and it is finished
 * exactly once, whatever happens. Shared by streamed and whole answers; knows nothing of HTTP.
 */
import type { PicoUsd } from '../../../domain/money.ts';
import { readReportedUsage, type ReportedUsage } from '../../../domain/usage/reported-usage.ts';
import type { Admission } from './admission.ts';
import type { CostLine } from './holds/cost-line.ts';
import { outputLimit } from './holds/reach.ts';
import type { FailureContext } from './upstreams/upstream-failure.ts';
import type { CalledUpstream } from './upstreams/upstream.ts';

export interface HeldRequest extends Admission {
  /** What the ledger holds for it now; 0 for `:free` models. */
  hold: PicoUsd;
  /** False where key or account could not carry all that was wanted: there is no money for the hold to grow by. */
  readonly heldInFull: boolean;
  /** What its output costs at most, for a hold that grows while a stream comes; null where it does not. */
  readonly growth: CostLine | null;
  /** `performance.now()`. */
  firstTokenAt: number | null;
  /** The upstream that answered, or the last one that did not; null before one was called. */
  upstream: CalledUpstream | null;
}

/** What a provider's error about this request must not show to whom, and who can read it. */
export function failureContext({ dialect, request, upstream }: HeldRequest): FailureContext {
  return {
    reader: dialect,
    keys: upstream?.key == null ? [] : [upstream.key],
    said: () => dialect.said(request),
  };
}

/**
 * Output tokens that the request can reach over all its answers: what an answer is held for where it cannot be watched.
 */
export function outputReach({ request, model, price }: Admission): number {
  const cap = price.kind === 'free' ? price.outputCap : Infinity;
  return Math.min(outputLimit(request, model), cap) * request.answers + request.predictionTokens;
}

/** Output tokens as reported; 0 when nothing usable was. */
export function reportedOutputTokens(reported: ReportedUsage | null, { price }: Admission): number {
  const read = reported === null ? null : readReportedUsage(reported, readOptions(price));
  return read?.ok === true ? read.usage.outputTokens : 0;
}

/** How the provider's usage of a request is to be read. A model that nothing prices reports as most do. */
export function readOptions({ rates }: Admission['price']): { reasoningInOutput: boolean } {
  return { reasoningInOutput: rates?.reasoningInOutput ?? true };
}
