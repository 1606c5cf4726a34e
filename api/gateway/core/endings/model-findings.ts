/**
 * What answers tell about how a provider counts: usage that is missing, that contradicts itself, or output beyond the
 * limit that was asked for. Counted in metrics, kept on the model for the keeper of the catalogue, and alarmed where
 * estimates are more than a few. Nothing here decides what a request costs.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { RequestUuid } from '../../../../domain/ids.ts';
import type { UsageFlag } from '../../../../domain/usage/contradictions.ts';
import { noteModelFinding } from '../../../../db/requests/catalogue.ts';
import type { GatewayMetrics } from '../metrics.ts';

export type Finding =
  | UsageFlag
  /** A whole answer came without usage: it was counted here. */
  | 'usage_missing'
  /** Usage came and could not be true. */
  | 'usage_unusable'
  /** More output than the upstream was asked for: it does not keep the limit that the catalogue names. */
  | 'output_above_limit';

const FLUSH_MS = 5000;
/** Findings of one interval that are kept apart: far more than a catalogue has, and a bound on memory. */
const PENDING_MAX = 1000;

/**
 * From this share on, of at least so many answers in an interval, somebody must look: the model is billed by guesswork.
 */
const ALARM_SHARE = 0.2;
const ALARM_ANSWERS_MIN = 20;
const ALARM_INTERVAL_MS = 300_000;

interface Pending {
  readonly modelId: string;
  readonly upstream: string;
  readonly finding: Finding;
  requests: number;
  requestId: RequestUuid;
}

interface Share {
  readonly since: number;
  answers: number;
  estimated: number;
  /** True once the alarm of this interval was raised. */
  isTold: boolean;
}

export interface Answered {
  readonly modelId: string;
  /** As rows and metrics name it. */
  readonly upstream: string;
  readonly requestId: RequestUuid;
  readonly estimated: boolean;
  readonly findings: readonly Finding[];
}

export class ModelFindings {
  readonly #pool: pg.Pool;
  readonly #logger: Logger;
  readonly #metrics: Pick<GatewayMetrics, 'answers' | 'findings' | 'alarms'>;
  #pending = new Map<string, Pending>();
  readonly #shares = new Map<string, Share>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: {
    pool: pg.Pool;
    logger: Logger;
    metrics: Pick<GatewayMetrics, 'answers' | 'findings' | 'alarms'>;
  }) {
    this.#pool = options.pool;
    this.#logger = options.logger;
    this.#metrics = options.metrics;
  }

  /** Notes an answer that is billed. Its model and upstream come from the catalogue, so labels are bounded. */
  note(answered: Answered): void {
    const { modelId, estimated, findings } = answered;
    this.#metrics.answers.inc({ model: modelId, usage: estimated ? 'estimated' : 'reported' });
    this.#watchShare(modelId, estimated);
    for (const finding of findings) this.#add(answered, finding);
  }

  #add({ modelId, upstream, requestId }: Answered, finding: Finding): void {
    this.#metrics.findings.inc({ model: modelId, finding });
    const key = `${modelId} ${upstream} ${finding}`;
    const before = this.#pending.get(key);
    if (before !== undefined) {
      before.requests++;
      before.requestId = requestId;
      return;
    }
    if (this.#pending.size >= PENDING_MAX) return;
    this.#pending.set(key, { modelId, upstream, finding, requests: 1, requestId });
    this.#timer ??= setTimeout(() => void this.flush(), FLUSH_MS);
  }

  #watchShare(modelId: string, estimated: boolean): void {
    const now = performance.now();
    let share = this.#shares.get(modelId);
    if (share === undefined || now - share.since > ALARM_INTERVAL_MS) {
      share = { since: now, answers: 0, estimated: 0, isTold: false };
      this.#shares.set(modelId, share);
    }
    share.answers++;
    if (!estimated) return;
    share.estimated++;
    // Once an interval: when the share is passed with enough answers to mean something.
    const isMuch = share.answers >= ALARM_ANSWERS_MIN && share.estimated / share.answers >= ALARM_SHARE;
    if (!isMuch || share.isTold) return;
    share.isTold = true;
    this.#metrics.alarms.inc({ alarm: 'estimates' });
    this.#logger.error(
      { model: modelId, answers: share.answers, estimated: share.estimated },
      'many answers of this model are billed by our own count: its upstream reports no usable usage',
    );
  }

  /** Stores what was found; what cannot be stored is still counted in metrics. */
  async flush(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const found = [...this.#pending.values()];
    this.#pending = new Map();
    try {
      for (const one of found) await noteModelFinding(this.#pool, one);
    } catch (error) {
      this.#logger.warn({ error: String(error), rows: found.length }, 'findings about models could not be stored');
    }
  }
}
