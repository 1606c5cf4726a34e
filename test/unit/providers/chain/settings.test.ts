/**
 * The configuration of crypto top-ups: what cannot be safe stops the process at its start, by name and without its
 * value.
 */
import assert from 'node:assert/strict';
import { HDNodeWallet, Mnemonic } from 'ethers';
import { z } from 'zod';
import { usd } from '../../../../domain/money.ts';
import { depositWallet } from '../../../../providers/chain/wallet.ts';
import { ConfigError, parseEnvironment, type Environment } from '../../../../runtime/environment.ts';
import { PAYMENT_SCHEMA, paymentSettings, type PaymentSettings } from '../../../../providers/payment-settings.ts';

const PHRASE = Mnemonic.fromPhrase('legal winner thank year wave sausage worth useful legal winner thank yellow');
const ACCOUNT = HDNodeWallet.fromMnemonic(PHRASE, "m/44'/60'/0'/0");
const XPUB = ACCOUNT.neuter().extendedKey;
const TWO = 'https://a.test/key1,https://b.test/key2';
const CRYPTO = { CRYPTO_XPUB: XPUB, CHAIN_1_RPC_URLS: TWO };

const settings = (environment: Environment): PaymentSettings =>
  paymentSettings(parseEnvironment(environment, z.object(PAYMENT_SCHEMA)));

