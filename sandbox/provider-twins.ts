/**
 * The stand-ins of outside providers that `npm start` runs, one entry each: where its program is, what it is told, and
 * the variables that api and worker get for it. A provider whose own variable is set is the real one, and has no
 * stand-in.
 */
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readJsonFile, writeFileAtomic } from '../twins/kit/files.ts';
import { FEEDS } from '../twins/chain/addresses.ts';
import { DEFAULT_TOPGG_PROJECT } from '../twins/discord/directories/sites.ts';
import { DEFAULT_APPLICATION } from '../twins/discord/application.ts';
import { productEnvironment, sharedEnvironment } from '../twins/discord/config.ts';
import { signingKeyOf } from '../twins/discord/keys.ts';
import type { DiscordTwin } from '../twins/discord/twin.ts';

export interface TwinContext {
  /** The twin's own base URL. */
  readonly url: string;
  /** Where the product will be reached. */
  readonly apiUrl: string;
  /** Where customers' browsers find the product. */
  readonly publicUrl: string;
  /** The twin's files. */
  readonly folder: string;
}

export interface ProviderTwin {
  /** Names the part, its log file and its port. */
  readonly name: 'stripe' | 'creem' | 'discord' | 'chain';
  readonly title: string;
  /** Set: the real provider is used. */
  readonly variable: string;
  /** Further variables of which each alone means the same. */
  readonly otherVariables?: readonly string[];
  /** `off`: neither the real provider nor this stand-in. */
  readonly switchVariable?: string;
  /** Its money would be spent as real money is: it has no place beside a real account that takes real money. */
  readonly takesMoney?: boolean;
  readonly portVariable: string;
  readonly script: string;
  /** Answers 200 once the twin is ready. */
  readonly readyPath: string;
  /** The twin's environment beside `TWIN_HOST` and `TWIN_PORT`. */
  twinEnv(context: TwinContext): NodeJS.ProcessEnv;
  /** Variables for api and worker. */
  productEnv(context: TwinContext): NodeJS.ProcessEnv;
}

export const PROVIDER_TWINS: readonly ProviderTwin[] = [
  {
    name: 'stripe',
    title: 'Stripe',
    variable: 'STRIPE_SECRET_KEY',
    takesMoney: true,
    portVariable: 'HOLDFAST_STRIPE_TWIN_PORT',
    script: 'twins/stripe/main.ts',
    readyPath: '/_twin/state',
    twinEnv: ({ apiUrl, folder }) => ({
      TWIN_WEBHOOK_URL: `${apiUrl}/webhooks/stripe`,
      TWIN_WEBHOOK_SECRETS: stripeSecret(folder),
      TWIN_DATA_FILE: join(folder, 'stripe.json'),
    }),
    productEnv: ({ url, folder }) => ({
      STRIPE_SECRET_KEY: 'sk_test_sandbox',
      STRIPE_WEBHOOK_SECRETS: stripeSecret(folder),
      STRIPE_API_URL: url,
    }),
  },
  {
    name: 'creem',
    title: 'Creem',
    variable: 'CREEM_API_KEY',
    takesMoney: true,
    portVariable: 'HOLDFAST_CREEM_TWIN_PORT',
    script: 'twins/creem/main.ts',
    readyPath: '/_twin/state',
    twinEnv: ({ apiUrl, folder }) => ({
      TWIN_WEBHOOK_URL: `${apiUrl}/webhooks/creem`,
      TWIN_WEBHOOK_SECRETS: creemSecret(folder),
      TWIN_PRODUCT_ID: CREEM_PRODUCT,
      TWIN_DATA_FILE: join(folder, 'creem.json'),
    }),
    productEnv: ({ url, folder }) => ({
      CREEM_API_KEY: 'creem_test_sandbox',
      CREEM_MODE: 'test',
      CREEM_WEBHOOK_SECRETS: creemSecret(folder),
      CREEM_PRODUCT_ID: CREEM_PRODUCT,
      CREEM_API_URL: url,
    }),
  },
  {
    name: 'discord',
    title: 'Discord',
    variable: 'DISCORD_CLIENT_ID',
    takesMoney: true,
    portVariable: 'HOLDFAST_DISCORD_TWIN_PORT',
    script: 'twins/discord/main.ts',
    readyPath: '/_twin/state',
    twinEnv: ({ apiUrl, publicUrl, folder }) => {
      const { application, voteSecrets, topggProjectId } = discordIdentity(folder);
      return {
        ...sharedEnvironment(application, voteSecrets, topggProjectId),
        TWIN_SIGNING_SEED: discordSecret(folder, 'signing key'),
        TWIN_REDIRECT_URIS: `${publicUrl}/api/discord/callback`,
        TWIN_WEBHOOK_URL: `${apiUrl}/webhooks`,
        TWIN_DATA_FILE: join(folder, 'discord.json'),
      };
    },
    productEnv: ({ url, folder }) => productEnvironment({ url, ...discordIdentity(folder) }),
  },
  {
    name: 'chain',
    title: 'chain',
    variable: 'CHAIN_8453_RPC_URLS',
    otherVariables: ['CHAIN_1_RPC_URLS', 'CHAIN_42161_RPC_URLS', 'CHAIN_137_RPC_URLS'],
    switchVariable: 'HOLDFAST_CHAIN_TWIN',
    takesMoney: true,
    portVariable: 'HOLDFAST_CHAIN_TWIN_PORT',
    script: 'twins/chain/main.ts',
    readyPath: '/state',
    twinEnv: ({ folder }) => ({
      TWIN_CHAINS: '8453:1,1:2',
      // `safe` is no nearer to the head than what a small deposit waits for, as on the real chains.
      TWIN_SLOTS_IN_AN_EPOCH: '12',
      TWIN_DATA_FOLDER: chainFolder(folder),
    }),
    productEnv: ({ url, folder }) => ({
      CRYPTO_XPUB: operatorXpub(folder),
      CRYPTO_LIVE: 'false',
      ...Object.fromEntries(
        Object.entries(chainRpcUrls(url)).flatMap(([id, urls]) => [
          [`CHAIN_${id}_RPC_URLS`, urls.join(',')],
          [`CHAIN_${id}_USDC_FEED`, `${FEEDS.USDC}:${FEED_HEARTBEAT_SECONDS}`],
          [`CHAIN_${id}_USDT_FEED`, `${FEEDS.USDT}:${FEED_HEARTBEAT_SECONDS}`],
        ]),
      ),
      CHAIN_8453_SEQUENCER_FEED: FEEDS.sequencer,
    }),
  },
];

