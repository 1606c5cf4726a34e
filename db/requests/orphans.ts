/** Holds that nobody will finish: how the sweep finds them, and what resolving one needs to know. */
import type pg from 'pg';
import { uuidOf, type RequestUuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { Outcome, RequestState } from '../../domain/requests/request.ts';
import { query } from '../shared/client.ts';
import type { AskedUnits } from './requests.ts';

/** The sweep's own heartbeat; a gap longer than `gapSeconds` starts the time of reachability again. */
export async function noteReachable(pool: pg.Pool, gapSeconds: number): Promise<void> {
  await query(pool, { name: 'note_reachable', text: 'select note_reachable($1)', values: [gapSeconds] });
}

export interface Orphan {
  readonly requestId: RequestUuid;
  readonly modelId: string;
  /** True when the client had left: the one orphan that may be billed. */
  readonly clientLeft: boolean;
}

/** Holds without an owner. Those whose client had left are returned at most once a minute. */
export async function findOrphans(pool: pg.Pool, goneSeconds: number, limit: number): Promise<Orphan[]> {
  const rows = await query<{ request_id: string; model_id: string; client_left_at: Date | null }>(pool, {
    name: 'find_orphans',
    text: 'select request_id, model_id, client_left_at from find_orphans($1, $2)',
    values: [goneSeconds, limit],
  });
  return rows.map((row) => ({
    requestId: uuidOf('request', row.request_id),
    modelId: row.model_id,
    clientLeft: row.client_left_at !== null,
  }));
}

export interface OrphanFacts {
  readonly state: RequestState;
  readonly outcome: Outcome | null;
  readonly modelId: string;
  readonly priceVersion: number | null;
  readonly free: boolean;
  /** The hold of the request. */
  readonly hold: PicoUsd;
  /** The parts of its body that are charged per answer or search. */
  readonly askedUnits: AskedUnits;
  /** The gateway's count when the client left; null when it had not left. */
  readonly countedTokens: { readonly input: number; readonly output: number } | null;
  /** Whether a sweep has found it without an owner and handed it to a resolver; only where its client had left. */
  readonly isHandedOver: boolean;
  readonly createdAt: Date;
  /** Context length of the model; null when the catalogue never knew it. */
  readonly contextLength: number | null;
}

/** The fields of an orphan's row for resolving it; null when there is none. */
export async function orphanFacts(pool: pg.Pool, requestId: RequestUuid): Promise<OrphanFacts | null> {
  const [row] = await query<{
    state: RequestState;
    outcome: Outcome | null;
    model_id: string;
    price_version: number | null;
    free: boolean;
    hold: string;
    asked_units: AskedUnits | null;
    input_tokens: string | null;
    output_tokens: string | null;
    handed_over: boolean;
    created_at: Date;
    context_length: number | null;
  }>(pool, { name: 'orphan_facts', text: 'select * from orphan_facts($1)', values: [requestId] });
  if (row === undefined) return null;
  return {
    state: row.state,
    outcome: row.outcome,
    modelId: row.model_id,
    priceVersion: row.price_version,
    free: row.free,
    hold: usd(row.hold),
    askedUnits: row.asked_units ?? { furtherAnswers: 0, webSearches: 0 },
    countedTokens:
      row.input_tokens === null || row.output_tokens === null
        ? null
        : { input: Number(row.input_tokens), output: Number(row.output_tokens) },
    isHandedOver: row.handed_over,
    createdAt: row.created_at,
    contextLength: row.context_length,
  };
}
