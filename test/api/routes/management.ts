/**
 * The management interface on a real database, for tests: a server on a free port, a token for every role, customers
 * with requests in every state. Each successful JSON answer is checked against the schema its route documents.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { FailedAttempts } from '../../../api/http/failed-attempts.ts';
import { WebhookRefusals } from '../../../api/routes/webhooks/refusals.ts';
import { createManagementApp, managementRoutes, type ManagementDeps } from '../../../api/routes/app.ts';
import { createTokenLookup } from '../../../api/http/authenticate.ts';
import type { Route } from '../../../api/http/route.ts';
import { createAccessToken, TOKEN_ROLES, type TokenRole } from '../../../db/accounts/access-tokens.ts';
import { createPool } from '../../../db/shared/client.ts';
import type { ManualLimits } from '../../../db/accounts/manual-limits.ts';
import { createReporter } from '../../../db/shared/reporter.ts';
import { finishRequests, placeHold, type FinishRecord, type HoldRequest } from '../../../db/requests/requests.ts';
import { settleRequests } from '../../../db/requests/settlement.ts';
import { formatId, type AccountUuid, type KeyUuid, type RequestUuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { createTemporalClients } from '../../../runtime/temporal.ts';
import type { CryptoSettings } from '../../../providers/chain/settings.ts';
import { upstreamRules } from '../../../providers/upstreams/settings.ts';
import { DEFAULT_NAMESPACES, type Namespaces } from '../../../contract/index.ts';
import {
  createCustomer,
  createKey,
  createLedgerDatabase,
  endOf,
  holdOf,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';
import { rewardSettingsOf } from '../../support/reward-settings.ts';
import { upTo } from '../../support/staff.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Readonly<Record<string, unknown>>;
  readonly text: string;
}

export interface CallOptions {
  readonly token?: string | null;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Management extends LedgerDatabase {
  readonly url: string;
  readonly routes: readonly Route[];
  readonly deps: ManagementDeps;
  /** The metrics of the interface. */
  readonly registry: Registry;
  /** Lines the interface has logged, parsed. */
  readonly logged: readonly Record<string, unknown>[];
  readonly tokens: Readonly<Record<TokenRole, string>>;
  /** The customer of `tokens.account`, with 10 USD. */
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
  /** As `tokens.operator` unless the path is a customer's or `token` says otherwise; null sends none. */
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  stop(): Promise<void>;
}

export interface ManagementOptions {
  /** Default: nobody listens there. */
  readonly temporal?: { readonly address: string; readonly namespaces: Namespaces };
  /** The way the interface reaches the database; the fixture itself goes straight. */
  readonly throughProxy?: (databaseUrl: string) => string;
  /** The same for reports alone. */
  readonly reportsThroughProxy?: (databaseUrl: string) => string;
  readonly callTimeoutSeconds?: number;
  /** Default: no chain is configured. */
  readonly crypto?: CryptoSettings | null;
  /** The sums one person may move alone; default: no bound but each kind's own threshold. */
  readonly manualLimits?: ManualLimits;
}

/** Nobody listens on port 1. */
const NO_TEMPORAL = { address: '127.0.0.1:1', namespaces: DEFAULT_NAMESPACES };

