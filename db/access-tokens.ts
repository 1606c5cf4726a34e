/**
 * Access tokens of the management interface: who holds one, in which role, and whose it is. Stored as SHA-256 only.
 * A token made with another is its maker's; only one made on the machine is a person of its own.
 */
import { uuidOf, type AccountUuid, type Uuid } from '../domain/ids.ts';
import { pageOf, type Page, type PageRequest } from './page.ts';
import { run, runOne, type Session } from './client.ts';
import { hashSecret, newSecret, TOKEN_PREFIX } from './secrets.ts';

export const TOKEN_ROLES = ['account', 'operator', 'support', 'finance', 'auditor'] as const;
export type TokenRole = (typeof TOKEN_ROLES)[number];

export interface AccessToken {
  readonly id: Uuid<'token'>;
  readonly role: TokenRole;
  /** The account a token of role `account` acts for; null for staff. */
  readonly accountId: AccountUuid | null;
  readonly name: string;
  /** Who answers for what is done with it; null for role `account`. */
  readonly person: string | null;
  /** The token it was made with; null for one made on the machine. */
  readonly createdBy: Uuid<'token'> | null;
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
  created_at: Date;
  expires_at: Date | null;
  revoked_at: Date | null;
}

const COLUMNS = 'id, role, account_id, name, person, created_by, created_at, expires_at, revoked_at';

/**
 * Creates a token and returns its secret, which exists only in this answer. A `secret` of the caller's is accepted so
 * that a sandbox can print the same one after a restart; a repeat with the same secret returns the token that is there.
 * Without `createdBy` it is made on the machine, and its name, in lower case, is a person. Refuses `too_many_tokens` when the
 * account, or for staff the maker, has `most` in use; without it there is no bound.
 */
export async function createAccessToken(
  session: Session,
  token: {
    role: TokenRole;
    accountId: AccountUuid | null;
    name: string;
    createdBy?: Uuid<'token'>;
    expiresAt?: Date | null;
    secret?: string;
    most?: number;
  },
): Promise<{ token: AccessToken; secret: string }> {
  const secret = token.secret ?? newSecret(TOKEN_PREFIX);
  const row = await runOne<TokenRow>(session, {
    name: 'create_access_token',
    text: `select ${COLUMNS} from create_access_token($1, $2, $3, $4, $5, $6, $7)`,
    values: [
      hashSecret(secret),
      token.role,
      token.accountId,
      token.name,
      token.createdBy ?? null,
      token.expiresAt ?? null,
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

/** Looks many hashes up at once; the result is by the hash in base64 and lacks those that are unknown, revoked or expired. */
export async function findAccessTokens(session: Session, hashes: readonly Buffer[]): Promise<Map<string, AccessToken>> {
  const rows = await run<TokenRow & { hash: Buffer }>(session, {
    name: 'find_access_tokens',
    text: `select hash, ${COLUMNS} from access_token
      where hash = any ($1::bytea[]) and revoked_at is null and (expires_at is null or expires_at > now())`,
    values: [hashes],
  });
  return new Map(rows.map((row) => [row.hash.toString('base64'), toAccessToken(row)]));
}

/** Null when there is no such token; one that is revoked or expired is found too. */
export async function accessTokenById(session: Session, id: Uuid<'token'>): Promise<AccessToken | null> {
  const [row] = await run<TokenRow>(session, {
    name: 'access_token_by_id',
    text: `select ${COLUMNS} from access_token where id = $1`,
    values: [id],
  });
  return row === undefined ? null : toAccessToken(row);
}

/** Whether two actors, as records name them, are one person. */
export async function isSamePerson(session: Session, one: string, other: string): Promise<boolean> {
  const { same } = await runOne<{ same: boolean }>(session, {
    name: 'same_person',
    text: 'select same_person($1, $2) as same',
    values: [one, other],
  });
  return same;
}

/** All tokens, newest first, revoked and expired ones too. */
export async function listAccessTokens(session: Session, page: PageRequest): Promise<Page<AccessToken>> {
  const rows = await run<TokenRow>(session, {
    name: 'list_access_tokens',
    text: `select ${COLUMNS} from access_token where $1::uuid is null or id < $1 order by id desc limit $2`,
    values: [page.after, page.limit + 1],
  });
  return pageOf(rows.map(toAccessToken), page.limit, (token) => token.id);
}

/** Revokes a token for ever; a repeat keeps the first moment. Null when there is no such token. */
export async function revokeAccessToken(session: Session, id: Uuid<'token'>): Promise<AccessToken | null> {
  const [row] = await run<TokenRow>(session, {
    name: 'revoke_access_token',
    text: `update access_token set revoked_at = coalesce(revoked_at, now()) where id = $1 returning ${COLUMNS}`,
    values: [id],
  });
  return row === undefined ? null : toAccessToken(row);
}

function toAccessToken(row: TokenRow): AccessToken {
  return {
    id: uuidOf('token', row.id),
    role: row.role,
    accountId: row.account_id === null ? null : uuidOf('account', row.account_id),
    name: row.name,
    person: row.person,
    createdBy: row.created_by === null ? null : uuidOf('token', row.created_by),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    revokedAt: row.revoked_at,
  };
}
