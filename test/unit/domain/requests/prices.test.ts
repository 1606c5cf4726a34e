/**
 * Compiling price versions: exact pico-USD or the name of the wrong field, and which row is in force for a time and
 * an input length. A mistake in a price list must never make a request free or negative.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { formatUsd, picoUsd } from '../../../../domain/money.ts';
import {
  compilePrices,
  isPriced,
  isPriceProblem,
  priceRowFor,
  tiersAt,
  TOKEN_DIMENSIONS,
  UNIT_DIMENSIONS,
  type PriceText,
  type PriceVersion,
  type PriceVersionText,
  type WindowText,
} from '../../../../domain/requests/prices.ts';

function compile(text: PriceVersionText): PriceVersion {
  const version = compilePrices(text);
  if (isPriceProblem(version)) throw new Error(`not a price version: ${version.field} ${version.message}`);
  return version;
}

const CHAT: PriceText = { input: '3', output: '15' };
const DEARER: PriceText = { input: '6', output: '30' };

describe('prices: compiling', () => {
  const perToken: readonly [text: string, pico: bigint][] = [
    ['0', 0n],
    ['3', 3_000_000n],
    ['0.3', 300_000n],
    ['0.000001', 1n],
    ['0.000123', 123n],
    ['1.999999', 1_999_999n],
    ['2.500000', 2_500_000n],
    ['0.000001000000', 1n],
    ['15000', 15_000_000_000n],
  ];
  for (const [text, pico] of perToken) {
    it(`"${text}" USD per million is exactly ${pico} pico-USD per token, in every token dimension`, () => {
      for (const dimension of TOKEN_DIMENSIONS) {
        assert.equal(compile({ prices: { [dimension]: text } }).tiers[0]?.prices[dimension], pico, dimension);
      }
    });
  }

  const perUnit: readonly [text: string, pico: bigint][] = [
    ['0', 0n],
    ['0.04', 40_000_000_000n],
    ['0.000000000001', 1n],
    ['1.234567890123', 1_234_567_890_123n],
  ];
  for (const [text, pico] of perUnit) {
    it(`"${text}" USD per unit is exactly ${pico} pico-USD, in every unit dimension`, () => {
      for (const dimension of UNIT_DIMENSIONS) {
        assert.equal(compile({ prices: { [dimension]: text } }).tiers[0]?.prices[dimension], pico, dimension);
      }
    });
  }

  it('any price of up to six decimals is exact: a million tokens cost what is written', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 10n ** 12n }), (micros) => {
        const text = formatUsd(picoUsd(micros * 1_000_000n));
        assert.equal(compile({ prices: { input: text } }).tiers[0]?.prices.input, micros);
      }),
    );
  });

  it('any price finer than six decimals is refused, never rounded', () => {
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 1, max: 999_999 }), (micros, rest) => {
        const text = formatUsd(picoUsd(BigInt(micros) * 1_000_000n + BigInt(rest)));
        const result = compilePrices({ prices: { output: text } });
        assert.ok(isPriceProblem(result));
        assert.equal(result.field, 'prices.output');
      }),
    );
  });

  it('a dimension that is not written is not priced, and one priced at 0 is', () => {
    const row = compile({ prices: { input: '0' } }).tiers[0]?.prices;
    assert.deepEqual(row, { input: 0n });
  });

  it('a version is priced when its standard row has a price, also one of 0', () => {
    assert.equal(isPriced(compile({ prices: CHAT })), true);
    assert.equal(isPriced(compile({ prices: { request: '0.04' } })), true);
    assert.equal(isPriced(compile({ prices: { input: '0', output: '0' } })), true);
    assert.equal(isPriced(compile({ prices: {} })), false);
  });

  it('reasoning is inside the output unless the version says otherwise', () => {
    assert.equal(compile({ prices: CHAT }).reasoningInOutput, true);
    assert.equal(compile({ prices: CHAT, reasoning_in_output: true }).reasoningInOutput, true);
    assert.equal(compile({ prices: CHAT, reasoning_in_output: false }).reasoningInOutput, false);
  });
});

describe('prices: a mistake is refused, and its field named', () => {
  const window = (over: Partial<WindowText>): PriceVersionText => ({
    prices: CHAT,
    windows: [{ from: '01:00', to: '02:00', prices: CHAT, ...over }],
  });
  /** Prices as they may arrive from a file: what the type would forbid. */
  const unchecked = (prices: unknown): PriceText => prices as PriceText;

  const mistakes: readonly [why: string, version: PriceVersionText, field: string][] = [
    ['negative', { prices: { input: '-3' } }, 'prices.input'],
    ['negative by one pico-USD', { prices: { request: '-0.000000000001' } }, 'prices.request'],
    ['seven decimals', { prices: { input: '3', output: '0.0000001' } }, 'prices.output'],
    ['seven decimals in a cached price', { prices: { cached_input: '0.1234567' } }, 'prices.cached_input'],
    ['thirteen decimals of a unit', { prices: { image: '0.0000000000001' } }, 'prices.image'],
    ['an exponent', { prices: { input: '3e-6' } }, 'prices.input'],
    ['empty', { prices: { input: '' } }, 'prices.input'],
    ['blank', { prices: { input: ' 3' } }, 'prices.input'],
    ['NaN', { prices: { input: 'NaN' } }, 'prices.input'],
    ['null', { prices: unchecked({ input: null }) }, 'prices.input'],
    ['beyond the ledger', { prices: { input: '100000000000000000000' } }, 'prices.input'],
    ['an unknown dimension', { prices: unchecked({ inptu: '3' }) }, 'prices.inptu'],
    ['a dimension in capitals', { prices: unchecked({ Input: '3' }) }, 'prices.Input'],
    ['a name that objects inherit', { prices: unchecked({ constructor: '3' }) }, 'prices.constructor'],
    ['an unknown dimension at 0', { prices: unchecked({ prompt: '0' }) }, 'prices.prompt'],

    ['a tier from 0', tiers([0, DEARER]), 'tiers[0].min_input_tokens'],
    ['a tier from below 0', tiers([-1, DEARER]), 'tiers[0].min_input_tokens'],
    ['a tier from half a token', tiers([0.5, DEARER]), 'tiers[0].min_input_tokens'],
    ['a tier from NaN', tiers([NaN, DEARER]), 'tiers[0].min_input_tokens'],
    ['a tier from 2^53', tiers([2 ** 53, DEARER]), 'tiers[0].min_input_tokens'],
    ['two tiers from the same length', tiers([10, DEARER], [10, DEARER]), 'tiers[1].min_input_tokens'],
    ['tiers out of order', tiers([20, DEARER], [10, DEARER]), 'tiers[1].min_input_tokens'],
    ['a negative price in a tier', tiers([10, DEARER], [20, { input: '6', output: '-1' }]), 'tiers[1].prices.output'],
    ['an unknown dimension in a tier', tiers([10, unchecked({ ...DEARER, x: '1' })]), 'tiers[0].prices.x'],

    ['a day 0', window({ days: [0] }), 'windows[0].days'],
    ['a day 8', window({ days: [1, 8] }), 'windows[0].days'],
    ['half a day', window({ days: [1.5] }), 'windows[0].days'],
    ['no day at all', window({ days: [] }), 'windows[0].days'],
    ['hour 24', window({ from: '24:00' }), 'windows[0].from'],
    ['minute 60', window({ from: '01:60' }), 'windows[0].from'],
    ['an hour of one digit', window({ from: '1:00' }), 'windows[0].from'],
    ['seconds', window({ to: '02:00:00' }), 'windows[0].to'],
    ['a time zone', window({ to: '02:00Z' }), 'windows[0].to'],
    ['words', window({ to: 'noon' }), 'windows[0].to'],
    ['a window of no length', window({ from: '02:00', to: '02:00' }), 'windows[0].to'],
    ['a negative price in a window', window({ prices: { input: '-1', output: '15' } }), 'windows[0].prices.input'],
    [
      'a mistake in a tier of the second window',
      {
        prices: CHAT,
        windows: [
          { from: '01:00', to: '02:00', prices: CHAT },
          {
            from: '03:00',
            to: '04:00',
            prices: CHAT,
            tiers: [{ min_input_tokens: 5, prices: { ...CHAT, input: '1e3' } }],
          },
        ],
      },
      'windows[1].tiers[0].prices.input',
    ],
    [
      'the order of tiers in a window',
      window({
        tiers: [
          { min_input_tokens: 7, prices: CHAT },
          { min_input_tokens: 7, prices: CHAT },
        ],
      }),
      'windows[0].tiers[1].min_input_tokens',
    ],

    // A row in force replaces the standard one completely, so a dimension it forgets would be free while it applies.
    ['a tier that forgets the output price', tiers([10, { input: '6' }]), 'tiers[0].prices.output'],
    ['a tier without any price', tiers([10, {}]), 'tiers[0].prices.input'],
    ['a window that forgets the input price', window({ prices: { output: '7' } }), 'windows[0].prices.input'],
    ['a window without any price', window({ prices: {} }), 'windows[0].prices.input'],
    [
      'a tier of a window that forgets the output price',
      window({ tiers: [{ min_input_tokens: 10, prices: { input: '6' } }] }),
      'windows[0].tiers[0].prices.output',
    ],
    [
      'a tier that forgets the price per call',
      { prices: { request: '0.04' }, tiers: [{ min_input_tokens: 10, prices: { image: '1' } }] },
      'tiers[0].prices.request',
    ],
  ];
  for (const [why, version, field] of mistakes) {
    it(`${why}: ${field}`, () => {
      const result = compilePrices(version);
      if (!isPriceProblem(result)) assert.fail('compiled');
      assert.equal(result.field, field);
      assert.notEqual(result.message, '');
    });
  }
});