describe('crypto settings', () => {
  it('crypto settings without a chain offer nothing', () => {
    assert.equal(settings({ CRYPTO_XPUB: '', CHAIN_1_RPC_URLS: '' }).crypto, null);
  });

  it('crypto settings have the tokens and the waiting times of each chain', () => {
    const env = {
      ...CRYPTO,
      CHAIN_8453_RPC_URLS: TWO,
      CHAIN_42161_RPC_URLS: TWO,
      CHAIN_137_RPC_URLS: TWO,
    };
    const { crypto, methods } = settings(env);
    assert.deepEqual(
      crypto?.chains.map(({ chainId, name, policy: { smallBelow, small, large } }) => ({
        ...{ chainId, name, smallBelow, small, large: large.kind },
      })),
      [
        {
          chainId: 1,
          name: 'Ethereum',
          smallBelow: usd('50'),
          small: { kind: 'blocks', blocks: 12 },
          large: 'finalized',
        },
        { chainId: 8453, name: 'Base', smallBelow: usd('100'), small: { kind: 'blocks', blocks: 10 }, large: 'safe' },
        {
          chainId: 42161,
          name: 'Arbitrum',
          smallBelow: usd('100'),
          small: { kind: 'seconds', seconds: 20 },
          large: 'safe',
        },
        { chainId: 137, name: 'Polygon', smallBelow: usd('0'), small: { kind: 'finalized' }, large: 'finalized' },
      ],
    );
    assert.deepEqual(
      crypto?.chains[0]?.tokens.map(({ symbol, decimals, feed }) => [symbol, decimals, feed]),
      [
        ['USDC', 6, null],
        ['USDT', 6, null],
      ],
    );
    assert.deepEqual(
      methods.map(({ method, fee }) => [method, fee.ppm]),
      [['crypto', 0]],
    );
    assert.equal(crypto.minimumCredit, usd('0.5'));
    for (const { depths } of crypto.chains) assert.ok(depths.safe >= 64 && depths.final >= 2 * depths.safe);
  });

  it('crypto settings take other rules, contracts and feeds', () => {
    const feed = `0x${'Ab'.repeat(20)}`;
    const { crypto } = settings({
      ...CRYPTO,
      CHAIN_1_SMALL_BELOW_USD: '5',
      CHAIN_1_SMALL_WAITS_FOR: 'safe',
      CHAIN_1_USDT_CONTRACT: 'off',
      CHAIN_1_USDC_FEED: `${feed}:86400`,
      CHAIN_1_SEQUENCER_FEED: feed,
    });
    const [chain] = crypto!.chains;
    assert.deepEqual(chain?.policy, { smallBelow: usd('5'), small: { kind: 'safe' }, large: { kind: 'finalized' } });
    assert.deepEqual(
      chain.tokens.map(({ symbol, feed: of }) => [symbol, of]),
      [['USDC', { address: feed.toLowerCase(), heartbeatSeconds: 86_400 }]],
    );
    assert.equal(chain.sequencerFeed, feed.toLowerCase());
  });

  const refused: readonly { name: string; env: Environment; variable: string }[] = [
    { name: 'one vendor alone', env: { ...CRYPTO, CHAIN_1_RPC_URLS: 'https://a.test' }, variable: 'CHAIN_1_RPC_URLS' },
    {
      name: 'the same vendor twice',
      env: { ...CRYPTO, CHAIN_1_RPC_URLS: 'https://a.test/k,https://a.test/k' },
      variable: 'CHAIN_1_RPC_URLS',
    },
    {
      name: 'an address that is none',
      env: { ...CRYPTO, CHAIN_1_RPC_URLS: 'https://a.test,wss://b.test' },
      variable: 'CHAIN_1_RPC_URLS',
    },
    { name: 'chains without a wallet', env: { CHAIN_1_RPC_URLS: TWO }, variable: 'CRYPTO_XPUB' },
    { name: 'a wallet without chains', env: { CRYPTO_XPUB: XPUB }, variable: 'CRYPTO_XPUB' },
    { name: 'a wallet that is none', env: { ...CRYPTO, CRYPTO_XPUB: 'xpub123' }, variable: 'CRYPTO_XPUB' },
    {
      name: 'a private key in its place',
      env: { ...CRYPTO, CRYPTO_XPUB: ACCOUNT.extendedKey },
      variable: 'CRYPTO_XPUB',
    },
    {
      name: 'no token left',
      env: { ...CRYPTO, CHAIN_1_USDC_CONTRACT: 'off', CHAIN_1_USDT_CONTRACT: 'off' },
      variable: 'CHAIN_1_USDC_CONTRACT',
    },
    {
      name: 'a contract that is none',
      env: { ...CRYPTO, CHAIN_1_USDC_CONTRACT: '0x12' },
      variable: 'CHAIN_1_USDC_CONTRACT',
    },
    {
      name: 'a feed without its heartbeat',
      env: { ...CRYPTO, CHAIN_1_USDC_FEED: `0x${'ab'.repeat(20)}` },
      variable: 'CHAIN_1_USDC_FEED',
    },
    {
      name: 'a depth that is final before it is safe',
      env: { ...CRYPTO, CHAIN_1_FINAL_BLOCKS: '10' },
      variable: 'CHAIN_1_SAFE_BLOCKS',
    },
    {
      name: 'a rule that is none',
      env: { ...CRYPTO, CHAIN_1_SMALL_WAITS_FOR: 'soon' },
      variable: 'CHAIN_1_SMALL_WAITS_FOR',
    },
  ];
  for (const { name, env, variable } of refused) {
    it(`crypto settings refuse ${name}, by name`, () => {
      assert.throws(
        () => settings(env),
        (error) => error instanceof ConfigError && error.message.includes(`${variable}: `),
      );
    });
  }

  it('faults never print a private key that was given by mistake, nor a vendor’s key', () => {
    for (const env of [
      { ...CRYPTO, CRYPTO_XPUB: ACCOUNT.extendedKey },
      { ...CRYPTO, CHAIN_1_RPC_URLS: 'https://a.test/secret,https://a.test/secret' },
    ]) {
      assert.throws(
        () => settings(env),
        (error) => error instanceof ConfigError && !/xprv\w|secret/.test(error.message),
      );
    }
  });

  it('derive the same addresses as the key that nobody here has', () => {
    const wallet = depositWallet(XPUB);
    for (const index of [0, 1, 77]) assert.equal(wallet.deriveChild(index).address, ACCOUNT.deriveChild(index).address);
    assert.throws(() => depositWallet(ACCOUNT.extendedKey));
  });
});
