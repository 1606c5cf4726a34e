/**
 * A customer's API keys. The secret is in the answer of POST and nowhere else. Settings can change at any time; what a
 * key has spent cannot: editing a limit never touches a counter.
 */
import { z } from 'zod';
import {
  createApiKey,
  findApiKey,
  LIMIT_RESETS,
  listApiKeys,
  lockApiKey,
  revokeApiKey,
  updateApiKey,
  type ApiKey,
  type KeySettings,
} from '../../../../db/accounts/api-keys.ts';
import { knownModelIds } from '../../../../db/requests/catalogue.ts';
import { type Session, inTransaction, ledgerRefusal } from '../../../../db/shared/client.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type AccountUuid, type KeyUuid } from '../../../../domain/ids.ts';
import { formatUsd, maxUsd, ZERO_USD } from '../../../../domain/money.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import {
  amount,
  flag,
  id,
  idText,
  listOf,
  modelId,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  renderUsd,
  text,
  time,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { parseIpRange } from '../../../http/ip-range.ts';
import { accountRoute, created, ok, type Route } from '../../../http/route.ts';

const MODELS_MAX = 200;
const RANGES_MAX = 100;

const ipRange = () =>
  z.string().transform((value, context): string => {
    const range = parseIpRange(value);
    if (range.ok) return range.cidr;
    context.issues.push({ code: 'custom', input: value, message: range.problem });
    return z.NEVER;
  });

const NOT_EMPTY = 'must name at least one; use null for all';

const settings = {
  name: text(1, 100),
  expires_at: time()
    .refine((at) => at.getTime() > Date.now(), 'must lie in the future')
    .nullable()
    .meta({ description: 'null: never.' }),
  limit_usd: amount().nullable().meta({ description: 'Spending limit; null: unlimited.' }),
  limit_reset: z.enum(LIMIT_RESETS).meta({ description: 'When the limit resets, UTC; `none`: never.' }),
  models: z
    .array(modelId())
    .min(1, NOT_EMPTY)
    .max(MODELS_MAX)
    .nullable()
    .meta({ description: 'Models the key may use; null: all.' }),
  ip_allowlist: z
    .array(ipRange())
    .min(1, NOT_EMPTY)
    .max(RANGES_MAX)
    .nullable()
    .meta({ description: 'Addresses or CIDR ranges the key may be used from; null: any.' }),
};

const newKey = z.strictObject({
  name: settings.name,
  expires_at: settings.expires_at.optional(),
  limit_usd: settings.limit_usd.optional(),
  limit_reset: settings.limit_reset.optional(),
  models: settings.models.optional(),
  ip_allowlist: settings.ip_allowlist.optional(),
});

const keyChange = newKey.partial();

const keyFields = {
  id: idText('key'),
  name: z.string(),
  prefix: z.string().meta({ description: 'The first characters of the secret, to recognise it.' }),
  created_at: timeText(),
  expires_at: timeText().nullable(),
  revoked_at: timeText().nullable(),
  limit_usd: usdText().nullable(),
  limit_reset: z.enum(LIMIT_RESETS),
  models: z.array(z.string()).nullable(),
  ip_allowlist: z.array(z.string()).nullable(),
  spent_usd: usdText().meta({ description: 'All charges so far, unsettled ones included.' }),
  window_spent_usd: usdText().meta({ description: "Charges in the limit's current window." }),
  held_usd: usdText(),
  remaining_usd: usdText().nullable().meta({ description: 'Rest of the limit; null: unlimited.' }),
};
const keyView = z.object(keyFields);
const newKeyView = z.object({
  ...keyFields,
  secret: z.string().meta({ description: 'The API key itself, shown only once.' }),
});

function renderKey(key: ApiKey): z.output<typeof keyView> {
  return {
    id: formatId('key', key.id),
    name: key.name,
    prefix: key.prefix,
    created_at: key.createdAt.toISOString(),
    expires_at: renderTime(key.expiresAt),
    revoked_at: renderTime(key.revokedAt),
    limit_usd: renderUsd(key.limit),
    limit_reset: key.limitReset,
    models: key.models === null ? null : [...key.models],
    ip_allowlist: key.ipAllowlist === null ? null : [...key.ipAllowlist],
    spent_usd: formatUsd(key.spentTotal),
    window_spent_usd: formatUsd(key.windowSpent),
    held_usd: formatUsd(key.held),
    // A limit that was lowered below what is spent leaves nothing, not less than nothing.
    remaining_usd: key.remaining === null ? null : formatUsd(maxUsd(key.remaining, ZERO_USD)),
  };
}

