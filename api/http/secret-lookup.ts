/**
 * Look-ups of secrets that this process does not know, many in one statement: one statement is in flight, and all
 * secrets that arrive meanwhile share the next one. So every secret is looked up, and a valid one works during any
 * flood of invented ones. Attempts like too many failed ones go through a second, slower queue.
 *
 * Unknown secrets are cached for a few seconds, and dropped when a secret of this kind is created.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isFault } from '../../db/shared/client.ts';
import { BatchQueue, type Ticket } from '../../db/shared/batch-queue.ts';
import { hashSecret, mayBeSecret } from '../../db/shared/secrets.ts';
import { Refusal } from '../../domain/errors.ts';
import { loggedPrefix, type Attempt, type FailedAttempts, type SecretKind } from './failed-attempts.ts';

export interface SecretLookupOptions<Found> {
  readonly kind: SecretKind;
  /** The prefix of every secret of this kind. */
  readonly prefix: string;
  /** Looks hashes up in one statement; the result is by the hash in base64 and lacks unknown ones. */
  readonly lookUp: (hashes: readonly Buffer[]) => Promise<ReadonlyMap<string, Found>>;
  readonly failures: FailedAttempts;
  /** How long an unknown secret is cached, should the notification of its creation be lost. */
  readonly ageSeconds: number;
  /** After this long without an answer of the database a look-up is `ledger_unavailable`. */
  readonly timeoutSeconds: number;
}

const BATCH_MAX = 256;
/** Per queue. A healthy database empties it in milliseconds; the bound is for one that does not answer. */
const QUEUE_MAX = 2048;
/** Shortest time between two statements of the slower queue: a valid secret waits a tenth of a second there at most. */
const SUSPECTS_EVERY_MS = 50;
/** Unknown and valid secrets that are remembered. */
const UNKNOWN_MAX = 20_000;
const VALID_MAX = 20_000;

/** A secret as it is looked up: its hash, and that in base64. */
interface Hashed {
  readonly hash: Buffer;
  readonly id: string;
}

export class SecretLookup<Found> {
  readonly #options: SecretLookupOptions<Found>;
  readonly #queue: BatchQueue<Hashed, Found | null>;
  readonly #suspectQueue: BatchQueue<Hashed, Found | null>;
  /** Until when each unknown secret is cached, `performance.now()`; oldest first. */
  readonly #unknown = new Map<string, number>();
  /** Secrets that were valid at their last look-up: theirs are always urgent. */
  readonly #valid = new Set<string>();
  readonly #running = new Map<string, Promise<Found | null>>();
  /** Grows when a secret is created: a look-up that began before may have missed it. */
  #generation = 0;
  #suspectsLookedUpAt = -Infinity;

  constructor(options: SecretLookupOptions<Found>) {
    this.#options = options;
    const shared = { batchMax: BATCH_MAX, queueMax: QUEUE_MAX, isFault };
    this.#queue = new BatchQueue({ ...shared, name: options.kind, call: (secrets) => this.#lookUp(secrets) });
    this.#suspectQueue = new BatchQueue({
      ...shared,
      name: `suspect ${options.kind}`,
      call: async (secrets) => {
        const rest = this.#suspectsLookedUpAt + SUSPECTS_EVERY_MS - performance.now();
        if (rest > 0) await delay(rest);
        this.#suspectsLookedUpAt = performance.now();
        return this.#lookUp(secrets);
      },
    });
  }

  /**
   * The owner of a secret; null when it is unknown. Throws `rate_limit_exceeded` for an unknown one after too many
   * failures, `ledger_unavailable` when the database does not answer in time.
   */
  async find(secret: string, address: string): Promise<Found | null> {
    const found = await this.look(secret, address);
    if (found === null) this.noteUnknown(secret, address);
    return found;
  }

  /** `find` for one of several secrets of a request: an unknown one is no failure yet. */
  async look(secret: string, address: string): Promise<Found | null> {
    if (!mayBeSecret(secret, this.#options.prefix)) return null;
    const hash = hashSecret(secret);
    const hashed = { hash, id: hash.toString('base64') };
    return this.#isUnknown(hashed.id) ? null : this.#shared(hashed, this.#attempt(secret, address));
  }

  /** Counts an unknown secret. Throws `rate_limit_exceeded` after too many failures. */
  noteUnknown(secret: string, address: string): void {
    const { prefix, failures } = this.#options;
    const attempt = this.#attempt(secret, address);
    if (mayBeSecret(secret, prefix)) failures.note(attempt);
    else failures.noteForeign(attempt);
  }

  #attempt(secret: string, address: string): Attempt {
    const { kind, prefix } = this.#options;
    return { kind, prefix: loggedPrefix(secret, prefix), address };
  }

  /** Drops the cache of unknown secrets: one was created, or may have been. */
  forgetUnknown(): void {
    this.#generation++;
    this.#unknown.clear();
  }

  #isUnknown(id: string): boolean {
    const until = this.#unknown.get(id);
    if (until === undefined) return false;
    if (until > performance.now()) return true;
    this.#unknown.delete(id);
    return false;
  }

  /** One look-up for all callers with the same secret meanwhile. */
  #shared(hashed: Hashed, attempt: Attempt): Promise<Found | null> {
    const running = this.#running.get(hashed.id);
    if (running !== undefined) return running;
    const isSuspect = !this.#valid.has(hashed.id) && this.#options.failures.isSuspect(attempt);
    const ticket = (isSuspect ? this.#suspectQueue : this.#queue).submit(hashed);
    const work = this.#inTime(ticket).finally(() => this.#running.delete(hashed.id));
    this.#running.set(hashed.id, work);
    return work;
  }

  async #inTime(ticket: Ticket<Found | null>): Promise<Found | null> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      ticket.abandon();
      late.reject(new Refusal('ledger_unavailable'));
    }, this.#options.timeoutSeconds * 1000);
    try {
      return await Promise.race([ticket.result, late.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #lookUp(secrets: readonly Hashed[]): Promise<(Found | null)[]> {
    const { kind, lookUp, failures, ageSeconds } = this.#options;
    const generation = this.#generation;
    const until = performance.now() + ageSeconds * 1000;
    failures.countLookup(kind);
    const found = await lookUp(secrets.map(({ hash }) => hash));
    return secrets.map(({ id }) => {
      const owner = found.get(id) ?? null;
      this.#valid.delete(id);
      if (owner !== null) {
        this.#valid.add(id);
        if (this.#valid.size > VALID_MAX) this.#valid.delete(this.#valid.values().next().value!);
      } else if (generation === this.#generation) {
        this.#unknown.set(id, until);
        if (this.#unknown.size > UNKNOWN_MAX) this.#unknown.delete(this.#unknown.keys().next().value!);
      }
      return owner;
    });
  }
}
