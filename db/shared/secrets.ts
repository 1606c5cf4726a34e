/**
 * Secrets that we hand out once and keep only as SHA-256: API keys and access tokens. They are 192 random bits, so a
 * plain hash is enough (no salt, no stretching): there is nothing to guess.
 */
import { hash, randomBytes } from 'node:crypto';

export const API_KEY_PREFIX = 'sk-hf-';
export const TOKEN_PREFIX = 'hft-';

/** Characters of a secret that lists may show, enough to recognise it and useless to an attacker. */
const SHOWN_CHARACTERS = 6;

/** A new secret with its prefix, e.g. `sk-hf-` + 48 hex digits. */
export function newSecret(prefix: string): string {
  return prefix + randomBytes(24).toString('hex');
}

const LENGTH_MAX = 200;

/**
 * Whether a text may be a secret with this prefix. Everybody else's keys, sent here by mistake, are told by their form
 * alone.
 */
export function mayBeSecret(text: string, prefix: string): boolean {
  return text.length > prefix.length && text.length <= LENGTH_MAX && text.startsWith(prefix);
}

/** SHA-256 of a secret, as stored. */
export function hashSecret(secret: string): Buffer {
  return hash('sha256', secret, 'buffer');
}

/** The part of a secret that lists show: `sk-hf-1a2b3c`. */
export function shownPrefix(secret: string, prefix: string): string {
  return secret.slice(0, prefix.length + SHOWN_CHARACTERS);
}