/** The settings that a change of some fields leads to; a field that is not given stays as it is. */
function settingsOf(change: z.output<typeof keyChange>, before: KeySettings): KeySettings {
  const given = <Value>(value: Value | undefined, otherwise: Value): Value => (value === undefined ? otherwise : value);
  const distinct = (list: readonly string[] | null): readonly string[] | null =>
    list === null ? null : [...new Set(list)];
  return {
    name: given(change.name, before.name),
    expiresAt: given(change.expires_at, before.expiresAt),
    limit: given(change.limit_usd, before.limit),
    limitReset: given(change.limit_reset, before.limitReset),
    models: distinct(given<readonly string[] | null>(change.models, before.models)),
    ipAllowlist: distinct(given<readonly string[] | null>(change.ip_allowlist, before.ipAllowlist)),
  };
}

const UNLIMITED: KeySettings = {
  name: '',
  expiresAt: null,
  limit: null,
  limitReset: 'none',
  models: null,
  ipAllowlist: null,
};

/** A misspelt model would make a key useless without a word, so every id must be one of the catalogue's. */
async function requireKnownModels(session: Session, models: readonly string[] | null | undefined): Promise<void> {
  if (models === null || models === undefined) return;
  const known = await knownModelIds(session, models);
  const unknown = models.findIndex((model) => !known.has(model));
  if (unknown >= 0) throw invalidField(`models[${unknown}]`, 'is not a model of the catalogue');
}

const keyParams = z.strictObject({ id: id('key') });

export function keyRoutes({ management, settings: { keysMax } }: ManagementDeps): Route[] {
  const find = async (session: Session, which: { id: KeyUuid; accountId: AccountUuid }): Promise<ApiKey> => {
    const key = await findApiKey(session, which);
    if (key === null) throw new Refusal('not_found');
    return key;
  };

  return [
    accountRoute({
      method: 'post',
      path: '/api/keys',
      scope: 'keys',
      summary: 'Create a key; its secret is shown once',
      statuses: [201],
      body: newKey,
      response: newKeyView,
      async handle({ accountId, tokenId, body, log }) {
        await requireKnownModels(management, body.models);
        const { key, secret } = await createApiKey(management, {
          ...settingsOf(body, UNLIMITED),
          accountId,
          createdBy: tokenId,
          most: keysMax,
        }).catch((error: unknown) => {
          if (ledgerRefusal(error)?.code !== 'too_many_keys') throw error;
          const message = `This account has ${keysMax} API keys that are not revoked, which is its limit. Revoke one first.`;
          throw new Refusal('conflict', { message });
        });
        log.info({ account_id: formatId('account', accountId), key_id: formatId('key', key.id) }, 'key created');
        return created({ ...renderKey(key), secret });
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/keys',
      scope: 'read',
      summary: 'List keys, newest first',
      query: z.strictObject({ ...pageById, revoked: flag().optional() }),
      response: listOf(keyView),
      async handle({ accountId, query }) {
        const which = { accountId, revoked: query.revoked ?? null };
        return ok(renderPage(await listApiKeys(management, which, pageOfQuery(query)), renderKey));
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/keys/{id}',
      scope: 'read',
      summary: 'Get a key',
      params: keyParams,
      response: keyView,
      handle: async ({ accountId, params }) => ok(renderKey(await find(management, { id: params.id, accountId }))),
    }),
    accountRoute({
      method: 'patch',
      path: '/api/keys/{id}',
      scope: 'keys',
      summary: 'Change settings; absent fields stay unchanged',
      params: keyParams,
      body: keyChange,
      response: keyView,
      async handle({ accountId, params, body, log }) {
        const which = { id: params.id, accountId };
        const key = await inTransaction(management, async (client) => {
          await requireKnownModels(client, body.models);
          await lockApiKey(client, which);
          const before = await find(client, which);
          if (!(await updateApiKey(client, which, settingsOf(body, before)))) {
            throw new Refusal('conflict', { message: 'A revoked key cannot be changed.' });
          }
          return find(client, which);
        });
        log.info(
          { account_id: formatId('account', accountId), key_id: formatId('key', key.id), changed: Object.keys(body) },
          'key changed',
        );
        return ok(renderKey(key));
      },
    }),
    accountRoute({
      method: 'delete',
      path: '/api/keys/{id}',
      scope: 'keys',
      summary: 'Revoke a key permanently',
      params: keyParams,
      response: keyView,
      async handle({ accountId, params, log }) {
        const which = { id: params.id, accountId };
        if (!(await revokeApiKey(management, which))) throw new Refusal('not_found');
        log.info({ account_id: formatId('account', accountId), key_id: formatId('key', params.id) }, 'key revoked');
        return ok(renderKey(await find(management, which)));
      },
    }),
  ];
}
