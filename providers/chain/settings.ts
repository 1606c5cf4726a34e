/**
 * The configuration of crypto top-ups: the wallet's public key, and for each chain its RPC vendors, tokens, price feeds
 * and how long a deposit has to wait. A chain without RPC addresses is off. Read by api (what is offered) and worker
 * (what is watched). No private key is ever configured: a private key given by mistake stops the process.
 */
import { z } from 'zod';
import {
  parseSpendableRule,
  type FinalityDepths,
  type SpendablePolicy,
  type SpendableRule,
} from '../../domain/payments/deposit.ts';
import type { PicoUsd } from '../../domain/money.ts';
import {
  commaList,
  ConfigError,
  invalidEnvironment,
  parseEnvironment,
  positiveInteger,
  seconds,
  usdInCents,
  type Environment,
} from '../../runtime/environment.ts';

interface ChainDefaults {
  readonly name: string;
  readonly tokens: { readonly USDC: string; readonly USDT: string };
  readonly smallBelow: string;
  readonly small: string;
  readonly large: string;
  /** For vendors that do not name these blocks: several times what the chain needs for them. */
  readonly depths: FinalityDepths;
}

/** Chains that are known by name, with their tokens' contracts. All of these tokens have six decimals. */
const CHAINS = {
  1: {
    name: 'Ethereum',
    tokens: {
      USDC: '0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48',
      USDT: '0xdac17f958d2ee523a2206206994597c13d831ec7',
    },
    smallBelow: '50',
    small: '12 blocks',
    large: 'finalized',
    // Finality takes two to three epochs of 32 blocks.
    depths: { safe: 64, final: 128 },
  },
  8453: {
    name: 'Base',
    tokens: {
      USDC: '0x833589fcd6edb6e08f4c7c32d4f71b54bda02913',
      USDT: '0xfde4c96c8593536e31f229ea8f37b2ada2699bb2',
    },
    smallBelow: '100',
    small: '10 blocks',
    large: 'safe',
    // Blocks of two seconds are final on Ethereum after about twenty minutes.
    depths: { safe: 900, final: 1800 },
  },
  42161: {
    name: 'Arbitrum',
    tokens: {
      USDC: '0xaf88d065e77c8cc2239327c5edb3a432268e5831',
      USDT: '0xfd086bc7cd5c481dcc9c85ebe478a1c0b69fcbb9',
    },
    smallBelow: '100',
    // Four blocks a second: a count of them says little.
    small: '20 seconds',
    large: 'safe',
    depths: { safe: 7200, final: 14_400 },
  },
  137: {
    name: 'Polygon',
    tokens: {
      USDC: '0x3c499c542cef5e3811e1192ce70d8cc03d5c3359',
      USDT: '0xc2132d05d31c914a87c6611c10748aeb04b58e8f',
    },
    smallBelow: '0',
    // Its reorganizations have been deep, its finality takes seconds.
    small: 'finalized',
    large: 'finalized',
    // Its deepest reorganization went back 157 blocks.
    depths: { safe: 256, final: 512 },
  },
} as const satisfies Record<number, ChainDefaults>;

type KnownChainId = keyof typeof CHAINS;

export const KNOWN_CHAIN_IDS: readonly KnownChainId[] = [1, 8453, 42161, 137];
export const TOKEN_SYMBOLS = ['USDC', 'USDT'] as const;
export type TokenSymbol = (typeof TOKEN_SYMBOLS)[number];

const TOKEN_DECIMALS = 6;
const ADDRESS = /^0x[0-9a-fA-F]{40}$/;

const rule = (fallback: string): z.ZodType<SpendableRule> =>
  z
    .string()
    .default(fallback)
    .transform((text, context): SpendableRule => {
      const parsed = parseSpendableRule(text);
      if (parsed !== null) return parsed;
      context.issues.push({
        code: 'custom',
        message: 'must be "<n> blocks", "<n> seconds", "safe" or "finalized"',
        input: text,
      });
      return z.NEVER;
    });

const contract = (fallback: string): z.ZodType<string | null> =>
  z
    .string()
    .default(fallback)
    .refine((text) => text === 'off' || ADDRESS.test(text), 'must be a contract (0x and 40 hex digits), or "off"')
    .transform((text) => (text === 'off' ? null : text.toLowerCase()));

const priceFeed = z
  .string()
  .regex(/^0x[0-9a-fA-F]{40}:\d{1,7}$/, 'must be <contract>:<heartbeat in seconds>')
  .transform((text): PriceFeed => {
    const [address, heartbeat] = text.split(':') as [string, string];
    return { address: address.toLowerCase(), heartbeatSeconds: Number(heartbeat) };
  })
  .optional();

const sequencerFeed = z
  .string()
  .regex(ADDRESS, 'must be a contract (0x and 40 hex digits)')
  .transform((text) => text.toLowerCase())
  .optional();

