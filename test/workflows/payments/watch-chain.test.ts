/**
 * `watchChain` on the real dev server with scripted activities: it polls without end, in runs that follow each other,
 * and nothing that an operator asks for or a worker configures is lost between them.
 */
import assert from 'node:assert/strict';
import { WorkflowUpdateFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { provisionNamespaces } from '../../../worker/provision.ts';
import {
  chainStatusQuery,
  checkChainUpdate,
  configureChainSignal,
  rescanChainUpdate,
  SEARCH_ATTRIBUTES,
  watchChainStart,
  WORKFLOW_TYPES,
  type ChainSummary,
  type WatchChainInput,
} from '../../../contract/index.ts';
import { until } from '../../support/until.ts';
import {
  currentDetailsOf,
  gate,
  inTurn,
  openWorkflowEnvironment,
  type Activities,
  type ScriptedWorker,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';

type WatchChain = (input: WatchChainInput) => Promise<void>;

const WELL: ChainSummary = { head: 120, vendors: [], openDeposits: 0, problems: [] };
const RESCANNED = { from: 20, to: 120, found: 0 };
const REFUSED: Error = ApplicationFailure.nonRetryable('chain 1 is not configured on this worker', 'not_configured');

describe('watchChain', function () {
  this.timeout(30_000);
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  const workflow = () => environment.clients.processes.workflow;
  let chains = 7000;

  async function watching(
    script: Partial<Activities>,
    body: (run: Awaited<ReturnType<typeof begin>>, worker: ScriptedWorker) => Promise<void>,
    given: Partial<WatchChainInput> = {},
  ): Promise<void> {
    const whole = { pollChain: poll(), rescanChain: inTurn(RESCANNED), ...script };
    await environment.withWorker('processes', whole, async (worker) => {
      const run = await begin(worker, given);
      try {
        await body(run, worker);
      } finally {
        await workflow().getHandle(run.workflowId).terminate('the test is over');
      }
    });
  }

  function begin(worker: ScriptedWorker, given: Partial<WatchChainInput>) {
    const input: WatchChainInput = {
      ...{ chainId: ++chains, chainName: 'Base', pollSeconds: 0.1, rescanSeconds: 86_400, rescanBackSeconds: 172_800 },
      ...{ runSeconds: 86_400, ...given },
    };
    return workflow().start<WatchChain>(WORKFLOW_TYPES.watchChain, watchChainStart(input, worker.taskQueue));
  }

  /** A poll takes a moment, or a run would be one burst of them. */
  function poll(...answers: readonly (ChainSummary | Error)[]): () => Promise<ChainSummary> {
    const next = inTurn<ChainSummary>(...answers, WELL);
    return async () => {
      await new Promise((resolve) => setTimeout(resolve, 50));
      return next();
    };
  }

  const laterRun = (workflowId: string, firstRunId: string) =>
    until('a later run', async () => {
      const { runId } = await workflow().getHandle(workflowId).describe();
      return runId !== firstRunId && workflow().getHandle<WatchChain>(workflowId);
    });

  it('continues as new when its time is over, and does not re-scan again before that is due', async () => {
    await watching(
      {},
      async (run, worker) => {
        const later = await laterRun(run.workflowId, run.firstExecutionRunId);
        await until('a poll of the later run', async () => (await later.query(chainStatusQuery)).summary !== null);
        assert.equal(worker.callsOf('rescanChain').length, 1);
      },
      { runSeconds: 1 },
    );
  });

  it('goes on polling, and does not continue as new, while a re-scan is under way', async () => {
    const door = gate();
    const rescanChain = async () => {
      await door.passed;
      return RESCANNED;
    };
    await watching(
      { rescanChain },
      async (run, worker) => {
        const polls = () => worker.callsOf('pollChain').length;
        const { startTime } = await run.describe();
        await until('the end of its time', () => Date.now() > startTime.getTime() + 1000);
        const before = polls();
        await until('more polls', () => polls() > before + 2);
        assert.equal((await workflow().getHandle(run.workflowId).describe()).runId, run.firstExecutionRunId);
        door.open();
        await laterRun(run.workflowId, run.firstExecutionRunId);
      },
      { runSeconds: 0.5 },
    );
  });

  it('polls for an operator at once, beside the poll that is under way', async () => {
    const door = gate();
    const pollChain: Activities['pollChain'] = async ({ seconds }) => {
      if (seconds > 0) await door.passed;
      return { ...WELL, head: seconds > 0 ? 120 : 121 };
    };
    await watching({ pollChain }, async (run) => {
      const summary = await run.executeUpdate(checkChainUpdate, { args: [{ by: 'ops' }] });
      assert.equal(summary.head, 121);
      door.open();
    });
  });

  it('polls as the last worker that started has configured, also when it was told during a poll', async () => {
    await watching({}, async (run, worker) => {
      await until('a poll', () => worker.callsOf('pollChain').length > 0);
      const [input] = [{ chainId: chains, chainName: 'Base', pollSeconds: 0.2 }];
      const times = { rescanSeconds: 86_400, rescanBackSeconds: 172_800, runSeconds: 86_400 };
      await run.signal(configureChainSignal, { ...input, ...times });
      await until('a poll of the new length', () => worker.callsOf('pollChain').at(-1)?.seconds === 0.2);
    });
  });

  it('is stuck while no poll succeeds, and well again with the first one that does', async () => {
    await watching({ pollChain: poll(REFUSED, REFUSED, WELL) }, async (run) => {
      await until('the failure', async () => /Stuck: Base cannot be read/.test(await currentDetailsOf(run)));
      await until('the end of it', async () => (await run.query(chainStatusQuery)).failure === null);
      const stuck = async () => (await run.describe()).typedSearchAttributes.get(SEARCH_ATTRIBUTES.stuck);
      await until('the attribute to be unset', async () => (await stuck()) === undefined);
    });
  });

  it('re-scans a range for an operator, and refuses one that is none', async () => {
    await watching({}, async (run, worker) => {
      const range = { by: 'ops', from: 20, to: 120 };
      assert.deepEqual(await run.executeUpdate(rescanChainUpdate, { args: [range] }), RESCANNED);
      await assert.rejects(
        run.executeUpdate(rescanChainUpdate, { args: [{ ...range, to: 19 }] }),
        (error) => error instanceof WorkflowUpdateFailedError,
      );
      const ranges = worker.callsOf('rescanChain').map((call) => call.range);
      assert.ok(ranges.some((asked) => 'from' in asked && asked.from === 20 && asked.to === 120));
    });
  });

  it('starts again by its signal once it was terminated, as the next worker that starts sends it', async () => {
    await watching({}, async (run, worker) => {
      await run.terminate('by an operator');
      const input = { chainId: chains, chainName: 'Base', pollSeconds: 0.1 };
      const times = { rescanSeconds: 86_400, rescanBackSeconds: 172_800, runSeconds: 86_400 };
      const start = watchChainStart({ ...input, ...times }, worker.taskQueue);
      const signal = { signal: configureChainSignal, signalArgs: [start.args[0]] as [WatchChainInput] };
      const again = await workflow().signalWithStart(WORKFLOW_TYPES.watchChain, { ...start, ...signal });
      assert.equal(again.workflowId, run.workflowId);
      await until('a poll', async () => (await again.query(chainStatusQuery)).summary !== null);
    });
  });
});
