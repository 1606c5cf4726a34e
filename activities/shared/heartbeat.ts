/** Activities that take long say that they are alive, so that a worker that died is noticed before their time-out. */
import { Context } from '@temporalio/activity';

const HEARTBEAT_MS = 2000;

/** Runs `work` and says meanwhile that the activity is alive; the signal is aborted when it is cancelled. */
export async function beating<T>(work: (cancelled: AbortSignal) => Promise<T>): Promise<T> {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work(context.cancellationSignal);
  } finally {
    clearInterval(beat);
  }
}
