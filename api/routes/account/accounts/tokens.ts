/**
 * A customer's own management tokens: made, listed, narrowed, revoked. A token makes only what may do no more and lives
 * no longer than itself, and revoking it takes everything with it that was made with it. The secret is in the answer of
 * POST and nowhere else.
 */
import { z } from 'zod';
import {
  accessTokenById,
  createAccessToken,
  listAccountTokens,
  narrowAccessToken,
  revokeAccessToken,
  TOKEN_SCOPES,
  tokensMadeWith,
  type AccessToken,
  type TokenScope,
} from '../../../../db/accounts/access-tokens.ts';
import { inTransaction, type Session } from '../../../../db/shared/client.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type AccountUuid, type Uuid } from '../../../../domain/ids.ts';
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
import { accountRoute, created, ok, type Route } from '../../../http/route.ts';

const scopes = () =>
  z
    .array(z.enum(TOKEN_SCOPES))
    .min(1, 'must name at least one')
    .refine((list) => new Set(list).size === list.length, 'must name each once')
    .meta({ description: '`read`: look; `keys`: API keys and tokens; `money`: order, redeem, link, change settings.' });

const end = () => time().refine((at) => at.getTime() > Date.now(), 'must lie in the future');

const tokenFields = {
  id: idText('token'),
  name: z.string(),
  scopes: z.array(z.enum(TOKEN_SCOPES)),
  created_at: timeText(),
  expires_at: timeText().nullable(),
  revoked_at: timeText().nullable(),
  created_by: idText('token').nullable().meta({ description: 'The token of this account that created it.' }),
  made_by_staff: z.boolean().meta({ description: 'True where staff created it; the account got a notice.' }),
  is_this: z.boolean().meta({ description: 'True for the token that makes this call.' }),
};
const tokenView = z.object(tokenFields);

type Shown = AccessToken & { readonly madeByStaff: boolean };

function renderToken(token: Shown, current: Uuid<'token'>): z.output<typeof tokenView> {
  return {
    id: formatId('token', token.id),
    name: token.name,
    scopes: [...(token.scopes ?? [])],
    created_at: token.createdAt.toISOString(),
    expires_at: renderTime(token.expiresAt),
    revoked_at: renderTime(token.revokedAt),
    // Staff stay unnamed to customers.
    created_by: token.createdBy === null || token.madeByStaff ? null : formatId('token', token.createdBy),
    made_by_staff: token.madeByStaff,
    is_this: token.id === current,
  };
}

const params = z.strictObject({ id: id('token') });

/** Whether an end lies after another; null is no end. */
export function outlives(end: Date | null, limit: Date | null): boolean {
  return limit !== null && (end === null || end > limit);
}

const within = (some: readonly TokenScope[], all: readonly TokenScope[]): boolean =>
  some.every((scope) => all.includes(scope));

