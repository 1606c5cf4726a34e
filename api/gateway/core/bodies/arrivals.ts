/**
 * The bodies on their way in, and which of them come too slowly: each holds a socket and memory of a caller who may
 * never pay. Bounded are their number per account once they are slow, their rate after a grace, and the time of each.
 *
 * Time is counted in turns of one timer. While the event loop is kept from turning nothing can be read, and a client
 * must not be blamed for that.
 */
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../domain/ids.ts';

export interface ArrivalLimits {
  /** How long a body may take in all. */
  readonly seconds: number;
  /** How long it may come as slowly as it likes. */
  readonly graceSeconds: number;
  /** Average rate that it must have reached from then on. */
  readonly bytesPerSecondMin: number;
  /** Bodies of one account that may be read for longer than a second. */
  readonly slowPerAccount: number;
}

/** A body on its way in. */
export interface Arrival {
  readonly accountId: AccountUuid;
  readonly receivedBytes: () => number;
  /** True while we do not read it. */
  readonly isPaused: () => boolean;
  readonly refuse: (refusal: Refusal) => void;
}

interface Watched {
  turns: number;
  pausedTurns: number;
}

const TURNS_PER_SECOND = 4;
/** A body that has been read for longer is slow: what fits a few packets is here long before. */
const SLOW_AFTER_SECONDS = 1;

export class Arrivals {
  readonly #limits: ArrivalLimits;
  readonly #arriving = new Map<Arrival, Watched>();
  #slow = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(limits: ArrivalLimits) {
    this.#limits = limits;
  }

  /** Bodies under way. */
  get arriving(): number {
    return this.#arriving.size;
  }

  /** Those of them that have been read for longer than a second. */
  get slow(): number {
    return this.#slow;
  }

  add(arrival: Arrival): void {
    this.#arriving.set(arrival, { turns: 0, pausedTurns: 0 });
    this.#timer ??= setInterval(() => this.#turn(), 1000 / TURNS_PER_SECOND).unref();
  }

  delete(arrival: Arrival): void {
    this.#arriving.delete(arrival);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #turn(): void {
    const slowByAccount = new Map<AccountUuid, number>();
    this.#slow = 0;
    // In the order of their beginning, so that the youngest of too many is the one to go.
    for (const [arrival, watched] of [...this.#arriving]) {
      watched.turns += 1;
      if (arrival.isPaused()) watched.pausedTurns += 1;
      const isSlow = watched.turns - watched.pausedTurns > SLOW_AFTER_SECONDS * TURNS_PER_SECOND;
      const slow = (slowByAccount.get(arrival.accountId) ?? 0) + (isSlow ? 1 : 0);
      const refusal = this.#refusalOf(arrival, watched, slow);
      if (refusal !== null) {
        arrival.refuse(refusal);
      } else if (isSlow) {
        slowByAccount.set(arrival.accountId, slow);
        this.#slow += 1;
      }
    }
    if (this.#arriving.size === 0) this.stop();
  }

  #refusalOf(arrival: Arrival, { turns, pausedTurns }: Watched, slow: number): Refusal | null {
    const { seconds, graceSeconds, bytesPerSecondMin, slowPerAccount } = this.#limits;
    const age = turns / TURNS_PER_SECOND;
    const readFor = (turns - pausedTurns) / TURNS_PER_SECOND;
    if (age > seconds) {
      // Most of that time was ours: the account sent more than its rate.
      if (readFor < age / 2) return new Refusal('rate_limit_exceeded', { message: TOO_MUCH });
      return timeout(`The request body did not arrive within ${seconds} s.`);
    }
    if (readFor > graceSeconds && arrival.receivedBytes() < bytesPerSecondMin * readFor) {
      return timeout(`The request body came more slowly than ${bytesPerSecondMin} bytes per second.`);
    }
    if (slow > slowPerAccount) {
      return timeout(`This account has ${slowPerAccount} request bodies under way already that come slowly.`);
    }
    return null;
  }
}

/** Said when the rate of an account leaves a body no time. */
export const TOO_MUCH = 'This account sends request bodies faster than its limit.';

function timeout(message: string): Refusal {
  return new Refusal('body_timeout', { message });
}
