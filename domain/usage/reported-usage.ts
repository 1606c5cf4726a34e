/**
 * Finding what a provider reports about usage, wherever it stands, and keeping the best of it over a stream.
 *
 * A report is merged into what was seen before field by field: of two counts the larger one stands, since providers
 * report running totals, so a later report that is emptier (all 0, `null`, half of the fields) never replaces a better
 * one. Reports of the separate answers of one request are kept apart and added up. The stored object is the provider's
 * own, as evidence; `usage-fields.ts` knows its names and `usage-contradictions.ts` what they mean together.
 *
 * Nothing here fails, whatever JSON a provider sends, and nothing that it sends can make it grow without bound.
 */
import type { Usage } from './usage.ts';
import { resolveCounts, type ReadOptions, type UsageFlag } from './contradictions.ts';
import { InvalidCount, isCount, isObject, readCounts, sumOf, type Report } from './fields.ts';
import { COUNT_NAMES } from './names.ts';

/** The usage reported so far for one request. */
export interface ReportedUsage {
  /** Reports about the whole request, merged; null while there was none. */
  readonly whole: Report | null;
  /** Reports about single answers, by their index. */
  readonly answers: ReadonlyMap<unknown, Report>;
  /** Something in the place of a report that is no object; null where there was none. */
  readonly unreadable: unknown;
  /** The decisions of merging. */
  readonly flags: ReadonlySet<UsageFlag>;
}

export type ReadUsage =
  | {
      readonly ok: true;
      readonly usage: Usage;
      /** Why the report was not taken as it stands; empty where it was. */
      readonly flags: readonly UsageFlag[];
      /** The report in the provider's own words. */
      readonly raw: unknown;
    }
  | { readonly ok: false; readonly reason: string; readonly raw: unknown };

const NOTHING: ReportedUsage = { whole: null, answers: new Map(), unreadable: null, flags: new Set() };
/** `n` has this limit, so more answers than this are a fault of the provider. */
const ANSWERS_MAX = 128;
/** Fields of a report that are kept; known ones have about thirty. */
const FIELDS_MAX = 256;
/** Levels of a report that are merged field by field; known ones have three. */
const MERGED_LEVELS = 4;

/**
 * Adds what `message` (a parsed chunk, a whole answer, or the answer of a usage look-up) reports to what was reported
 * before. Returns `before` itself where it reports nothing.
 */
export function mergeReportedUsage(before: ReportedUsage | null, message: unknown): ReportedUsage | null {
  if (!isObject(message)) return before;
  const found = reportsIn(message);
  if (found === null) return before;
  const base = before ?? NOTHING;
  const flags = new Set(base.flags);
  const { whole, unreadable } = mergeAll(found.whole);
  if (whole.differs) flags.add('places_differ');
  const merged = mergeReports(base.whole, whole.report);
  if (merged.shrank) flags.add('report_shrank');
  const answers = found.answers.length === 0 ? base.answers : new Map(base.answers);
  for (const [index, report] of found.answers) {
    if (!answers.has(index) && answers.size >= ANSWERS_MAX) continue;
    const answer = mergeReports(answers.get(index) ?? null, report);
    if (answer.shrank) flags.add('report_shrank');
    if (answer.report !== null) (answers as Map<unknown, Report>).set(index, answer.report);
  }
  return { whole: merged.report, answers, unreadable: unreadable ?? base.unreadable, flags };
}

/** Reads what was reported as one usage, or says why it cannot be charged by. Never throws. */
export function readReportedUsage(reported: ReportedUsage, options: ReadOptions): ReadUsage {
  const { reports, raw, differs } = evidenceOf(reported);
  if (reports.length === 0) return { ok: false, reason: 'usage is not an object', raw };
  try {
    const read = reports.map((report) => resolveCounts(readCounts(report), options));
    const flags = new Set([...reported.flags, ...read.flatMap((answer) => answer.flags)]);
    if (reports.length > 1) flags.add('answers_added_up');
    if (differs) flags.add('places_differ');
    return { ok: true, usage: addAnswers(read.map((answer) => answer.usage)), flags: [...flags], raw };
  } catch (error) {
    if (error instanceof InvalidCount) return { ok: false, reason: error.message, raw };
    throw error;
  }
}

