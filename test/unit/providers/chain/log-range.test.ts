/** Vendors' suggestions of a number of blocks: read where they give one, and never taken for more than a hint. */
import assert from 'node:assert/strict';
import { LogRange, suggestedBlocks } from '../../../../providers/chain/log-range.ts';

const RANGE = { from: 1000, to: 2999 };

describe('a range that a vendor suggests', () => {
  const said: readonly [words: string, blocks: number | null][] = [
    ['this block range should work: [0x3e8, 0x3f1]', 10],
    ['Try with this block range [0x3E8,0x44b].', 100],
    ['query returned more than 10000 results {"from":"0x3e8","limit":10000,"to":"0x44b"}', 100],
    ['query exceeds max results 20000, retry with the range 1000-1099', 100],
    ['query exceeds max results 20000, retry with the range 1000-2999', null],
    ['eth_getLogs is limited to a 1,500 range', 1500],
    ['eth_getLogs is limited to a 10,000 range', null],
    ['eth_getLogs is limited to a 5 range, upgrade from discover plan to increase the limit at (address)', 5],
    [
      'Log response size exceeded. You can make eth_getLogs requests with up to a 1K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response.',
      1000,
    ],
    ['exceed maximum block range: 500', 500],
    ['Maximum allowed number of requested blocks is 800', 800],
    ['please limit the query to at most 1,000 blocks', 1000],
    ['requested too many blocks from 1000 to 2999, maximum is set to 1024', 1024],
    ['block range is larger than max block range, block range = 2000, max block range = 500', 500],
    ['range 9009594 is bigger than range limit 1500', 1500],
    ['block range greater than 50 max', 50],
    ['query exceeds max block range 1000', 1000],
    ['block range is too wide (maximum 1024)', 1024],
    ['exceeds the range allowed for your plan (2000 > 1500)', 1500],
    ['maximum [from, to] blocks distance: 700', 700],
    ['query returned more than 1000 results', null],
    ['query exceeds the maximum of 1000 addresses or topics per search position', null],
    ['logs matched by query exceeds limit of 1000', null],
    ['response size should not greater than 1500 bytes', null],
    ['query timeout exceeded', null],
    ['Archive requests require a personal token. Get one at: (address)', null],
    ['[0x3e8, 0x3e7]', null],
    ['[0xffffffffffffffffffff, 0xfffffffffffffffffffff]', null],
    ['block range limit 0', null],
    ['', null],
  ];
  for (const [words, blocks] of said) {
    it(`a vendor’s suggestion of ${blocks ?? 'no'} blocks: “${words.slice(0, 80)}”`, () => {
      assert.equal(suggestedBlocks(words, RANGE), blocks);
    });
  }

  it('a suggestion that is no less than the request counts as none: half is tried', () => {
    const range = new LogRange(2000);
    range.refused(2000, 5000);
    assert.equal(range.blocks, 1000);
  });

  it('a refused range of one block grows again at the first answer', () => {
    const range = new LogRange(2000);
    while (range.refused(range.blocks, null));
    assert.equal(range.blocks, 1);
    for (let n = 0; n < 11; n++) range.answered();
    assert.equal(range.blocks, 2000);
  });

  it('few blocks that were asked for because there are no more teach nothing', () => {
    const range = new LogRange(2000);
    range.refused(2000, 10);
    for (let n = 0; n < 50; n++) range.answered(1);
    assert.equal(range.blocks, 10);
  });
});
