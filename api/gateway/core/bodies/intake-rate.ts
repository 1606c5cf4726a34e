/**
 * How many bytes of request bodies an account may send per second, counted before anything about its money is known:
 * reading and parsing cost us the same whether the request can be paid or not.
 *
 * A token bucket that may go into debt. A sender in debt waits by back-pressure: its socket is not read until the
 * debt is paid by time. Refusing at once instead would throw away bytes that have arrived, and the client would send
 * them again; waiting holds no more memory than the account's share of the body budget allows, and delays only the
 * account itself. A body that has not begun is refused where its wait would be long, because its memory costs nothing
 * yet.
 */
import type { AccountUuid, KeyUuid } from '../../../../domain/ids.ts';
import { TokenBuckets } from '../../../http/token-buckets.ts';

export interface IntakeRateOptions {
  readonly burstBytes: number;
  readonly bytesPerSecond: number;
}

/** Whose bytes they are. */
export interface Sender {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

/**
 * What a sender keeps of its ordinary burst and rate after a refusal for lack of money or for size. The burst lets the
 * largest body through, because the account may have been topped up meanwhile; the rate for small ones is many times
 * what somebody needs who uses free models.
 */
const REFUSED_BURST_SHARE = 1 / 2;
const REFUSED_RATE_SHARE = { large: 1 / 16, small: 1 / 8 };
const REFUSED_MS = 60_000;
/** Refused senders remembered at once. The oldest is forgotten, which gives it the ordinary rate. */
const SENDERS_MAX = 10_000;

export class IntakeRate {
  readonly #ordinary: TokenBuckets;
  readonly #refusedLarge: TokenBuckets;
  readonly #refusedSmall: TokenBuckets;
  /** Accounts and keys that were refused for lack of money or for size, and until when that counts. */
  readonly #refusedUntil = new Map<string, number>();

  constructor({ burstBytes, bytesPerSecond }: IntakeRateOptions) {
    this.#ordinary = new TokenBuckets({ burst: burstBytes, perSecond: bytesPerSecond });
    const burst = burstBytes * REFUSED_BURST_SHARE;
    this.#refusedLarge = new TokenBuckets({ burst, perSecond: bytesPerSecond * REFUSED_RATE_SHARE.large });
    this.#refusedSmall = new TokenBuckets({ burst, perSecond: bytesPerSecond * REFUSED_RATE_SHARE.small });
  }

  /** Counts `bytes` of a body; returns the milliseconds to wait before more is read. 0 bytes only asks. */
  take(sender: Sender, bytes: number, isLarge: boolean, now: number): number {
    const refused = this.#refusedId(sender, now);
    if (refused === null) return this.#ordinary.owe(sender.accountId, bytes, now);
    return (isLarge ? this.#refusedLarge : this.#refusedSmall).owe(refused, bytes, now);
  }

  /** Gives an account, or one key where only that has no money left, the smaller rates for a minute. */
  noteRefused(id: AccountUuid | KeyUuid, now: number): void {
    this.#refusedUntil.delete(id);
    this.#refusedUntil.set(id, now + REFUSED_MS);
    if (this.#refusedUntil.size > SENDERS_MAX) this.#refusedUntil.delete(this.#refusedUntil.keys().next().value!);
  }

  #refusedId({ accountId, keyId }: Sender, now: number): string | null {
    for (const id of [accountId, keyId]) {
      const until = this.#refusedUntil.get(id);
      if (until === undefined) continue;
      if (until > now) return id;
      this.#refusedUntil.delete(id);
    }
    return null;
  }
}
