/**
 * From a request, the knobs and the faults to one plan: what an answer will say, when, and where it breaks.
 * Pure, and the same for every dialect; `script.ts` turns a plan into timed writes.
 */
import { MAX_OUTPUT_TOKENS, type Steering, type UpstreamTwinConfig } from './config.ts';
import type { Dialect } from './dialect.ts';
import { type Faults, faultOf } from './faults.ts';
import type { AcceptedWork } from './requests.ts';

/** A request for an answer, read from whichever dialect it came in. */
export interface Ask {
  readonly model: string;
  readonly stream: boolean;
  /** Whether the client wants usage in the stream; whole answers always carry it. */
  readonly wantsUsage: boolean;
  /** How many answers (`n`). */
  readonly choices: number;
  readonly promptTokens: number;
  readonly maxTokens: number | null;
  /** The function that must be called instead of writing text. */
  readonly toolName: string | null;
  readonly seed: number;
  readonly steering: Partial<Steering>;
}

/** Where an answer breaks: after so many visible tokens of each choice, and how. */
export interface Cut {
  readonly afterTokens: number;
  readonly how: 'error' | 'eof' | 'reset' | 'hang';
  readonly message: string;
}

export type FinishReason = 'stop' | 'length' | 'tool_call';

export interface Timing {
  readonly headersAtMs: number;
  /** When the visible token `index` of each choice is due. */
  readonly tokenAtMs: (index: number) => number;
  readonly endAtMs: number;
}

/** All times count from the moment the whole request was read. */
export interface AnswerPlan {
  readonly work: AcceptedWork;
  /** The model the answer names, which a fault can make another one. */
  readonly shownModel: string;
  readonly choices: number;
  readonly toolName: string | null;
  readonly seed: number;
  readonly visibleTokens: number;
  readonly reasoningTokens: number;
  readonly finishReason: FinishReason;
  readonly timing: Timing;
  readonly cut: Cut | null;
  readonly garbageAfter: number | null;
  /** The JSON text of the usage the answer reports; null leaves it out. */
  readonly usageText: string | null;
  readonly lateUsageMs: number;
  readonly oddFraming: boolean;
}

/** An answer that no model takes part in: nothing is counted, whatever else the rule says. */
export type RefusalPlan =
  | { readonly how: 'destroy' | 'hang'; readonly atMs: number }
  | {
      readonly how: 'respond';
      readonly atMs: number;
      readonly status: number;
      readonly contentType: string;
      readonly body: string;
      readonly retryAfterSeconds: number | null;
    };

/** The refusal that the faults ask for; null when a model answers. */
export function planRefusal(
  config: UpstreamTwinConfig,
  ask: Ask,
  faults: Faults,
  dialect: Dialect,
): RefusalPlan | null {
  if (faults.length === 0) return null;
  const atMs = steer(config, ask, faults).latency_ms;
  if (faultOf(faults, 'refuse') !== undefined) return { how: 'destroy', atMs };
  const hang = faultOf(faults, 'hang');
  if (hang !== undefined && hang.after_chunks === undefined) return { how: 'hang', atMs };
  const failed = faultOf(faults, 'status');
  if (failed !== undefined) {
    const { status, body = dialect.errorBody(failed.status, `The twin was told to answer ${failed.status}.`) } = failed;
    return {
      how: 'respond',
      atMs,
      status,
      contentType: 'application/json',
      body: typeof body === 'string' ? body : JSON.stringify(body),
      retryAfterSeconds: failed.retry_after ?? null,
    };
  }
  const page = faultOf(faults, 'html');
  if (page === undefined) return null;
  return {
    how: 'respond',
    atMs,
    status: 200,
    contentType: 'text/html; charset=utf-8',
    body: page.body ?? '<!doctype html><title>Welcome</title><h1>It works!</h1>\n',
    retryAfterSeconds: null,
  };
}

