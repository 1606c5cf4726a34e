/** The settings of the chain twin, and the product's settings for it: a stand-in must fit where a real chain will. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { HDNodeWallet } from 'ethers';
import { contractSources, sourcesSha256 } from '../../../twins/chain/solidity/sources.ts';
import { chainRpcUrls, PROVIDER_TWINS, takesRealMoney } from '../../../sandbox/provider-twins.ts';
import { FEEDS } from '../../../twins/chain/addresses.ts';
import { optionsFromEnvironment } from '../../../twins/chain/config.ts';
import { ARTIFACTS } from '../../../twins/chain/tokens.ts';
import { operatorWalletFile } from '../../../twins/chain/wallet.ts';
import { parseWorkerConfig } from '../../../worker/config.ts';
import { BASE, ChainProcesses, decimalsOf, provider } from './fixture.ts';

describe('chain twin: configuration', () => {
  let processes: ChainProcesses;

  beforeEach(() => {
    processes = new ChainProcesses();
  });
  afterEach(() => processes.end());

  it('the product’s wallet derives the addresses that the operator’s phrase can spend from', async () => {
    await processes.start();
    const file = readFileSync(operatorWalletFile(processes.twinFolder), 'utf8');
    const { phrase, path, xpub } = JSON.parse(file) as { phrase: string; path: string; xpub: string };
    const secret = HDNodeWallet.fromPhrase(phrase, undefined, `${path}/7`);
    assert.equal(HDNodeWallet.fromExtendedKey(xpub).deriveChild(7).address, secret.address);
    assert.match(xpub, /^xpub/);
  });

  it('what the sandbox tells the product of the twin is a configuration that the product takes', async () => {
    const { folder } = processes;
    const { url } = await processes.start();
    const sandbox = PROVIDER_TWINS.find(({ name }) => name === 'chain');
    assert(sandbox);
    const env = sandbox.productEnv({ url, apiUrl: 'http://api.test', publicUrl: 'http://api.test', folder });
    const { payments } = parseWorkerConfig({
      ...env,
      DATABASE_URL: 'postgres://nobody@localhost/nothing',
      TEMPORAL_ADDRESS: 'localhost:1',
    });
    assert.equal(payments.crypto?.live, false);
    assert.deepEqual(
      payments.crypto.chains.map(({ chainId, rpcUrls, sequencerFeed }) => [chainId, rpcUrls, sequencerFeed]),
      [
        [1, chainRpcUrls(url)['1'], null],
        [BASE, chainRpcUrls(url)[String(BASE)], FEEDS.sequencer],
      ],
    );
    const reader = provider(payments.crypto.chains[1]?.rpcUrls[1] ?? '');
    for (const { contract, feed, decimals } of payments.crypto.chains[1]?.tokens ?? []) {
      assert.equal(await decimalsOf(reader, contract), BigInt(decimals));
      assert.equal(await decimalsOf(reader, feed?.address ?? ''), 8n);
    }
    reader.destroy();
  });

  it('a real chain leaves no stand-in that takes money, a test chain of one’s own does', () => {
    const real = { CHAIN_137_RPC_URLS: 'https://one.test,https://two.test' };
    assert.equal(takesRealMoney(real), true);
    assert.equal(takesRealMoney({ ...real, CRYPTO_LIVE: 'false' }), false);
    assert.equal(takesRealMoney({ CHAIN_137_RPC_URLS: '' }), false);
  });

  it('a bad environment is refused with every fault named', () => {
    const bad = { TWIN_PORT: '70000', TWIN_CHAINS: '8453:1,8453:2', TWIN_SLOTS_IN_AN_EPOCH: 'x' };
    assert.throws(
      () => optionsFromEnvironment(bad),
      ({ message }: Error) => Object.keys(bad).every((name) => message.includes(name)),
    );
    assert.throws(() => optionsFromEnvironment({ TWIN_CHAINS: '0:1' }), /TWIN_CHAINS/);
    assert.deepEqual(optionsFromEnvironment({ TWIN_CHAINS: '8453:1, 137', TWIN_DATA_FOLDER: '' }), {
      host: '127.0.0.1',
      port: 0,
      chains: [
        { chainId: 8453, blockSeconds: 1 },
        { chainId: 137, blockSeconds: null },
      ],
      stateFolder: null,
    });
  });

  it('the compiled contracts are those of the sources', () => {
    assert.equal(ARTIFACTS.sourcesSha256, sourcesSha256(contractSources()), 'run node twins/chain/solidity/compile.ts');
  });
});
