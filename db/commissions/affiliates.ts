/**
 * Affiliates: an account's code, its referred accounts, its rate, and whether it is blocked. The referrer of an account
 * is written by the statement that creates the account (db/accounts/accounts.ts) and never changes.
 */
import { randomBytes } from 'node:crypto';
import { uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { query, type Session } from '../shared/client.ts';

export interface Affiliate {
  readonly accountId: AccountUuid;
  readonly code: string;
  /** Null: the rule's. */
  readonly ratePpm: number | null;
  readonly createdAt: Date;
  readonly blockedAt: Date | null;
  readonly blockedReason: string | null;
}

/** The referral of a new account. */
export interface Referral {
  readonly code: string;
  /** Null where the code came without a click. */
  readonly clickedAt: Date | null;
}

interface AffiliateRow {
  account_id: string;
  code: string;
  rate_ppm: number | null;
  created_at: Date;
  blocked_at: Date | null;
  blocked_reason: string | null;
}

function toAffiliate(row: AffiliateRow): Affiliate {
  return {
    accountId: uuidOf('account', row.account_id),
    code: row.code,
    ratePpm: row.rate_ppm,
    createdAt: row.created_at,
    blockedAt: row.blocked_at,
    blockedReason: row.blocked_reason,
  };
}

/** Letters and digits that cannot be taken for one another. */
const CODE_ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
/** 50 random bits: nobody finds another's code by trying, and two are never the same by chance. */
const CODE_LENGTH = 10;

function newCode(): string {
  return Array.from(randomBytes(CODE_LENGTH), (byte) => CODE_ALPHABET[byte % CODE_ALPHABET.length]!).join('');
}

/** The account as an affiliate; it becomes one at the first call. */
export async function ensureAffiliate(session: Session, accountId: AccountUuid): Promise<Affiliate> {
  const known = await findAffiliate(session, accountId);
  if (known !== null) return known;
  await query(session, {
    name: 'insert_affiliate',
    text: 'insert into affiliate (account_id, code) values ($1, $2) on conflict (account_id) do nothing',
    values: [accountId, newCode()],
  });
  const made = await findAffiliate(session, accountId);
  if (made === null) throw new Error('invariant broken: an affiliate is never deleted');
  return made;
}

/** Null when the account is no affiliate. */
export async function findAffiliate(session: Session, accountId: AccountUuid): Promise<Affiliate | null> {
  const [row] = await query<AffiliateRow>(session, {
    name: 'find_affiliate',
    text: 'select * from affiliate where account_id = $1',
    values: [accountId],
  });
  return row === undefined ? null : toAffiliate(row);
}

/** Null when nobody has this code. */
export async function findAffiliateByCode(session: Session, code: string): Promise<Affiliate | null> {
  const [row] = await query<AffiliateRow>(session, {
    name: 'find_affiliate_by_code',
    text: 'select * from affiliate where code = $1',
    values: [code],
  });
  return row === undefined ? null : toAffiliate(row);
}

/** Affiliates, newest account first. */
export async function listAffiliates(session: Session, page: PageRequest): Promise<Page<Affiliate>> {
  const rows = await query<AffiliateRow>(session, {
    name: 'list_affiliates',
    text: `select * from affiliate where $1::uuid is null or account_id < $1 order by account_id desc limit $2`,
    values: [page.after, page.limit + 1],
  });
  return pageOf(rows.map(toAffiliate), page.limit, (affiliate) => affiliate.accountId);
}

/**
 * Sets the rate of what is credited from now on; null for the rule's. Above the rule's and its own it takes an
 * an `approvedBy` other than the person of `by`: refuses `second_person_needed`. Null when the account is no affiliate.
 */
export async function setAffiliateRate(
  session: Session,
  accountId: AccountUuid,
  ratePpm: number | null,
  { by, approvedBy = null }: { readonly by: string; readonly approvedBy?: string | null },
): Promise<Affiliate | null> {
  const [row] = await query<AffiliateRow>(session, {
    name: 'set_affiliate_rate',
    text: 'select * from set_affiliate_rate($1, $2, $3, $4)',
    values: [accountId, ratePpm, by, approvedBy],
  });
  return row === undefined ? null : toAffiliate(row);
}

/**
 * Blocks an affiliate: its code refers nobody any more and what it has not been paid waits. Null when it is unknown or
 * blocked.
 */
export async function blockAffiliate(
  session: Session,
  accountId: AccountUuid,
  reason: string,
): Promise<Affiliate | null> {
  const [row] = await query<AffiliateRow>(session, {
    name: 'block_affiliate',
    text: `update affiliate set blocked_at = now(), blocked_reason = $2
      where account_id = $1 and blocked_at is null returning *`,
    values: [accountId, reason],
  });
  return row === undefined ? null : toAffiliate(row);
}

/** Null when it is unknown or not blocked. */
export async function unblockAffiliate(session: Session, accountId: AccountUuid): Promise<Affiliate | null> {
  const [row] = await query<AffiliateRow>(session, {
    name: 'unblock_affiliate',
    text: `update affiliate set blocked_at = null, blocked_reason = null
      where account_id = $1 and blocked_at is not null returning *`,
    values: [accountId],
  });
  return row === undefined ? null : toAffiliate(row);
}
