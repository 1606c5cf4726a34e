/**
 * From a request, the knobs and the faults to one plan: what an answer will say, when, and where it breaks.
 * Pure, and the same for every dialect; `script.ts` turns a plan into timed writes.
 */
import type { AnswerPlan, Ask, Cut, Pause, PlannedUsage, Timing } from './answer-plan.ts';
import type { UpstreamTwinConfig } from './config.ts';
import type { Dialect } from './dialect.ts';
import { type Faults, faultOf, type ReadFault } from './faults.ts';
import { DEFAULT_FRAMING, type Framing, type Insertion, type Position } from './framing.ts';
import { membersOf } from './json.ts';
import { MAX_OUTPUT_TOKENS } from './limits.ts';
import { OUTPUT_FORMS } from './output/forms.ts';
import { layOut, type Segment, type SegmentInput, tokensOf } from './output/segments.ts';
import type { Steering } from './steering.ts';
import { NO_TOKENS, type TokenCounts } from './token-counts.ts';
import { USAGE_SHAPES } from './usage/shapes.ts';

/** The name of the function where the request names none. */
const TOOL_NAME = 'twin_tool';

/** Lays the layers of knobs over each other (`steering.ts`). */
export function steer(config: UpstreamTwinConfig, ask: Ask, faults: Faults): Steering {
  const steering: Steering = { ...config, ...config.models[ask.model], ...ask.steering };
  if (faults.length === 0) return steering;
  const slow = faultOf(faults, 'slow');
  const output = faultOf(faults, 'output');
  return {
    ...steering,
    ...(slow?.first_ms !== undefined && { first_token_ms: slow.first_ms }),
    ...(slow?.chunk_ms !== undefined && { chunk_interval_ms: slow.chunk_ms }),
    ...(slow?.total_ms !== undefined && { total_ms: slow.total_ms }),
    ...(output?.output_tokens !== undefined && { output_tokens: output.output_tokens, segments: null }),
    ...(output?.reasoning_tokens !== undefined && { reasoning_tokens: output.reasoning_tokens, segments: null }),
    ...(output?.cached_tokens !== undefined && { cached_tokens: output.cached_tokens }),
    ...faultOf(faults, 'steer')?.knobs,
  };
}

/** Silence for a while before the headers. */
export function silenceMs(faults: Faults): number {
  return faults.reduce((sum, fault) => sum + (fault.type === 'hang' && !isInAnswer(fault) ? (fault.ms ?? 0) : 0), 0);
}

export function planAnswer(steering: Steering, ask: Ask, faults: Faults, dialect: Dialect): AnswerPlan {
  const { ignores } = steering;
  const stream = steering.answers_as === 'asked' ? ask.stream : steering.answers_as === 'stream';
  const wantsUsage = (ask.wantsUsage || !ask.stream) && !ignores.includes('stream_options');
  const askedTool = ignores.includes('tool_choice') ? null : ask.toolName;
  const { tokens, isCutByMaximum } = outputTokens(ask, steering, faults);
  const segments = layOut(segmentInputs(steering, tokens, askedTool), tokens);
  const hasCall = segments.some(({ form }) => OUTPUT_FORMS[form].isCall === true);
  const framing = faultOf(faults, 'comments') === undefined ? steering.framing : oddFraming(stream);
  return {
    work: { model: ask.model, stream, counts: promptCounts(ask, steering) },
    shownModel: faultOf(faults, 'model_name')?.model ?? ask.model,
    stream,
    wantsUsage,
    choices: ignores.includes('n') ? 1 : ask.choices,
    toolName: askedTool ?? TOOL_NAME,
    wantsLogprobs: ask.wantsLogprobs || steering.envelope.logprobs,
    seed: ask.seed,
    segments,
    finishReason: isCutByMaximum ? 'length' : hasCall ? 'tool_call' : 'stop',
    finish: steering.finish,
    usage: plannedUsage(steering, faults, { stream, wantsUsage }),
    timing: timingOf(steering, segments, silenceMs(faults)),
    cut: cutOf(faults, dialect),
    pauses: faults.flatMap((fault) => pauseOf(fault) ?? []),
    insertions: framing.insert,
    passingErrors: faults.flatMap((fault) =>
      fault.type === 'error_chunk' && fault.goes_on === true ? errorCut(fault, dialect) : [],
    ),
    garbageAfter: garbageAfter(faults),
    framing,
    steering,
  };
}

/** Input tokens; the parts never exceed the whole. */
export function promptCounts(ask: Ask, steering: Steering): TokenCounts {
  const promptTokens = ask.promptTokens + steering.added_prompt_tokens;
  let left = promptTokens;
  const part = (wanted: number): number => {
    const taken = Math.min(wanted, left);
    left -= taken;
    return taken;
  };
  return {
    ...NO_TOKENS,
    promptTokens,
    addedPromptTokens: steering.added_prompt_tokens,
    cachedTokens: part(steering.cached_tokens),
    cacheWriteTokens: part(steering.cache_write_tokens),
    cacheWrite1hTokens: part(steering.cache_write_1h_tokens),
    promptAudioTokens: part(steering.prompt_audio_tokens),
    promptImageTokens: part(steering.prompt_image_tokens),
    webSearches: steering.web_searches,
  };
}

function maximumOf({ maxima }: Ask, { ignores, output_cap: cap }: Steering): number | null {
  const completion = ignores.includes('max_completion_tokens') ? undefined : maxima.max_completion_tokens;
  const asked = completion ?? (ignores.includes('max_tokens') ? undefined : maxima.max_tokens);
  if (asked === undefined) return cap;
  return cap === null ? asked : Math.min(asked, cap);
}

