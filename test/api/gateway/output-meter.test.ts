/** Watching what an answer costs: when more is asked for, when it is really counted, and when it must end. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { countTokens } from 'gpt-tokenizer/encoding/o200k_base';
import { OutputMeter, type ExtendHold } from '../../../api/gateway/output-meter.ts';
import { Refusal } from '../../../domain/errors.ts';

type Answer = Awaited<ReturnType<ExtendHold>>;

const NO_SPECIAL_TOKENS = { disallowedSpecial: new Set<string>() };

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
    onExhausted: () => (exhausted += 1),
  });
  return { meter, asked, exhausted: () => exhausted };
}

/** Adds a piece of text as the relay does: it waits whenever the meter may be behind. */
async function add(meter: OutputMeter, content: string): Promise<void> {
  meter.add([{ content }]);
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
      onExhausted: () => undefined,
    });
    meter.add([{ content: 'x'.repeat(35) }]);
    assert.equal(meter.isBehind, false, 'what is held still covers every byte');
    meter.add([{ content: 'x'.repeat(35) }]);
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
            meter.add([{ content: piece }]);
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

  it('reads every kind of text that an answer can have, and takes nothing else for content', () => {
    const { meter } = meterOf({ covered: Infinity });
    const deltas = [
      { content: 'a' },
      { refusal: 'b' },
      { reasoning: 'c' },
      { reasoning_content: 'd' },
      { tool_calls: [{ function: { name: 'e', arguments: 'f' } }, { custom: { name: 'g', input: 'h' } }] },
      { function_call: { name: 'i', arguments: 'j' } },
    ];
    for (const delta of deltas) assert.equal(meter.add([delta]), true);
    assert.equal(meter.text, 'abcdefghij');

    const { meter: empty } = meterOf({ covered: Infinity });
    for (const delta of [
      null,
      {},
      { role: 'assistant', content: '' },
      { content: null },
      { content: 7 },
      { content: ['x'] },
      { refusal: '' },
      { tool_calls: [] },
      { tool_calls: 'x' },
      { audio: null },
    ]) {
      assert.equal(empty.add([delta]), false, JSON.stringify(delta));
    }
    assert.deepEqual([empty.sawContent, empty.text, empty.pieces], [false, '', 0]);
    assert.equal(empty.add([{ audio: { data: 'AAAA' } }]), true);
    for (const call of [null, {}, 7, 'x', { function: null }, { function: 7 }, { function: { name: 7 } }]) {
      assert.equal(empty.add([{ tool_calls: [call] }]), true, `a call is content: ${JSON.stringify(call)}`);
    }
  });
});
