/**
 * Management tokens: made, listed, revoked by operators. The secret is in the answer of POST and nowhere else. A token
 * created here can do no more and lives no longer than what it is made with, goes with it, and is no person of its own.
 * A customer gets a notice of each token that staff make for their account.
 */
import { z } from 'zod';
import {
  accessTokenById,
  createAccessToken,
  listAccessTokens,
  revokeAccessToken,
  TOKEN_ROLES,
  TOKEN_SCOPES,
  tokensMadeWith,
  type AccessToken,
} from '../../../../db/accounts/access-tokens.ts';
import { findAccount } from '../../../../db/accounts/accounts.ts';
import { tellAccount } from '../../../../db/accounts/notices.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import {
  flag,
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  text,
  time,
  timeText,
} from '../../../http/fields.ts';
import { created, ok, staffRoute, type Route } from '../../../http/route.ts';
import { outlives } from '../../account/accounts/tokens.ts';
import { recordWrite } from '../../../http/writes.ts';

const tokenFields = {
  id: idText('token'),
  role: z.enum(TOKEN_ROLES),
  account_id: idText('account').nullable(),
  name: z.string(),
  person: z.string().nullable().meta({
    description: 'The responsible person, who cannot approve their own requests. null for role `account`.',
  }),
  created_by: idText('token')
    .nullable()
    .meta({ description: 'The token that created it; null: created on the machine, or with its account.' }),
  scopes: z.array(z.enum(TOKEN_SCOPES)).nullable().meta({ description: 'Of role `account`; null for staff.' }),
  created_at: timeText(),
  expires_at: timeText().nullable(),
  revoked_at: timeText().nullable(),
};
const tokenView = z.object(tokenFields);

function renderToken(token: AccessToken): z.output<typeof tokenView> {
  return {
    id: formatId('token', token.id),
    role: token.role,
    account_id: token.accountId === null ? null : formatId('account', token.accountId),
    name: token.name,
    person: token.person,
    created_by: token.createdBy === null ? null : formatId('token', token.createdBy),
    scopes: token.scopes === null ? null : [...token.scopes],
    created_at: token.createdAt.toISOString(),
    expires_at: renderTime(token.expiresAt),
    revoked_at: renderTime(token.revokedAt),
  };
}

const newToken = z.strictObject({
  role: z.enum(TOKEN_ROLES),
  name: text(1, 100).meta({ description: 'The holder; records of its actions show this.' }),
  account_id: id('account').nullable().optional().meta({ description: 'For role `account` only.' }),
  scopes: z
    .array(z.enum(TOKEN_SCOPES))
    .min(1, 'must name at least one')
    .optional()
    .meta({ description: 'For role `account` only; default: all.' }),
  expires_at: time()
    .refine((at) => at.getTime() > Date.now(), 'must lie in the future')
    .nullable()
    .optional(),
});

export function tokenRoutes({ management, settings: { tokensMax } }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'post',
      path: '/admin/tokens',
      summary: 'Create a token, shown once',
      statuses: [201],
      roles: ['operator'],
      body: newToken,
      response: z.object({
        ...tokenFields,
        secret: z.string().meta({ description: 'The token itself, shown only once.' }),
      }),
      async handle(call) {
        const { role, name, scopes, account_id: accountId = null, expires_at: expiresAt = null } = call.body;
        if ((role === 'account') !== (accountId !== null)) {
          throw invalidField(
            'account_id',
            role === 'account' ? 'is required for this role' : 'is allowed for role account only',
          );
        }
        if (role !== 'account' && scopes !== undefined)
          throw invalidField('scopes', 'are allowed for role account only');
        const answer = await recordWrite(management, call, async (client) => {
          if (accountId !== null && (await findAccount(client, accountId)) === null) {
            throw invalidField('account_id', 'is not an account');
          }
          const maker = await accessTokenById(client, call.tokenId);
          if (outlives(expiresAt, maker?.expiresAt ?? null)) {
            throw invalidField('expires_at', 'must not be later than the end of the creating token');
          }
          const made = await createAccessToken(client, {
            ...{ role, accountId, name, createdBy: call.tokenId, expiresAt, most: tokensMax },
            ...(scopes === undefined ? {} : { scopes: [...new Set(scopes)] }),
          });
          const result = { ...renderToken(made.token), secret: made.secret };
          const { account_id, person, expires_at } = result;
          const details = { role, name, account_id, person, expires_at, ...(scopes === undefined ? {} : { scopes }) };
          if (accountId !== null) {
            const told = { token_id: result.id, name, scopes: result.scopes, expires_at };
            await tellAccount(client, accountId, { kind: 'token_made_by_staff', details: told });
          }
          return { result, action: { action: 'token.create', subject: result.id, details } };
        });
        return created(answer);
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/tokens',
      summary: 'List all tokens, newest first',
      roles: ['operator', 'auditor'],
      query: z.strictObject(pageById),
      response: listOf(tokenView),
      async handle({ query }) {
        return ok(renderPage(await listAccessTokens(management, pageOfQuery(query)), renderToken));
      },
    }),
    staffRoute({
      method: 'delete',
      path: '/admin/tokens/{id}',
      summary: 'Revoke a token permanently, with all tokens and API keys created with it; keys=false leaves the keys',
      roles: ['operator'],
      params: z.strictObject({ id: id('token') }),
      query: z.strictObject({
        keys: flag()
          .optional()
          .meta({ description: 'Whether API keys created with any of them are revoked; default: true.' }),
      }),
      response: tokenView.extend({
        revoked: z.array(idText('token')).meta({ description: 'The token and everything created with it.' }),
      }),
      async handle(call) {
        const answer = await recordWrite(management, call, async (client) => {
          const gone = await revokeAccessToken(client, { id: call.params.id, keys: call.query.keys ?? true });
          const token = await accessTokenById(client, call.params.id);
          if (token === null) throw new Refusal('not_found');
          for (const { accountId, id: one, name } of gone) {
            if (accountId === null) continue;
            const details = { token_id: formatId('token', one), name };
            await tellAccount(client, accountId, { kind: 'token_revoked_by_staff', details });
          }
          const revoked = (await tokensMadeWith(client, token.id)).map((one) => formatId('token', one));
          const result = { ...renderToken(token), revoked };
          const details = { role: token.role, name: token.name, revoked: result.revoked };
          return { result, action: { action: 'token.revoke', subject: result.id, details } };
        });
        return ok(answer);
      },
    }),
  ];
}
