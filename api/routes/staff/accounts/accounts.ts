/** Customer accounts as staff see and change them: create, find, freeze. */
import { z } from 'zod';
import { createAccessToken } from '../../../../db/accounts/access-tokens.ts';
import {
  createAccount,
  findAccount,
  findBalance,
  FREEZE_KINDS,
  freezeAccount,
  searchAccounts,
  unfreezeAccount,
  type Account,
  type AccountSearch,
  type Balance,
} from '../../../../db/accounts/accounts.ts';
import { findAffiliateByCode } from '../../../../db/commissions/affiliates.ts';
import { API_KEY_PREFIX, shownPrefix } from '../../../../db/shared/secrets.ts';
import type { Session } from '../../../../db/shared/client.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, parseId, type AccountUuid } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import {
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  reason,
  renderPage,
  renderTime,
  text,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { created, ok, staffRoute, type Route } from '../../../http/route.ts';
import { recordWrite } from '../../../http/writes.ts';

const accountFields = {
  id: idText('account'),
  name: z.string(),
  email: z.string().nullable(),
  created_at: timeText(),
  balance_usd: usdText(),
  held_usd: usdText(),
  available_usd: usdText(),
  low_balance_usd: usdText(),
  frozen: z.boolean(),
  frozen_at: timeText().nullable(),
  frozen_reason: z.string().nullable(),
  frozen_kind: z.enum(FREEZE_KINDS).nullable().meta({ description: 'Support can lift only freezes of its own kind.' }),
};
const accountView = z.object(accountFields);

function renderAccount(account: Account & Balance): z.output<typeof accountView> {
  return {
    id: formatId('account', account.id),
    name: account.name,
    email: account.email,
    created_at: account.createdAt.toISOString(),
    balance_usd: formatUsd(account.balance),
    held_usd: formatUsd(account.held),
    available_usd: formatUsd(account.available),
    low_balance_usd: formatUsd(account.lowBalance),
    frozen: account.frozenAt !== null,
    frozen_at: renderTime(account.frozenAt),
    frozen_reason: account.frozenReason,
    frozen_kind: account.frozenKind,
  };
}

const email = () =>
  text(3, 320)
    .pipe(z.email('must be an e-mail address'))
    .meta({ description: 'Unique among accounts, ignoring case.' });

/**
 * The search text of an operator: an id, the beginning of a key (or a whole one: only its shown beginning is used), or
 * text.
 */
function searchOf(q: string | undefined): AccountSearch {
  const nothing: AccountSearch = { id: null, keyId: null, keyPrefix: null, text: null };
  if (q === undefined) return nothing;
  const accountId = parseId('account', q);
  if (accountId !== null) return { ...nothing, id: accountId };
  const keyId = parseId('key', q);
  if (keyId !== null) return { ...nothing, keyId };
  if (q.startsWith(API_KEY_PREFIX)) return { ...nothing, keyPrefix: shownPrefix(q, API_KEY_PREFIX) };
  return { ...nothing, text: q };
}

const accountParams = z.strictObject({ id: id('account') });