export async function startManagement(
  name: string,
  {
    temporal = NO_TEMPORAL,
    throughProxy = (url) => url,
    reportsThroughProxy = throughProxy,
    callTimeoutSeconds = 20,
    crypto = null,
    manualLimits = upTo('0'),
  }: ManagementOptions = {},
): Promise<Management> {
  const ledger = await createLedgerDatabase(name);
  const databaseUrl = throughProxy(ledger.database.url);
  const pool = createPool({ url: databaseUrl, role: 'management', max: 4 });
  const reporter = createReporter({ url: reportsThroughProxy(ledger.database.url), max: 4 });
  const clients = createTemporalClients(temporal.address, temporal.namespaces);
  const logged: Record<string, unknown>[] = [];
  const registry = new Registry();
  const failures = new FailedAttempts({ logger: pino({ level: 'silent' }), registry });
  const logger = pino(
    { level: 'info' },
    { write: (line) => void logged.push(JSON.parse(line) as Record<string, unknown>) },
  );
  const deps: ManagementDeps = {
    management: pool,
    webhooks: pool,
    strangers: pool,
    reporter,
    exportReporter: reporter,
    tokens: createTokenLookup(pool, failures),
    failures,
    webhookRefusals: new WebhookRefusals({ pool, logger, registry }),
    temporal: { ...clients, namespaces: temporal.namespaces },
    settings: {
      priceLeadSeconds: 300,
      keysMax: 100,
      tokensMax: 100,
      adjustmentApprovalThreshold: usd('100'),
      refundApprovalThreshold: usd('1'),
      manualLimits,
      commissions: { rateMaxPpm: 500_000, holdMinDays: 0 },
      priceCutPpm: 900_000,
      upstreams: upstreamRules({
        UPSTREAM_PROVIDER_KEY: 'sk-provider',
        UPSTREAM_PROVIDER_KEY_HOSTS: 'api.provider.test',
        UPSTREAM_PRIVATE_HOSTS: '10.0.0.5:9000',
      }),
      referralKey: 'a key for tests, 32 characters or more',
      referralLandingUrl: null,
      receipts: { seller: ['Test Seller Ltd.', '1 Harbour Road, Bristol'], footer: 'No VAT is charged.' },
      payments: {
        stripe: null,
        creem: null,
        crypto,
        methods: [],
        expirySeconds: 3600,
        openMax: 20,
        publicUrl: 'http://holdfast.test',
        topUpRun: { pollSeconds: 1, pollMaxSeconds: 5, runSeconds: 3600 },
      },
      rewards: rewardSettingsOf(),
      temporalUiUrl: 'http://ui.test/',
      trustedProxies: [],
      callTimeoutSeconds,
    },
    logger,
  };
  const server = createServer(createManagementApp(deps));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  const accountId = await createCustomer(ledger, '10');
  const keyId = await createKey(ledger, accountId);
  const tokens = {} as Record<TokenRole, string>;
  for (const role of TOKEN_ROLES) tokens[role] = await tokenOf(ledger, role, role === 'account' ? accountId : null);
  const routes = managementRoutes(deps);

  return {
    ...ledger,
    url,
    routes,
    deps,
    registry,
    logged,
    tokens,
    accountId,
    keyId,
    async call(
      method,
      path,
      { token = path.startsWith('/api/') ? tokens.account : tokens.operator, body, headers } = {},
    ) {
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      assert.match(response.headers.get('x-request-id') ?? '', /^req_[0-9a-f]{32}$/);
      const isJson = response.headers.get('content-type')?.startsWith('application/json') === true && text !== '';
      const answer = {
        status: response.status,
        headers: response.headers,
        text,
        body: isJson ? (JSON.parse(text) as Answer['body']) : {},
      };
      assert.notEqual(answer.status, 500, `${method} ${path}: ${JSON.stringify(logged.at(-1))}`);
      if (isJson) checkDocumented(routes, method, path, answer);
      return answer;
    },
    async stop() {
      await stopServer(server);
      await Promise.all([pool.end(), reporter.end({ timeout: 5 })]);
      await clients.close();
      await ledger.database.drop();
    },
  };
}

async function stopServer(server: Server): Promise<void> {
  server.close();
  server.closeAllConnections();
  await once(server, 'close');
}

export async function tokenOf(ledger: LedgerDatabase, role: TokenRole, accountId: AccountUuid | null): Promise<string> {
  const { secret } = await createAccessToken(ledger.management, { role, accountId, name: `the ${role}` });
  return secret;
}

