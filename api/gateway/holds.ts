/**
 * Taking holds. Many callers share one statement (db/lane.ts); what the batch does not grant is asked again alone for its
 * exact verdict. Nobody is refused because a settlement is late: before a refusal for lack of money stands, the account's
 * finished requests are settled here and the hold is asked for once more.
 *
 * A lost answer never becomes a lost hold: the call is repeated with the same id until its answer is known, and a hold
 * whose caller has gone by then is ended as `orphaned` by `onAbandoned`.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { AccountUuid, RequestUuid } from '../../domain/ids.ts';
import { ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import { isFault, ledgerRefusal, type LedgerRefusal } from '../../db/client.ts';
import { Lane, type Ticket } from '../../db/lane.ts';
import {
  placeFreeHolds,
  placeHold,
  placeHolds,
  settleAccount,
  type FreeHoldRequest,
  type HoldRequest,
} from '../../db/requests.ts';

export type HoldResult =
  | { readonly kind: 'granted'; readonly hold: PicoUsd }
  | { readonly kind: 'refused'; readonly refusal: LedgerRefusal }
  /** The ledger did not answer in time. The hold, should it exist, is given back without the caller. */
  | { readonly kind: 'unavailable' };

type Verdict = Exclude<HoldResult, { kind: 'unavailable' }>;

export interface HoldDeskOptions {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly timeoutSeconds: number;
  /** Ends a hold that was granted after its caller had been told that the ledger is unavailable. */
  readonly onAbandoned: (requestId: RequestUuid) => void;
}

const BATCH_MAX = 256;
const QUEUE_MAX = 4096;
/** Refused for lack of money, where a settlement may help. */
const MONEY_REFUSALS: readonly string[] = ['key_limit', 'insufficient_quota'];

export class HoldDesk {
  readonly #pool: pg.Pool;
  readonly #timeoutMs: number;
  readonly #onAbandoned: (requestId: RequestUuid) => void;
  readonly #paid: Lane<HoldRequest, Verdict>;
  readonly #free: Lane<FreeHoldRequest, Verdict>;
  readonly #settling = new Map<AccountUuid, Promise<number>>();

  constructor({ pool, logger, timeoutSeconds, onAbandoned }: HoldDeskOptions) {
    this.#pool = pool;
    this.#timeoutMs = timeoutSeconds * 1000;
    this.#onAbandoned = onAbandoned;
    const lane = { batchMax: BATCH_MAX, queueMax: QUEUE_MAX, isFault };
    const onFault = (what: string) => (error: unknown, items: number) =>
      logger.warn({ error: String(error), items }, `${what} has no answer; repeating`);
    this.#paid = new Lane({ ...lane, name: 'hold', call: (holds) => this.#place(holds), onFault: onFault('place_hold') });
    this.#free = new Lane({
      ...lane,
      name: 'free-hold',
      call: async (holds) =>
        (await placeFreeHolds(pool, holds)).map((refusal) =>
          refusal === null ? { kind: 'granted', hold: ZERO_USD } : { kind: 'refused', refusal },
        ),
      onFault: onFault('place_free_holds'),
    });
  }

  /** Asks for a hold. Answers within the configured time whatever the database does. */
  async take(hold: HoldRequest): Promise<HoldResult> {
    const first = await this.#await(this.#paid.submit(hold), hold.requestId);
    if (first.kind !== 'refused' || !MONEY_REFUSALS.includes(first.refusal.code)) return first;
    if ((await this.#settle(hold.accountId)) === 0) return first;
    return this.#await(this.#paid.submit(hold), hold.requestId);
  }

  /** Records the start of a `:free` request. */
  takeFree(hold: FreeHoldRequest): Promise<HoldResult> {
    return this.#await(this.#free.submit(hold), hold.requestId);
  }

  /** How long the ledger has owed an answer, in milliseconds. */
  get stalledMs(): number {
    return this.#paid.stalledMs;
  }

  /** Resolves once no hold is in flight. */
  async settled(): Promise<void> {
    await Promise.all([this.#paid.settled(), this.#free.settled()]);
  }

  async #place(holds: readonly HoldRequest[]): Promise<Verdict[]> {
    const granted = holds.length === 1 ? [null] : await placeHolds(this.#pool, holds);
    const verdicts: Verdict[] = [];
    for (const [index, hold] of holds.entries()) {
      const amount = granted[index] ?? null;
      verdicts.push(amount === null ? await this.#placeAlone(hold) : { kind: 'granted', hold: amount });
    }
    return verdicts;
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

  async #await(ticket: Ticket<Verdict>, requestId: RequestUuid): Promise<HoldResult> {
    const timeout = Promise.withResolvers<null>();
    const timer = setTimeout(() => timeout.resolve(null), this.#timeoutMs);
    try {
      const verdict = await Promise.race([ticket.result, timeout.promise]);
      if (verdict !== null) return verdict;
    } finally {
      clearTimeout(timer);
    }
    if (!ticket.abandon()) {
      // Sent and unanswered: the lane goes on asking, and what it was granted is given back.
      ticket.result.then(
        (verdict) => {
          if (verdict.kind === 'granted') this.#onAbandoned(requestId);
        },
        () => undefined,
      );
    }
    return { kind: 'unavailable' };
  }

  /** Settles an account's finished requests; callers that ask meanwhile share the run. A fault counts as nothing settled. */
  #settle(accountId: AccountUuid): Promise<number> {
    const running = this.#settling.get(accountId);
    if (running !== undefined) return running;
    const run = settleAccount(this.#pool, accountId)
      .catch(() => 0)
      .finally(() => this.#settling.delete(accountId));
    this.#settling.set(accountId, run);
    return run;
  }
}
