/**
 * Facts that decide about a deposit on the chain twin besides its log: how final its block is, and what a feed says of
 * its price.
 */
import assert from 'node:assert/strict';
import { Contract, type JsonRpcProvider } from 'ethers';
import type { ChainHandle } from '../../../twins/chain/twin.ts';
import { decimalsOf, SLOTS, startChain, type ChainFixture } from './fixture.ts';

interface Round {
  readonly answer: bigint;
  readonly startedAt: bigint;
  readonly updatedAt: bigint;
}

const FEED_ABI = [
  'function latestRoundData() view returns (uint80 roundId, int256 answer, uint256 startedAt, uint256 updatedAt, uint80 answeredInRound)',
];

describe('chain twin: tags and prices', () => {
  let fixture: ChainFixture;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;

  before(async () => {
    fixture = await startChain();
    ({ chain, alpha, beta } = fixture);
  });
  after(() => fixture.close());

  async function roundOf(feed: string): Promise<Round> {
    return (await new Contract(feed, FEED_ABI, alpha).getFunction('latestRoundData')()) as Round;
  }

  it('safe and finalized follow the head at their distance', async () => {
    const { head } = chain;
    for (const step of [0, 1, 2]) {
      assert.equal((await alpha.getBlock('latest'))?.number, head + step);
      assert.equal((await alpha.getBlock('safe'))?.number, head + step - SLOTS);
      assert.equal((await beta.getBlock('finalized'))?.number, head + step - 2 * SLOTS);
      await chain.mine();
    }
  });

  it('a price is fresh until it is given a time, and can be anything', async () => {
    const round = (): Promise<Round> => roundOf(chain.feeds.USDC);
    assert.equal(await decimalsOf(alpha, chain.feeds.USDC), 8n);
    const now = await alpha.getBlock('latest');
    assert.deepEqual([(await round()).answer, (await round()).updatedAt], [100_000_000n, BigInt(now?.timestamp ?? 0)]);
    await chain.setFeed({ token: 'USDC', answer: '0.9712', updatedAt: 1_700_000_000 });
    assert.deepEqual([(await round()).answer, (await round()).updatedAt], [97_120_000n, 1_700_000_000n]);
    await chain.setFeed({ token: 'USDC', answer: '-1' });
    assert.equal((await round()).answer, -100_000_000n);
    await chain.setFeed({ token: 'USDC', answer: '1' });
    await assert.rejects(chain.setFeed({ token: 'USDC', answer: 'one' }), { field: 'answer' });
  });

  it('the sequencer is up since long ago, and a change of it has just happened', async () => {
    const round = (): Promise<Round> => roundOf(chain.feeds.sequencer);
    assert.deepEqual([(await round()).answer, (await round()).startedAt], [0n, 1n]);
    const from = Math.floor(Date.now() / 1000);
    await chain.setFeed({ token: 'sequencer', answer: '1' });
    assert.equal((await round()).answer, 1n);
    assert((await round()).startedAt >= from);
    await chain.setFeed({ token: 'sequencer', answer: '0', updatedAt: 5 });
    assert.deepEqual([(await round()).answer, (await round()).startedAt], [0n, 5n]);
    await assert.rejects(chain.setFeed({ token: 'sequencer', answer: '2' }), { field: 'answer' });
  });
});
