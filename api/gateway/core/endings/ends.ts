/** How a request can be ended by us, and what that means for it and for its client. */
import { Refusal } from '../../../../domain/errors.ts';
import type { FinishOutcome } from '../../../../domain/requests/request.ts';
import type { AbortReason } from '../upstreams/upstream.ts';

/** What our own abort means for the request, and what its client is told. */
export function endOfAbort(reason: AbortReason): { outcome: FinishOutcome; refusal: Refusal | null } {
  switch (reason) {
    case 'timeout':
      return { outcome: 'upstream_timeout', refusal: new Refusal('upstream_timeout') };
    case 'client_left':
      return { outcome: 'client_disconnected', refusal: null };
    case 'cut_by_limit':
      return { outcome: 'cut_by_limit', refusal: null };
    case 'shutdown':
      return {
        outcome: 'orphaned',
        refusal: new Refusal('upstream_failed', {
          message: 'The gateway is shutting down. You were not charged. Please retry.',
        }),
      };
  }
}

/** Silence for more than this share of the time-out is a stall, unless the answer has been as slow all along. */
const STALL_SHARE = 0.1;
/** Twice or three times its longest pause is still an answer's own pace. */
const PACE_FACTOR = 3;

/**
 * Whether an answer is still flowing when its time ends. A flowing answer was delivered and is paid; one that had stalled
 * is the provider's failure.
 */
export class FlowWatch {
  readonly #stallMs: number;
  #lastContentAt: number | null = null;
  #longestPauseMs = 0;

  constructor(timeoutMs: number) {
    this.#stallMs = timeoutMs * STALL_SHARE;
  }

  noteContent(): void {
    const now = performance.now();
    if (this.#lastContentAt !== null) this.#longestPauseMs = Math.max(this.#longestPauseMs, now - this.#lastContentAt);
    this.#lastContentAt = now;
  }

  get isFlowing(): boolean {
    if (this.#lastContentAt === null) return false;
    const silentMs = performance.now() - this.#lastContentAt;
    return silentMs <= Math.max(this.#stallMs, PACE_FACTOR * this.#longestPauseMs);
  }
}
