/**
 * Ids. Everything Holdfast names has a UUIDv7 inside (SQL type `uuid`) and a prefixed form outside
 * (`req_` + 32 hex). The prefix says what it is, the UUID's time makes ids sort by creation and lets
 * tables be partitioned by id. This file is the only place that knows prefixes.
 */

const PREFIX_BY_KIND = {
  request: 'req',
  account: 'acct',
  key: 'key',
  posting: 'pst',
  topUp: 'top',
  payment: 'pay',
  reversal: 'rev',
  voucher: 'vch',
  voucherBatch: 'vbt',
  accrual: 'acr',
  correction: 'cor',
  review: 'rvw',
  approval: 'apr',
  case: 'case',
  refund: 'rfd',
  adjustment: 'adj',
  token: 'tok',
  notice: 'ntc',
  action: 'act',
  manualCredit: 'hcr',
  reward: 'rwd',
  bounty: 'bty',
  rescan: 'rsc',
  change: 'chg',
} as const;

export type IdKind = keyof typeof PREFIX_BY_KIND;

declare const idBrand: unique symbol;

/** The wire form of an id, `req_0198…` (prefix + 32 lower-case hex digits). */
export type Id<K extends IdKind> = `${(typeof PREFIX_BY_KIND)[K]}_${string}` & { readonly [idBrand]: K };

/** The SQL form of an id: a lower-case hyphenated UUID, typed by what it identifies. */
export type Uuid<K extends IdKind> = string & { readonly [idBrand]: K };

export type RequestId = Id<'request'>;
export type RequestUuid = Uuid<'request'>;
export type AccountUuid = Uuid<'account'>;
export type KeyUuid = Uuid<'key'>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const HEX32 = /^[0-9a-f]{32}$/;

/** Brands a UUID that our own database or generator produced. Anything else is a bug. */
export function uuidOf<K extends IdKind>(kind: K, text: string): Uuid<K> {
  if (!UUID.test(text)) throw new Error(`invariant broken: "${text}" is not a ${kind} uuid`);
  return text as Uuid<K>;
}

/** UUID → wire form. */
export function formatId<K extends IdKind>(kind: K, uuid: Uuid<NoInfer<K>>): Id<K> {
  return `${PREFIX_BY_KIND[kind]}_${uuid.replaceAll('-', '')}` as Id<K>;
}

/** Wire form → UUID; null when the prefix or the digits are wrong. */
export function parseId<K extends IdKind>(kind: K, text: string): Uuid<K> | null {
  const prefix = `${PREFIX_BY_KIND[kind]}_`;
  if (!text.startsWith(prefix)) return null;
  const hex = text.slice(prefix.length);
  if (!HEX32.test(hex)) return null;
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-') as Uuid<K>;
}

/** The millisecond in which a UUIDv7 was made (RFC 9562 §5.7: its first 48 bits). */
export function uuidTime(uuid: string): Date {
  return new Date(Number.parseInt(uuid.slice(0, 8) + uuid.slice(9, 13), 16));
}
