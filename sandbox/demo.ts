/**
 * Content of a fresh sandbox, so that the printed `curl` works: the catalogue of models.json served by the upstream
 * twin, two operators, and a demo account with $5, a management token and an API key. Every step can be repeated: a
 * restart finds what is there and credits nothing twice. Secrets are made once and kept in the data dir (0600).
 */
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { uuidv7 } from 'uuidv7';
import { actorOf, createAccessToken, findAccessToken } from '../db/accounts/access-tokens.ts';
import { createAccount } from '../db/accounts/accounts.ts';
import { createApiKey, findKeyByHash } from '../db/accounts/api-keys.ts';
import { loadCatalogue, type CatalogueModel, type Upstream } from '../db/requests/catalogue.ts';
import { createPool } from '../db/shared/client.ts';
import { API_KEY_PREFIX, TOKEN_PREFIX, hashSecret, newSecret } from '../db/shared/secrets.ts';
import { formatId, type AccountUuid } from '../domain/ids.ts';
import { usd } from '../domain/money.ts';
import { readJsonFile, writeFileAtomic } from '../twins/kit/files.ts';
import { fund, type Funders } from './funding.ts';

/** The demo account's balance at its first start. */
const DEMO_CREDIT = usd('5');
/** The environment variable that the catalogue names as holding the twin's key. */
export const TWIN_KEY_VARIABLE = 'UPSTREAM_TWIN_KEY';

interface Secrets {
  readonly operator_token: string;
  readonly second_operator_token: string;
  readonly management_token: string;
  readonly api_key: string;
  readonly auditor_password: string;
  /** The id of the one credit: what makes it happen once. */
  readonly credit_id: string;
}

export interface Demo {
  readonly operatorToken: string;
  /** Another person's, for what one person may not approve alone. */
  readonly secondOperatorToken: string;
  readonly accountId: string;
  readonly managementToken: string;
  readonly apiKey: string;
  readonly model: string;
  readonly freeModel: string;
  readonly auditorPassword: string;
}

export interface DemoOptions {
  /** The login of `DATABASE_URL`; the database is migrated. */
  readonly databaseUrl: string;
  readonly modelsFile: string;
  readonly secretsFile: string;
  /** Base of the upstream twin, without `/v1`. */
  readonly twinUrl: string;
}

export async function seedDemo(options: DemoOptions): Promise<Demo> {
  const secrets = loadSecrets(options.secretsFile);
  const models = sandboxCatalogue(options.modelsFile, options.twinUrl);
  const management = createPool({ url: options.databaseUrl, role: 'management', max: 1 });
  // Only the gateway's role may look a key up by its secret.
  const gateway = createPool({ url: options.databaseUrl, role: 'gateway', max: 1 });
  try {
    await loadCatalogue(management, models);
    const operator = async (name: string, secret: string): Promise<string> =>
      actorOf((await createAccessToken(management, { role: 'operator', accountId: null, name, secret })).token);
    const funders = {
      approves: await operator('sandbox operator', secrets.operator_token),
      asks: await operator('second sandbox operator', secrets.second_operator_token),
    };
    const accountId = await ensureAccount({ management, gateway, funders }, secrets);
    return {
      operatorToken: secrets.operator_token,
      secondOperatorToken: secrets.second_operator_token,
      accountId: formatId('account', accountId),
      managementToken: secrets.management_token,
      apiKey: secrets.api_key,
      model: firstModel(models, (model) => !isFree(model) && model.prices.output !== undefined),
      freeModel: firstModel(models, isFree),
      auditorPassword: secrets.auditor_password,
    };
  } finally {
    await Promise.all([management.end(), gateway.end()]);
  }
}

/** Lets the read-only auditor log in with its password; only for a cluster that is the sandbox's own. */
export async function openAuditorLogin(adminUrl: string, password: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl });
  await client.connect();
  try {
    await client.query(`alter role holdfast_auditor login password ${client.escapeLiteral(password)}`);
    await client.query('alter role holdfast_auditor set search_path = holdfast');
  } finally {
    await client.end();
  }
}

/** Upstreams without an address are the twin's; its port may change from start to start. */
function sandboxCatalogue(modelsFile: string, twinUrl: string): CatalogueModel[] {
  const twin = {
    base_url: `${twinUrl}/v1`,
    api_key_env: TWIN_KEY_VARIABLE,
    lookup: `${twinUrl}/_twin/requests/{request_id}`,
  };
  return readCatalogue(modelsFile).map((model) => ({
    ...model,
    upstreams: model.upstreams.map((upstream) => (isTwin(upstream) ? { ...upstream, ...twin } : upstream)),
  }));
}

function readCatalogue(modelsFile: string): CatalogueModel[] {
  return JSON.parse(readFileSync(modelsFile, 'utf8')) as CatalogueModel[];
}

function isTwin(upstream: Upstream): boolean {
  return upstream.base_url === '';
}

/** The names under which the twin is asked for the catalogue's models, comma-separated. */
export function twinModels(modelsFile: string): string {
  const names = readCatalogue(modelsFile).flatMap(({ upstreams }) =>
    upstreams.filter(isTwin).map(({ model }) => model),
  );
  return [...new Set(names)].join(',');
}

/** The management token leads to the account, so a start that was cut off between two steps goes on where it was. */
async function ensureAccount(
  { management, gateway, funders }: { management: pg.Pool; gateway: pg.Pool; funders: Funders },
  secrets: Secrets,
): Promise<AccountUuid> {
  const known = await findAccessToken(management, secrets.management_token);
  const accountId = known?.accountId ?? (await createAccount(management, { name: 'Demo', email: null })).id;
  if (known === null) {
    await createAccessToken(management, { role: 'account', accountId, name: 'demo', secret: secrets.management_token });
  }
  await fund(management, funders, { id: secrets.credit_id, accountId, amount: DEMO_CREDIT, reason: 'demo balance' });
  if ((await findKeyByHash(gateway, hashSecret(secrets.api_key))) === null) {
    await createApiKey(management, {
      accountId,
      name: 'demo',
      expiresAt: null,
      limit: null,
      limitReset: 'none',
      models: null,
      ipAllowlist: null,
      secret: secrets.api_key,
    });
  }
  return accountId;
}

function isFree(model: CatalogueModel): boolean {
  return model.id.endsWith(':free');
}

function firstModel(models: readonly CatalogueModel[], wanted: (model: CatalogueModel) => boolean): string {
  const found = models.find(wanted);
  if (found === undefined) throw new Error('models.json needs a paid model and one whose id ends in ":free"');
  return found.id;
}

function loadSecrets(file: string): Secrets {
  const known = readJsonFile(file);
  if (known !== null) return known as Secrets;
  const secrets: Secrets = {
    operator_token: newSecret(TOKEN_PREFIX),
    second_operator_token: newSecret(TOKEN_PREFIX),
    management_token: newSecret(TOKEN_PREFIX),
    api_key: newSecret(API_KEY_PREFIX),
    auditor_password: randomBytes(24).toString('base64url'),
    credit_id: uuidv7(),
  };
  writeFileAtomic(file, `${JSON.stringify(secrets, null, 2)}\n`);
  return secrets;
}