export function planAnswer(config: UpstreamTwinConfig, ask: Ask, faults: Faults, dialect: Dialect): AnswerPlan {
  const steering = steer(config, ask, faults);
  const isEmpty = faultOf(faults, 'empty') !== undefined;
  const { tokens, isCutByMaximum } = outputTokens(ask, steering, faults, isEmpty);
  const reasoningTokens = Math.min(steering.reasoning_tokens, tokens);
  const visibleTokens = tokens - reasoningTokens;
  const toolName = visibleTokens === 0 ? null : ask.toolName;
  const work = {
    model: ask.model,
    stream: ask.stream,
    promptTokens: ask.promptTokens,
    cachedTokens: Math.min(steering.cached_tokens, ask.promptTokens),
  };
  return {
    work,
    shownModel: faultOf(faults, 'model_name')?.model ?? ask.model,
    choices: ask.choices,
    toolName,
    seed: ask.seed,
    visibleTokens,
    reasoningTokens,
    finishReason: isCutByMaximum ? 'length' : toolName === null ? 'stop' : 'tool_call',
    timing: timingOf(steering, visibleTokens),
    cut: cutOf(faults),
    garbageAfter: garbageAfter(faults),
    usageText: usageText(ask, faults, () =>
      dialect.usage({
        promptTokens: work.promptTokens,
        cachedTokens: work.cachedTokens,
        completionTokens: tokens * ask.choices,
        reasoningTokens: reasoningTokens * ask.choices,
      }),
    ),
    lateUsageMs: faultOf(faults, 'late_usage')?.ms ?? 0,
    oddFraming: faultOf(faults, 'comments') !== undefined,
  };
}

/** Lays the four layers of knobs over each other (`config.ts`). */
function steer(config: UpstreamTwinConfig, ask: Ask, faults: Faults): Steering {
  const steering = { ...config, ...config.models[ask.model], ...ask.steering };
  if (faults.length === 0) return steering;
  const slow = faultOf(faults, 'slow');
  const output = faultOf(faults, 'output');
  return {
    ...steering,
    first_token_ms: slow?.first_ms ?? steering.first_token_ms,
    chunk_interval_ms: slow?.chunk_ms ?? steering.chunk_interval_ms,
    total_ms: slow?.total_ms ?? steering.total_ms,
    output_tokens: output?.output_tokens ?? steering.output_tokens,
    reasoning_tokens: output?.reasoning_tokens ?? steering.reasoning_tokens,
    cached_tokens: output?.cached_tokens ?? steering.cached_tokens,
  };
}

function outputTokens(
  ask: Ask,
  steering: Steering,
  faults: Faults,
  isEmpty: boolean,
): { tokens: number; isCutByMaximum: boolean } {
  if (isEmpty) return { tokens: 0, isCutByMaximum: false };
  const excess = faultOf(faults, 'exceed_max_tokens');
  if (excess !== undefined) {
    const asked = Math.min(ask.maxTokens ?? steering.output_tokens, MAX_OUTPUT_TOKENS);
    return { tokens: asked + excess.tokens, isCutByMaximum: true };
  }
  const isCutByMaximum = ask.maxTokens !== null && ask.maxTokens < steering.output_tokens;
  return { tokens: isCutByMaximum ? ask.maxTokens : steering.output_tokens, isCutByMaximum };
}

function timingOf(steering: Steering, visibleTokens: number): Timing {
  const { latency_ms: headersAtMs, total_ms: totalMs } = steering;
  const firstAtMs = headersAtMs + steering.first_token_ms;
  if (totalMs === null) {
    const pace = steering.chunk_interval_ms;
    return {
      headersAtMs,
      tokenAtMs: (index) => firstAtMs + index * pace,
      endAtMs: firstAtMs + Math.max(0, visibleTokens - 1) * pace,
    };
  }
  const endAtMs = Math.max(totalMs, firstAtMs);
  const pace = visibleTokens === 0 ? 0 : (endAtMs - firstAtMs) / visibleTokens;
  return { headersAtMs, tokenAtMs: (index) => firstAtMs + index * pace, endAtMs };
}

function cutOf(faults: Faults): Cut | null {
  for (const fault of faults) {
    switch (fault.type) {
      case 'error_chunk': {
        const message = fault.message ?? 'The model is overloaded. Please retry.';
        return { afterTokens: fault.after_chunks ?? 0, how: 'error', message };
      }
      case 'eof':
      case 'reset':
        return { afterTokens: fault.after_chunks ?? 0, how: fault.type, message: '' };
      case 'hang':
        if (fault.after_chunks !== undefined) {
          return { afterTokens: fault.after_chunks, how: 'hang', message: '' };
        }
        break;
      default:
        break;
    }
  }
  return null;
}

function garbageAfter(faults: Faults): number | null {
  const garbage = faultOf(faults, 'garbage_sse');
  return garbage === undefined ? null : (garbage.after_chunks ?? 0);
}

function usageText(ask: Ask, faults: Faults, trueUsage: () => object): string | null {
  if ((ask.stream && !ask.wantsUsage) || faultOf(faults, 'no_usage') !== undefined) return null;
  const replaced = faultOf(faults, 'usage');
  if (replaced === undefined) return JSON.stringify(trueUsage());
  return 'usage_raw' in replaced ? replaced.usage_raw : JSON.stringify(replaced.usage);
}
