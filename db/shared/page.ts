/**
 * Pages of a list that is ordered by an unchanging key (ids are UUIDv7, so newest first is id descending). A page
 * begins after a key, not at an offset, so rows that are inserted meanwhile neither repeat nor hide others.
 */

export interface PageRequest {
  /** The last key of the page before; null for the first page. */
  readonly after: string | null;
  readonly limit: number;
}

export interface Page<T> {
  readonly rows: readonly T[];
  /** The key to continue after; null on the last page. */
  readonly next: string | null;
}

/** Cuts a page from `limit + 1` rows: the extra one only says that there is more. */
export function pageOf<T>(rows: readonly T[], limit: number, keyOf: (row: T) => string): Page<T> {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { rows: page, next: rows.length > limit && last !== undefined ? keyOf(last) : null };
}
