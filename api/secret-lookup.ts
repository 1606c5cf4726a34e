/**
 * Whose secret is it? Look-ups of secrets that this process does not know, many in one statement: however many are invented, one
 * statement is under way and the rest share the next one. So no secret need ever be refused unseen, and a valid one gets in
 * through any flood of others. Where too many have failed, look-ups go a lane of their own that is in no hurry.
 *
 * What belongs to nobody is remembered for a few seconds, until a secret of this kind is created.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { isFault } from '../db/client.ts';
import { Lane, type Ticket } from '../db/lane.ts';
import { hashSecret, mayBeSecret } from '../db/secrets.ts';
import { Refusal } from '../domain/errors.ts';
import { tellablePrefix, type Attempt, type FailedAttempts, type SecretKind } from './failed-attempts.ts';

export interface SecretLookupOptions<Found> {
  readonly kind: SecretKind;
  /** What every secret of this kind begins with. */
  readonly prefix: string;
  /** Looks hashes up at once; the result is by the hash in base64 and lacks those that belong to nobody. */
  readonly lookUp: (hashes: readonly Buffer[]) => Promise<ReadonlyMap<string, Found>>;
  readonly failures: FailedAttempts;
  /** How long a secret is remembered to belong to nobody, should its creation not be heard of. */
  readonly ageSeconds: number;
  /** After this long without an answer of the database a look-up is `ledger_unavailable`. */
  readonly timeoutSeconds: number;
}

const BATCH_MAX = 256;
/** Per lane. A healthy database empties it in a few milliseconds; one that is away must not be waited for without bound. */
const QUEUE_MAX = 2048;
/** Between two statements for secrets like which too many failed: twenty a second are enough for whoever has a valid one. */
const SUSPECTS_EVERY_MS = 50;
/** Secrets remembered to belong to nobody, and those that were somebody's lately. */
const NOBODYS_MAX = 20_000;
const KNOWN_MAX = 20_000;

/** A secret as it is looked up: its hash, and that in base64. */
interface Hashed {
  readonly hash: Buffer;
  readonly id: string;
}

export class SecretLookup<Found> {
  readonly #options: SecretLookupOptions<Found>;
  readonly #lane: Lane<Hashed, Found | null>;
  readonly #suspectLane: Lane<Hashed, Found | null>;
  /** Until when each secret is nobody's, `performance.now()`; oldest first. */
  readonly #nobodys = new Map<string, number>();
  /** Secrets that were somebody's when they were last looked up; they are never suspect. */
  readonly #known = new Set<string>();
  readonly #running = new Map<string, Promise<Found | null>>();
  /** Grows when secrets are created: a look-up that began before may have missed one. */
  #generation = 0;
  #suspectsLookedUpAt = -Infinity;

  constructor(options: SecretLookupOptions<Found>) {
    this.#options = options;
    const lane = { batchMax: BATCH_MAX, queueMax: QUEUE_MAX, isFault };
    this.#lane = new Lane({ ...lane, name: options.kind, call: (secrets) => this.#lookUp(secrets) });
    this.#suspectLane = new Lane({
      ...lane,
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
   * Whose a secret is; null when it is nobody's. Throws `rate_limit_exceeded` instead when too many like it were nobody's,
   * `ledger_unavailable` when the database does not answer in time.
   */
  async find(secret: string, address: string): Promise<Found | null> {
    const found = await this.look(secret, address);
    if (found === null) this.noteNobodys(secret, address);
    return found;
  }

  /** `find` for one of several secrets that a caller shows: one that is nobody's is no failure yet. */
  async look(secret: string, address: string): Promise<Found | null> {
    if (!mayBeSecret(secret, this.#options.prefix)) return null;
    const hash = hashSecret(secret);
    const hashed = { hash, id: hash.toString('base64') };
    return this.#isNobodys(hashed.id) ? null : this.#shared(hashed, this.#attempt(secret, address));
  }

  /** Counts a secret that was nobody's. Throws `rate_limit_exceeded` when there were too many like it. */
  noteNobodys(secret: string, address: string): void {
    const { prefix, failures } = this.#options;
    const attempt = this.#attempt(secret, address);
    if (mayBeSecret(secret, prefix)) failures.note(attempt);
    else failures.noteForeign(attempt);
  }

  #attempt(secret: string, address: string): Attempt {
    const { kind, prefix } = this.#options;
    return { kind, prefix: tellablePrefix(secret, prefix), address };
  }

  /** Forgets what belonged to nobody: a secret was created, or may have been. */
  forgetNobodys(): void {
    this.#generation++;
    this.#nobodys.clear();
  }

  #isNobodys(id: string): boolean {
    const until = this.#nobodys.get(id);
    if (until === undefined) return false;
    if (until > performance.now()) return true;
    this.#nobodys.delete(id);
    return false;
  }

  /** One look-up for all who ask for the same secret meanwhile. */
  #shared(hashed: Hashed, attempt: Attempt): Promise<Found | null> {
    const running = this.#running.get(hashed.id);
    if (running !== undefined) return running;
    const isSuspect = !this.#known.has(hashed.id) && this.#options.failures.isSuspect(attempt);
    const ticket = (isSuspect ? this.#suspectLane : this.#lane).submit(hashed);
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
      const whose = found.get(id) ?? null;
      this.#known.delete(id);
      if (whose !== null) {
        this.#known.add(id);
        if (this.#known.size > KNOWN_MAX) this.#known.delete(this.#known.values().next().value!);
      } else if (generation === this.#generation) {
        this.#nobodys.set(id, until);
        if (this.#nobodys.size > NOBODYS_MAX) this.#nobodys.delete(this.#nobodys.keys().next().value!);
      }
      return whose;
    });
  }
}
