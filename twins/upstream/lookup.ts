/**
 * The provider's own look-up of what a request consumed, in OpenRouter's form: `GET /generation?id=` by the id of the
 * answer or of the request. It can be late, slow, broken or wrong; the truth stays at `/_twin/requests/{id}`.
 */
import { readChoice, readCount, readMilliseconds } from '../kit/input.ts';
import { type ErrorShapeName, ERROR_SHAPE_NAMES, errorText } from './error-shapes.ts';
import { nullable, readFields } from './fields.ts';
import type { RequestRecord } from './records.ts';

export interface LookupRules {
  /** How often an id is unknown before it is found. */
  readonly not_found_times: number;
  readonly latency_ms: number;
  /** An HTTP error instead of an answer; null: none. */
  readonly status: number | null;
  readonly shape: ErrorShapeName;
  /** Added to the true output and input, to be wrong by. */
  readonly output_error: number;
  readonly input_error: number;
}

export const DEFAULT_LOOKUP: LookupRules = {
  not_found_times: 0,
  latency_ms: 0,
  status: null,
  shape: 'openrouter',
  output_error: 0,
  input_error: 0,
};

export const LOOKUP_ROUTE = /^(?:\/api)?(?:\/v1)?\/generation$/;

const readError = (value: unknown, field: string): number => readCount(value, field, -1_000_000, 1_000_000);

export function readLookupRules(value: unknown, field: string): LookupRules {
  return {
    ...DEFAULT_LOOKUP,
    ...readFields<LookupRules>(value, field, {
      not_found_times: readCount,
      latency_ms: readMilliseconds,
      status: nullable((status, name) => readCount(status, name, 400, 599)),
      shape: (shape, name) => readChoice(shape, name, ERROR_SHAPE_NAMES),
      output_error: readError,
      input_error: readError,
    }),
  };
}

interface LookupAnswer {
  readonly status: number;
  readonly text: string;
}

/** Counts how often each id was asked for, since that is what an eventually consistent store is like from outside. */
export class Lookup {
  readonly #asked = new Map<string, number>();

  clear(): void {
    this.#asked.clear();
  }

  answer(rules: LookupRules, id: string, record: RequestRecord | undefined): LookupAnswer {
    if (rules.status !== null) return failure(rules, rules.status, 'The look-up failed.');
    const asked = (this.#asked.get(id) ?? 0) + 1;
    this.#asked.set(id, asked);
    if (record === undefined || record.usage === null || asked <= rules.not_found_times) {
      return failure(rules, 404, `Generation ${id} not found`);
    }
    return { status: 200, text: JSON.stringify({ data: generationOf(record, rules) }) };
  }
}

function failure({ shape }: LookupRules, status: number, message: string): LookupAnswer {
  return { status, text: errorText(shape, { status, message, code: null, param: null }) };
}

function generationOf(record: RequestRecord, { input_error, output_error }: LookupRules): object {
  const input = record.prompt_tokens + input_error;
  const output = record.completion_tokens + output_error;
  return {
    id: record.generation_id ?? record.request_id,
    upstream_id: record.generation_id,
    model: record.model,
    created_at: record.started_at,
    streamed: record.stream,
    cancelled: record.status === 'aborted',
    provider_name: 'Twin',
    origin: '',
    is_byok: false,
    total_cost: 0.00014,
    usage: 0.00014,
    cache_discount: null,
    latency: 12,
    generation_time: 34,
    finish_reason: record.status === 'completed' ? 'stop' : null,
    // In the words of one tokenizer for all models; the native counts are the provider's own, which it bills by.
    tokens_prompt: Math.ceil(input * 1.1),
    tokens_completion: Math.ceil(output * 1.1),
    native_tokens_prompt: input,
    native_tokens_completion: output,
    native_tokens_reasoning: record.reasoning_tokens,
    native_tokens_cached: record.cached_tokens,
    native_tokens_completion_images: record.image_tokens,
    num_media_prompt: null,
    num_media_completion: null,
    num_search_results: record.web_searches,
  };
}
