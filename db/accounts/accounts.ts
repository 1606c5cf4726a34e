/**
 * Customer accounts: creating, finding, freezing, and the balance as a customer sees it. Does not move money
 * (db/accounts/adjustments.ts); the columns that hold money cannot be written from here, the role has no right to.
 */
import { uuidOf, type AccountUuid, type KeyUuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { Referral } from '../commissions/affiliates.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { query, queryOne, type Session } from '../shared/client.ts';

export interface Account {
  readonly id: AccountUuid;
  readonly name: string;
  readonly email: string | null;
  readonly createdAt: Date;
  readonly frozenAt: Date | null;
  readonly frozenReason: string | null;
  readonly frozenKind: FreezeKind | null;
  readonly lowBalance: PicoUsd;
}

/** The balance that a customer sees, exact at the moment of the statement: `available = balance − held`. */
export interface Balance {
  readonly balance: PicoUsd;
  readonly held: PicoUsd;
  readonly available: PicoUsd;
}

interface BalanceRow {
  balance: string;
  held: string;
  available: string;
}

interface AccountRow {
  id: string;
  name: string;
  email: string | null;
  created_at: Date;
  frozen_at: Date | null;
  frozen_reason: string | null;
  frozen_kind: FreezeKind | null;
  low_balance_usd: string;
}

const COLUMNS = 'id, name, email, created_at, frozen_at, frozen_reason, frozen_kind, low_balance_usd';

function toAccount(row: AccountRow): Account {
  return {
    id: uuidOf('account', row.id),
    name: row.name,
    email: row.email,
    createdAt: row.created_at,
    frozenAt: row.frozen_at,
    frozenReason: row.frozen_reason,
    frozenKind: row.frozen_kind,
    lowBalance: usd(row.low_balance_usd),
  };
}

function toBalance(row: BalanceRow): Balance {
  return { balance: usd(row.balance), held: usd(row.held), available: usd(row.available) };
}

/**
 * Creates an empty account, and in the same statement who referred it, where `referral` has the code of an affiliate
 * that is not blocked. Every way to an account goes through here, so none can lose it. A taken e-mail address fails
 * with the constraint `account_email`.
 */
export async function createAccount(
  session: Session,
  account: { name: string; email: string | null; referral?: Referral | null },
): Promise<Account> {
  const row = await queryOne<AccountRow>(session, {
    name: 'create_account',
    text: `with made as (
        insert into account (kind, name, email) values ('customer', $1, $2) returning ${COLUMNS}
      ), referred as (
        insert into referral (account_id, affiliate_id, code, clicked_at)
        select made.id, a.account_id, a.code, $4 from made, affiliate a where a.code = $3 and a.blocked_at is null
      )
      select * from made`,
    values: [account.name, account.email, account.referral?.code ?? null, account.referral?.clickedAt ?? null],
  });
  return toAccount(row);
}

/** Null when there is no such customer account. */
export async function findAccount(session: Session, id: AccountUuid): Promise<Account | null> {
  const [row] = await query<AccountRow>(session, {
    name: 'find_account',
    text: `select ${COLUMNS} from account where id = $1 and kind = 'customer'`,
    values: [id],
  });
  return row === undefined ? null : toAccount(row);
}

/** The balance a customer sees; null when there is no such account. */
export async function findBalance(session: Session, id: AccountUuid): Promise<Balance | null> {
  const [row] = await query<BalanceRow>(session, {
    name: 'find_balance',
    text: 'select balance, held, available from account_balance where account_id = $1',
    values: [id],
  });
  return row === undefined ? null : toBalance(row);
}

/**
 * Changes what a customer may change; undefined leaves a field as it is. A threshold at or below the balance arms the
 * low-balance notice again. Null when there is no such account.
 */
export async function updateAccount(
  session: Session,
  id: AccountUuid,
  change: { name?: string | undefined; lowBalance?: PicoUsd | undefined },
): Promise<Account | null> {
  const [row] = await query<AccountRow>(session, {
    name: 'update_account',
    text: `update account set
        name = coalesce($2, name),
        low_balance_usd = coalesce($3::usd, low_balance_usd),
        low_balance_noticed_at = case when balance >= $3::usd then null else low_balance_noticed_at end
      where id = $1 and kind = 'customer' returning ${COLUMNS}`,
    values: [id, change.name ?? null, change.lowBalance === undefined ? null : formatUsd(change.lowBalance)],
  });
  return row === undefined ? null : toAccount(row);
}

/** Kinds of freezes, each of more weight than the one before. Support may lift the first, operators and finance all. */
export const FREEZE_KINDS = ['support', 'operator', 'fraud'] as const;
export type FreezeKind = (typeof FREEZE_KINDS)[number];

/**
 * Freezes an account: its keys buy nothing from the next request on. A freeze of more weight replaces a lesser one.
 * False when the account is unknown or frozen as much already.
 */
export async function freezeAccount(
  session: Session,
  id: AccountUuid,
  freeze: { readonly kind: FreezeKind; readonly reason: string },
): Promise<boolean> {
  const { done } = await queryOne<{ done: boolean }>(session, {
    name: 'freeze_account',
    text: 'select freeze_account($1, $2, $3) as done',
    values: [id, freeze.kind, freeze.reason],
  });
  return done;
}

/** Lifts a freeze of one of these kinds. False when the account is unknown or has none of them. */
export async function unfreezeAccount(
  session: Session,
  id: AccountUuid,
  kinds: readonly FreezeKind[],
): Promise<boolean> {
  const { done } = await queryOne<{ done: boolean }>(session, {
    name: 'unfreeze_account',
    text: 'select unfreeze_account($1, $2) as done',
    values: [id, kinds],
  });
  return done;
}

/** How operators look an account up; all null lists every account. */
export interface AccountSearch {
  readonly id: AccountUuid | null;
  /** Matches keys of this id. */
  readonly keyId: KeyUuid | null;
  /** Matches keys whose shown prefix begins so. */
  readonly keyPrefix: string | null;
  /** Matches the beginning of e-mail address or name, in any case, or of a Discord user's id, linked now or once. */
  readonly text: string | null;
}

/** Customer accounts that match, newest first, with their balances of the same moment. */
export async function searchAccounts(
  session: Session,
  search: AccountSearch,
  page: PageRequest,
): Promise<Page<Account & Balance>> {
  const rows = await query<AccountRow & BalanceRow>(session, {
    name: 'search_accounts',
    text: `with found as (
        select ${COLUMNS} from account
        where kind = 'customer'
          and ($1::uuid is null or id = $1)
          and ($2::uuid is null or id in (select account_id from api_key where id = $2))
          and ($3::text is null or id in (select account_id from api_key where prefix like $3))
          and ($4::text is null or lower(email) like $4 or lower(name) like $4
            or id in (select account_id from discord_link where discord_user_id like $4))
          and ($5::uuid is null or id < $5)
        order by id desc limit $6
      )
      select found.*, b.balance, b.held, b.available
      from found join account_balance b on b.account_id = found.id order by found.id desc`,
    values: [
      search.id,
      search.keyId,
      search.keyPrefix === null ? null : likePrefix(search.keyPrefix),
      search.text === null ? null : likePrefix(search.text.toLowerCase()),
      page.after,
      page.limit + 1,
    ],
  });
  return pageOf(
    rows.map((row) => ({ ...toAccount(row), ...toBalance(row) })),
    page.limit,
    (account) => account.id,
  );
}

function likePrefix(text: string): string {
  return `${text.replaceAll(/[\\%_]/g, '\\$&')}%`;
}