function tiers(...rows: readonly (readonly [minInputTokens: number, prices: PriceText])[]): PriceVersionText {
  return { prices: CHAT, tiers: rows.map(([min_input_tokens, prices]) => ({ min_input_tokens, prices })) };
}

describe('prices: the row for an input length', () => {
  const version = compile({
    prices: { input: '1' },
    tiers: [
      { min_input_tokens: 1, prices: { input: '2' } },
      { min_input_tokens: 128_000, prices: { input: '3' } },
      { min_input_tokens: 200_001, prices: { input: '4' } },
    ],
  });
  const lengths: readonly [inputTokens: number, pico: bigint][] = [
    [0, 1_000_000n],
    [1, 2_000_000n],
    [127_999, 2_000_000n],
    [128_000, 3_000_000n],
    [128_001, 3_000_000n],
    [200_000, 3_000_000n],
    [200_001, 4_000_000n],
    [200_002, 4_000_000n],
    [Number.MAX_SAFE_INTEGER, 4_000_000n],
  ];
  for (const [inputTokens, pico] of lengths) {
    it(`${inputTokens} input tokens are at ${pico} pico-USD`, () => {
      assert.equal(priceRowFor(version.tiers, inputTokens).input, pico);
    });
  }

  it('a price without tiers has one row for every length', () => {
    const { tiers: only } = compile({ prices: { input: '1' } });
    for (const inputTokens of [0, 1, Number.MAX_SAFE_INTEGER]) {
      assert.equal(priceRowFor(only, inputTokens).input, 1_000_000n);
    }
  });
});