/** The report as the provider sent it, for the row and the client; null where it sent none. */
export function rawUsageOf(reported: ReportedUsage | null): unknown {
  return reported === null ? null : evidenceOf(reported).raw;
}

interface Found {
  /** Every object, or something else but null, that stands where the usage of the request is reported. */
  readonly whole: readonly unknown[];
  readonly answers: readonly (readonly [index: unknown, report: Report])[];
}

/**
 * The usage reports of a message; null where it has none. Most chunks of a stream do not, so this looks at few fields.
 */
function reportsIn(message: Report): Found | null {
  const choices = message['choices'];
  const whole: unknown[] = [];
  const take = (value: unknown): void => {
    if (value !== undefined && value !== null) whole.push(value);
  };
  take(message['usage']);
  takeInside(message['x_groq'], take);
  take(objectOf(message['usageMetadata']));
  take(objectOf(message['usage_metadata']));
  if (!Array.isArray(choices)) {
    takeForeign(message, take);
    // OpenRouter's look-up has its price under the name of the report.
    if (whole.length > 1 && whole.some(isObject)) return { whole: whole.filter(isObject), answers: [] };
    return whole.length === 0 ? null : { whole, answers: [] };
  }
  const answers = answersIn(choices);
  // llama.cpp counts beside its answer where it is not asked for usage.
  if (whole.length === 0 && answers.length === 0) take(objectOf(message['timings']));
  return whole.length === 0 && answers.length === 0 ? null : { whole, answers };
}

/**
 * Forms of other APIs than chat completions. They are looked at only in messages without choices: what those echo of
 * the request (its metadata) must not be taken for the provider's word.
 */
function takeForeign(message: Report, take: (value: unknown) => void): void {
  takeInside(message['message'], take); // Anthropic's message_start
  takeInside(message['delta'], take); // Cohere's message-end
  takeInside(message['response'], take); // the end of an OpenAI response
  takeInside(message['interaction'], take); // Gemini's interactions
  takeInside(message['metadata'], take); // Bedrock's last event
  takeInside(message['result'], take); // Cloudflare's envelope
  take(objectOf(message['amazon-bedrock-invocationMetrics']));
  take(billedOf(message['meta'])); // Cohere's first version
  take(numbersBeside(message['data'], 'native_tokens_prompt')); // OpenRouter's look-up
  take(numbersBeside(message, 'native_tokens_prompt'));
  take(numbersBeside(message, 'eval_count')); // Ollama's own API
  takeInside(message['data'], take);
}

function billedOf(value: unknown): Report | null {
  return isObject(value) && isObject(value['billed_units']) ? { billed_units: value['billed_units'] } : null;
}

function takeInside(value: unknown, take: (value: unknown) => void): void {
  if (isObject(value)) take(objectOf(value['usage']));
}

function objectOf(value: unknown): Report | null {
  return isObject(value) ? value : null;
}

/** The numbers of an object that counts under `field`, without the texts beside them. */
function numbersBeside(value: unknown, field: string): Report | null {
  if (!isObject(value) || value[field] === undefined) return null;
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => typeof entry === 'number'));
}

/** Reports inside choices: Moonshot puts the usage of a stream there. */
function answersIn(choices: readonly unknown[]): (readonly [unknown, Report])[] {
  const found: (readonly [unknown, Report])[] = [];
  for (const choice of choices) {
    if (!isObject(choice)) continue;
    const report = objectOf(choice['usage']) ?? usageInside(choice['delta']) ?? usageInside(choice['message']);
    if (report !== null) found.push([choice['index'], report]);
  }
  return found;
}

function usageInside(value: unknown): Report | null {
  return isObject(value) ? objectOf(value['usage']) : null;
}

/** Merges the reports of one message. */
function mergeAll(values: readonly unknown[]): {
  whole: { report: Report | null; differs: boolean };
  unreadable: unknown;
} {
  let report: Report | null = null;
  let differs = false;
  let unreadable: unknown = null;
  for (const value of values) {
    if (!isObject(value)) {
      unreadable = value;
      continue;
    }
    if (report !== null) differs ||= haveDifferentCounts(report, value);
    report = mergeReports(report, value).report;
  }
  return { whole: { report, differs }, unreadable };
}

