/** Many calls to one provider: a few at a time, as slowly as it asks. */
import { Context } from '@temporalio/activity';

const TOO_MANY_REQUESTS = 429;
const FIRST_WAIT_MS = 250;
const WAIT_MAX_MS = 30_000;
/** About three minutes; after that the provider counts as down, and Temporal retries the activity. */
const WAITS_MAX = 12;

/**
 * Runs `work` on every item, at most `width` at a time; results are in the items' order. Begins no more once one has
 * failed.
 */
export async function eachOf<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<R>,
): Promise<Awaited<R>[]> {
  const results: Awaited<R>[] = [];
  let next = 0;
  let hasFailed = false;
  const takeTurns = async (): Promise<void> => {
    while (next < items.length && !hasFailed) {
      const at = next++;
      try {
        results[at] = await work(items[at]!);
      } catch (error) {
        hasFailed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, takeTurns));
  return results;
}

/**
 * Repeats a call that only reads for as long as it is answered with 429. The waits double and differ by chance, so that
 * calls that were refused together do not come back together. Ends early when the activity is cancelled.
 */
export async function retryRateLimited<T>(call: () => Promise<T>): Promise<T> {
  for (let waits = 0; ; waits++) {
    try {
      return await call();
    } catch (error) {
      if (!isRateLimit(error) || waits === WAITS_MAX) throw error;
      const wait = Math.min(FIRST_WAIT_MS * 2 ** waits, WAIT_MAX_MS);
      await Context.current().sleep(wait / 2 + (Math.random() * wait) / 2);
    }
  }
}

/** The SDKs of Stripe and Creem both call it so. */
function isRateLimit(error: unknown): boolean {
  return error instanceof Error && 'statusCode' in error && error.statusCode === TOO_MANY_REQUESTS;
}
