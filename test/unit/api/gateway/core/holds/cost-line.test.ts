/** The worst case as a line over output tokens: the same amounts as computing each of them alone, whatever the prices. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { costLine, costOf, tokensCovered } from '../../../../../../api/gateway/core/holds/cost-line.ts';
import { picoUsd } from '../../../../../../domain/money.ts';
import {
  TOKEN_DIMENSIONS,
  UNIT_DIMENSIONS,
  type PriceRow,
  type Tier,
} from '../../../../../../domain/requests/prices.ts';
import { worstCase, type Reach } from '../../../../../../domain/requests/rating.ts';

const price = fc.bigInt({ min: 0n, max: 10n ** 9n }).map(picoUsd);
const row: fc.Arbitrary<PriceRow> = fc
  .uniqueArray(fc.tuple(fc.constantFrom(...TOKEN_DIMENSIONS, ...UNIT_DIMENSIONS), price), {
    selector: ([dimension]) => dimension,
  })
  .map((prices) => Object.fromEntries(prices));
const tiers: fc.Arbitrary<Tier[]> = fc
  .tuple(row, fc.option(fc.tuple(fc.integer({ min: 1, max: 100_000 }), row)))
  .map(([standard, long]) => [
    { minInputTokens: 0, prices: standard },
    ...(long === null ? [] : [{ minInputTokens: long[0], prices: long[1] }]),
  ]);
const count = fc.nat(200_000);
const reach: fc.Arbitrary<Reach> = fc.record({
  inputTokens: count,
  outputTokens: count,
  audioInput: fc.boolean(),
  imageInput: fc.boolean(),
  audioOutput: fc.boolean(),
  imageOutput: fc.boolean(),
  furtherAnswers: fc.nat(127),
  images: fc.nat(10),
  webSearches: fc.nat(10),
  seconds: fc.nat(1000),
});

describe('gateway: the cost of a request as a line over its output', () => {
  it('the line has the worst case of every number of output tokens', () => {
    fc.assert(
      fc.property(tiers, reach, count, (prices, most, outputTokens) => {
        const line = costLine(prices, most);
        assert.equal(costOf(line, outputTokens), worstCase(prices, { ...most, outputTokens }));
      }),
      { numRuns: 500 },
    );
  });

  it('an amount covers the whole tokens that it pays for, and none that it does not', () => {
    fc.assert(
      fc.property(tiers, reach, count, (prices, most, outputTokens) => {
        const line = costLine(prices, most);
        const covered = tokensCovered(line, costOf(line, outputTokens));
        assert.equal(covered, line.perOutputToken === 0n ? Infinity : outputTokens);
        if (line.perOutputToken <= 1n) return;
        assert.equal(tokensCovered(line, picoUsd(costOf(line, outputTokens + 1) - 1n)), outputTokens);
      }),
      { numRuns: 500 },
    );
  });

  it('a part of a token is paid as a whole one', () => {
    const line = costLine([{ minInputTokens: 0, prices: { output: picoUsd(7n) } }], {
      inputTokens: 0,
      outputTokens: 0,
      audioInput: false,
      imageInput: false,
      audioOutput: false,
      imageOutput: false,
      images: 0,
      webSearches: 0,
      seconds: 0,
    });
    assert.equal(costOf(line, 1.5), 14n);
  });
});