interface ChainVariables {
  RPC_URLS: typeof commaList;
  USDC_CONTRACT: z.ZodType<string | null>;
  USDT_CONTRACT: z.ZodType<string | null>;
  USDC_FEED: typeof priceFeed;
  USDT_FEED: typeof priceFeed;
  SEQUENCER_FEED: typeof sequencerFeed;
  SMALL_BELOW_USD: z.ZodType<PicoUsd>;
  SMALL_WAITS_FOR: z.ZodType<SpendableRule>;
  LARGE_WAITS_FOR: z.ZodType<SpendableRule>;
  SAFE_BLOCKS: ReturnType<typeof positiveInteger>;
  FINAL_BLOCKS: ReturnType<typeof positiveInteger>;
}

type ChainSchema = {
  [Name in keyof ChainVariables as `CHAIN_${KnownChainId}_${Name}`]: ChainVariables[Name];
};

function variablesOf(id: KnownChainId): ChainVariables {
  const { tokens, smallBelow, small, large, depths } = CHAINS[id];
  return {
    RPC_URLS: commaList,
    USDC_CONTRACT: contract(tokens.USDC),
    USDT_CONTRACT: contract(tokens.USDT),
    USDC_FEED: priceFeed,
    USDT_FEED: priceFeed,
    SEQUENCER_FEED: sequencerFeed,
    SMALL_BELOW_USD: usdInCents(smallBelow),
    SMALL_WAITS_FOR: rule(small),
    LARGE_WAITS_FOR: rule(large),
    SAFE_BLOCKS: positiveInteger(depths.safe),
    FINAL_BLOCKS: positiveInteger(depths.final),
  };
}

export const CHAIN_SCHEMA = {
  CRYPTO_XPUB: z.string().optional(),
  CRYPTO_LIVE: z.enum(['true', 'false']).default('true'),
  TOP_UP_DUST_USD: usdInCents('0.50'),
  TOP_UP_CRYPTO_FEE_PPM: z.coerce.number().int().min(0).max(500_000).default(0),
  TOP_UP_CRYPTO_FEE_FIXED_USD: usdInCents('0'),
  CHAIN_POLL_SECONDS: seconds(60),
  CHAIN_ROUND_SECONDS: seconds(2),
  CHAIN_RPC_TIMEOUT_SECONDS: seconds(10),
  CHAIN_LOG_RANGE: positiveInteger(2000),
  CHAIN_OVERLAP_BLOCKS: positiveInteger(16),
  CHAIN_PATIENCE_SECONDS: seconds(600),
  CHAIN_HEAD_AGE_SECONDS: seconds(900),
  CHAIN_PRICE_SECONDS: seconds(60),
  CHAIN_RESCAN_SECONDS: seconds(86_400),
  CHAIN_RESCAN_BACK_SECONDS: seconds(172_800),
  ...(Object.fromEntries(
    KNOWN_CHAIN_IDS.flatMap((id) =>
      Object.entries(variablesOf(id)).map(([name, schema]) => [`CHAIN_${id}_${name}`, schema] as const),
    ),
  ) as unknown as ChainSchema),
};

export interface PriceFeed {
  readonly address: string;
  /** How old its price may be: every feed has its own. */
  readonly heartbeatSeconds: number;
}

export interface ChainToken {
  readonly symbol: TokenSymbol;
  /** In lower case. */
  readonly contract: string;
  readonly decimals: number;
  /** Null: taken at par without asking anybody. */
  readonly feed: PriceFeed | null;
}

export interface Chain {
  readonly chainId: number;
  readonly name: string;
  /** Two at least, of different vendors. */
  readonly rpcUrls: readonly string[];
  readonly tokens: readonly ChainToken[];
  readonly sequencerFeed: string | null;
  readonly policy: SpendablePolicy;
  readonly depths: FinalityDepths;
}

/** How chains are watched; durations in seconds. */
export interface ChainWatch {
  /** How long one activity polls. */
  readonly pollSeconds: number;
  /** The pause between two looks at a vendor. */
  readonly roundSeconds: number;
  readonly rpcTimeoutSeconds: number;
  /** The most blocks that a vendor is asked for at once. */
  readonly logRange: number;
  /** How many blocks are read again at each look; now and then many times as many. */
  readonly overlapBlocks: number;
  /** How long vendors may contradict each other, or one be away, before a person is told. */
  readonly graceSeconds: number;
  /** How old a vendor's last block may be before a person is told. */
  readonly headAgeSeconds: number;
  /** The pause between two looks at the price feeds. */
  readonly priceSeconds: number;
  readonly rescanSeconds: number;
  readonly rescanBackSeconds: number;
}

export interface CryptoSettings {
  /** Public: it derives addresses and can spend nothing. */
  readonly xpub: string;
  readonly chains: readonly Chain[];
  readonly watch: ChainWatch;
  /** The sum that must arrive at an address before it is credited. */
  readonly minimumCredit: PicoUsd;
  readonly fee: { readonly ppm: number; readonly fixed: PicoUsd };
  /** False for test chains. */
  readonly live: boolean;
}

