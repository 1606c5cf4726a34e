/**
 * Names that come with an update. They are shown as what they are, something that was typed, and never decide
 * anything.
 */
import type { Signature } from '../../contract/index.ts';

const SHOWN_MAX = 100;

/** How a run's story names who sent an update: `, signed "ada"`; empty where nobody signed. */
export function signedBy(signature: Signature | undefined): string {
  const by = signature?.by;
  if (typeof by !== 'string' || by.trim() === '') return '';
  return `, signed "${by.trim().slice(0, SHOWN_MAX)}"`;
}
