/** Time partitions of `request` and `posting`, made ahead of need. */
import type pg from 'pg';
import { queryOne } from '../shared/client.ts';

/** Makes the monthly partitions up to `monthsAhead` from now; returns how many were missing. Repeatable. */
export async function ensurePartitions(pool: pg.Pool, monthsAhead: number): Promise<number> {
  const row = await queryOne<{ made: number }>(pool, {
    name: 'ensure_partitions',
    text: 'select ensure_partitions($1) as made',
    values: [monthsAhead],
  });
  return row.made;
}
