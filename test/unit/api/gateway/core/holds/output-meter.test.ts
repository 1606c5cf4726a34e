/** Watching what an answer costs: when more is asked for, when it is really counted, and when it must end. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { OutputMeter, type ExtendHold } from '../../../../../../api/gateway/core/holds/output-meter.ts';
import { outputOf } from '../../../../../../api/gateway/dialects/openai-chat/produced-output.ts';
import { Refusal } from '../../../../../../domain/errors.ts';

type Answer = Awaited<ReturnType<ExtendHold>>;

const NO_SPECIAL_TOKENS = { disallowedSpecial: new Set<string>() };

const tokensOf = async (text: string): Promise<number> => countTokens(text, NO_SPECIAL_TOKENS);

const REFUSED: Answer = { kind: 'refused', refusal: new Refusal('insufficient_user_quota') };

/** A meter whose ledger gives the answers in turn (the last one again and again) and notes what it was asked. */
function meterOf(options: { covered: number; most?: number; answers?: readonly Answer[] }): {
  meter: OutputMeter;
  asked: number[];
  exhausted: () => number;
} {
  const asked: number[] = [];
  const answers = options.answers ?? [REFUSED];
  let exhausted = 0;
  const meter = new OutputMeter({
    covered: options.covered,
    most: options.most ?? 1_000_000,
    slice: 100,
    extend: async (outputTokens) => {
      asked.push(outputTokens);
      return answers[Math.min(asked.length, answers.length) - 1]!;
    },
    countTokens: tokensOf,
    onExhausted: () => (exhausted += 1),
  });
  return { meter, asked, exhausted: () => exhausted };
}

/** Adds a piece of text as the relay does: it waits whenever the meter may be behind. */
async function add(meter: OutputMeter, content: string): Promise<void> {
  meter.add(outputOf({ content }));
  if (meter.isBehind) await meter.catchUp();
}

describe('gateway: output meter', () => {
  it('asks for nothing while bytes, and so tokens, are well within the hold', async () => {
    const { meter, asked } = meterOf({ covered: 400 });
    for (let i = 0; i < 30; i += 1) await add(meter, '0123456789');
    assert.deepEqual(asked, []);
  });

  it('asks for another slice before the hold is used up, once, and goes on with what it got', async () => {
    const { meter, asked, exhausted } = meterOf({ covered: 400, answers: [{ kind: 'extended', outputTokens: 1000 }] });
    for (let i = 0; i < 31; i += 1) await add(meter, '0123456789');
    assert.deepEqual(asked, [500]);
    for (let i = 0; i < 43; i += 1) await add(meter, '0123456789');
    assert.deepEqual(asked, [500], 'three quarters of 1,000 are not passed yet');
    await add(meter, '0123456789'.repeat(2));
    assert.deepEqual(asked, [500, 1100]);
    assert.equal(exhausted(), 0);
  });

  it('never asks for more than the request can reach, and not at all when the hold covers that', async () => {
    const near = meterOf({ covered: 400, most: 450, answers: [{ kind: 'extended', outputTokens: 450 }] });
    for (let i = 0; i < 100; i += 1) await add(near.meter, '0123456789');
    assert.deepEqual(near.asked, [450]);
    const covered = meterOf({ covered: 450, most: 450 });
    for (let i = 0; i < 100; i += 1) await add(covered.meter, '0123456789');
    assert.deepEqual([covered.asked, covered.exhausted()], [[], 0]);
  });

  it('a ledger that does not answer ends nothing: the answer goes on and the question is not repeated at once', async () => {
    const { meter, asked, exhausted } = meterOf({ covered: 40, answers: [{ kind: 'unavailable' }] });
    for (let i = 0; i < 100; i += 1) await add(meter, '0123456789');
    assert.equal(asked.length, 1);
    assert.equal(exhausted(), 0);
    assert.equal(meter.refusalCode, null);
  });

  it('an answer that is faster than the ledger waits for it', async () => {
    const answer = Promise.withResolvers<Answer>();
    const meter = new OutputMeter({
      covered: 40,
      most: 1000,
      slice: 100,
      extend: () => answer.promise,
      countTokens: tokensOf,
      onExhausted: () => undefined,
    });
    meter.add(outputOf('x'.repeat(35)));
    assert.equal(meter.isBehind, false, 'what is held still covers every byte');
    meter.add(outputOf('x'.repeat(35)));
    assert.equal(meter.isBehind, true);
    let waited = false;
    const waiting = meter.catchUp().then(() => (waited = true));
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(waited, false);
    answer.resolve({ kind: 'extended', outputTokens: 500 });
    await waiting;
    assert.equal(meter.isBehind, false);
  });

  it('once the hold cannot grow, tokens are really counted: the end comes when they are used up, once, and not before', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.string({ maxLength: 20 }), fc.string({ unit: 'grapheme', maxLength: 20 })), {
          maxLength: 60,
        }),
        fc.integer({ min: 1, max: 200 }),
        async (pieces, covered) => {
          const { meter, exhausted } = meterOf({ covered });
          let atMost = 0;
          for (const piece of pieces) {
            meter.add(outputOf(piece));
            await meter.catchUp();
            // A text in pieces is never fewer tokens than the same text at once.
            atMost += countTokens(piece, NO_SPECIAL_TOKENS);
            if (exhausted() > 0) {
              assert.ok(atMost >= covered, `an end after ${atMost} of ${covered} tokens`);
              break;
            }
            const tokens = countTokens(meter.text, NO_SPECIAL_TOKENS);
            assert.ok(tokens < covered, `${tokens} of ${covered} tokens and no end`);
          }
          assert.ok(exhausted() <= 1);
          if (exhausted() === 1) assert.equal(meter.refusalCode, 'insufficient_user_quota');
        },
      ),
      { numRuns: 100 },
    );
  });

  it('what is no text counts by its bytes when the money is near its end: 800 bytes of audio are not free', async () => {
    const { meter, exhausted } = meterOf({ covered: 500 });
    meter.add(outputOf({ audio: { data: 'A'.repeat(400) } }));
    await meter.catchUp();
    assert.equal(exhausted(), 0);
    meter.add(outputOf({ audio: { data: 'B'.repeat(400) } }));
    await meter.catchUp();
    assert.deepEqual([exhausted(), meter.hasMedia, meter.otherBytes, meter.text], [1, true, 800, '']);
  });

  it('an upstream that goes on far beyond the limit it was given is cut, although all of the limit is held', async () => {
    const { meter, exhausted, asked } = meterOf({ covered: 1000, most: 1000 });
    let words = 0;
    while (exhausted() === 0 && words < 20_000) {
      for (let n = 0; n < 100; n += 1, words += 1) meter.add(outputOf(' river'));
      if (meter.isBehind) await meter.catchUp();
    }
    assert.ok(words > 2000 && words < 2500, `cut after ${words} of 20,000 tokens`);
    assert.deepEqual([asked, meter.refusalCode], [[], null], 'the ledger was asked for nothing');
  });

  it('an answer that fits its limit is never cut, whatever its bytes', async () => {
    const { meter, exhausted } = meterOf({ covered: 700, most: 700 });
    for (let n = 0; n < 100; n += 1) await add(meter, ' 東京特許許可局');
    assert.ok(Buffer.byteLength(meter.text) > 2 * 700 + 256, 'bytes alone would have cut it');
    assert.equal(exhausted(), 0);
  });
});
