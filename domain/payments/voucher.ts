/**
 * Voucher codes as people type them: 19 Crockford base32 symbols (95 random bits) and Crockford's check symbol, in four
 * groups of five. Pure: randomness comes from outside, and what is stored of a code is its hash
 * (db/payments/vouchers.ts).
 *
 * Crockford's alphabet has no I, L, O and U; on reading, I and L are 1 and O is 0. The check symbol is the value modulo
 * 37, which finds every mistyped symbol and every swap of two neighbours (but for the last two, where it finds most)
 * before anybody is asked whether the code exists.
 */

/** The 32 symbols of data, then those that only a check symbol can be. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const CHECK_ALPHABET = `${ALPHABET}*~$=U`;

const DATA_SYMBOLS = 19;
const GROUP = 5;

/** Bits of randomness in a code. */
export const VOUCHER_CODE_BITS = DATA_SYMBOLS * 5;

/** Symbols that lists may show: enough to recognise a code, and 80 bits stay unknown to readers of the list. */
const SHOWN_SYMBOLS = 3;

declare const codeBrand: unique symbol;
/** A code in its one stored form: 20 symbols, upper case, no hyphens, check symbol right. */
export type VoucherCode = string & { readonly [codeBrand]: true };

/**
 * The code of a random number below 2^95; null when its check symbol is none that a keyboard has in one place
 * (`*~$=`): draw another number then, about one in nine.
 */
export function voucherCodeOf(random: bigint): VoucherCode | null {
  if (random < 0n || random >= 1n << BigInt(VOUCHER_CODE_BITS)) throw new Error('invariant broken: not 95 random bits');
  const check = CHECK_ALPHABET[Number(random % 37n)]!;
  if (!/[0-9A-Z]/.test(check)) return null;
  let data = '';
  for (let rest = random, n = 0; n < DATA_SYMBOLS; n++, rest >>= 5n) data = ALPHABET[Number(rest & 31n)]! + data;
  return (data + check) as VoucherCode;
}

/** Reads what somebody typed; hyphens, blanks and case do not matter. Null when it cannot be a code of ours. */
export function parseVoucherCode(text: string): VoucherCode | null {
  const symbols = text
    .replaceAll(/[\s\-‐-―]/g, '')
    .toUpperCase()
    .replaceAll(/[IL]/g, '1')
    .replaceAll('O', '0');
  if (symbols.length !== DATA_SYMBOLS + 1) return null;
  let value = 0n;
  for (const symbol of symbols.slice(0, DATA_SYMBOLS)) {
    const digit = ALPHABET.indexOf(symbol);
    if (digit === -1) return null;
    value = value * 32n + BigInt(digit);
  }
  return CHECK_ALPHABET[Number(value % 37n)] === symbols.at(-1) ? (symbols as VoucherCode) : null;
}

/** `7KQ2M-…`: how a code is handed out. */
export function formatVoucherCode(code: VoucherCode): string {
  const groups: string[] = [];
  for (let at = 0; at < code.length; at += GROUP) groups.push(code.slice(at, at + GROUP));
  return groups.join('-');
}

/** The part of a code that lists show. */
export function shownVoucherPrefix(code: VoucherCode): string {
  return code.slice(0, SHOWN_SYMBOLS);
}

/** The present state of a voucher: follows from its batch, its redemption and the time. */
export const VOUCHER_STATES = ['waiting', 'issued', 'redeemed', 'expired', 'void'] as const;
export type VoucherState = (typeof VOUCHER_STATES)[number];

/** `waiting` for a second person; `rejected` by one; `void`: what was not redeemed by then never can be. */
export const VOUCHER_BATCH_STATES = ['waiting', 'issued', 'rejected', 'void'] as const;
export type VoucherBatchState = (typeof VOUCHER_BATCH_STATES)[number];