/** As Chainlink promises for its stablecoin feeds. */
const FEED_HEARTBEAT_SECONDS = 86_400;

/** Chain id → the vendors' addresses; what `stack.json` says too. */
export function chainRpcUrls(url: string): Readonly<Record<string, readonly string[]>> {
  const vendors = (chainId: number): string[] => ['alpha', 'beta'].map((vendor) => `${url}/rpc/${chainId}/${vendor}`);
  return { 1: vendors(1), 8453: vendors(8453) };
}

const chainFolder = (folder: string): string => join(folder, 'chain');

/** The twin has made its wallet by the time that it is ready. */
function operatorXpub(folder: string): string {
  const wallet = readJsonFile(join(chainFolder(folder), 'operator-wallet.json')) as { readonly xpub: string } | null;
  if (wallet === null) throw new Error('the chain twin has made no wallet');
  return wallet.xpub;
}

const CREEM_PRODUCT = 'prod_credit';

const stripeSecret = (folder: string): string => `whsec_${storedSecret(join(folder, 'stripe-webhook-secret'))}`;
/** Hexadecimal digits in a multiple of four are base64 as well, as Standard Webhooks want their key. */
const creemSecret = (folder: string): string => `whsec_${storedSecret(join(folder, 'creem-webhook-secret'))}`;

/** The ids are the twin's own; the secrets are made once per data dir. */
function discordIdentity(folder: string): Pick<DiscordTwin, 'application' | 'voteSecrets' | 'topggProjectId'> {
  const secret = (purpose: string): string => discordSecret(folder, purpose);
  return {
    application: {
      ...DEFAULT_APPLICATION,
      clientSecret: secret('client secret'),
      botToken: secret('bot token'),
      signingKey: signingKeyOf(secret('signing key')),
    },
    voteSecrets: {
      topgg: `whs_${secret('topgg')}`,
      'topgg-v0': secret('topgg-v0'),
      discordbotlist: secret('discordbotlist'),
      discordplace: secret('discordplace'),
      guildsme: secret('guildsme'),
    },
    topggProjectId: DEFAULT_TOPGG_PROJECT,
  };
}

/** All come from one kept value, and none of them tells another. */
function discordSecret(folder: string, purpose: string): string {
  const kept = storedSecret(join(folder, 'discord-secrets'));
  return createHmac('sha256', kept).update(purpose).digest('hex');
}

/** Whether a real account is used that takes real money. */
export function takesRealMoney(env: NodeJS.ProcessEnv): boolean {
  const { STRIPE_SECRET_KEY: stripe = '', CREEM_API_KEY: creem = '', CREEM_MODE: mode } = env;
  const realChain = Object.entries(env).some(([name, value]) => /^CHAIN_\d+_RPC_URLS$/.test(name) && value !== '');
  return (
    stripe.includes('_live_') ||
    (creem !== '' && mode !== 'test' && !creem.startsWith('creem_test_')) ||
    (realChain && env['CRYPTO_LIVE'] !== 'false')
  );
}

/** A random value that is made once per data dir. */
export function storedSecret(file: string): string {
  if (!existsSync(file)) writeFileAtomic(file, randomBytes(24).toString('hex'));
  return readFileSync(file, 'utf8');
}
