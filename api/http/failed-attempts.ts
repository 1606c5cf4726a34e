/**
 * Failed authentications, counted by client address and by the prefix of the secret. A secret is always looked up
 * (api/http/secret-lookup.ts), so a valid one works whatever else came from its address or has its prefix; the counts
 * here decide only how a failure is answered, and how urgent a look-up is. Log lines show prefixes as lists of keys do,
 * never a secret.
 */
import { Counter, type Registry } from 'prom-client';
import { Refusal } from '../../domain/errors.ts';
import { shownPrefix } from '../../db/shared/secrets.ts';
import type { Logger } from '../../runtime/logger.ts';
import { networkOf } from './connections.ts';
import { TokenBuckets } from './token-buckets.ts';

export type SecretKind = 'api_key' | 'management_token' | 'webhook_signature';

export interface Attempt {
  readonly kind: SecretKind;
  /** The beginning of the secret, never all of it. */
  readonly prefix: string;
  readonly address: string;
}

/** Failures of one client network. A client with a mistyped key notices after a few; beyond this the answer is 429. */
const NETWORK_FAILURES = { burst: 100, perSecond: 10 };
/** Failures with one prefix from any address: mostly an old key in a loop. */
const PREFIX_FAILURES = { burst: 60, perSecond: 1 };

/** One log line per interval, which sums the interval up. */
const LOG_EVERY_MS = 10_000;
const LOGGED_GROUPS_MAX = 10;
const COUNTED_GROUPS_MAX = 1000;
/** Characters shown of a text that has not the form of our secrets: it may be a secret of another service. */
const FOREIGN_SHOWN = 4;

export class FailedAttempts {
  readonly #logger: Logger;
  readonly #byNetwork = new TokenBuckets(NETWORK_FAILURES);
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
      help: 'Unknown secrets and wrong signatures, by answer',
      labelNames: ['kind', 'answer'],
      registers: [registry],
    });
    this.#lookups = new Counter({
      name: 'holdfast_authentication_lookups_total',
      help: 'Statements that looked up secrets missing from the cache of this process',
      labelNames: ['kind'],
      registers: [registry],
    });
  }

  countLookup(kind: SecretKind): void {
    this.#lookups.inc({ kind });
  }

  /** True when the network or the prefix of an attempt has failed so often that its look-up is not urgent. */
  isSuspect({ prefix, address }: Attempt): boolean {
    return this.#byNetwork.isEmpty(networkOf(address)) || this.#byPrefix.isEmpty(prefix);
  }

  /** Counts a failure that cost no look-up. */
  noteForeign(attempt: Attempt): void {
    this.#count(attempt, 'refused');
  }

  /** Counts a failure. Throws `rate_limit_exceeded` when there were too many; otherwise the caller answers it. */
  note(attempt: Attempt): void {
    const wait = Math.max(this.#byNetwork.take(networkOf(attempt.address)), this.#byPrefix.take(attempt.prefix));
    this.#count(attempt, wait > 0 ? 'throttled' : 'refused');
    if (wait === 0) return;
    const retryAfterSeconds = Math.ceil(wait);
    throw new Refusal('rate_limit_exceeded', {
      message: `This secret is unknown, and too many failed from this address or with this prefix. Try again in ${retryAfterSeconds} s.`,
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
    this.#logger.warn({ attempts: this.#unloggedAttempts, most }, 'failed authentications');
    this.#unlogged = new Map();
    this.#unloggedAttempts = 0;
    this.#timer = null;
  }
}

/** The part of a secret that may be logged: its prefix as lists show it, less of a text that has not our form. */
export function loggedPrefix(secret: string, prefix: string): string {
  if (secret.startsWith(prefix)) return shownPrefix(secret, prefix);
  return secret.slice(0, Math.min(FOREIGN_SHOWN, secret.length / 4)).replaceAll(/[^\x21-\x7e]/g, '?');
}
