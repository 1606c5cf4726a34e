/**
 * The twin's usage shapes as the gateway reads them: of each that does not contradict itself, what it tells comes to
 * the twin's own record, streamed and whole. The two know nothing of each other, so an error would have to be made
 * twice.
 */
import assert from 'node:assert/strict';

import { mergeReportedUsage, readReportedUsage, type ReportedUsage } from '../../../domain/usage/reported-usage.ts';
import type { Usage } from '../../../domain/usage/usage.ts';
import {
  startUpstreamTwin,
  USAGE_SHAPE_NAMES,
  USAGE_SHAPES,
  type RequestRecord,
  type UpstreamTwin,
} from '../../../twins/upstream/twin.ts';
import { ask, jsonEvents, newId, record, steered } from './fixture.ts';

type Told = Readonly<Record<(typeof USAGE_SHAPES)['openai']['tells'][number], number>>;

const read = (usage: Usage): Told => ({
  input: usage.inputTokens,
  output: usage.outputTokens,
  cached: usage.cachedInputTokens,
  cache_write: usage.cacheWrite5mTokens + usage.cacheWrite1hTokens,
  cache_write_1h: usage.cacheWrite1hTokens,
  input_audio: usage.audioInputTokens,
  input_image: usage.imageInputTokens,
  reasoning: usage.reasoningTokens,
  output_audio: usage.audioOutputTokens,
  output_image: usage.imageOutputTokens,
  web_searches: usage.webSearches,
});

const produced = (kept: RequestRecord): Told => ({
  input: kept.prompt_tokens,
  output: kept.completion_tokens,
  cached: kept.cached_tokens,
  cache_write: kept.cache_write_tokens + kept.cache_write_1h_tokens,
  cache_write_1h: kept.cache_write_1h_tokens,
  input_audio: kept.prompt_audio_tokens,
  input_image: kept.prompt_image_tokens,
  reasoning: kept.reasoning_tokens,
  output_audio: kept.audio_tokens,
  output_image: kept.image_tokens,
  web_searches: kept.web_searches,
});

describe('upstream twin is read by the gateway', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  after(() => twin.close());

  for (const shape of USAGE_SHAPE_NAMES) {
    const { tells, contradiction } = USAGE_SHAPES[shape];
    if (contradiction !== undefined) continue;
    for (const stream of [true, false]) {
      it(`${shape}, ${stream ? 'streamed' : 'whole'}: ${tells.join(', ')}`, async () => {
        for (const [reasoning, cached] of [
          [0, 0],
          [40, 30],
        ] as const) {
          const id = newId();
          const knobs = {
            usage: { shape },
            segments: [
              { form: 'hidden', tokens: reasoning },
              { form: 'text', tokens: 20 },
              { form: 'audio', tokens: 3, bytes_per_token: 8 },
              { form: 'images', tokens: 4, bytes_per_token: 8 },
            ],
            added_prompt_tokens: 100,
            cached_tokens: cached,
            cache_write_tokens: 11,
            // Not every vendor has a cache of an hour, and those without count it as their only one.
            cache_write_1h_tokens: tells.includes('cache_write_1h') ? 5 : 0,
            prompt_audio_tokens: 6,
            prompt_image_tokens: 7,
            web_searches: 2,
          } as const;
          const body = steered(knobs, { stream });
          const messages = stream ? await jsonEvents(twin, body, id) : [JSON.parse((await ask(twin, body, id)).text)];
          let reported: ReportedUsage | null = null;
          for (const message of messages) reported = mergeReportedUsage(reported, message);
          assert.ok(reported !== null, 'something was reported');
          const usage = readReportedUsage(reported, { reasoningInOutput: true });
          assert.ok(usage.ok, JSON.stringify(usage));
          const [told, true_] = [read(usage.usage), produced(record(twin, id))];
          for (const dimension of tells) assert.equal(told[dimension], true_[dimension], dimension);
        }
      });
    }
  }
});