/** Fails when an answer has a field its route does not document, lacks one, or is no documented refusal. */
function checkDocumented(routes: readonly Route[], method: string, path: string, { status, body }: Answer): void {
  if (status >= 400) {
    const { message, type, param, code } = body['error'] as Record<string, unknown>;
    assert.deepEqual(body, { error: { message, type, param, code } });
    for (const text of [message, type, code]) assert.equal(typeof text, 'string');
    return;
  }
  const route = routes.find(
    (candidate) => candidate.method === method.toLowerCase() && pathPattern(candidate.path).test(path),
  );
  if (route === undefined) return;
  assert.ok(route.statuses.includes(status), `${method} ${path} documents status ${status}`);
  assert.deepEqual(route.response.parse(body), body, `${method} ${path} answers what it documents`);
}

function pathPattern(path: string): RegExp {
  const pattern = path
    .replaceAll('.', '\\.')
    .replaceAll(/\{\+\w+\}/g, '.+')
    .replaceAll(/\{\w+\}/g, '[^/?]+');
  return new RegExp(`^${pattern}(\\?.*)?$`);
}

/** The body of a refusal; fails when the answer is none. */
export function refusal({ status, body }: Answer): { status: number; code: string; param: string | null } {
  const error = body['error'] as { code: string; param: string | null } | undefined;
  assert.ok(error !== undefined, `status ${status} is a refusal`);
  return { status, code: error.code, param: error.param };
}

/** A request of the fixture's customer that has been held, and no more. */
export async function heldRequest(management: Management, given: Partial<HoldRequest> = {}): Promise<RequestUuid> {
  const hold = holdOf(management, '0.5', given);
  await placeHold(management.gateway, hold);
  return hold.requestId;
}

/** A request that has ended and is not settled; `listCost` is decimal USD. */
export async function finishedRequest(
  management: Management,
  listCost: string,
  given: { hold?: Partial<HoldRequest>; end?: Partial<FinishRecord> } = {},
): Promise<RequestUuid> {
  const requestId = await heldRequest(management, given.hold);
  await finishRequests(management.gateway, [endOf(requestId, listCost, given.end)]);
  return requestId;
}

/** A settled request. */
export async function settledRequest(
  management: Management,
  listCost: string,
  given: { hold?: Partial<HoldRequest>; end?: Partial<FinishRecord> } = {},
): Promise<RequestUuid> {
  const requestId = await finishedRequest(management, listCost, given);
  await settleRequests(management.worker, [requestId], `meter/${formatId('request', requestId)}`);
  return requestId;
}

/** Some fields of an answer, in this order. */
export function pick(body: Readonly<Record<string, unknown>>, ...fields: readonly string[]): unknown[] {
  return fields.map((field) => body[field]);
}

/** An answer but for some fields. */
export function without(
  body: Readonly<Record<string, unknown>>,
  ...fields: readonly string[]
): Record<string, unknown> {
  return Object.fromEntries(Object.entries(body).filter(([field]) => !fields.includes(field)));
}

/** A text field of an answer; fails when it is none. */
export function textOf(body: Readonly<Record<string, unknown>>, field: string): string {
  const value = body[field];
  assert.ok(typeof value === 'string', `${field} is a text`);
  return value;
}

/** The rows of a list answer. */
export function rowsOf(body: Readonly<Record<string, unknown>>): Record<string, unknown>[] {
  assert.ok(Array.isArray(body['data']));
  return body['data'] as Record<string, unknown>[];
}

/** All rows of a list, page by page of `limit`; `between` runs after each page. */
export async function readPages(
  management: Management,
  path: string,
  { limit, token, between }: { limit: number; token?: string; between?: () => Promise<unknown> },
): Promise<Record<string, unknown>[]> {
  const rows: Record<string, unknown>[] = [];
  for (let cursor = ''; ;) {
    const { status, body } = await management.call(
      'GET',
      `${path}?limit=${limit}${cursor}`,
      token === undefined ? {} : { token },
    );
    assert.equal(status, 200);
    assert.ok(rowsOf(body).length <= limit);
    rows.push(...rowsOf(body));
    await between?.();
    if (body['next_cursor'] === null) return rows;
    cursor = `&cursor=${textOf(body, 'next_cursor')}`;
  }
}
