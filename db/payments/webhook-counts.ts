/** Webhooks that led to nothing, counted by cause: for metrics, and to find out why no event arrives. */
import type pg from 'pg';
import { query, type Session } from '../shared/client.ts';

export interface WebhookCount {
  readonly provider: string;
  /** `refused`: answered with an error and not stored. `foreign`: stored, and closed as about nothing of ours. */
  readonly kind: 'refused' | 'foreign';
  /** A code: `WebhookRefusalReason` or `ForeignReason`. */
  readonly reason: string;
  readonly count: number;
  readonly firstAt: Date;
  readonly lastAt: Date;
  /** Details of the latest one, in words; holds no secret and nothing of a body. */
  readonly lastDetail: string | null;
}

/** Counts more of a cause. */
export async function countWebhooks(
  pool: pg.Pool,
  counted: Pick<WebhookCount, 'provider' | 'kind' | 'reason' | 'count' | 'lastDetail'>,
): Promise<void> {
  await query(pool, {
    name: 'count_webhooks',
    text: 'select count_webhooks($1, $2, $3, $4, $5)',
    values: [counted.provider, counted.kind, counted.reason, counted.count, counted.lastDetail],
  });
}

/**
 * Every cause that was ever counted, the latest first; there is one row per provider and cause. For roles that may read
 * tables.
 */
export async function webhookCounts(session: Session): Promise<WebhookCount[]> {
  const rows = await query<{
    provider: string;
    kind: WebhookCount['kind'];
    reason: string;
    n: string | bigint;
    first_at: Date;
    last_at: Date;
    last_detail: string | null;
  }>(session, { name: 'webhook_counts', text: 'select * from webhook_count order by last_at desc', values: [] });
  return rows.map((row) => ({
    provider: row.provider,
    kind: row.kind,
    reason: row.reason,
    count: Number(row.n),
    firstAt: row.first_at,
    lastAt: row.last_at,
    lastDetail: row.last_detail,
  }));
}
