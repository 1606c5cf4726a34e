/** A whole Holdfast before test chains: orders, payments and blocks at will, for tests of crypto top-ups. */
import assert from 'node:assert/strict';
import { HDNodeWallet, Mnemonic } from 'ethers';
import { Connection, Client } from '@temporalio/client';
import { createAccessToken } from '../../db/access-tokens.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import { startChainTwin, type ChainHandle, type ChainTwin } from '../../sandbox/twins/chain/twin.ts';
import { chainWorkflowId, topUpWorkflowId } from '../../workflows/contract.ts';
import { testServices } from './services.ts';
import { startTestStack, until, type TestAccount, type TestStack } from './stack.ts';
import { currentDetailsOf } from './workflow-environment.ts';

/** The operator's wallet, which the product never sees. */
const PHRASE = 'legal winner thank year wave sausage worth useful legal winner thank yellow';
export const XPUB = HDNodeWallet.fromMnemonic(Mnemonic.fromPhrase(PHRASE), "m/44'/60'/0'/0").neuter().extendedKey;

/** On a busy machine a step takes seconds. */
const PATIENCE_MS = 45_000;

export interface CryptoTopUp {
  readonly id: string;
  readonly state: string;
  readonly received_usd: string;
  readonly credited_usd: string;
  readonly deposit: {
    readonly address: string;
    readonly chains: readonly { readonly chain_id: number; readonly tokens: readonly { readonly symbol: string }[] }[];
  } | null;
  readonly deposits: readonly {
    readonly chain_id: number;
    readonly tx_hash: string;
    readonly token: string;
    readonly amount_usd: string;
    readonly state: string;
    readonly confirmations: number;
    readonly needed: number | null;
  }[];
  readonly labels: readonly string[];
  readonly expires_at: string;
}

export interface Customer extends TestAccount {
  readonly token: string;
}

export interface CryptoStack {
  readonly stack: TestStack;
  readonly twin: ChainTwin;
  chain(chainId: number): ChainHandle;
  createCustomer(): Promise<Customer>;
  call<T>(as: string, method: string, path: string, body?: unknown): Promise<{ status: number; body: T }>;
  order(customer: Customer, amountUsd?: string): Promise<CryptoTopUp & { readonly address: string }>;
  view(customer: Customer, id: string): Promise<CryptoTopUp>;
  balance(customer: Customer): Promise<PicoUsd>;
  untilState(customer: Customer, id: string, state: string): Promise<CryptoTopUp>;
  untilBalance(customer: Customer, amountUsd: string): Promise<void>;
  untilDeposits(customer: Customer, id: string, states: readonly string[]): Promise<CryptoTopUp>;
  /** Resolves once every vendor of the chain was read to the chain's present end and all that follows is booked. */
  untilRead(chainId: number): Promise<void>;
  /** What an operator reads in Temporal, of a top-up or a chain. */
  detailsOf(what: string | number): Promise<string>;
  stuckOf(what: string | number): Promise<string | null>;
  readonly temporal: Client;
  stop(): Promise<void>;
}

