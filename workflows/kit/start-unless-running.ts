/**
 * Starting a child whose id says what it is for: one that is already running does the same work, so that is success.
 */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';

/** Starts a child; false when one with its id is already running. Any other failure is thrown. */
export async function startUnlessRunning(start: () => Promise<unknown>): Promise<boolean> {
  try {
    await start();
    return true;
  } catch (error) {
    if (error instanceof WorkflowExecutionAlreadyStartedError) return false;
    throw error;
  }
}
