/**
 * Telling operators of upstreams: a counter per model, upstream and result, one log line per failed call (at most one a
 * second per model and kind, the rest counted in the next one), and a warning for each model with an upstream that the
 * configuration does not let be called. Rows have the same evidence; nothing here is needed to serve a request.
 */
import type { Logger } from 'pino';
import { formatId } from '../../../../domain/ids.ts';
import type { UpstreamEvidence, UpstreamKind } from '../../../../domain/requests/upstream-evidence.ts';
import type { HeldRequest } from '../held-request.ts';
import type { GatewayMetrics } from '../metrics.ts';

/**
 * Pairs of model and upstream with counters of their own: far more than a catalogue has, and a bound on what is
 * scraped.
 */
const COUNTED_PAIRS_MAX = 1000;
/** One line a second of a model and kind shows what is wrong; more would only fill the log. */
const LINE_INTERVAL_MS = 1000;
const LINES_MAX = 1000;

/** Problems that end only when an operator does something. */
const NEEDS_OPERATOR: ReadonlySet<UpstreamKind> = new Set([
  'not_configured',
  'credentials',
  'billing',
  'unknown_model',
  'wrong_path',
]);
/** Not of the provider's making. */
const OF_THE_REQUEST: ReadonlySet<UpstreamKind> = new Set(['rejected', 'moderation']);

export class UpstreamReport {
  readonly #logger: Logger;
  readonly #metrics: Pick<GatewayMetrics, 'upstreamCalls' | 'modelsWithoutKey'>;
  readonly #pairs = new Set<string>();
  /** By model and kind: when it was last written, and what was left out since. */
  readonly #lines = new Map<string, { at: number; suppressed: number }>();
  #missing = new Set<string>();

  constructor(logger: Logger, metrics: Pick<GatewayMetrics, 'upstreamCalls' | 'modelsWithoutKey'>) {
    this.#logger = logger;
    this.#metrics = metrics;
  }

  /** Counts a call that has ended, and logs it if it went wrong. */
  ended(held: HeldRequest, evidence: UpstreamEvidence | null): void {
    if (held.upstream === null) return;
    const isWell = evidence === null || evidence.kind === 'fallback';
    this.#count(held.model.id, held.upstream.name, isWell ? 'ok' : evidence.kind);
    if (!isWell) this.#log(held, evidence);
  }

  /** Counts and logs an upstream that was passed over for the next. */
  passedOver(held: HeldRequest, evidence: UpstreamEvidence): void {
    this.#count(held.model.id, evidence.name, evidence.kind);
    this.#log(held, evidence);
  }

  /**
   * Warns of each model that has an upstream which may not be called: once, and again when it comes back after having
   * been mended.
   */
  notConfigured(models: readonly { model: string; faults: readonly string[]; isUnserved: boolean }[]): void {
    this.#metrics.modelsWithoutKey.set(models.filter(({ isUnserved }) => isUnserved).length);
    const missing = new Set(models.map(({ model, faults }) => [model, ...faults].join(' ')));
    for (const { model, faults, isUnserved } of models) {
      if (this.#missing.has([model, ...faults].join(' '))) continue;
      const details = { model, faults: [...new Set(faults)] };
      if (isUnserved) this.#logger.error(details, 'the model cannot be served: no upstream of it is configured');
      else this.#logger.warn(details, 'an upstream of the model is not used: it is not configured');
    }
    this.#missing = missing;
  }

  #count(model: string, upstream: string, result: string): void {
    const pair = `${model} ${upstream}`;
    if (!this.#pairs.has(pair) && this.#pairs.size < COUNTED_PAIRS_MAX) this.#pairs.add(pair);
    const labels = this.#pairs.has(pair) ? { model, upstream } : { model: 'other', upstream: 'other' };
    this.#metrics.upstreamCalls.inc({ ...labels, result });
  }

  #log(held: HeldRequest, evidence: UpstreamEvidence): void {
    const line = `${held.model.id} ${evidence.kind}`;
    const now = performance.now();
    const before = this.#lines.get(line);
    if (before !== undefined && now - before.at < LINE_INTERVAL_MS) {
      before.suppressed++;
      return;
    }
    if (this.#lines.size >= LINES_MAX) this.#lines.clear();
    this.#lines.set(line, { at: now, suppressed: 0 });
    const details = {
      request_id: formatId('request', held.uuid),
      model: held.model.id,
      upstream: evidence.name,
      kind: evidence.kind,
      status: evidence.status,
      code: evidence.code,
      words: evidence.message,
      suppressed: before?.suppressed ?? 0,
    };
    const message = 'an upstream call failed';
    if (NEEDS_OPERATOR.has(evidence.kind)) this.#logger.error(details, message);
    else if (OF_THE_REQUEST.has(evidence.kind)) this.#logger.info(details, message);
    else this.#logger.warn(details, message);
  }
}