function outputTokens(ask: Ask, steering: Steering, faults: Faults): { tokens: number; isCutByMaximum: boolean } {
  if (faultOf(faults, 'empty') !== undefined) return { tokens: 0, isCutByMaximum: false };
  const target = steering.segments === null ? steering.output_tokens : tokensOf(steering.segments);
  const maximum = maximumOf(ask, steering);
  const excess = faultOf(faults, 'exceed_max_tokens');
  if (excess !== undefined) {
    return { tokens: Math.min(maximum ?? target, MAX_OUTPUT_TOKENS) + excess.tokens, isCutByMaximum: true };
  }
  const isCutByMaximum = maximum !== null && maximum < target;
  return { tokens: isCutByMaximum ? maximum : target, isCutByMaximum };
}

function segmentInputs(
  { segments, reasoning_tokens }: Steering,
  tokens: number,
  toolName: string | null,
): readonly SegmentInput[] {
  if (segments !== null) return segments;
  const reasoning = Math.min(reasoning_tokens, tokens);
  const hidden: SegmentInput = {
    form: 'hidden',
    tokens: reasoning,
    chunk_tokens: Math.max(1, reasoning),
    paced: false,
  };
  return [hidden, { form: toolName === null ? 'text' : 'tool_calls', tokens: tokens - reasoning }];
}

function timingOf(steering: Steering, segments: readonly Segment[], silence: number): Timing {
  const { total_ms: totalMs } = steering;
  const headersAtMs = steering.latency_ms + silence;
  const pacedTokens = segments.reduce((sum, { isPaced, tokens }) => sum + (isPaced ? tokens : 0), 0);
  const firstAtMs = headersAtMs + steering.first_token_ms;
  if (totalMs === null) {
    const pace = steering.chunk_interval_ms;
    return {
      headersAtMs,
      tokenAtMs: (index) => firstAtMs + index * pace,
      endAtMs: firstAtMs + Math.max(0, pacedTokens - 1) * pace,
    };
  }
  const endAtMs = Math.max(totalMs, firstAtMs);
  const pace = pacedTokens === 0 ? 0 : (endAtMs - firstAtMs) / pacedTokens;
  return { headersAtMs, tokenAtMs: (index) => firstAtMs + index * pace, endAtMs };
}

function placeOf({ after_chunks, at }: { after_chunks?: number; at?: Exclude<Position, number> }): Position {
  return at ?? after_chunks ?? 0;
}

function cutOf(faults: Faults, dialect: Dialect): Cut | null {
  for (const fault of faults) {
    switch (fault.type) {
      case 'error_chunk':
        if (fault.goes_on !== true) return errorCut(fault, dialect);
        break;
      case 'eof':
      case 'reset':
        return { at: placeOf(fault), how: fault.type, text: '', carrier: 'data' };
      case 'hang':
        if (isInAnswer(fault) && fault.ms === undefined) {
          return { at: placeOf(fault), how: 'hang', text: '', carrier: 'data' };
        }
        break;
      default:
        break;
    }
  }
  return null;
}

/** Whether a hang has a place, which is after the headers. */
export function isInAnswer({ after_chunks, at }: Extract<ReadFault, { type: 'hang' }>): boolean {
  return after_chunks !== undefined || at !== undefined;
}

function errorCut(fault: Extract<ReadFault, { type: 'error_chunk' }>, dialect: Dialect): Cut {
  const { status = 500, message = 'The model is overloaded. Please retry.', code = null, shape } = fault;
  const text =
    fault.body === undefined
      ? dialect.errorBody({ status, message, code, param: null }, shape)
      : JSON.stringify(fault.body);
  return { at: placeOf(fault), how: 'error', text, carrier: fault.carrier ?? 'data' };
}

function pauseOf(fault: ReadFault): Pause | null {
  if (fault.type === 'late_usage') return { at: 'finish', ms: fault.ms };
  if (fault.type !== 'hang' || fault.ms === undefined || !isInAnswer(fault)) return null;
  return { at: placeOf(fault), ms: fault.ms };
}

function garbageAfter(faults: Faults): number | null {
  const garbage = faultOf(faults, 'garbage_sse');
  return garbage === undefined ? null : (garbage.after_chunks ?? 0);
}

function plannedUsage(
  { usage }: Steering,
  faults: Faults,
  { stream, wantsUsage }: { stream: boolean; wantsUsage: boolean },
): PlannedUsage[] {
  if ((stream && !wantsUsage && !usage.unasked) || faultOf(faults, 'no_usage') !== undefined) return [];
  const replaced = faultOf(faults, 'usage');
  if (replaced !== undefined) {
    const text = 'usage_raw' in replaced ? replaced.usage_raw : JSON.stringify(replaced.usage);
    return [{ place: 'own', members: () => ({ top: `"usage":${text}`, choice: '' }) }];
  }
  return usage.reports.map(({ shape, place }) => ({
    place,
    members: (counts) => {
      const { top = {}, choice = {} } = USAGE_SHAPES[shape].report(counts);
      return { top: membersOf(top), choice: membersOf(choice) };
    },
  }));
}

/** Legal framing that careless parsers break on: comments, blank lines, CRLF, writes that end inside a character. */
function oddFraming(stream: boolean): Framing {
  const insert: Insertion = stream
    ? { at: 'each', text: ': keep-alive\r\n\r\n\r\n' }
    : { at: 'start', text: ' \r\n\r\n' };
  return { ...DEFAULT_FRAMING, line_end: 'crlf', split: 'characters', insert: [insert] };
}
