/**
 * How much may be looked up with an API key: so often per key and per account, and little at once of what reads the
 * database. Balances are exact at every moment and so cannot be answered from a cache.
 */
import { Refusal } from '../../../../domain/errors.ts';
import { FairGate } from '../../../http/fair-gate.ts';
import { TokenBuckets } from '../../../http/token-buckets.ts';
import type { Caller } from '../keys/keys.ts';

export interface LookupRates {
  readonly perKeyPerSecond: number;
  readonly perAccountPerSecond: number;
}

/** Bursts of a few seconds: a client that starts asks for several things at once. */
const BURST_SECONDS = 4;
/** Look-ups that read the database; what is exact cannot be cached, so it is bounded. */
const READS = { atOnce: 4, atOncePerHolder: 2, waiting: 256, waitingPerHolder: 16, retryAfterSeconds: 1 };

/** How often each key and each account may look something up, and how much of it reads the database at once. */
export class LookupLimit {
  readonly #ofKey: TokenBuckets;
  readonly #ofAccount: TokenBuckets;
  readonly #reads = new FairGate({ what: 'look-ups', ...READS });

  constructor({ perKeyPerSecond, perAccountPerSecond }: LookupRates) {
    this.#ofKey = new TokenBuckets({ perSecond: perKeyPerSecond, burst: perKeyPerSecond * BURST_SECONDS });
    this.#ofAccount = new TokenBuckets({ perSecond: perAccountPerSecond, burst: perAccountPerSecond * BURST_SECONDS });
  }

  /** Counts a look-up. Throws `rate_limit_exceeded` when there were too many. */
  count({ keyId, accountId }: Caller): void {
    const wait = this.#ofKey.take(keyId) || this.#ofAccount.take(accountId);
    if (wait === 0) return;
    const retryAfterSeconds = Math.ceil(wait);
    throw new Refusal('rate_limit_exceeded', {
      message: `Too many look-ups with this API key or account. Try again in ${retryAfterSeconds} s.`,
      retryAfterSeconds,
    });
  }

  /** Counts a look-up and runs it when it is its account's turn. */
  read<T>(caller: Caller, work: () => Promise<T>): Promise<T> {
    this.count(caller);
    return this.#reads.run(caller.accountId, work);
  }
}
