/**
 * Taking and growing holds. Many callers share one statement (db/shared/batch-queue.ts); what the batch does not grant
 * is asked again alone for its exact verdict, in a queue of its own, so that a customer who is out of money slows nobody
 * else. Nobody is refused because a settlement is late: before a refusal for lack of money stands, the account's
 * finished requests are settled here and the hold is asked for once more.
 *
 * A lost answer never becomes a lost hold: the call is repeated with the same id until its answer is known, and a hold
 * whose caller has gone by then is ended as `orphaned` by `onAbandoned`.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { AccountUuid, RequestUuid } from '../../../../domain/ids.ts';
import { addUsd, usd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import { isFault, ledgerRefusal, type LedgerRefusal } from '../../../../db/shared/client.ts';
import { HELD_UP_AFTER_MS, BatchQueue, type Ticket } from '../../../../db/shared/batch-queue.ts';
import {
  extendHold,
  placeFreeHolds,
  placeHold,
  placeHolds,
  type FreeHoldRequest,
  type FreeQuota,
  type HoldRequest,
} from '../../../../db/requests/requests.ts';
import { settleAccount } from '../../../../db/requests/settlement.ts';

export type HoldResult =
  | { readonly kind: 'granted'; readonly hold: PicoUsd }
  | { readonly kind: 'refused'; readonly refusal: LedgerRefusal }
  /** The ledger did not answer in time. The hold, should it exist, is given back without the caller. */
  | { readonly kind: 'unavailable' };

type Verdict = Exclude<HoldResult, { kind: 'unavailable' }>;

/** A question on its way, and how to take it back while it has not been sent. */
interface Attempt {
  readonly verdict: Promise<Verdict>;
  readonly abandon: () => boolean;
}

function asAttempt(ticket: Ticket<Verdict>): Attempt {
  return { verdict: ticket.result, abandon: () => ticket.abandon() };
}

/** A settlement of one account under way, and the one that has to follow it because somebody asked meanwhile. */
interface SettlingRun {
  readonly done: Promise<void>;
  next: Promise<void> | null;
}

export interface HoldsOptions {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly timeoutSeconds: number;
  /** What an account may use of `:free` models; null bounds nothing. */
  readonly freeQuota: FreeQuota | null;
  /** Ends a hold that was granted after its caller had been told that the ledger is unavailable. */
  readonly onAbandoned: (requestId: RequestUuid) => void;
}

const BATCH_MAX = 256;
const QUEUE_MAX = 4096;

export class Holds {
  readonly #pool: pg.Pool;
  readonly #timeoutMs: number;
  readonly #onAbandoned: (requestId: RequestUuid) => void;
  /** Null where the batch could not grant and the exact verdict is needed. */
  readonly #paid: BatchQueue<HoldRequest, Verdict | null>;
  readonly #exact: BatchQueue<HoldRequest, Verdict>;
  readonly #free: BatchQueue<FreeHoldRequest, Verdict>;
  readonly #settling = new Map<AccountUuid, SettlingRun>();

