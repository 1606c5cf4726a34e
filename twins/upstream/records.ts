/**
 * The record of one request, as the twin keeps it, shows it and writes it to its data file; and the sums over many.
 */
import type { JsonObject } from '../kit/input.ts';
import { NO_TOKENS, type MutableCounts, usageReport, type UsageReport } from './token-counts.ts';

export type RecordStatus = 'running' | 'completed' | 'aborted' | 'failed';

export interface RequestRecord {
  /** Place in the order in which ids were first seen, from 1. */
  readonly ordinal: number;
  readonly request_id: string;
  /** Null when the body was refused before a model could be read. */
  readonly model: string | null;
  /** The id that the last answer carried, in the provider's own style; null when it carried none. */
  readonly generation_id: string | null;
  /** State of the last attempt; `running` as long as any attempt runs. */
  readonly status: RecordStatus;
  readonly stream: boolean;
  readonly prompt_tokens: number;
  /** The part of the prompt that is in no message. */
  readonly added_prompt_tokens: number;
  readonly cached_tokens: number;
  readonly cache_write_tokens: number;
  readonly cache_write_1h_tokens: number;
  readonly prompt_audio_tokens: number;
  readonly prompt_image_tokens: number;
  readonly completion_tokens: number;
  readonly reasoning_tokens: number;
  readonly audio_tokens: number;
  readonly image_tokens: number;
  /** The part of the completion that no byte of an answer showed. */
  readonly hidden_tokens: number;
  readonly web_searches: number;
  readonly attempts: number;
  readonly started_at: string;
  readonly ended_at: string | null;
  /** Null while it runs and when no model worked on it (refused, HTTP error). */
  readonly usage: UsageReport | null;
}

export interface RequestTotals {
  readonly requests: number;
  readonly attempts: number;
  readonly running: number;
  readonly completed: number;
  readonly aborted: number;
  readonly failed: number;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
}

/** A record as the book keeps it. */
export interface Entry {
  ordinal: number;
  requestId: string;
  model: string | null;
  status: Exclude<RecordStatus, 'running'>;
  running: number;
  stream: boolean;
  generationId: string | null;
  counts: MutableCounts;
  attempts: number;
  startedAt: number;
  endedAt: number;
}

export function newEntry(ordinal: number, requestId: string): Entry {
  return {
    ordinal,
    requestId,
    model: null,
    status: 'failed',
    running: 0,
    stream: false,
    generationId: null,
    counts: { ...NO_TOKENS },
    attempts: 0,
    startedAt: Date.now(),
    endedAt: 0,
  };
}

/** Reads a line of the data file, which `recordOf` wrote. A request that was running then is aborted. */
export function entryOf(line: JsonObject): Entry {
  const record = line as unknown as RequestRecord;
  const startedAt = Date.parse(record.started_at);
  return {
    ordinal: record.ordinal,
    requestId: record.request_id,
    model: record.model,
    status: record.status === 'running' ? 'aborted' : record.status,
    running: 0,
    stream: record.stream,
    generationId: record.generation_id,
    counts: countsOf(line),
    attempts: record.attempts,
    startedAt,
    endedAt: record.ended_at === null ? startedAt : Date.parse(record.ended_at),
  };
}

/** The counts of a line of the data file; a line from before a count existed has none of it. */
function countsOf(line: JsonObject): MutableCounts {
  const count = (field: keyof RequestRecord): number => {
    const value = line[field];
    return typeof value === 'number' ? value : 0;
  };
  return {
    promptTokens: count('prompt_tokens'),
    addedPromptTokens: count('added_prompt_tokens'),
    cachedTokens: count('cached_tokens'),
    cacheWriteTokens: count('cache_write_tokens'),
    cacheWrite1hTokens: count('cache_write_1h_tokens'),
    promptAudioTokens: count('prompt_audio_tokens'),
    promptImageTokens: count('prompt_image_tokens'),
    completionTokens: count('completion_tokens'),
    reasoningTokens: count('reasoning_tokens'),
    audioTokens: count('audio_tokens'),
    imageTokens: count('image_tokens'),
    hiddenTokens: count('hidden_tokens'),
    webSearches: count('web_searches'),
  };
}

export function recordOf(entry: Entry): RequestRecord {
  const running = entry.running > 0;
  const { counts } = entry;
  const worked = counts.promptTokens + counts.completionTokens > 0;
  return {
    ordinal: entry.ordinal,
    request_id: entry.requestId,
    model: entry.model,
    generation_id: entry.generationId,
    status: running ? 'running' : entry.status,
    stream: entry.stream,
    prompt_tokens: counts.promptTokens,
    added_prompt_tokens: counts.addedPromptTokens,
    cached_tokens: counts.cachedTokens,
    cache_write_tokens: counts.cacheWriteTokens,
    cache_write_1h_tokens: counts.cacheWrite1hTokens,
    prompt_audio_tokens: counts.promptAudioTokens,
    prompt_image_tokens: counts.promptImageTokens,
    completion_tokens: counts.completionTokens,
    reasoning_tokens: counts.reasoningTokens,
    audio_tokens: counts.audioTokens,
    image_tokens: counts.imageTokens,
    hidden_tokens: counts.hiddenTokens,
    web_searches: counts.webSearches,
    attempts: entry.attempts,
    started_at: new Date(entry.startedAt).toISOString(),
    ended_at: running ? null : new Date(entry.endedAt).toISOString(),
    usage: running || !worked ? null : usageReport(counts),
  };
}

export function emptyTotals(): { -readonly [K in keyof RequestTotals]: number } {
  return {
    requests: 0,
    attempts: 0,
    running: 0,
    completed: 0,
    aborted: 0,
    failed: 0,
    prompt_tokens: 0,
    completion_tokens: 0,
  };
}

export function addTo(totals: ReturnType<typeof emptyTotals>, entry: Entry): void {
  totals.requests += 1;
  totals.attempts += entry.attempts;
  totals[entry.running > 0 ? 'running' : entry.status] += 1;
  totals.prompt_tokens += entry.counts.promptTokens;
  totals.completion_tokens += entry.counts.completionTokens;
}
