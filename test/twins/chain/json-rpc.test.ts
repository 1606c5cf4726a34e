/** The chain twin's vendors as JSON-RPC servers: the protocol itself, what they take, and all that they refuse. */
import assert from 'node:assert/strict';
import { Contract, HDNodeWallet, type JsonRpcProvider } from 'ethers';
import type { ChainHandle, ChainTwin } from '../../../twins/chain/twin.ts';
import { fresh, logsTo, post, rpc, startChain, vendorUrl, type ChainFixture, type RpcAnswer } from './fixture.ts';

const TRANSFER_ABI = ['function transfer(address,uint256) returns (bool)'];

describe('chain twin: JSON-RPC', () => {
  let fixture: ChainFixture;
  let twin: ChainTwin;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;
  let alphaUrl: string;

  before(async () => {
    fixture = await startChain();
    ({ twin, chain, alpha, beta } = fixture);
    alphaUrl = vendorUrl(twin, 'alpha');
  });
  after(() => fixture.close());

  it('a batch is answered in its order, each call for itself', async () => {
    const { body: answers } = await post<RpcAnswer[]>(alphaUrl, [
      { jsonrpc: '2.0', id: 'a', method: 'eth_chainId', params: [] },
      { jsonrpc: '2.0', id: 2, method: 'eth_nothing', params: [] },
      { jsonrpc: '2.0', id: 3, method: 'eth_blockNumber' },
    ]);
    assert.deepEqual(
      answers.map(({ id: key, result, error }) => [key, result ?? error?.code]),
      [
        ['a', '0x2105'],
        [2, -32601],
        [3, `0x${chain.head.toString(16)}`],
      ],
    );
  });

  it('what is no call is answered with the protocol’s own errors', async () => {
    const code = async (body: unknown): Promise<unknown> => (await post<RpcAnswer>(alphaUrl, body)).body.error?.code;
    assert.equal(await code('{'), -32700);
    assert.equal(await code([]), -32600);
    assert.equal(await code({ id: 1 }), -32600);
    assert.equal(await code({ id: 1, method: 'eth_call', params: {} }), -32602);
    assert.equal(await code({ id: 1, method: 'eth_getBlockByNumber', params: ['soon', false] }), -32602);
  });

  it('S27: there are no filters or subscriptions, which die silently: a reader that used them would fail at once', async () => {
    for (const method of ['eth_newFilter', 'eth_newBlockFilter', 'eth_getFilterChanges', 'eth_subscribe']) {
      const { error } = await rpc(alphaUrl, method);
      assert.equal(error?.code, -32601, method);
    }
  });

  it('nothing of a test node is reachable through a vendor', async () => {
    for (const method of ['anvil_mine', 'evm_mine', 'eth_sendTransaction', 'eth_accounts', 'hardhat_setBalance']) {
      const { error } = await rpc(alphaUrl, method);
      assert.equal(error?.code, -32601, method);
    }
  });

  it('a transaction that a customer’s wallet signs arrives by any vendor', async () => {
    const { mnemonic } = HDNodeWallet.createRandom();
    assert(mnemonic);
    const wallet = HDNodeWallet.fromMnemonic(mnemonic).connect(beta);
    await rpc(chain.anvilUrl, 'anvil_setBalance', [wallet.address, '0xde0b6b3a7640000']);
    await chain.transfer({ token: 'USDC', to: wallet.address, amount: '3' });
    const to = fresh();
    const token = new Contract(chain.tokens.USDC, TRANSFER_ABI, wallet);
    const sent = (await token.getFunction('transfer')(to, 2_000_000n)) as { hash: string };
    await chain.mine();
    assert.equal((await logsTo(alpha, to))[0]?.transactionHash, sent.hash);
  });

  it('a chain or a vendor that is not there is a 404', async () => {
    for (const path of ['/rpc/8453/gamma', '/rpc/10/alpha', '/nothing']) {
      const response = await fetch(`${twin.url}${path}`, { method: 'POST', body: '{}' });
      await response.body?.cancel();
      assert.equal(response.status, 404, path);
    }
  });
});