/** True where both have a count of one name, neither is the placeholder 0, and they differ. */
function haveDifferentCounts(one: Report, other: Report): boolean {
  return Object.keys(other).some((field) => {
    if (!COUNT_NAMES.has(field)) return false;
    const [a, b] = [one[field], other[field]];
    return isCount(a) && isCount(b) && a !== 0 && b !== 0 && a !== b;
  });
}

interface Merged {
  readonly report: Report | null;
  /** Some count was larger before and is not 0 now. */
  readonly shrank: boolean;
}

/** Merges a later report into an earlier one, neither of which is changed. */
function mergeReports(before: Report | null, later: Report | null, level = 1): Merged {
  if (before === null || later === null) return { report: later ?? before, shrank: false };
  const merged: Record<string, unknown> = { ...before };
  let fields = Object.keys(before).length;
  let shrank = false;
  for (const [field, value] of Object.entries(later)) {
    if (value === undefined || value === null || field === '__proto__') continue;
    if (!Object.hasOwn(before, field)) {
      if (fields >= FIELDS_MAX) continue;
      fields += 1;
      merged[field] = value;
      continue;
    }
    const known = before[field];
    if (isObject(known) && isObject(value) && level < MERGED_LEVELS) {
      const inner = mergeReports(known, value, level + 1);
      merged[field] = inner.report;
      shrank ||= inner.shrank;
    } else {
      shrank ||= COUNT_NAMES.has(field) && isCount(known) && isCount(value) && value > 0 && value < known;
      merged[field] = better(known, value);
    }
  }
  return { report: merged, shrank };
}

/** Of an earlier and a later value of one field: the more informative one. */
function better(known: unknown, value: unknown): unknown {
  if (isObject(known) !== isObject(value) && (isObject(known) || isCount(known))) return known;
  if (isCount(known) !== isCount(value)) return isCount(known) ? known : value;
  if (typeof known === 'number' && typeof value === 'number') return Math.max(known, value);
  if (Array.isArray(known) && Array.isArray(value)) return value.length < known.length ? known : value;
  return value;
}

/** The reports to read, and all of it in the provider's own words. */
function evidenceOf({ whole, answers, unreadable }: ReportedUsage): {
  reports: readonly Report[];
  raw: unknown;
  differs: boolean;
} {
  const own = [...answers.values()];
  const [first = null] = own;
  // The usage of a single answer is that of the request.
  if (own.length === 1 && first !== null) {
    const { report } = mergeReports(whole, first);
    return { reports: [report ?? first], raw: report, differs: whole !== null && haveDifferentCounts(whole, first) };
  }
  if (whole !== null && (own.length === 0 || saysMore(whole))) return { reports: [whole], raw: whole, differs: false };
  if (own.length > 0) return { reports: own, raw: { answers: own }, differs: false };
  return { reports: [], raw: unreadable, differs: false };
}

/** True where a report has any count beyond the placeholder 0. */
function saysMore(report: Report): boolean {
  return Object.entries(report).some(([field, value]) => COUNT_NAMES.has(field) && isCount(value) && value > 0);
}

/** All answers read the same input, and each wrote its own output. */
function addAnswers(usages: readonly Usage[]): Usage {
  const [first, ...others] = usages.toSorted((a, b) => b.inputTokens - a.inputTokens);
  let sum = first as Usage;
  for (const other of others) {
    sum = {
      ...sum,
      outputTokens: sumOf(sum.outputTokens, other.outputTokens),
      reasoningTokens: sumOf(sum.reasoningTokens, other.reasoningTokens),
      audioOutputTokens: sumOf(sum.audioOutputTokens, other.audioOutputTokens),
      imageOutputTokens: sumOf(sum.imageOutputTokens, other.imageOutputTokens),
      webSearches: sumOf(sum.webSearches, other.webSearches),
    };
  }
  return sum;
}