  constructor({ pool, logger, timeoutSeconds, freeQuota, onAbandoned }: HoldsOptions) {
    this.#pool = pool;
    this.#timeoutMs = timeoutSeconds * 1000;
    this.#onAbandoned = onAbandoned;
    const shared = { batchMax: BATCH_MAX, queueMax: QUEUE_MAX, isFault };
    const onFault = (what: string) => (error: unknown, items: number) =>
      logger.warn({ error: String(error), items }, `${what} has no answer; repeating`);
    this.#paid = new BatchQueue({
      ...shared,
      name: 'hold',
      heldUpAfterMs: HELD_UP_AFTER_MS,
      call: (holds) => this.#place(holds),
      onFault: onFault('place_holds'),
    });
    this.#exact = new BatchQueue({
      ...shared,
      name: 'exact-hold',
      batchMax: 1,
      call: async ([hold]) => [await this.#placeAlone(hold!)],
      onFault: onFault('place_hold'),
    });
    this.#free = new BatchQueue({
      ...shared,
      name: 'free-hold',
      call: async (holds) =>
        (await placeFreeHolds(pool, holds, freeQuota)).map((refusal) =>
          refusal === null ? { kind: 'granted', hold: ZERO_USD } : { kind: 'refused', refusal },
        ),
      onFault: onFault('place_free_holds'),
    });
  }

  /** Asks for a hold. Answers within the configured time whatever the database does. */
  async take(hold: HoldRequest): Promise<HoldResult> {
    const first = await this.#await(this.#ask(hold), hold.requestId);
    if (first.kind !== 'refused' || !first.refusal.unsettled) return first;
    await this.#settle(hold.accountId);
    return this.#await(this.#ask(hold), hold.requestId);
  }

  /**
   * Raises a hold from `current` to `total`, or as far as key and account can carry it; returns the hold now in place.
   * Throws the refusal that counts when it cannot grow by at least `step`, or a fault.
   */
  async extend(
    accountId: AccountUuid,
    requestId: RequestUuid,
    { current, total, step }: { current: PicoUsd; total: PicoUsd; step: PicoUsd },
  ): Promise<PicoUsd> {
    for (let wanted = total; ;) {
      try {
        return await this.#extendOnce(accountId, requestId, wanted);
      } catch (error) {
        const room = ledgerRefusal(error)?.remaining ?? null;
        if (room === null) throw error;
        const reachable = addUsd(current, usd(room));
        if (reachable >= wanted || usd(room) < step) throw error;
        wanted = reachable;
      }
    }
  }

  async #extendOnce(accountId: AccountUuid, requestId: RequestUuid, total: PicoUsd): Promise<PicoUsd> {
    try {
      return await extendHold(this.#pool, requestId, total);
    } catch (error) {
      if (ledgerRefusal(error)?.unsettled !== true) throw error;
      await this.#settle(accountId);
      return extendHold(this.#pool, requestId, total);
    }
  }

  /** Records the start of a `:free` request. */
  takeFree(hold: FreeHoldRequest): Promise<HoldResult> {
    return this.#await(asAttempt(this.#free.submit(hold)), hold.requestId);
  }

  /** How long the ledger has owed an answer, in milliseconds. */
  get stalledMs(): number {
    return Math.max(this.#paid.stalledMs, this.#exact.stalledMs);
  }

  /** Resolves once no hold is in flight. */
  async drained(): Promise<void> {
    await Promise.all([this.#paid.drained(), this.#free.drained()]);
    await this.#exact.drained();
  }

  /** Asks in the shared queue first and, where that cannot grant, alone. */
  #ask(hold: HoldRequest): Attempt {
    const shared = this.#paid.submit(hold);
    let current: Ticket<unknown> = shared;
    const verdict = shared.result.then((granted) => {
      if (granted !== null) return granted;
      const alone = this.#exact.submit(hold);
      current = alone;
      return alone.result;
    });
    return { verdict, abandon: () => current.abandon() };
  }

  async #place(holds: readonly HoldRequest[]): Promise<(Verdict | null)[]> {
    if (holds.length === 1) return [await this.#placeAlone(holds[0]!)];
    const granted = await placeHolds(this.#pool, holds);
    return granted.map((amount) => (amount === null ? null : { kind: 'granted', hold: amount }));
  }

  async #placeAlone(hold: HoldRequest): Promise<Verdict> {
    try {
      return { kind: 'granted', hold: await placeHold(this.#pool, hold) };
    } catch (error) {
      const refusal = ledgerRefusal(error);
      if (refusal === null) throw error;
      return { kind: 'refused', refusal };
    }
  }

  async #await({ verdict: asked, abandon }: Attempt, requestId: RequestUuid): Promise<HoldResult> {
    const timeout = Promise.withResolvers<null>();
    const timer = setTimeout(() => timeout.resolve(null), this.#timeoutMs);
    try {
      const verdict = await Promise.race([asked, timeout.promise]);
      if (verdict !== null) return verdict;
    } finally {
      clearTimeout(timer);
    }
    if (!abandon()) {
      // Sent and unanswered: the queue goes on asking, and what it was granted is given back.
      asked.then(
        (verdict) => {
          if (verdict.kind === 'granted') this.#onAbandoned(requestId);
        },
        () => undefined,
      );
    }
    return { kind: 'unavailable' };
  }

  /**
   * Settles an account's finished requests. Callers share runs, but never one that began before they asked: it may have
   * looked before what they wait for was finished. A fault settles nothing, and the refusal then stands.
   */
  #settle(accountId: AccountUuid): Promise<void> {
    const running = this.#settling.get(accountId);
    if (running === undefined) return this.#startSettling(accountId);
    running.next ??= running.done.then(() => this.#startSettling(accountId));
    return running.next;
  }

  #startSettling(accountId: AccountUuid): Promise<void> {
    const done = settleAccount(this.#pool, accountId).then(
      () => undefined,
      () => undefined,
    );
    const run: SettlingRun = { done, next: null };
    this.#settling.set(accountId, run);
    void done.then(() => {
      if (run.next === null) this.#settling.delete(accountId);
    });
    return done;
  }
}
