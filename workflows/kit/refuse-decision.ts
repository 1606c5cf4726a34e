/**
 * Decisions about money cannot be sent to a workflow: the sender of an update is not authenticated, so a name in it
 * proves nothing. The updates by which one could try stay defined, and their validators say where the decision
 * belongs; nothing enters the history.
 */
import { ApplicationFailure, type UpdateDefinition } from '@temporalio/common';
import { setHandler } from '@temporalio/workflow';

/** Refuses an update, whatever it carries, naming the route of the interface that decides. */
export function refuseDecision(update: UpdateDefinition<never, [unknown]>, where: () => string): void {
  const refuse = (): never => {
    throw ApplicationFailure.nonRetryable(
      `nobody is authenticated here, so nothing can be decided here: use ${where()} of the management interface`,
      'decide_in_interface',
    );
  };
  setHandler<never, [unknown], UpdateDefinition<never, [unknown]>>(update, refuse, { validator: refuse });
}
