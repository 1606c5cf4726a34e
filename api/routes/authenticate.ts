/** Who calls: the management token of the `Authorization` header, and what its role may do. */
import type { IncomingMessage } from 'node:http';
import { findAccessToken, type AccessToken, type TokenRole } from '../../db/access-tokens.ts';
import type { Session } from '../../db/client.ts';
import { Refusal } from '../../domain/errors.ts';
import { formatId } from '../../domain/ids.ts';
import type { Access } from './route.ts';

export type StaffRole = Exclude<TokenRole, 'account'>;

/** Who may look at everything, and who also at what support needs. */
export const READERS: readonly StaffRole[] = ['operator', 'finance', 'auditor'];
export const READERS_AND_SUPPORT: readonly StaffRole[] = [...READERS, 'support'];

const BEARER = /^Bearer +([\x21-\x7e]{1,200}) *$/i;

/** The token of a call. Refuses `invalid_token` when it is missing, unknown, revoked or expired. */
export async function authenticate(session: Session, request: IncomingMessage): Promise<AccessToken> {
  const secret = BEARER.exec(request.headers.authorization ?? '')?.[1];
  const token = secret === undefined ? null : await findAccessToken(session, secret);
  if (token === null) throw new Refusal('invalid_token');
  return token;
}

/** Refuses `forbidden` when a token's role may not use a route. */
export function authorize(token: AccessToken, access: Access): void {
  const allowed =
    access === 'account' ? token.role === 'account' : token.role !== 'account' && access.includes(token.role);
  if (!allowed) throw new Refusal('forbidden');
}

/** How records name the holder of a token: readable, and unique by the id. */
export function actorOf(token: AccessToken): string {
  return `${token.name} (${formatId('token', token.id)})`;
}