/** Null where crypto is not used. Adds faults of the variables to `faults`. */
export function cryptoSettings(
  env: z.output<z.ZodObject<typeof CHAIN_SCHEMA>>,
  faults: string[],
): CryptoSettings | null {
  const chains: Chain[] = [];
  for (const id of KNOWN_CHAIN_IDS) {
    const urls = env[`CHAIN_${id}_RPC_URLS`];
    if (urls.length === 0) continue;
    const name = `CHAIN_${id}_RPC_URLS`;
    if (!urls.every(isHttpUrl)) faults.push(`${name}: must be http:// or https:// addresses, separated by commas`);
    if (new Set(urls).size !== urls.length) faults.push(`${name}: names the same address twice`);
    if (urls.length < 2) faults.push(`${name}: must name two vendors at least: one alone is not believed`);
    const tokens = TOKEN_SYMBOLS.flatMap((symbol): ChainToken[] => {
      const address = env[`CHAIN_${id}_${symbol}_CONTRACT`];
      if (address === null) return [];
      return [{ symbol, contract: address, decimals: TOKEN_DECIMALS, feed: env[`CHAIN_${id}_${symbol}_FEED`] ?? null }];
    });
    const depths = { safe: env[`CHAIN_${id}_SAFE_BLOCKS`], final: env[`CHAIN_${id}_FINAL_BLOCKS`] };
    if (depths.safe > depths.final)
      faults.push(`CHAIN_${id}_SAFE_BLOCKS: must not be more than CHAIN_${id}_FINAL_BLOCKS`);
    if (tokens.length === 0) faults.push(`CHAIN_${id}_USDC_CONTRACT: one token must be left`);
    chains.push({
      chainId: id,
      name: CHAINS[id].name,
      rpcUrls: urls,
      tokens,
      sequencerFeed: env[`CHAIN_${id}_SEQUENCER_FEED`] ?? null,
      policy: {
        smallBelow: env[`CHAIN_${id}_SMALL_BELOW_USD`],
        small: env[`CHAIN_${id}_SMALL_WAITS_FOR`],
        large: env[`CHAIN_${id}_LARGE_WAITS_FOR`],
      },
      depths,
    });
  }
  const xpub = env.CRYPTO_XPUB;
  if (xpub !== undefined) checkXpub(xpub, faults);
  if (chains.length === 0 && xpub === undefined) return null;
  if (xpub === undefined) {
    faults.push('CRYPTO_XPUB: must be set where a chain has RPC addresses');
    return null;
  }
  if (chains.length === 0) {
    faults.push('CRYPTO_XPUB: is set, but no chain has RPC addresses (CHAIN_<id>_RPC_URLS)');
  }
  return {
    xpub,
    chains,
    watch: {
      pollSeconds: env.CHAIN_POLL_SECONDS,
      roundSeconds: env.CHAIN_ROUND_SECONDS,
      rpcTimeoutSeconds: env.CHAIN_RPC_TIMEOUT_SECONDS,
      logRange: env.CHAIN_LOG_RANGE,
      overlapBlocks: env.CHAIN_OVERLAP_BLOCKS,
      graceSeconds: env.CHAIN_PATIENCE_SECONDS,
      headAgeSeconds: env.CHAIN_HEAD_AGE_SECONDS,
      priceSeconds: env.CHAIN_PRICE_SECONDS,
      rescanSeconds: env.CHAIN_RESCAN_SECONDS,
      rescanBackSeconds: env.CHAIN_RESCAN_BACK_SECONDS,
    },
    minimumCredit: env.TOP_UP_DUST_USD,
    fee: { ppm: env.TOP_UP_CRYPTO_FEE_PPM, fixed: env.TOP_UP_CRYPTO_FEE_FIXED_USD },
    live: env.CRYPTO_LIVE === 'true',
  };
}

/** Crypto alone, for programs that need no other method; mistakes are reported as by a whole process. */
export function parseCryptoSettings(environment: Environment): CryptoSettings | null {
  const faults: string[] = [];
  const settings = cryptoSettings(parseEnvironment(environment, z.object(CHAIN_SCHEMA)), faults);
  if (faults.length > 0) throw new ConfigError(invalidEnvironment(faults));
  return settings;
}

const isHttpUrl = (text: string): boolean => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol);

const XPUB = /^xpub[1-9A-HJ-NP-Za-km-z]{107}$/;
export const NO_XPUB = 'CRYPTO_XPUB: must be an extended public key (xpub…)';

function checkXpub(xpub: string, faults: string[]): void {
  // The fault is stated without the value, which may be the very key that must not be anywhere.
  if (xpub.startsWith('xprv')) {
    faults.push(
      'CRYPTO_XPUB: is a private key (xprv…). Move the funds it guards; give the extended public key instead',
    );
    return;
  }
  // Its check sum is the worker's to see, which derives addresses and has the library for it.
  if (!XPUB.test(xpub)) faults.push(NO_XPUB);
}

/** A chain by its id; null where it is not configured. */
export function chainOf({ chains }: Pick<CryptoSettings, 'chains'>, chainId: number): Chain | null {
  return chains.find((chain) => chain.chainId === chainId) ?? null;
}