export function adminAccountRoutes({ management }: ManagementDeps): Route[] {
  const show = async (session: Session, accountId: AccountUuid): Promise<z.output<typeof accountView>> => {
    const account = await findAccount(session, accountId);
    const balance = await findBalance(session, accountId);
    if (account === null || balance === null) throw new Refusal('not_found');
    return renderAccount({ ...account, ...balance });
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/accounts',
      summary: 'Create an account with a management token, shown once',
      statuses: [201],
      roles: ['operator'],
      body: z.strictObject({
        name: text(1, 200),
        email: email().nullable().optional(),
        referred_by: text(1, 40).optional().meta({ description: 'Code of the affiliate that referred this account.' }),
      }),
      response: z.object({
        ...accountFields,
        management_token: z.string().meta({ description: 'For `/api/…`; shown only once.' }),
        token_id: idText('token'),
      }),
      async handle(call) {
        const { name, email = null, referred_by: code } = call.body;
        const answer = await recordWrite(management, call, async (client) => {
          const affiliate = code === undefined ? null : await findAffiliateByCode(client, code);
          if (code !== undefined && (affiliate === null || affiliate.blockedAt !== null)) {
            throw invalidField('referred_by', 'is not the code of an affiliate');
          }
          const referral = affiliate === null ? null : { code: affiliate.code, clickedAt: null };
          const account = await createAccount(client, { name, email, referral });
          const { token, secret } = await createAccessToken(client, {
            role: 'account',
            accountId: account.id,
            // Made with the account and not with the caller's token: it stays when that is revoked.
            name: 'first token',
          });
          const result = {
            ...(await show(client, account.id)),
            management_token: secret,
            token_id: formatId('token', token.id),
          };
          return {
            result,
            action: { action: 'account.create', subject: result.id, details: { token_id: result.token_id } },
          };
        });
        return created(answer);
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/accounts',
      summary: 'Find accounts',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject({
        ...pageById,
        q: text(1, 200)
          .optional()
          .meta({ description: 'Account or key id, beginning of a key, e-mail address, name or Discord id.' }),
      }),
      response: listOf(accountView),
      async handle({ query }) {
        return ok(renderPage(await searchAccounts(management, searchOf(query.q), pageOfQuery(query)), renderAccount));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/accounts/{id}',
      summary: 'Get an account',
      roles: READERS_AND_SUPPORT,
      params: accountParams,
      response: accountView,
      handle: async ({ params }) => ok(await show(management, params.id)),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/accounts/{id}/freeze',
      summary: 'Freeze an account: its keys can buy nothing',
      roles: ['operator', 'support', 'finance'],
      params: accountParams,
      body: z.strictObject({
        reason: reason(),
        kind: z.enum(FREEZE_KINDS).optional().meta({
          description:
            'Who may lift it: any staff for `support`, otherwise an operator or finance. Default: by the caller’s role.',
        }),
      }),
      response: accountView,
      async handle(call) {
        const { params, body } = call;
        const answer = await recordWrite(management, call, async (client) => {
          const { reason: words, kind = call.role === 'support' ? 'support' : 'operator' } = body;
          const before = await show(client, params.id);
          // To make a freeze weigh more is said, and never done by repeating it.
          const isWanted = !before.frozen || body.kind !== undefined;
          const isChanged = isWanted && (await freezeAccount(client, params.id, { kind, reason: words }));
          const result = await show(client, params.id);
          if (!isChanged) throw new Refusal('conflict', { message: 'The account is already frozen.' });
          return { result, action: { action: 'account.freeze', subject: result.id, details: { reason: words, kind } } };
        });
        return ok(answer);
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/accounts/{id}/unfreeze',
      summary: 'Unfreeze an account; support can lift only freezes made by support',
      roles: ['operator', 'support', 'finance'],
      params: accountParams,
      body: z.strictObject({ reason: reason().optional() }),
      response: accountView,
      async handle(call) {
        const { params, body } = call;
        const answer = await recordWrite(management, call, async (client) => {
          const before = await show(client, params.id);
          const isLifted = await unfreezeAccount(
            client,
            params.id,
            call.role === 'support' ? ['support'] : FREEZE_KINDS,
          );
          const result = await show(client, params.id);
          if (!isLifted && result.frozen) {
            const message = `Only an operator or finance can lift this freeze (${result.frozen_kind}).`;
            throw new Refusal('forbidden', { message });
          }
          if (!isLifted) throw new Refusal('conflict', { message: 'The account is not frozen.' });
          const details = { reason: body.reason ?? null, kind: before.frozen_kind, was: before.frozen_reason };
          return { result, action: { action: 'account.unfreeze', subject: result.id, details } };
        });
        return ok(answer);
      },
    }),
  ];
}
