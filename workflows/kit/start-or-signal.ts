/** Reaching the process of an order from another workflow: a child where it does not run, a signal where it does. */
import type { SignalDefinition } from '@temporalio/common';
import { getExternalWorkflowHandle } from '@temporalio/workflow';
import { startUnlessRunning } from './start-unless-running.ts';

/**
 * Starts a child or, where a run with its id is there already, signals that one. Returns whether the child was started.
 * A run that ends before the signal arrives is no error: the sweep starts whatever is still open.
 */
export async function startOrSignal<Args extends unknown[]>(
  start: () => Promise<unknown>,
  { workflowId, signal, args }: { workflowId: string; signal: SignalDefinition<Args>; args: Args },
): Promise<boolean> {
  if (await startUnlessRunning(start)) return true;
  try {
    await getExternalWorkflowHandle(workflowId).signal(signal, ...args);
  } catch {
    // It has ended meanwhile.
  }
  return false;
}
