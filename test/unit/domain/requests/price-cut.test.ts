/** Which prices take a second person: what gives paid work away, by whatever way of writing a price list. */
import assert from 'node:assert/strict';
import { causeOfPriceReview } from '../../../../domain/requests/price-cut.ts';
import {
  compilePrices,
  isPriceProblem,
  type PriceVersion,
  type PriceVersionText,
} from '../../../../domain/requests/prices.ts';

const CUT_PPM = 900_000;

function compile(text: PriceVersionText): PriceVersion {
  const version = compilePrices(text);
  if (isPriceProblem(version)) throw new Error(`not a price version: ${version.field} ${version.message}`);
  return version;
}

const causeOf = (next: PriceVersionText, ...standing: readonly PriceVersionText[]): string | null =>
  causeOfPriceReview(compile(next), standing.map(compile), CUT_PPM);

const CHAT: PriceVersionText = { prices: { input: '3', output: '15' } };

describe('prices that one person may not publish alone', () => {
  it('a rise, the same prices, and a cut up to the limit are published by one', () => {
    assert.equal(causeOf(CHAT, CHAT), null);
    assert.equal(causeOf({ prices: { input: '9', output: '15' } }, CHAT), null);
    assert.equal(causeOf({ prices: { input: '0.3', output: '1.5' } }, CHAT), null);
    assert.equal(causeOf({ prices: { input: '3', output: '15', cached_input: '0.3' } }, CHAT), null);
  });

  it('whatever was paid for and would be free takes two: written as 0, left out, in a tier, in a window', () => {
    const cases: PriceVersionText[] = [
      { prices: { input: '3', output: '0' } },
      { prices: { input: '0', output: '15' } },
      { prices: { input: '3' } },
      { prices: { output: '15' } },
      { prices: {} },
      { prices: { input: '3', output: '15', reasoning: '0' } },
      { prices: { input: '3', output: '15', cached_input: '0' } },
      { prices: { input: '3', output: '15', cache_write_1h: '0' } },
      { ...CHAT, tiers: [{ min_input_tokens: 1, prices: { input: '3', output: '0' } }] },
      { ...CHAT, windows: [{ from: '03:00', to: '03:01', prices: { input: '0', output: '15' } }] },
      {
        ...CHAT,
        windows: [
          {
            from: '03:00',
            to: '03:01',
            prices: CHAT.prices,
            tiers: [{ min_input_tokens: 5, prices: { input: '3', output: '0' } }],
          },
        ],
      },
    ];
    for (const next of cases) assert.match(String(causeOf(next, CHAT)), /would cost nothing$/, JSON.stringify(next));
  });

  it('a price per request, image, search or second that was paid counts as well', () => {
    const before: PriceVersionText = { prices: { request: '0.01', image: '0.02', web_search: '0.03', second: '0.04' } };
    for (const dimension of ['request', 'image', 'web_search', 'second'] as const) {
      const prices = { ...before.prices, [dimension]: '0' };
      assert.equal(causeOf({ prices }, before), `${dimension} would cost nothing`);
      const left = Object.fromEntries(Object.entries(before.prices).filter(([name]) => name !== dimension));
      assert.equal(causeOf({ prices: left }, before), `${dimension} would cost nothing`);
    }
  });

  it('almost nothing is as nothing: a cut deeper than the limit takes two', () => {
    for (const prices of [
      { input: '0.000001', output: '15' },
      { input: '3', output: '1.499999' },
      { input: '0.299999', output: '15' },
    ]) {
      assert.match(String(causeOf({ prices }, CHAT)), /would cost less than it may at once$/, JSON.stringify(prices));
    }
  });

  it('small steps are one cut: each is compared with all that stood in the last days', () => {
    const first = { prices: { input: '0.6', output: '3' } };
    assert.equal(causeOf(first, CHAT), null);
    assert.notEqual(causeOf({ prices: { input: '0.12', output: '0.6' } }, first, CHAT), null);
  });

  it('a low price of some hours, or of some lengths, is none for the others: 15 would cost 1 all day', () => {
    const low = { input: '0.2', output: '1' };
    const atNight: PriceVersionText = { ...CHAT, windows: [{ from: '03:00', to: '03:01', prices: low }] };
    const forLong: PriceVersionText = { ...CHAT, tiers: [{ min_input_tokens: 900_000, prices: low }] };
    const onSundays: PriceVersionText = { ...CHAT, windows: [{ days: [7], from: '22:00', to: '04:00', prices: low }] };
    const freeAtNight: PriceVersionText = {
      ...CHAT,
      windows: [{ from: '03:00', to: '03:01', prices: { input: '0', output: '0' } }],
    };
    for (const before of [atNight, forLong, onSundays]) {
      assert.equal(causeOf(before, before), null, 'the same again');
      assert.equal(causeOf(CHAT, before), null, 'a rise');
      const cause = String(causeOf({ prices: low }, before));
      assert.match(cause, /would cost less than it may at once$/, JSON.stringify(before));
    }
    const longer = [{ from: '03:00', to: '03:02', prices: low }];
    assert.notEqual(causeOf({ ...CHAT, windows: longer }, atNight), null, 'a minute more');
    const shorter = [{ min_input_tokens: 899_999, prices: low }];
    assert.notEqual(causeOf({ ...CHAT, tiers: shorter }, forLong), null, 'a token less');
    const otherDays = [{ days: [6], from: '22:00', to: '04:00', prices: low }];
    assert.notEqual(causeOf({ ...CHAT, windows: otherDays }, onSundays), null, 'another day');
    assert.match(String(causeOf({ prices: { input: '0', output: '0' } }, freeAtNight)), /would cost nothing$/);
    assert.equal(causeOf(freeAtNight, freeAtNight), null);
  });

  it('reasoning that was paid beside the output, and would be taken for a part of it, takes two', () => {
    assert.notEqual(causeOf(CHAT, { ...CHAT, reasoning_in_output: false }), null);
    assert.equal(causeOf({ ...CHAT, reasoning_in_output: false }, CHAT), null);
  });

  it('first prices name none that is 0, and leave out neither input nor output unless the request is paid for', () => {
    assert.equal(causeOf(CHAT), null);
    assert.equal(causeOf({ prices: { request: '0.01' } }), null);
    assert.equal(causeOf({ prices: { input: '3' } }), 'output would cost nothing');
    assert.equal(causeOf({ prices: { output: '15' } }), 'input would cost nothing');
    assert.equal(causeOf({ prices: { image: '0.01' } }), 'input would cost nothing');
    assert.equal(causeOf({ prices: { input: '3', output: '0' } }), 'output would cost nothing');
    assert.equal(causeOf({ prices: { request: '0' } }), 'request would cost nothing');
    assert.equal(causeOf({ prices: { request: '0.01', output: '0' } }), 'output would cost nothing');
  });
});