export async function startCryptoStack(options: {
  readonly name: string;
  readonly chains?: readonly { readonly chainId: number; readonly slotsInAnEpoch?: number }[];
  readonly vendors?: readonly string[];
  readonly env?: (twin: ChainTwin) => Readonly<Record<string, string>>;
}): Promise<CryptoStack> {
  const { chains = [{ chainId: 1 }], vendors = ['alpha', 'beta'] } = options;
  const twin = await startChainTwin({ chains: chains.map((chain) => ({ ...chain, blockSeconds: null })), vendors });
  const rpc: Record<string, string> = {};
  for (const { chainId } of chains) rpc[`CHAIN_${chainId}_RPC_URLS`] = twin.rpcUrls[String(chainId)]!.join(',');
  let stack: TestStack;
  try {
    stack = await startTestStack({
      name: options.name,
      env: {
        CRYPTO_XPUB: XPUB,
        CRYPTO_LIVE: 'false',
        CHAIN_POLL_SECONDS: '2',
        CHAIN_ROUND_SECONDS: '0.2',
        CHAIN_RPC_TIMEOUT_SECONDS: '1',
        CHAIN_PATIENCE_SECONDS: '2',
        CHAIN_PRICE_SECONDS: '0.3',
        TOP_UP_POLL_SECONDS: '2',
        TOP_UP_MIN_USD: '1',
        EVENT_AGE_SECONDS: '3',
        ...rpc,
        ...options.env?.(twin),
      },
    });
  } catch (error) {
    await twin.close();
    throw error;
  }
  const management = stack.database.pool('management', { max: 1 });
  const connection = await Connection.connect({ address: testServices().temporalAddress });
  const temporal = new Client({ connection, namespace: stack.namespaces.processes });
  const handleOf = (what: string | number) =>
    temporal.workflow.getHandle(typeof what === 'number' ? chainWorkflowId(what) : topUpWorkflowId(what));

  const crypto: CryptoStack = {
    stack,
    twin,
    temporal,
    chain: (chainId) => twin.chain(chainId),
    async createCustomer() {
      const account = await stack.createAccount('0');
      const { secret } = await createAccessToken(management, { role: 'account', accountId: account.uuid, name: 'me' });
      return { ...account, token: secret };
    },
    async call<T>(as: string, method: string, path: string, body?: unknown) {
      const response = await fetch(`${stack.baseUrl}${path}`, {
        method,
        headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      return { status: response.status, body: (await response.json()) as T };
    },
    async order({ token }, amountUsd = '10') {
      const wanted = { method: 'crypto', amount_usd: amountUsd };
      const { status, body } = await crypto.call<CryptoTopUp>(token, 'POST', '/api/top-ups', wanted);
      assert.equal(status, 201, JSON.stringify(body));
      assert.ok(body.deposit !== null, 'the address is in the answer');
      return { ...body, address: body.deposit.address };
    },
    view: async ({ token }, id) => (await crypto.call<CryptoTopUp>(token, 'GET', `/api/top-ups/${id}`)).body,
    async balance({ token }) {
      const { body } = await crypto.call<{ balance_usd: string }>(token, 'GET', '/api/account');
      return usd(body.balance_usd);
    },
    untilState: (customer, id, state) =>
      until(
        `${id} to be ${state}`,
        async () => {
          const now = await crypto.view(customer, id);
          return now.state === state && now;
        },
        PATIENCE_MS,
      ),
    async untilBalance(customer, amountUsd) {
      await until(
        `a balance of ${amountUsd}`,
        async () => (await crypto.balance(customer)) === usd(amountUsd),
        PATIENCE_MS,
      );
    },
    untilDeposits: (customer, id, states) =>
      until(
        `deposits of ${id} to be ${states.join(', ')}`,
        async () => {
          const now = await crypto.view(customer, id);
          return now.deposits.map(({ state }) => state).join() === states.join() && now;
        },
        PATIENCE_MS,
      ),
    async untilRead(chainId) {
      const { head } = twin.chain(chainId);
      await until(
        `chain ${chainId} to be read to ${head}`,
        async () => {
          const { rows } = await stack.admin.query<{ n: number }>(
            `select count(*)::int as n from chain_cursor c where chain_id = $1 and height >= $2
             and not exists (select from deposit d where d.chain_id = $1 and (d.told is distinct from d.state or d.recheck))`,
            [chainId, head],
          );
          return rows[0]!.n === vendors.length;
        },
        PATIENCE_MS,
      );
    },
    detailsOf: (what) => currentDetailsOf(handleOf(what)),
    async stuckOf(what) {
      const { typedSearchAttributes } = await handleOf(what).describe();
      return (typedSearchAttributes.getAll().find(({ key }) => key.name === 'Stuck')?.value as string | null) ?? null;
    },
    async stop() {
      await connection.close();
      await stack.stop();
      await twin.close();
    },
  };
  return crypto;
}
