/**
 * The memory that request bodies may take, counted by the bytes that are held: what a client only announces costs
 * nothing. Small bodies have a pool of their own, so that no amount of large ones can keep an ordinary call out.
 *
 * A pool that is full makes room at the cost of the account that holds most of it with bodies nobody has paid for yet:
 * its largest such body is refused. So an account that asks for less than the greediest always gets in, however many are greedy
 * and whichever came first; an account that is alone may use all of its share.
 */
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid } from '../../../../domain/ids.ts';

/** Bodies up to this size live in the pool of the small ones: nearly all calls without pictures. */
export const SMALL_BODY_BYTES = 64 * 1024;

export interface BodyBudgetOptions {
  readonly smallBytes: number;
  readonly largeBytes: number;
  readonly largeBytesPerAccount: number;
}

export class BodyBudget {
  readonly #small: Pool;
  readonly #large: Pool;

  constructor({ smallBytes, largeBytes, largeBytesPerAccount }: BodyBudgetOptions) {
    this.#small = new Pool(smallBytes, Infinity);
    this.#large = new Pool(largeBytes, largeBytesPerAccount);
  }

  get heldBytes(): { small: number; large: number } {
    return { small: this.#small.bytes, large: this.#large.bytes };
  }

  /** Starts counting one body of an account, at nothing. */
  open(accountId: AccountUuid): BodyCharge {
    return new BodyCharge(accountId, (bytes) => (bytes > SMALL_BODY_BYTES ? this.#large : this.#small));
  }
}

/** What one body holds, from its first byte to the end of its request: it is kept for a local count. */
export class BodyCharge {
  readonly accountId: AccountUuid;
  readonly #poolOf: (bytes: number) => Pool;
  #bytes = 0;
  #evict: ((refusal: Refusal) => void) | null = null;

  constructor(accountId: AccountUuid, poolOf: (bytes: number) => Pool) {
    this.accountId = accountId;
    this.#poolOf = poolOf;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get isEvictable(): boolean {
    return this.#evict !== null;
  }

  /**
   * Charges the body at `bytes` from now on. Throws `body_budget_exceeded` or `overloaded`, and then changes nothing.
   */
  resize(bytes: number): void {
    const [from, to] = [this.#poolOf(this.#bytes), this.#poolOf(bytes)];
    to.makeRoom(this, from === to ? bytes - this.#bytes : bytes);
    from.remove(this);
    this.#bytes = bytes;
    to.add(this);
  }

  /** Says how the body can be ended where others need its memory more; null while it cannot be. */
  setEvict(evict: ((refusal: Refusal) => void) | null): void {
    const pool = this.#poolOf(this.#bytes);
    pool.remove(this);
    this.#evict = evict;
    pool.add(this);
  }

  /** Gives everything back. May be called again. */
  release(): void {
    this.#poolOf(this.#bytes).remove(this);
    this.#bytes = 0;
    this.#evict = null;
  }

  /** Gives everything back and ends the body. */
  evict(): void {
    const evict = this.#evict;
    this.release();
    evict?.(new Refusal('body_budget_exceeded'));
  }
}

interface Holder {
  bytes: number;
  evictableBytes: number;
  readonly evictable: Set<BodyCharge>;
}

class Pool {
  readonly #capacity: number;
  readonly #accountMax: number;
  readonly #holders = new Map<AccountUuid, Holder>();
  bytes = 0;

  constructor(capacity: number, accountMax: number) {
    this.#capacity = capacity;
    this.#accountMax = accountMax;
  }

  /** Sees to it that `charge` can grow by `bytes`, or throws the Refusal. */
  makeRoom(charge: BodyCharge, bytes: number): void {
    if (bytes <= 0) return;
    const holder = this.#holders.get(charge.accountId);
    const held = holder?.bytes ?? 0;
    // Where the account has nothing else open, waiting for its own requests would not help it.
    const code = held > charge.bytes ? 'body_budget_exceeded' : 'overloaded';
    if (held + bytes > this.#accountMax) throw new Refusal('body_budget_exceeded');
    const wanted = (holder?.evictableBytes ?? 0) + bytes;
    while (this.bytes + bytes > this.#capacity) {
      const greediest = this.#greediest();
      if (greediest === null || greediest.evictableBytes <= wanted) throw new Refusal(code);
      largestOf(greediest).evict();
    }
  }

  add(charge: BodyCharge): void {
    if (charge.bytes === 0) return;
    const holder = this.#holders.get(charge.accountId) ?? { bytes: 0, evictableBytes: 0, evictable: new Set() };
    this.#holders.set(charge.accountId, holder);
    this.bytes += charge.bytes;
    holder.bytes += charge.bytes;
    if (!charge.isEvictable) return;
    holder.evictableBytes += charge.bytes;
    holder.evictable.add(charge);
  }

  remove(charge: BodyCharge): void {
    const holder = this.#holders.get(charge.accountId);
    if (holder === undefined || charge.bytes === 0) return;
    this.bytes -= charge.bytes;
    holder.bytes -= charge.bytes;
    if (holder.evictable.delete(charge)) holder.evictableBytes -= charge.bytes;
    if (holder.bytes === 0) this.#holders.delete(charge.accountId);
  }

  #greediest(): Holder | null {
    let greediest: Holder | null = null;
    for (const holder of this.#holders.values()) {
      if (holder.evictableBytes > (greediest?.evictableBytes ?? 0)) greediest = holder;
    }
    return greediest;
  }
}

function largestOf({ evictable }: Holder): BodyCharge {
  return [...evictable].reduce((largest, charge) => (charge.bytes > largest.bytes ? charge : largest));
}