export function accountTokenRoutes({ management, settings }: ManagementDeps): Route[] {
  /** The token of the call, and another of the same account. */
  const required = async (session: Session, tokenId: Uuid<'token'>, accountId: AccountUuid): Promise<AccessToken> => {
    const token = await accessTokenById(session, tokenId);
    if (token === null || token.accountId !== accountId) throw new Refusal('not_found');
    return token;
  };
  /** A token that the caller may change: it has no more rights than the caller's own. */
  const changeable = async (
    session: Session,
    {
      tokenId,
      accountId,
      params: { id: wanted },
    }: {
      readonly tokenId: Uuid<'token'>;
      readonly accountId: AccountUuid;
      readonly params: z.output<typeof params>;
    },
  ): Promise<AccessToken> => {
    const token = await required(session, wanted, accountId);
    const caller = await required(session, tokenId, accountId);
    if (!within(token.scopes ?? [], caller.scopes ?? [])) {
      throw new Refusal('forbidden', { message: 'That token has more rights than this one.' });
    }
    return token;
  };
  const show = async (session: Session, tokenId: Uuid<'token'>, accountId: AccountUuid, current: Uuid<'token'>) => {
    const token = await required(session, tokenId, accountId);
    const maker = token.createdBy === null ? null : await accessTokenById(session, token.createdBy);
    return renderToken({ ...token, madeByStaff: maker !== null && maker.role !== 'account' }, current);
  };

  return [
    accountRoute({
      method: 'post',
      path: '/api/tokens',
      summary: 'Create a management token, shown once, with no more rights than the token that creates it',
      scope: 'keys',
      statuses: [201],
      body: z.strictObject({ name: text(1, 100), scopes: scopes(), expires_at: end().nullable().optional() }),
      response: z.object({
        ...tokenFields,
        secret: z.string().meta({ description: 'The token itself, shown only once.' }),
      }),
      async handle({ accountId, tokenId, body, log }) {
        const { name, scopes: wanted, expires_at: expiresAt = null } = body;
        const answer = await inTransaction(management, async (client) => {
          const maker = await required(client, tokenId, accountId);
          if (!within(wanted, maker.scopes ?? [])) {
            throw invalidField('scopes', 'must be among the scopes of the creating token');
          }
          if (outlives(expiresAt, maker.expiresAt)) {
            throw invalidField('expires_at', 'must not be later than the end of the creating token');
          }
          const { token, secret } = await createAccessToken(client, {
            ...{ role: 'account', accountId, name, scopes: wanted, createdBy: tokenId, expiresAt },
            most: settings.tokensMax,
          });
          return { ...renderToken({ ...token, madeByStaff: false }, tokenId), secret };
        });
        log.info({ account_id: formatId('account', accountId), token_id: answer.id, scopes: wanted }, 'token made');
        return created(answer);
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/tokens',
      summary: 'List management tokens of the account, newest first, with revoked and expired ones',
      scope: 'read',
      query: z.strictObject(pageById),
      response: listOf(tokenView),
      async handle({ accountId, tokenId, query }) {
        const page = await listAccountTokens(management, accountId, pageOfQuery(query));
        return ok(renderPage(page, (token) => renderToken(token, tokenId)));
      },
    }),
    accountRoute({
      method: 'patch',
      path: '/api/tokens/{id}',
      summary: 'Narrow a token and every token created with it: fewer scopes, an earlier end',
      scope: 'keys',
      params,
      body: z.strictObject({ scopes: scopes().optional(), expires_at: end().optional() }),
      response: tokenView,
      async handle(call) {
        const { accountId, tokenId, body, log } = call;
        const answer = await inTransaction(management, async (client) => {
          const token = await changeable(client, call);
          const before = token.scopes ?? [];
          if (!within(body.scopes ?? [], before)) throw invalidField('scopes', 'must be among its present scopes');
          if (outlives(body.expires_at ?? null, token.expiresAt) && body.expires_at !== undefined) {
            throw invalidField('expires_at', 'must not be later than its present end');
          }
          const to = { scopes: body.scopes ?? before, expiresAt: body.expires_at ?? null };
          await narrowAccessToken(client, token.id, to);
          return show(client, token.id, accountId, tokenId);
        });
        log.info({ account_id: formatId('account', accountId), token_id: answer.id, ...body }, 'token narrowed');
        return ok(answer);
      },
    }),
    accountRoute({
      method: 'delete',
      path: '/api/tokens/{id}',
      summary: 'Revoke a token permanently, with all tokens and API keys created with it; keys=false leaves the keys',
      scope: 'keys',
      params,
      query: z.strictObject({
        keys: flag()
          .optional()
          .meta({ description: 'Whether API keys created with any of them are revoked; default: true.' }),
      }),
      response: tokenView.extend({
        revoked: z.array(idText('token')).meta({ description: 'The token and everything created with it.' }),
      }),
      async handle(call) {
        const { accountId, tokenId, query, log } = call;
        const answer = await inTransaction(management, async (client) => {
          const token = await changeable(client, call);
          await revokeAccessToken(client, { id: token.id, keys: query.keys ?? true });
          const revoked = (await tokensMadeWith(client, token.id)).map((one) => formatId('token', one));
          return { ...(await show(client, token.id, accountId, tokenId)), revoked };
        });
        log.info({ account_id: formatId('account', accountId), revoked: answer.revoked }, 'tokens revoked');
        return ok(answer);
      },
    }),
  ];
}