describe('prices: the window for a time', () => {
  const windowed = (
    ...windows: readonly (Pick<WindowText, 'from' | 'to' | 'days'> & { input: string })[]
  ): PriceVersion =>
    compile({
      prices: { input: '1' },
      windows: windows.map(({ input, ...window }) => ({ ...window, prices: { input } })),
    });
  const priceAt = (version: PriceVersion, at: string): bigint | undefined =>
    priceRowFor(tiersAt(version, new Date(at)), 0).input;
  const STANDARD = 1_000_000n;
  const WINDOW = 2_000_000n;

  const day = { from: '09:00', to: '17:30' };
  const night = { from: '22:00', to: '06:00' };
  const lastMinute = { from: '23:59', to: '00:00' };
  const firstMinute = { from: '00:00', to: '00:01' };

  // 2026-03-01 is a Sunday (7), 2026-03-02 a Monday (1).
  const instants: readonly [
    window: { readonly from: string; readonly to: string },
    days: readonly number[] | null,
    at: string,
    inside: boolean,
  ][] = [
    [day, null, '2026-03-02T08:59:59.999Z', false],
    [day, null, '2026-03-02T09:00:00.000Z', true],
    [day, null, '2026-03-02T17:29:59.999Z', true],
    [day, null, '2026-03-02T17:30:00.000Z', false],
    [day, null, '2026-03-01T12:00:00.000Z', true],
    [day, [1], '2026-03-02T09:00:00.000Z', true],
    [day, [1], '2026-03-03T09:00:00.000Z', false],
    [day, [7], '2026-03-01T17:29:59.999Z', true],
    [day, [7], '2026-03-02T17:29:59.999Z', false],
    [day, [6, 7], '2026-02-28T12:00:00.000Z', true],
    [day, [1, 2, 3, 4, 5], '2026-03-06T12:00:00.000Z', true],
    [day, [1, 2, 3, 4, 5], '2026-03-07T12:00:00.000Z', false],

    [night, null, '2026-03-02T21:59:59.999Z', false],
    [night, null, '2026-03-02T22:00:00.000Z', true],
    [night, null, '2026-03-02T23:59:59.999Z', true],
    [night, null, '2026-03-03T00:00:00.000Z', true],
    [night, null, '2026-03-03T05:59:59.999Z', true],
    [night, null, '2026-03-03T06:00:00.000Z', false],

    // A window across midnight belongs to the day it begins.
    [night, [1], '2026-03-02T05:59:59.999Z', false],
    [night, [1], '2026-03-02T22:00:00.000Z', true],
    [night, [1], '2026-03-03T00:00:00.000Z', true],
    [night, [1], '2026-03-03T05:59:59.999Z', true],
    [night, [1], '2026-03-03T06:00:00.000Z', false],
    [night, [1], '2026-03-03T22:00:00.000Z', false],
    [night, [7], '2026-03-01T22:00:00.000Z', true],
    [night, [7], '2026-03-02T05:59:59.999Z', true],
    [night, [7], '2026-03-01T05:59:59.999Z', false],
    [night, [7], '2026-03-02T22:00:00.000Z', false],

    [lastMinute, null, '2026-03-02T23:58:59.999Z', false],
    [lastMinute, null, '2026-03-02T23:59:00.000Z', true],
    [lastMinute, null, '2026-03-02T23:59:59.999Z', true],
    [lastMinute, null, '2026-03-03T00:00:00.000Z', false],
    [lastMinute, [1], '2026-03-02T23:59:00.000Z', true],
    [lastMinute, [1], '2026-03-01T23:59:00.000Z', false],
    [firstMinute, [1], '2026-03-02T00:00:00.000Z', true],
    [firstMinute, [1], '2026-03-02T00:01:00.000Z', false],
    [firstMinute, [1], '2026-03-03T00:00:00.000Z', false],

    // The end of a year and a leap day are days like any other.
    [night, [4], '2026-12-31T23:59:59.999Z', true],
    [night, [4], '2027-01-01T05:59:59.999Z', true],
    [night, [4], '2027-01-01T22:00:00.000Z', false],
    [day, [2], '2028-02-29T12:00:00.000Z', true],
  ];
  for (const [window, days, at, inside] of instants) {
    const which = days === null ? 'every day' : `days ${days.join(', ')}`;
    it(`${window.from} to ${window.to}, ${which}: ${at} is ${inside ? 'inside' : 'outside'}`, () => {
      const version = windowed({ ...window, ...(days === null ? {} : { days }), input: '2' });
      assert.equal(priceAt(version, at), inside ? WINDOW : STANDARD);
    });
  }

  it('the clock is UTC, wherever the process runs', () => {
    const zone = process.env['TZ'];
    try {
      process.env['TZ'] = 'Asia/Tokyo';
      const version = windowed({ ...day, days: [1], input: '2' });
      assert.equal(new Date('2026-03-02T17:29:59.999Z').getDay(), 2, 'the local day is another one');
      assert.equal(priceAt(version, '2026-03-02T17:29:59.999Z'), WINDOW);
      assert.equal(priceAt(version, '2026-03-02T00:30:00.000Z'), STANDARD);
    } finally {
      if (zone === undefined) delete process.env['TZ'];
      else process.env['TZ'] = zone;
    }
  });

  it('the first of overlapping windows counts', () => {
    const version = windowed({ from: '09:00', to: '12:00', input: '2' }, { from: '11:00', to: '14:00', input: '3' });
    assert.equal(priceAt(version, '2026-03-02T11:30:00.000Z'), 2_000_000n);
    assert.equal(priceAt(version, '2026-03-02T12:00:00.000Z'), 3_000_000n);
    assert.equal(priceAt(version, '2026-03-02T14:00:00.000Z'), STANDARD);
  });

  it('two windows that meet at noon make a whole day, without a gap', () => {
    const saturday = [6];
    const version = windowed(
      { days: saturday, from: '00:00', to: '12:00', input: '2' },
      { days: saturday, from: '12:00', to: '00:00', input: '2' },
    );
    const midnight = Date.parse('2026-03-07T00:00:00.000Z');
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 86_399_999 }), (ms) => {
        assert.equal(priceAt(version, new Date(midnight + ms).toISOString()), WINDOW);
      }),
    );
    assert.equal(priceAt(version, '2026-03-06T23:59:59.999Z'), STANDARD);
    assert.equal(priceAt(version, '2026-03-08T00:00:00.000Z'), STANDARD);
  });

  it('a window is in force exactly for its own minutes, at any instant', () => {
    const clock = (minute: number): string =>
      `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
    const minuteOfDay = fc.integer({ min: 0, max: 1_439 });
    const days = fc.uniqueArray(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 7 });
    const sunday = Date.parse('2026-03-01T00:00:00.000Z');
    fc.assert(
      fc.property(
        minuteOfDay,
        minuteOfDay,
        days,
        fc.integer({ min: 0, max: 27 }),
        minuteOfDay,
        (from, to, onDays, day, minute) => {
          fc.pre(from !== to);
          const version = windowed({ from: clock(from), to: clock(to), days: onDays, input: '2' });
          // Counted the other way round: walk back from the instant to the window's last begin.
          const sinceBegin = (minute - from + 1_440) % 1_440;
          const beganOn = minute >= from ? day : day - 1;
          const isoDay = ((beganOn % 7) + 7) % 7 || 7;
          const inside = sinceBegin < (to - from + 1_440) % 1_440 && onDays.includes(isoDay);
          const at = new Date(sunday + (day * 1_440 + minute) * 60_000);
          assert.equal(priceAt(version, at.toISOString()), inside ? WINDOW : STANDARD);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});
