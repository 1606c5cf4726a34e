/** Authentication: the management token of the `Authorization` header, and the rights of its role. */
import type { IncomingMessage } from 'node:http';
import type pg from 'pg';
import { findAccessTokens, type AccessToken } from '../../db/accounts/access-tokens.ts';
import { TOKEN_PREFIX } from '../../db/shared/secrets.ts';
import { Refusal } from '../../domain/errors.ts';
import { isForCustomers, type Access } from './access.ts';
import type { FailedAttempts } from './failed-attempts.ts';
import { SecretLookup } from './secret-lookup.ts';

const BEARER = /^Bearer +([\x21-\x7e]{1,200}) *$/i;

/** A token that was unknown is remembered so long, should its creation not be heard of. */
const UNKNOWN_SECONDS = 5;
/** As long as any statement of the management interface may take. */
const TIMEOUT_SECONDS = 5;

/** How management tokens are looked up. A valid token is looked up at each call: revoking it ends the next call. */
export type TokenLookup = SecretLookup<AccessToken>;

export function createTokenLookup(pool: pg.Pool, failures: FailedAttempts): TokenLookup {
  return new SecretLookup({
    kind: 'management_token',
    prefix: TOKEN_PREFIX,
    lookUp: (hashes) => findAccessTokens(pool, hashes),
    failures,
    ageSeconds: UNKNOWN_SECONDS,
    timeoutSeconds: TIMEOUT_SECONDS,
  });
}

/**
 * The token of a call. Refuses `invalid_token` when it is missing, unknown, revoked or expired, `rate_limit_exceeded`
 * when too many like it were.
 */
export async function authenticate(
  tokens: TokenLookup,
  request: IncomingMessage,
  address: string,
): Promise<AccessToken> {
  const secret = BEARER.exec(request.headers.authorization ?? '')?.[1];
  const token = secret === undefined ? null : await tokens.find(secret, address);
  if (token === null) throw new Refusal('invalid_token');
  return token;
}

/** Refuses `forbidden` when a token's role or scopes may not use a route. */
export function authorize(token: AccessToken, access: Access): void {
  if (!isForCustomers(access)) {
    if (token.role === 'account' || !access.includes(token.role)) throw new Refusal('forbidden');
    return;
  }
  if (token.role !== 'account') throw new Refusal('forbidden');
  if (token.scopes?.includes(access.scope) !== true) {
    throw new Refusal('forbidden', {
      message: `This token may not do that: it does not have the scope \`${access.scope}\`.`,
    });
  }
}
