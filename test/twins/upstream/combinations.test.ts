/**
 * Any knobs together: the upstream twin answers to the end, and counts exactly what its segments produce. Tests of the
 * gateway mix knobs at random, and a mixture that the twin miscounts would be looked for in the gateway.
 */
import assert from 'node:assert/strict';

import fc from 'fast-check';

import {
  OUTPUT_FORM_NAMES,
  OUTPUT_FORMS,
  startUpstreamTwin,
  USAGE_SHAPE_NAMES,
  type SteeringInput,
  type UpstreamTwin,
} from '../../../twins/upstream/twin.ts';
import { FINISH_PLACES } from '../../../twins/upstream/finish.ts';
import { USAGE_PLACES } from '../../../twins/upstream/usage/shape.ts';
import { ask, newId, record, steered } from './fixture.ts';

const SEGMENT = fc.record(
  {
    form: fc.constantFrom(...OUTPUT_FORM_NAMES),
    tokens: fc.integer({ min: 0, max: 20 }),
    chunk_tokens: fc.integer({ min: 1, max: 7 }),
    counted_as: fc.constantFrom('text', 'reasoning', 'audio', 'image'),
    paced: fc.boolean(),
    bytes_per_token: fc.integer({ min: 1, max: 50 }),
  },
  { requiredKeys: ['form', 'tokens', 'bytes_per_token'] },
);

const ANY_WORD = fc.constantFrom('', 'null', null, 'stop', 'STOP', 'eos', 0, { a: 1 });

const KNOBS = fc.record(
  {
    finish: fc.record(
      {
        place: fc.constantFrom(...FINISH_PLACES),
        word: ANY_WORD,
        before: ANY_WORD,
        omit: fc.boolean(),
        omit_before: fc.boolean(),
        native: ANY_WORD,
      },
      { requiredKeys: [] },
    ),
    usage: fc.record({
      reports: fc.array(
        fc.record({ shape: fc.constantFrom(...USAGE_SHAPE_NAMES), place: fc.constantFrom(...USAGE_PLACES) }),
        { maxLength: 3 },
      ),
      unasked: fc.boolean(),
    }),
    framing: fc.record(
      {
        line_end: fc.constantFrom('lf', 'crlf', 'cr'),
        colon_space: fc.boolean(),
        bom: fc.boolean(),
        multi_line: fc.boolean(),
        next_line: fc.boolean(),
        ndjson: fc.boolean(),
        event: fc.constantFrom(null, 'message'),
        id: fc.boolean(),
        retry: fc.constantFrom(null, 1),
        done: fc.constantFrom(null, '', 'data:[DONE]\n\n'),
        last_line_ends: fc.integer({ min: 0, max: 2 }),
        insert: fc.array(
          fc.record({
            at: fc.constantFrom('start', 'each', 'finish', 'usage', 'done', 0, 3, 100),
            text: fc.constantFrom(': x\n\n', 'data: null\n\n', '\u0000', ''),
          }),
          { maxLength: 3 },
        ),
        encoding: fc.constantFrom('identity', 'gzip', 'zstd'),
        content_type: fc.constantFrom(null, '', 'text/plain'),
        split: fc.constantFrom(null, 'characters', 'line_ends', 5000),
        apart_ms: fc.constant(0),
      },
      { requiredKeys: [] },
    ),
    envelope: fc.record(
      { together: fc.boolean(), index: fc.boolean(), opening: fc.boolean(), logprobs: fc.boolean() },
      { requiredKeys: [] },
    ),
    answers_as: fc.constantFrom('asked', 'stream', 'whole'),
    ids: fc.constantFrom('twin', 'none', 'openrouter'),
    output_cap: fc.constantFrom(null, 9),
    ignores: fc.subarray(['max_tokens', 'n', 'stream_options', 'tool_choice'] as const),
  },
  { requiredKeys: [] },
);

describe('upstream twin takes any knobs together', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  after(() => twin.close());

  it('counts what the segments produce, up to the maximum that applies', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(SEGMENT, { maxLength: 4 }),
        KNOBS,
        fc.record({
          stream: fc.boolean(),
          n: fc.integer({ min: 1, max: 3 }),
          max_tokens: fc.integer({ min: 1, max: 60 }),
        }),
        async (segments, knobs, body) => {
          const id = newId();
          const reply = await ask(twin, steered({ ...knobs, segments } as SteeringInput, body), id);
          assert.equal(reply.status, 200, reply.text);
          const { ignores = [], output_cap: cap = null } = knobs;
          const asked = ignores.includes('max_tokens') ? Infinity : body.max_tokens;
          const choices = ignores.includes('n') ? 1 : body.n;
          let left = Math.min(asked, cap ?? Infinity);
          const expected = { text: 0, reasoning: 0, audio: 0, image: 0 };
          for (const { form, tokens, counted_as } of segments) {
            const produced = Math.min(tokens, left);
            left -= produced;
            expected[counted_as ?? OUTPUT_FORMS[form].countedAs] += produced * choices;
          }
          const kept = record(twin, id);
          assert.equal(kept.status, 'completed');
          assert.deepEqual(
            {
              text: kept.completion_tokens - kept.reasoning_tokens - kept.audio_tokens - kept.image_tokens,
              reasoning: kept.reasoning_tokens,
              audio: kept.audio_tokens,
              image: kept.image_tokens,
            },
            expected,
          );
        },
      ),
      { numRuns: 300 },
    );
  });
});
