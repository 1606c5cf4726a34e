/**
 * Who is calling: API keys, looked up by the hash of their secret and cached for a few seconds. The cache is dropped by
 * the database's notifications at once; its age limit is the backstop. `place_hold` checks the key again under its
 * lock, so a stale entry can let nobody spend.
 */
import ipaddr from 'ipaddr.js';
import type pg from 'pg';
import { Refusal } from '../../../../domain/errors.ts';
import type { AccountUuid, KeyUuid } from '../../../../domain/ids.ts';
import { findKeyByHash, findKeysByHash, type KeyIdentity } from '../../../../db/accounts/api-keys.ts';
import { API_KEY_PREFIX, hashSecret } from '../../../../db/shared/secrets.ts';
import type { FailedAttempts } from '../../../http/failed-attempts.ts';
import { SecretLookup } from '../../../http/secret-lookup.ts';

/** An identity with its address ranges parsed once. */
export interface Caller extends KeyIdentity {
  readonly allowedRanges: readonly [ipaddr.IPv4 | ipaddr.IPv6, number][] | null;
}

interface Entry {
  readonly caller: Caller;
  readonly until: number;
  /** When a request last had this key: `performance.now()`. */
  usedAt: number;
}

/** Far above the keys a process sees in a few seconds; only there so that memory is bounded. */
const ENTRIES_MAX = 20_000;

/** A key that had a request within this many ages of the cache is in use: its entry is renewed before it ends. */
const IN_USE_AGES = 6;
/** Renewals per age; each takes the entries that are past the middle of theirs. */
const RENEWALS_PER_AGE = 4;
/** Keys per renewal. What is left over ages, and the next request of each looks it up. */
const RENEWED_AT_ONCE_MAX = 1000;

export interface KeyDirectoryOptions {
  readonly ageSeconds: number;
  readonly timeoutSeconds: number;
  readonly failures: FailedAttempts;
}

export class KeyDirectory {
  readonly #pool: pg.Pool;
  readonly #ageMs: number;
  /** By the secret's hash in base64. */
  readonly #entries = new Map<string, Entry>();
  readonly #timeoutMs: number;
  readonly #lookups = new Map<string, Promise<Caller | null>>();
  /**
   * Secrets that this process has not seen before. Anybody can invent them, and look-ups share the pool with holds,
   * finishes and the heartbeat: these never take more than two of its connections. Secrets that were seen are looked up
   * again at once.
   */
  readonly #strangers: SecretLookup<Caller>;
  #timer: NodeJS.Timeout | null = null;
  #renewing = false;

