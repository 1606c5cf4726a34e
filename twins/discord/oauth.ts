/**
 * OAuth2, the authorization code grant: what a person allows becomes a code, the code becomes tokens once. Owns the
 * rules; the page on which a person allows it is `oauth-page.ts`.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { RESTPostOAuth2AccessTokenResult } from 'discord-api-types/v10';

import { oauthFailure } from './errors.ts';
import type { CodeRow, TokenRow } from './store.ts';
import type { DiscordWorld } from './world.ts';

/** A valid authorization request of the application. */
export interface AuthorizeRequest {
  readonly redirectUri: string;
  readonly scopes: readonly string[];
  readonly state: string | null;
  readonly challenge: string | null;
}

export const SCOPES: Readonly<Record<string, string>> = {
  identify: 'Access your username and avatar',
  email: 'Access your email address',
  guilds: 'Know what servers you are in',
  'guilds.members.read': 'Read your member info in the servers you belong to',
};

const CODE_MS = 10 * 60_000;
const TOKEN_SECONDS = 604_800;

/** Reads the query of the authorization page. A text says what is wrong; then nobody may be sent back. */
export function readAuthorizeRequest(world: DiscordWorld, query: URLSearchParams): AuthorizeRequest | string {
  const { clientId, redirectUris } = world.application;
  if (query.get('client_id') !== clientId) return 'Unknown Application';
  const redirectUri = query.get('redirect_uri') ?? '';
  if (!redirectUris.includes(redirectUri)) return 'Invalid OAuth2 redirect_uri';
  if (query.get('response_type') !== 'code') return 'The response_type must be code.';
  const scopes = (query.get('scope') ?? '').split(' ').filter((scope) => scope !== '');
  const unknown = scopes.find((scope) => !Object.hasOwn(SCOPES, scope));
  if (scopes.length === 0 || unknown !== undefined) return 'The requested scope is invalid, unknown, or malformed.';
  const challenge = query.get('code_challenge');
  if (challenge !== null && query.get('code_challenge_method') !== 'S256') return 'Invalid code_challenge_method';
  return { redirectUri, scopes, state: query.get('state'), challenge };
}

/** Returns where the browser goes. */
export function allow(world: DiscordWorld, request: AuthorizeRequest, userId: string): string {
  const code: CodeRow = {
    id: randomBytes(15).toString('hex'),
    user_id: world.user(userId).id,
    redirect_uri: request.redirectUri,
    scopes: request.scopes,
    challenge: request.challenge,
    expires_ms: world.clock.nowMs() + CODE_MS,
  };
  world.store.codes.put(code);
  return sendBack(request, { code: code.id });
}

export function deny(request: AuthorizeRequest): string {
  const description = 'The resource owner or authorization server denied the request';
  return sendBack(request, { error: 'access_denied', error_description: description });
}

/** `POST /oauth2/token`. Null form: the body was not form-encoded, and Discord reads no other. */
export function exchangeToken(
  world: DiscordWorld,
  form: URLSearchParams | null,
  authorization: string | undefined,
): RESTPostOAuth2AccessTokenResult {
  const grant = form?.get('grant_type') ?? 'None';
  if (form === null || (grant !== 'authorization_code' && grant !== 'refresh_token')) {
    throw oauthFailure(400, 'unsupported_grant_type', `Grant type ${grant} is not supported`);
  }
  requireClient(world, form, authorization);
  const { user_id, scopes } = grant === 'refresh_token' ? takeRefresh(world, form) : takeCode(world, form);
  const token: TokenRow = {
    id: randomBytes(15).toString('hex'),
    refresh_token: randomBytes(15).toString('hex'),
    user_id,
    scopes,
    expires_ms: world.clock.nowMs() + TOKEN_SECONDS * 1000,
  };
  world.store.tokens.put(token);
  return {
    token_type: 'Bearer',
    access_token: token.id,
    expires_in: TOKEN_SECONDS,
    refresh_token: token.refresh_token,
    scope: scopes.join(' '),
  };
}

/** `POST /oauth2/token/revoke`: either token of a pair ends both; an unknown one is no error (RFC 7009). */
export function revokeToken(
  world: DiscordWorld,
  form: URLSearchParams | null,
  authorization: string | undefined,
): void {
  if (form === null) throw oauthFailure(400, 'invalid_request');
  requireClient(world, form, authorization);
  const given = form.get('token');
  const row = world.store.tokens.find(({ id, refresh_token }) => id === given || refresh_token === given);
  if (row !== undefined) world.store.tokens.delete(row.id);
}

/** The grant of a user's access token; undefined when it is unknown or has expired. */
export function liveToken(world: DiscordWorld, accessToken: string): TokenRow | undefined {
  const row = world.store.tokens.get(accessToken);
  return row !== undefined && row.expires_ms > world.clock.nowMs() ? row : undefined;
}

/** Ends all that a person has allowed. */
export function forgetTokens(world: DiscordWorld, userId: string): void {
  const { tokens, codes } = world.store;
  for (const table of [tokens, codes]) {
    for (const row of table.oldestFirst()) if (row.user_id === userId) table.delete(row.id);
  }
}

function requireClient(world: DiscordWorld, form: URLSearchParams, authorization: string | undefined): void {
  const { clientId, clientSecret } = world.application;
  const basic = `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`;
  const isInForm = form.get('client_id') === clientId && form.get('client_secret') === clientSecret;
  if (!isInForm && authorization !== basic) throw oauthFailure(401, 'invalid_client');
}

function takeCode(world: DiscordWorld, form: URLSearchParams): Pick<TokenRow, 'user_id' | 'scopes'> {
  const code = world.store.codes.get(form.get('code') ?? '');
  const isLive = code !== undefined && code.expires_ms > world.clock.nowMs();
  if (!isLive) throw oauthFailure(400, 'invalid_grant', 'Invalid "code" in request.');
  if (code.redirect_uri !== form.get('redirect_uri')) {
    throw oauthFailure(400, 'invalid_grant', 'Invalid "redirect_uri" in request.');
  }
  if (code.challenge !== null && code.challenge !== challengeOf(form.get('code_verifier') ?? '')) {
    throw oauthFailure(400, 'invalid_grant', 'Invalid "code_verifier" in request.');
  }
  world.store.codes.delete(code.id);
  return code;
}

function takeRefresh(world: DiscordWorld, form: URLSearchParams): Pick<TokenRow, 'user_id' | 'scopes'> {
  const given = form.get('refresh_token');
  const row = world.store.tokens.find(({ refresh_token }) => refresh_token === given);
  if (row === undefined) throw oauthFailure(400, 'invalid_grant', 'Invalid "refresh_token" in request.');
  world.store.tokens.delete(row.id);
  return row;
}

function challengeOf(verifier: string): string {
  return createHash('sha256').update(verifier).digest('base64url');
}

function sendBack({ redirectUri, state }: AuthorizeRequest, parameters: Readonly<Record<string, string>>): string {
  const url = new URL(redirectUri);
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  if (state !== null) url.searchParams.set('state', state);
  return url.href;
}
