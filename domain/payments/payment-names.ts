/**
 * Payments as people name them. A credit is keyed by a payment's own id, or the payment would be credited a second time
 * by that id; people paste what a dashboard, an explorer or a customer shows them: a charge, a checkout, an event, a
 * link, a transaction hash in any spelling. This file finds the ids in such a text and says which payment is meant, or
 * what there is to choose from. Pure; what the ids lead to is looked up by the caller.
 */

/** A payment that an order's provider, or its statement, has shown. */
export interface PaymentChoice {
  readonly provider: string;
  /** The key of its credit. */
  readonly paymentId: string;
  /** The order (`top_…`); null when it names no order of ours. */
  readonly topUpId: string | null;
  readonly status: string;
  /** All its ids, in lower case. */
  readonly names: readonly string[];
}

export type NamedPayment =
  | { readonly verdict: 'named'; readonly paymentId: string }
  /** `words` say what is wrong and what to give instead. */
  | { readonly verdict: 'refused'; readonly isAnotherOrders: boolean; readonly words: string };

/** Before the reference of money that came outside of all providers, such as a bank transfer. */
export const OUTSIDE_PREFIX = 'outside/';
const OUTSIDE_REFERENCE = { min: 3, max: 150 };

/** `<chain>/<transaction hash>/<position>`: a transfer's own key. */
const TRANSFER = /(?<![0-9a-z])(\d{1,20})\/0x([0-9a-f]{64})\/(\d{1,10})(?![0-9a-z])/gi;
const HASH = /(?<![0-9a-z])(?:0x)?([0-9a-f]{64})(?![0-9a-f])/gi;
/**
 * An id of a card provider: `pi_…`, `cs_test_…`, never without a digit. After a further underscore comes no id but a
 * client secret.
 */
const PROVIDER_ID = /(?<![0-9a-z_])([a-z]{2,6}(?:_test|_live)?_(?=[a-z]*\d)[0-9a-z]{4,})/gi;
/** Ids that links carry beside the payment's. */
const NO_PAYMENT = /^(?:acct|cus|cust|prod|price|pm|src|req|sub|store|whsec|sk|pk|rk)_/i;

/** The ids of payments, or of what belongs to one, in a text that a person gave; in lower case, each once. */
export function namesIn(text: string): string[] {
  const names = new Set<string>();
  let rest = linkPath(plain(text));
  rest = rest.replaceAll(TRANSFER, (_, chain: string, hash: string, ordinal: string) => {
    names.add(`${BigInt(chain)}/0x${hash}/${BigInt(ordinal)}`.toLowerCase());
    return ' ';
  });
  rest = rest.replaceAll(HASH, (_, hash: string) => {
    names.add(`0x${hash}`.toLowerCase());
    return ' ';
  });
  for (const [, id = ''] of rest.matchAll(PROVIDER_ID)) if (!NO_PAYMENT.test(id)) names.add(id.toLowerCase());
  return [...names];
}

/**
 * The key of money that came outside of all providers, where a text says that it did (`outside/<reference>`): spelling,
 * blanks and hyphens make no difference. Null for any other text.
 */
export function outsideKey(text: string): NamedPayment | null {
  const given = plain(text).trim();
  if (!given.toLowerCase().startsWith(OUTSIDE_PREFIX)) return null;
  const reference = given.slice(OUTSIDE_PREFIX.length);
  // A hash that a mail or a page has broken over two lines is still one.
  const [name] = [
    ...namesIn(reference),
    ...namesIn(reference.replaceAll(/\s+/g, '')).filter((id) => id.startsWith('0x')),
  ];
  if (name !== undefined) {
    const words = `${name} is an id of a provider or a chain, so this money did not come outside of them: give it without ${OUTSIDE_PREFIX}`;
    return { verdict: 'refused', isAnotherOrders: false, words };
  }
  const key = reference
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, '-')
    .replaceAll(/^-|-$/g, '');
  if (key.length < OUTSIDE_REFERENCE.min || key.length > OUTSIDE_REFERENCE.max) {
    const { min, max } = OUTSIDE_REFERENCE;
    const words = `the reference after ${OUTSIDE_PREFIX} must have from ${min} to ${max} letters and digits`;
    return { verdict: 'refused', isAnotherOrders: false, words };
  }
  return { verdict: 'named', paymentId: `${OUTSIDE_PREFIX}${key}` };
}

/**
 * Which payment of an order a text means. `found` are all payments that are known by any of its names, or named by an
 * event of that name; `choices` are those of the order.
 */
export function namedPayment(
  text: string,
  order: { readonly topUpId: string; readonly provider: string },
  found: readonly PaymentChoice[],
  choices: readonly PaymentChoice[],
): NamedPayment {
  const refuse = (words: string, isAnotherOrders = false): NamedPayment => ({
    verdict: 'refused',
    isAnotherOrders,
    words,
  });
  const offer = offerOf(choices);
  const exact = choices.find(({ paymentId, status }) => paymentId === text.trim() && status !== 'gone');
  if (exact !== undefined) return { verdict: 'named', paymentId: exact.paymentId };
  const names = namesIn(text);
  if (names.length === 0) return refuse(`names no payment of ${order.provider}; ${offer}`);
  const mine = found.filter(
    ({ provider, topUpId }) => provider === order.provider && (topUpId === order.topUpId || topUpId === null),
  );
  const [theirs] = found.filter((payment) => !mine.includes(payment));
  const [one, ...more] = mine;
  if (one !== undefined && theirs !== undefined) return refuse(`names payments of several orders; ${offer}`);
  if (theirs !== undefined) {
    const whose =
      theirs.topUpId === null ? `a payment by ${theirs.provider}` : `a payment of the order ${theirs.topUpId}`;
    return refuse(`is ${whose}, not of this one; ${offer}`, true);
  }
  if (one === undefined)
    return refuse(`${order.provider} has shown no payment ${names.join(', ')} for this order; ${offer}`);
  if (more.length > 0) return refuse(`means ${mine.length} payments: ${offerOf(mine)}`);
  if (one.status === 'gone') return refuse(`${order.provider} does not show ${one.paymentId} any more; ${offer}`);
  // An event's name leads to its payment without being one of its ids.
  const strange = names.filter((name) => !one.names.includes(name) && !name.startsWith('evt_'));
  if (strange.length > 0)
    return refuse(`names ${one.paymentId} and ${strange.join(', ')}, which is not known; give one of them`);
  return { verdict: 'named', paymentId: one.paymentId };
}

function offerOf(choices: readonly PaymentChoice[]): string {
  const ids = choices.filter(({ status }) => status !== 'gone').map(({ paymentId }) => paymentId);
  const known = ids.length === 0 ? 'no payment of this order is known yet' : `choose one of ${ids.join(', ')}`;
  return `${known}; a re-check looks for others; money that came outside of the provider is ${OUTSIDE_PREFIX}<reference>`;
}

/** A text without what cannot be seen, in the usual forms of its letters, percent signs decoded. */
function plain(text: string): string {
  const seen = text.normalize('NFKC').replaceAll(/\p{Cf}/gu, '');
  try {
    return decodeURIComponent(seen);
  } catch {
    return seen;
  }
}

/** A link to a Stripe page without its fragment, which is no id but an encoded state of the page. */
function linkPath(text: string): string {
  return text.replaceAll(/(https?:\/\/[^\s/?#]*\bstripe\.com[^\s#]*)#\S*/gi, '$1');
}
