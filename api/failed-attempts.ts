/**
 * Secrets that belong to nobody, counted by where they came from and by how they begin. Whether a secret is somebody's is always
 * looked up (api/secret-lookup.ts), so who shares an address or a prefix with a thousand failures still gets in; what is decided
 * here is how a failure is answered, and that its look-up need not hurry. No secret is ever logged: a line names its beginning,
 * as lists show it.
 */
import { Counter, type Registry } from 'prom-client';
import { Refusal } from '../domain/errors.ts';
import { shownPrefix } from '../db/secrets.ts';
import type { Logger } from '../runtime/logger.ts';
import { networkOf } from './connections.ts';
import { TokenBuckets } from './token-buckets.ts';

export type SecretKind = 'api_key' | 'management_token' | 'webhook_signature';

export interface Attempt {
  readonly kind: SecretKind;
  /** The beginning of the secret, never all of it. */
  readonly prefix: string;
  readonly address: string;
}

/** A client with a mistyped key notices after a few; a site that goes on is answered 429 and its look-ups wait for others'. */
const SITE_FAILURES = { burst: 100, perSecond: 10 };
/** One old key in a loop somewhere, whatever addresses it comes from. */
const PREFIX_FAILURES = { burst: 60, perSecond: 1 };

/** At most one line of the log in this time, which sums up what it has not said. */
const LOG_EVERY_MS = 10_000;
const LOGGED_GROUPS_MAX = 10;
const COUNTED_GROUPS_MAX = 1000;
/** Of a text that is no secret of ours: it may be somebody else's. */
const FOREIGN_SHOWN = 4;

export class FailedAttempts {
  readonly #logger: Logger;
  readonly #bySite = new TokenBuckets(SITE_FAILURES);
  readonly #byPrefix = new TokenBuckets(PREFIX_FAILURES);
  readonly #failures: Counter<'kind' | 'answer'>;
  readonly #lookups: Counter<'kind'>;
  #unlogged = new Map<string, Attempt & { attempts: number }>();
  #unloggedAttempts = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor({ logger, registry }: { logger: Logger; registry: Registry }) {
    this.#logger = logger;
    this.#failures = new Counter({
      name: 'holdfast_authentication_failures_total',
      help: 'Secrets and signatures that belong to nobody, by what they were answered',
      labelNames: ['kind', 'answer'],
      registers: [registry],
    });
    this.#lookups = new Counter({
      name: 'holdfast_authentication_lookups_total',
      help: 'Statements that looked up secrets which this process did not know',
      labelNames: ['kind'],
      registers: [registry],
    });
  }

  countLookup(kind: SecretKind): void {
    this.#lookups.inc({ kind });
  }

  /** True when so many attempts like this one have failed that the next look-up may wait for others'. */
  isSuspect({ prefix, address }: Attempt): boolean {
    return this.#bySite.isEmpty(networkOf(address)) || this.#byPrefix.isEmpty(prefix);
  }

  /** Counts a failure that cost no look-up. */
  noteForeign(attempt: Attempt): void {
    this.#count(attempt, 'refused');
  }

  /** Counts a failure. Throws `rate_limit_exceeded` when there were too many; else the caller says what is wrong. */
  note(attempt: Attempt): void {
    const wait = Math.max(this.#bySite.take(networkOf(attempt.address)), this.#byPrefix.take(attempt.prefix));
    this.#count(attempt, wait > 0 ? 'throttled' : 'refused');
    if (wait === 0) return;
    const retryAfterSeconds = Math.ceil(wait);
    throw new Refusal('rate_limit_exceeded', {
      message: `This secret is unknown, and too many like it or from your address were. Try again in ${retryAfterSeconds} s.`,
      retryAfterSeconds,
    });
  }

  #count(attempt: Attempt, answer: 'refused' | 'throttled'): void {
    this.#failures.inc({ kind: attempt.kind, answer });
    this.#unloggedAttempts++;
    const group = [attempt.kind, attempt.prefix, networkOf(attempt.address)].join(' ');
    const counted = this.#unlogged.get(group);
    if (counted !== undefined) counted.attempts++;
    else if (this.#unlogged.size < COUNTED_GROUPS_MAX) this.#unlogged.set(group, { ...attempt, attempts: 1 });
    this.#timer ??= setTimeout(() => this.#log(), LOG_EVERY_MS).unref();
  }

  #log(): void {
    const groups = [...this.#unlogged.values()].sort((a, b) => b.attempts - a.attempts);
    const most = groups.slice(0, LOGGED_GROUPS_MAX);
    this.#logger.warn({ attempts: this.#unloggedAttempts, most }, 'secrets that belong to nobody');
    this.#unlogged = new Map();
    this.#unloggedAttempts = 0;
    this.#timer = null;
  }
}

/** What may be told of a secret: its beginning as lists show it; less of what has not our form. */
export function tellablePrefix(secret: string, prefix: string): string {
  if (secret.startsWith(prefix)) return shownPrefix(secret, prefix);
  return secret.slice(0, Math.min(FOREIGN_SHOWN, secret.length / 4)).replaceAll(/[^\x21-\x7e]/g, '?');
}