  constructor(pool: pg.Pool, options: KeyDirectoryOptions) {
    this.#pool = pool;
    this.#ageMs = options.ageSeconds * 1000;
    this.#timeoutMs = options.timeoutSeconds * 1000;
    this.#strangers = new SecretLookup({
      kind: 'api_key',
      prefix: API_KEY_PREFIX,
      lookUp: (hashes) => this.#lookUpStrangers(hashes),
      failures: options.failures,
      ageSeconds: options.ageSeconds,
      timeoutSeconds: options.timeoutSeconds,
    });
  }

  /** Renews the entries of keys in use from now on, in one statement instead of one per key and age. */
  start(): void {
    this.#timer = setInterval(() => void this.#renew(), this.#ageMs / RENEWALS_PER_AGE);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
  }

  async #renew(): Promise<void> {
    if (this.#renewing) return;
    const now = performance.now();
    const due = [...this.#entries]
      .filter(([, { until, usedAt }]) => until < now + this.#ageMs / 2 && usedAt > now - this.#ageMs * IN_USE_AGES)
      .slice(0, RENEWED_AT_ONCE_MAX);
    if (due.length === 0) return;
    this.#renewing = true;
    try {
      const hashes = due.map(([id]) => Buffer.from(id, 'base64'));
      const identities = await findKeysByHash(this.#pool, hashes);
      for (const [id, entry] of due) {
        // A key that was forgotten or replaced meanwhile may have changed after it was read here.
        if (this.#entries.get(id) !== entry) continue;
        const identity = identities.get(id);
        if (identity === undefined) this.#entries.delete(id);
        else this.#entries.set(id, { ...entry, caller: callerOf(identity), until: now + this.#ageMs });
      }
    } catch {
      // The entries age, and the next request of each key looks it up and is told what is wrong.
    } finally {
      this.#renewing = false;
    }
  }

  /**
   * The caller that the first of these secrets belongs to that is known; null when none is. Throws a fault,
   * `ledger_unavailable` when the database is slow, or `rate_limit_exceeded` when none is known and too many from that
   * address or with the same beginning were not. `addressOf` is asked only about secrets that this process has not seen
   * before.
   */
  async find(secrets: readonly string[], addressOf: () => string): Promise<Caller | null> {
    for (const secret of secrets) {
      const caller = await this.#findOne(secret, addressOf);
      if (caller !== null) return caller;
    }
    for (const secret of secrets) this.#strangers.noteUnknown(secret, addressOf());
    return null;
  }

  async #findOne(secret: string, addressOf: () => string): Promise<Caller | null> {
    const hash = hashSecret(secret);
    const id = hash.toString('base64');
    const entry = this.#entries.get(id);
    const now = performance.now();
    if (entry !== undefined && entry.until > now) {
      entry.usedAt = now;
      return entry.caller;
    }
    if (entry === undefined) return this.#strangers.look(secret, addressOf());
    const running = this.#lookups.get(id);
    if (running !== undefined) return running;
    const lookup = this.#inTime(this.#lookUp(id, hash)).finally(() => this.#lookups.delete(id));
    this.#lookups.set(id, lookup);
    return lookup;
  }

  async #inTime<T>(work: Promise<T>): Promise<T> {
    const timeout = Promise.withResolvers<never>();
    const timer = setTimeout(() => timeout.reject(new Refusal('ledger_unavailable')), this.#timeoutMs);
    try {
      return await Promise.race([work, timeout.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async #lookUp(id: string, hash: Buffer): Promise<Caller | null> {
    const asked = performance.now();
    const identity = await findKeyByHash(this.#pool, hash);
    this.#entries.delete(id);
    return identity === null ? null : this.#keep(id, identity, asked);
  }

  async #lookUpStrangers(hashes: readonly Buffer[]): Promise<Map<string, Caller>> {
    const asked = performance.now();
    const identities = await findKeysByHash(this.#pool, hashes);
    return new Map([...identities].map(([id, identity]) => [id, this.#keep(id, identity, asked)]));
  }

  #keep(id: string, identity: KeyIdentity, asked: number): Caller {
    const caller = callerOf(identity);
    if (this.#entries.size >= ENTRIES_MAX) this.#entries.clear();
    this.#entries.set(id, { caller, until: asked + this.#ageMs, usedAt: asked });
    return caller;
  }

  /** A key was created: secrets that were unknown may be valid now. */
  forgetUnknown(): void {
    this.#strangers.forgetUnknown();
  }

  /** Forgets a key, all keys of an account, or (without an argument) everything. */
  forget(which?: { keyId: string } | { accountId: string }): void {
    if (which === undefined) {
      this.#entries.clear();
      this.forgetUnknown();
      return;
    }
    for (const [id, { caller }] of this.#entries) {
      if (
        'keyId' in which
          ? caller.keyId === (which.keyId as KeyUuid)
          : caller.accountId === (which.accountId as AccountUuid)
      ) {
        this.#entries.delete(id);
      }
    }
  }
}

function callerOf(identity: KeyIdentity): Caller {
  return {
    ...identity,
    allowedRanges: identity.ipAllowlist?.map((range) => ipaddr.parseCIDR(range)) ?? null,
  };
}

/** Checks, in the order of docs/api.md, up to the account: revoked, expired, address, frozen. Throws the Refusal. */
export function checkCaller(caller: Caller, clientAddress: string, now: Date): void {
  if (caller.revokedAt !== null) throw new Refusal('key_revoked');
  if (caller.expiresAt !== null && caller.expiresAt <= now) throw new Refusal('key_expired');
  if (caller.allowedRanges !== null && !isInRanges(clientAddress, caller.allowedRanges))
    throw new Refusal('ip_not_allowed');
  if (caller.accountFrozenAt !== null) throw new Refusal('account_frozen');
}

function isInRanges(address: string, ranges: readonly [ipaddr.IPv4 | ipaddr.IPv6, number][]): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.process(address);
  return ranges.some(([range, bits]) => parsed.kind() === range.kind() && parsed.match(range, bits));
}
