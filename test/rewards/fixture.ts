/**
 * A stack before the Discord twin, with what the tests of rewards do in it: accounts that link, people who vote and
 * boost.
 */
import assert from 'node:assert/strict';
import { Client, Connection } from '@temporalio/client';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { productEnvironment } from '../../twins/discord/config.ts';
import { startDiscordTwin, type DiscordTwin } from '../../twins/discord/twin.ts';
import { Caller, People, type Answer, type Customer } from '../support/people.ts';
import { testServices } from '../support/services.ts';
import { startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { startTcpProxyFor, type TcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';

export type { Customer } from '../support/people.ts';

export interface RewardsView {
  readonly rule_version: string;
  readonly discord: {
    readonly linked: boolean;
    readonly discord_user_id: string | null;
    readonly stale_at: string | null;
  };
  readonly sites: readonly { readonly site: string; readonly next_vote_at: string | null }[];
  readonly earned: readonly { readonly kind: string; readonly count: number; readonly total_usd: string }[];
  readonly waiting: readonly { readonly id: string; readonly kind: string; readonly reason: string | null }[];
  readonly denials: readonly { readonly kind: string; readonly reason: string; readonly message: string }[];
}

export interface RewardsFixture {
  readonly twin: DiscordTwin;
  readonly stack: TestStack;
  readonly databaseProxy: TcpProxy;
  readonly temporalProxy: TcpProxy;
  /** Of the namespace of processes, past the proxy. */
  readonly temporal: Client;
  /** A token of a role; two operators are two people. */
  staff(role: 'operator' | 'finance' | 'support', name: string): Promise<string>;
  customer(): Promise<Customer>;
  call<T>(method: string, path: string, as: string, body?: unknown): Promise<Answer<T>>;
  rewards(customer: Customer): Promise<RewardsView>;
  balance(account: TestAccount): Promise<PicoUsd>;
  /** A user of Discord, in the server, old enough to be linked. */
  person(given?: { account_age_days?: number; join?: boolean }): Promise<string>;
  control<T>(path: string, body?: unknown): Promise<T>;
  /** Allows the link at Discord; returns the callback's path and query. */
  authorize(address: string, discordUserId: string): Promise<string>;
  link(customer: Customer, discordUserId: string): Promise<Answer<{ outcome: string; message: string }>>;
  untilBalance(account: TestAccount, amount: string): Promise<void>;
  close(): Promise<void>;
}

/** As the twin is told, so that it sends people back there; the tests call the api's own address. */
const PUBLIC_URL = 'http://product.test';

export async function startRewards(name: string, env: Readonly<Record<string, string>> = {}): Promise<RewardsFixture> {
  const twin = await startDiscordTwin({ retrySecondMs: 50 });
  const temporalProxy = await startTcpProxyFor(`http://${testServices().temporalAddress}`);
  let databaseProxy: TcpProxy | null = null;
  const stack = await startTestStack({
    name,
    env: {
      ...productEnvironment(twin),
      PUBLIC_URL,
      EVENT_AGE_SECONDS: '2',
      REWARD_VOTE_DAILY_USD: '1000',
      REWARD_BOOST_DAILY_USD: '1000',
      ...env,
    },
    temporalAddress: temporalProxy.address,
    databaseUrl: async (url) => {
      databaseProxy = await startTcpProxyFor(url);
      return databaseProxy.through(url);
    },
  });
  const connection = await Connection.connect({ address: testServices().temporalAddress });
  const temporal = new Client({ connection, namespace: stack.namespaces.processes });
  const people = new People(stack);
  await twin.control('POST', 'webhooks', { url: `${stack.baseUrl}/webhooks` });
  let users = 0;

  const fixture: RewardsFixture = {
    twin,
    stack,
    temporal,
    temporalProxy,
    databaseProxy: databaseProxy!,
    staff: async (role, tokenName) => (await people.staff(tokenName, role)).token,
    customer: () => people.customer(),
    call: (method, path, as, body) => new Caller(stack, as).call(method, path, body),
    async rewards(customer) {
      const { status, body } = await fixture.call<RewardsView>('GET', '/api/rewards', customer.token);
      assert.equal(status, 200, JSON.stringify(body));
      return body;
    },
    async balance({ uuid }) {
      const { rows } = await stack.admin.query<{ balance: string }>('select balance from account where id = $1', [
        uuid,
      ]);
      return usd(rows[0]!.balance);
    },
    async person({ account_age_days = 400, join = true } = {}) {
      const user = await fixture.control<{ id: string }>('users', {
        username: `person${++users}`,
        account_age_days,
        join,
      });
      return user.id;
    },
    async control<T>(path: string, body: unknown = {}) {
      const { status, body: answer } = await twin.control('POST', path, body);
      assert.equal(status, 200, JSON.stringify(answer));
      return answer as T;
    },
    async authorize(address, discordUserId) {
      const { searchParams } = new URL(address);
      const { location } = await fixture.control<{ location: string }>(`users/${discordUserId}/authorize`, {
        scopes: searchParams.get('scope'),
        redirect_uri: searchParams.get('redirect_uri'),
        state: searchParams.get('state'),
      });
      assert.ok(location.startsWith(PUBLIC_URL), location);
      return location.slice(PUBLIC_URL.length);
    },
    async link(customer, discordUserId) {
      const begun = await fixture.call<{ authorize_url: string }>('GET', '/api/discord/link', customer.token);
      assert.equal(begun.status, 200, JSON.stringify(begun.body));
      return fixture.call('GET', await fixture.authorize(begun.body.authorize_url, discordUserId), customer.token);
    },
    async untilBalance(account, amount) {
      await until(`${amount} USD`, async () => (await fixture.balance(account)) === usd(amount));
    },
    async close() {
      await stack.stop();
      await Promise.all([twin.close(), temporalProxy.close(), databaseProxy?.close(), connection.close()]);
    },
  };
  return fixture;
}
