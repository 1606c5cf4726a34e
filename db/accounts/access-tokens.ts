/**
 * Access tokens of the management interface: their holder, role or scopes, and owner. Stored
 * as SHA-256 only. A token made with another is its maker's, and goes when that goes; only one made on the machine is a
 * person of its own.
 */
import { formatId, uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import { query, queryOne, type Session } from '../shared/client.ts';
import { hashSecret, newSecret, TOKEN_PREFIX } from '../shared/secrets.ts';

export const TOKEN_ROLES = ['account', 'operator', 'support', 'finance', 'auditor'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

/** Scopes of a customer's token: read, manage keys and tokens, spend and order. */
export const TOKEN_SCOPES = ['read', 'keys', 'money'] as const;
export type TokenScope = (typeof TOKEN_SCOPES)[number];

export interface AccessToken {
  readonly id: Uuid<'token'>;
  readonly role: TokenRole;
  /** The account a token of role `account` acts for; null for staff. */
  readonly accountId: AccountUuid | null;
  readonly name: string;
  /** The responsible person; null for role `account`. */
  readonly person: string | null;
  /** The token it was made with; null for one made on the machine. */
  readonly createdBy: Uuid<'token'> | null;
  /** Scopes of a customer's token; null for staff, whose role has the rights. */
  readonly scopes: readonly TokenScope[] | null;
  readonly createdAt: Date;
  readonly expiresAt: Date | null;
  readonly revokedAt: Date | null;
}

interface TokenRow {
  id: string;
  role: TokenRole;
  account_id: string | null;
  name: string;
  person: string | null;
  created_by: string | null;
  scopes: TokenScope[] | null;
  created_at: Date;
  expires_at: Date | null;
  revoked_at: Date | null;
}

const COLUMNS = 'id, role, account_id, name, person, created_by, scopes, created_at, expires_at, revoked_at';

/**
 * Creates a token and returns its secret, which exists only in this answer. A `secret` of the caller's is accepted so
 * that a sandbox can print the same one after a restart; a repeat with the same secret returns the token that is there.
 * Without `createdBy` it is made on the machine, and its name, in lower case, is a person. Refuses `too_many_tokens`
 * when the account, or for staff the maker, has `most` in use; without it there is no bound.
 */
export async function createAccessToken(
  session: Session,
  token: {
    role: TokenRole;
    accountId: AccountUuid | null;
    name: string;
    createdBy?: Uuid<'token'>;
    /** Scopes of a customer's token; absent: all. */
    scopes?: readonly TokenScope[];
    expiresAt?: Date | null;
    secret?: string;
    most?: number;
  },
): Promise<{ token: AccessToken; secret: string }> {
  const secret = token.secret ?? newSecret(TOKEN_PREFIX);
  const row = await queryOne<TokenRow>(session, {
    name: 'create_access_token',
    text: `select ${COLUMNS} from create_access_token($1, $2, $3, $4, $5, $6, $7, $8)`,
    values: [
      hashSecret(secret),
      token.role,
      token.accountId,
      token.name,
      token.createdBy ?? null,
      token.expiresAt ?? null,
      token.scopes ?? null,
      token.most ?? null,
    ],
  });
  return { token: toAccessToken(row), secret };
}

/** Null when the token is unknown, revoked or expired. */
export async function findAccessToken(session: Session, secret: string): Promise<AccessToken | null> {
  const hash = hashSecret(secret);
  return (await findAccessTokens(session, [hash])).get(hash.toString('base64')) ?? null;
}

/**
 * Looks many hashes up at once; the result is by the hash in base64 and lacks those that are unknown, revoked or
 * expired.
 */
export async function findAccessTokens(session: Session, hashes: readonly Buffer[]): Promise<Map<string, AccessToken>> {
  const rows = await query<TokenRow & { hash: Buffer }>(session, {
    name: 'find_access_tokens',
    text: `select hash, ${COLUMNS} from access_token
      where hash = any ($1::bytea[]) and revoked_at is null and (expires_at is null or expires_at > now())`,
    values: [hashes],
  });
  return new Map(rows.map((row) => [row.hash.toString('base64'), toAccessToken(row)]));
}

/** Null when there is no such token; revoked and expired tokens are found too. */
export async function accessTokenById(session: Session, id: Uuid<'token'>): Promise<AccessToken | null> {
  const [row] = await query<TokenRow>(session, {
    name: 'access_token_by_id',
    text: `select ${COLUMNS} from access_token where id = $1`,
    values: [id],
  });
  return row === undefined ? null : toAccessToken(row);
}

/** How records name the holder of a token: readable, and unique by the id. */
export function actorOf(token: AccessToken): string {
  return `${token.name} (${formatId('token', token.id)})`;
}

/** All tokens, newest first, revoked and expired ones too. */
export async function listAccessTokens(session: Session, page: PageRequest): Promise<Page<AccessToken>> {
  const rows = await query<TokenRow>(session, {
    name: 'list_access_tokens',
    text: `select ${COLUMNS} from access_token where $1::uuid is null or id < $1 order by id desc limit $2`,
    values: [page.after, page.limit + 1],
  });
  return pageOf(rows.map(toAccessToken), page.limit, (token) => token.id);
}

/** The tokens of one account, newest first, revoked and expired ones too. */
export async function listAccountTokens(
  session: Session,
  accountId: AccountUuid,
  page: PageRequest,
): Promise<Page<AccessToken & { readonly madeByStaff: boolean }>> {
  const rows = await query<TokenRow & { made_by_staff: boolean }>(session, {
    name: 'list_account_tokens',
    text: `select ${COLUMNS}, exists (
        select from access_token maker where maker.id = t.created_by and maker.role <> 'account') as made_by_staff
      from access_token t where account_id = $1 and ($2::uuid is null or id < $2) order by id desc limit $3`,
    values: [accountId, page.after, page.limit + 1],
  });
  const tokens = rows.map((row) => ({ ...toAccessToken(row), madeByStaff: row.made_by_staff }));
  return pageOf(tokens, page.limit, (token) => token.id);
}

/**
 * Revokes a token permanently with everything that was created with it, and the API keys that were where `keys` says
 * so. Returns the tokens that this call revoked; none when it was revoked before, or there is none.
 */
export async function revokeAccessToken(
  session: Session,
  which: { readonly id: Uuid<'token'>; readonly keys: boolean },
): Promise<AccessToken[]> {
  const rows = await query<TokenRow>(session, {
    name: 'revoke_access_token',
    text: `select ${COLUMNS} from revoke_access_token($1, $2)`,
    values: [which.id, which.keys],
  });
  return rows.map(toAccessToken);
}

/** A token and everything that was made with it, with what was made with that. */
export async function tokensMadeWith(session: Session, id: Uuid<'token'>): Promise<Uuid<'token'>[]> {
  const rows = await query<{ id: string }>(session, {
    name: 'tokens_made_with',
    text: 'select id from tokens_made_with($1) as made (id) order by id',
    values: [id],
  });
  return rows.map((row) => uuidOf('token', row.id));
}

/** Narrows a customer's token, and everything that was made with it, to some of its scopes and an earlier end. */
export async function narrowAccessToken(
  session: Session,
  id: Uuid<'token'>,
  to: { readonly scopes: readonly TokenScope[]; readonly expiresAt: Date | null },
): Promise<void> {
  await query(session, {
    name: 'narrow_access_token',
    text: 'select narrow_access_token($1, $2, $3)',
    values: [id, to.scopes, to.expiresAt],
  });
}

function toAccessToken(row: TokenRow): AccessToken {
  return {
    id: uuidOf('token', row.id),
    role: row.role,
    accountId: row.account_id === null ? null : uuidOf('account', row.account_id),
    name: row.name,
    person: row.person,
    createdBy: row.created_by === null ? null : uuidOf('token', row.created_by),
    scopes: row.scopes,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  };
}
