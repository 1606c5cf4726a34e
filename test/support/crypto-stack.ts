/** A whole Holdfast before test chains: orders, payments and blocks at will, for tests of crypto top-ups. */
import { HDNodeWallet, Mnemonic } from 'ethers';
import { Client, Connection } from '@temporalio/client';
import { startChainTwin, type ChainHandle, type ChainTwin } from '../../twins/chain/twin.ts';
import { chainWorkflowId, topUpWorkflowId } from '../../contract/index.ts';
import { People, type Customer, type TopUpDetails } from './people.ts';
import { testServices } from './services.ts';
import { startTestStack, type TestStack } from './stack.ts';
import { until } from './until.ts';
import { currentDetailsOf } from './workflow-environment.ts';

/** The operator's wallet, which the product never sees. */
export const WALLET_PHRASE = 'legal winner thank year wave sausage worth useful legal winner thank yellow';
export const XPUB = HDNodeWallet.fromMnemonic(Mnemonic.fromPhrase(WALLET_PHRASE), "m/44'/60'/0'/0").neuter()
  .extendedKey;

export interface CryptoStack {
  readonly stack: TestStack;
  readonly twin: ChainTwin;
  readonly people: People;
  /** Of the namespace of processes. */
  readonly temporal: Client;
  chain(chainId: number): ChainHandle;
  order(customer: Customer, amountUsd?: string): Promise<TopUpDetails & { readonly address: string }>;
  untilDeposits(customer: Customer, topUpId: string, states: readonly string[]): Promise<TopUpDetails>;
  /** Resolves once every vendor of the chain was read to the chain's present end and all that follows is booked. */
  untilRead(chainId: number): Promise<void>;
  /** The text for operators in Temporal, of a top-up or a chain. */
  detailsOf(what: string | number): Promise<string>;
  stuckOf(what: string | number): Promise<string | null>;
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
  const connection = await Connection.connect({ address: testServices().temporalAddress });
  const temporal = new Client({ connection, namespace: stack.namespaces.processes });
  const handleOf = (what: string | number) =>
    temporal.workflow.getHandle(typeof what === 'number' ? chainWorkflowId(what) : topUpWorkflowId(what));

  const crypto: CryptoStack = {
    stack,
    twin,
    people: new People(stack),
    temporal,
    chain: (chainId) => twin.chain(chainId),
    async order(customer, amountUsd = '10') {
      const made = await customer.order('crypto', { amount_usd: amountUsd });
      // Where the machine is busy, the answer does not wait for the address.
      const deposit = made.deposit ?? (await until('the address', async () => (await customer.view(made.id)).deposit));
      return { ...made, deposit, address: deposit.address };
    },
    untilDeposits: (customer, topUpId, states) =>
      until(`deposits of ${topUpId} to be ${states.join(', ')}`, async () => {
        const now = await customer.view(topUpId);
        return now.deposits.map(({ state }) => state).join() === states.join() && now;
      }),
    async untilRead(chainId) {
      const { head } = twin.chain(chainId);
      await until(`chain ${chainId} to be read to ${head}`, async () => {
        const { rows } = await stack.admin.query<{ n: number }>(
          `select count(*)::int as n from chain_cursor c where chain_id = $1 and height >= $2
           and not exists (select from deposit d where d.chain_id = $1 and (d.told is distinct from d.state or d.recheck))`,
          [chainId, head],
        );
        return rows[0]!.n === vendors.length;
      });
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
