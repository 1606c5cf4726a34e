/** The recordings of `watchChain`; see workflow-recordings.ts, which lists them. */
import type { WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import {
  chainWorkflowId,
  configureChainSignal,
  checkChainUpdate,
  rescanChainUpdate,
  watchChainStart,
  WORKFLOW_TYPES,
  type ChainSummary,
  type RescanSummary,
  type WatchChainInput,
} from '../../contract/index.ts';
import { inTurn, type Activities, type WorkflowEnvironment } from './workflow-environment.ts';
import { ended, working, type Recording } from './recording.ts';

const WELL: ChainSummary = {
  head: 120,
  vendors: [
    { name: 'a.test', head: 120, readTo: 120, fault: null },
    { name: 'b.test', head: 121, readTo: 121, fault: null },
  ],
  openDeposits: 1,
  problems: [],
};
const DISPUTED: ChainSummary = {
  ...WELL,
  problems: [{ code: 'vendors_disagree', words: 'vendors contradict each other about 0xab/0.' }],
};
const FAULT = new Error('connection terminated');
const REFUSED: Error = ApplicationFailure.nonRetryable('chain 8453 is not configured on this worker', 'not_configured');
const RESCANNED = { from: 20, to: 120, found: 0 };

/** A run as the worker starts it, but over in moments; returns the first run of the chain, which continued as new. */
function watching(
  environment: WorkflowEnvironment,
  chainId: number,
  script: Partial<Activities>,
  operate: (handle: WorkflowHandle) => Promise<unknown> = () => Promise.resolve(),
): Promise<WorkflowHandle> {
  return working(environment, 'processes', script, async () => {
    const { processes } = environment.clients;
    const input: WatchChainInput = {
      ...{ chainId, chainName: 'Base', pollSeconds: 0.2, rescanSeconds: 86_400, rescanBackSeconds: 172_800 },
      runSeconds: 2,
    };
    const { signaledRunId } = await processes.workflow.signalWithStart(WORKFLOW_TYPES.watchChain, {
      ...watchChainStart(input, environment.namespaces.processes),
      signal: configureChainSignal,
      signalArgs: [input],
    });
    await operate(processes.workflow.getHandle(chainWorkflowId(chainId)));
    const first = await ended(processes.workflow.getHandle(chainWorkflowId(chainId), signaledRunId));
    await processes.workflow.getHandle(chainWorkflowId(chainId)).terminate('recorded');
    return first;
  });
}

/** A poll that takes a moment, as a real one does, so that a run is not one burst of them. */
function polls(...answers: readonly (ChainSummary | Error)[]): () => Promise<ChainSummary> {
  const next = inTurn<ChainSummary>(...answers);
  return async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    return next();
  };
}

export const CHAIN_RECORDINGS: readonly Recording[] = [
  {
    name: 'watchChain.continued-as-new',
    record: (environment) =>
      watching(environment, 9001, { pollChain: polls(WELL, FAULT, WELL), rescanChain: inTurn(RESCANNED) }),
  },
  {
    name: 'watchChain.stuck-then-well',
    record: (environment) =>
      watching(environment, 9002, {
        pollChain: polls(DISPUTED, REFUSED, WELL),
        rescanChain: inTurn<RescanSummary>(REFUSED),
      }),
  },
  {
    name: 'watchChain.operated',
    record: (environment) =>
      watching(environment, 9003, { pollChain: polls(WELL), rescanChain: inTurn(RESCANNED) }, async (handle) => {
        await handle.executeUpdate(checkChainUpdate, { args: [{ by: 'ops' }] });
        await handle.executeUpdate(rescanChainUpdate, { args: [{ by: 'ops', from: 20, to: 120 }] });
      }),
  },
];
