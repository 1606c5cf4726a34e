/**
 * Where the contracts of a test chain stand. The tokens have the addresses of the real ones, so the product runs with
 * its production configuration. Imports nothing: the sandbox's supervisor reads it too.
 */
export type TokenName = 'USDC' | 'USDT';
export type FeedName = TokenName | 'sequencer';

/** The issuers' own tokens; a chain that is not here has {@link OTHER_TOKENS}. */
const REAL_TOKENS: Readonly<Record<number, Readonly<Record<TokenName, string>>>> = {
  1: { USDC: '0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48', USDT: '0xdAC17F958D2ee523a2206206994597C13D831ec7' },
  137: { USDC: '0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359', USDT: '0xc2132D05D31c914a87C6611C10748AEb04B58e8F' },
  8453: { USDC: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913', USDT: '0xfde4C96c8593536E31F229EA8f37b2ADa2699bb2' },
  42161: { USDC: '0xaf88d065e77c8cC2239327C5EDb3A432268e5831', USDT: '0xFd086bC7CD5C481DCC9C85ebE478A1C0b69FCbb9' },
};
const OTHER_TOKENS = {
  USDC: '0x00000000000000000000000000000000c0de0001',
  USDT: '0x00000000000000000000000000000000c0de0002',
};

export const FEEDS: Readonly<Record<FeedName, string>> = {
  USDC: '0x00000000000000000000000000000000feed0001',
  USDT: '0x00000000000000000000000000000000feed0002',
  sequencer: '0x00000000000000000000000000000000feed0003',
};
export const FAKE_TOKEN = '0x00000000000000000000000000000000bad00001';
/** The contract that pays others on. */
export const RELAY = '0x00000000000000000000000000000000be1a0001';

export function tokensOf(chainId: number): Readonly<Record<TokenName, string>> {
  return REAL_TOKENS[chainId] ?? OTHER_TOKENS;
}

export function isTokenName(token: string): token is TokenName {
  return token === 'USDC' || token === 'USDT';
}
