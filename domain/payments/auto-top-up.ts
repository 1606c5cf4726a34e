/**
 * Automatic top-ups: whether a saved card is charged now, and what a decline leads to. Pure; the time is always an
 * argument. One attempt per slot and account is keyed in PostgreSQL (db/migrations/0009_saved_cards.sql), and
 * what freezes them is decided there (db/functions/payments/auto-top-up-freezes.sql).
 */
import { picoUsd, type PicoUsd } from '../money.ts';

/** A card as its provider names it, without its number. */
export interface CardFacts {
  readonly paymentMethod: string;
  readonly customerId: string;
  readonly brand: string;
  readonly last4: string;
  readonly expMonth: number;
  readonly expYear: number;
  /** The same for every record of one card at the provider; null where it has none. */
  readonly fingerprint: string | null;
}

/** The terms that a customer agrees to. Another wording is another version: the version is kept with every consent. */
export const CONSENT = {
  version: '2026-11-24',
  text:
    'I allow Holdfast to charge my saved card by itself with the amount I have set, whenever my balance is below the ' +
    'threshold I have set, at most once an hour and never more than my monthly cap in a calendar month (UTC). ' +
    'I can end this at any time.',
} as const;

/** Why it is paused. The customer can start it again, with a new consent. */
export const PAUSE_REASONS = ['authentication_required', 'card_unusable', 'card_removed', 'card_declined'] as const;
export type PauseReason = (typeof PAUSE_REASONS)[number];

/** As stored; `frozen` and a frozen account are ours and come on top of it. */
export type AutoTopUpState = 'active' | 'paused' | 'off';

/** The facts for a decision, as of one moment. */
export interface AutoTopUpFacts {
  readonly state: AutoTopUpState;
  readonly isFrozen: boolean;
  readonly isAccountFrozen: boolean;
  readonly hasCard: boolean;
  readonly balance: PicoUsd;
  readonly threshold: PicoUsd;
  readonly amount: PicoUsd;
  readonly monthlyCap: PicoUsd;
  /** Credited by automatic top-ups since the month began. */
  readonly spentThisMonth: PicoUsd;
  /** The order of an attempt that is not over. */
  readonly openTopUpId: string | null;
  /** The slot of the last attempt, whatever became of it. */
  readonly lastSlot: Date | null;
}

export type AutoTopUpDecision =
  | { readonly kind: 'resume'; readonly topUpId: string }
  | { readonly kind: 'charge' }
  | { readonly kind: 'wait'; readonly why: 'slot_used' | 'cap_reached'; readonly until: Date }
  | { readonly kind: 'rest'; readonly why: 'off' | 'paused' | 'frozen' | 'no_card' | 'enough' };

/**
 * A begun attempt goes first, whatever has changed since; then what forbids one, whether one is needed, when one may
 * be.
 */
export function decideAutoTopUp(facts: AutoTopUpFacts, at: Date, slotSeconds: number): AutoTopUpDecision {
  if (facts.openTopUpId !== null) return { kind: 'resume', topUpId: facts.openTopUpId };
  if (facts.state !== 'active') return { kind: 'rest', why: facts.state };
  if (facts.isFrozen || facts.isAccountFrozen) return { kind: 'rest', why: 'frozen' };
  if (!facts.hasCard) return { kind: 'rest', why: 'no_card' };
  if (facts.balance >= facts.threshold) return { kind: 'rest', why: 'enough' };
  if (picoUsd(facts.spentThisMonth + facts.amount) > facts.monthlyCap) {
    return { kind: 'wait', why: 'cap_reached', until: nextMonth(at) };
  }
  // Clocks differ: a slot that seems to lie ahead is used up as well.
  if (facts.lastSlot !== null && facts.lastSlot >= slotOf(at, slotSeconds)) {
    return { kind: 'wait', why: 'slot_used', until: new Date(facts.lastSlot.getTime() + slotSeconds * 1000) };
  }
  return { kind: 'charge' };
}

/** The beginning of the slot that a moment lies in. With slots of an hour: the UTC hour. */
export function slotOf(at: Date, slotSeconds: number): Date {
  const slotMs = slotSeconds * 1000;
  return new Date(Math.floor(at.getTime() / slotMs) * slotMs);
}

function nextMonth(at: Date): Date {
  return new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1));
}

/** Declines in a row after which the card is left alone. */
export const CONSECUTIVE_DECLINES_MAX = 3;

/** Declines that no repetition can change; card networks fine those who try. */
const HOPELESS = [
  'expired_card',
  'incorrect_number',
  'invalid_account',
  'lost_card',
  'pickup_card',
  'restricted_card',
  'revocation_of_all_authorizations',
  'revocation_of_authorization',
  'stolen_card',
];

/**
 * The state after a declined attempt. `failure` is the provider's code, `declinesBefore` the consecutive declines
 * before it.
 */
export function afterDecline(
  failure: string,
  declinesBefore: number,
): { readonly consecutiveDeclines: number; readonly pause: PauseReason | null } {
  const consecutiveDeclines = declinesBefore + 1;
  if (failure === 'authentication_required') return { consecutiveDeclines, pause: 'authentication_required' };
  if (failure === 'card_removed') return { consecutiveDeclines, pause: 'card_removed' };
  if (HOPELESS.includes(failure)) return { consecutiveDeclines, pause: 'card_unusable' };
  return { consecutiveDeclines, pause: consecutiveDeclines >= CONSECUTIVE_DECLINES_MAX ? 'card_declined' : null };
}
