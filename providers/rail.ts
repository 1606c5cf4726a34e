/**
 * The interface of a payment provider. A rail reports the provider's present truth; what follows from it is decided in
 * domain/payments/top-up.ts. Methods throw: a fault (time-out, 5xx, rate limit) is retried by Temporal, a `RailRefusal`
 * is not.
 */
import type { PicoUsd } from '../domain/money.ts';
import type { CheckoutFacts, EventSubject, TopUpOrder } from '../domain/payments/top-up.ts';
import type { TopUp } from '../db/payments/top-ups.ts';

export interface Checkout {
  readonly providerId: string;
  readonly url: string | null;
  readonly expiresAt: Date | null;
}

/** For rails that keep cards: customers' objects, and charges without the customer. */
export interface CardKeeping {
  /** Makes the customer object of an account; `n` tells it from those that were deleted. Repeatable for a day. */
  createCustomer(accountId: string, n: number): Promise<string>;
  /** The charge that an order's attempt may have made; null when there is none. Makes nothing. */
  findCharge(order: TopUp): Promise<Checkout | null>;
}

export interface PaymentRail {
  readonly provider: string;
  /** The means that pay an order, see `TopUpOrder`. */
  readonly accepts: TopUpOrder['accepts'];
  readonly leastReceived: PicoUsd;
  /** Creates the provider's object of an order, or finds that of an earlier attempt. */
  openCheckout(order: TopUp): Promise<Checkout>;
  /** The provider's truth about an order whose checkout exists. */
  inspect(order: TopUp): Promise<CheckoutFacts>;
  /**
   * A person wants an order looked at again: has whatever may have been missed of it looked for, without waiting for
   * that.
   */
  lookHarder?(order: TopUp): Promise<void>;
  /** Closes the checkout, so that it cannot be paid any more; an ended checkout stays as it is. */
  closeCheckout(order: TopUp): Promise<void>;
  /** The subject of a stored event, read from its payload alone. */
  subjectOf(payload: unknown): EventSubject;
  /**
   * The order (`top_…`) that a payment was made for; null when it names none. Throws `NotAtProvider` when it is not in
   * our account.
   */
  topUpOf(paymentId: string): Promise<string | null>;
  readonly cards?: CardKeeping;
}

/**
 * Why a provider refuses, as an order shows it: our key is not allowed to, it is not good at all, or the provider has
 * another reason, which its words name.
 */
export type RefusalCode = 'permission_missing' | 'key_refused' | 'provider_refused';

/** The provider understood and said no: repeating the call cannot help, a person has to look. */
export class RailRefusal extends Error {
  readonly code: RefusalCode;

  constructor(provider: string, message: string, code: RefusalCode = 'provider_refused') {
    super(`${provider}: ${message}`);
    this.name = 'RailRefusal';
    this.code = code;
  }
}

/** The provider knows no such thing, or not in this account or mode. */
export class NotAtProvider extends RailRefusal {}

/** The saved card cannot be charged any more, and was not: it is gone at the provider. */
export class CardGone extends RailRefusal {}
