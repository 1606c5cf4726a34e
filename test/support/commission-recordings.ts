/** The recordings of commission runs; see workflow-recordings.ts, which lists them. */
import type { WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { startCommissionCheck, startCommissionRun } from '../../api/processes/commissions.ts';
import {
  COMMISSION_SCHEDULE_ID,
  commissionDryRunWorkflowId,
  commissionReplayWorkflowId,
  commissionRunWorkflowId,
  commissionStatusQuery,
  retryCommissionUpdate,
  type CommissionCheckInput,
  type CommissionCheckResult,
  type CommissionProgress,
} from '../../contract/index.ts';
import { gate, inTurn, type Activities, type WorkflowEnvironment } from './workflow-environment.ts';
import { ended, triggered, withSchedules, working, type Recording } from './recording.ts';
import { until } from './until.ts';

type Script = Partial<Activities>;

const FAULT = ApplicationFailure.retryable('Connection terminated unexpectedly');
const SHA = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

function progressOf(period: string, posted: number, state: CommissionProgress['state']): CommissionProgress {
  const csvSha256 = state === 'done' ? SHA : null;
  return { period, state, accruals: 900, posted, totalUsd: '90.000000000000', csvSha256 };
}

function paying(period: string, script: Script = {}): Script {
  return {
    beginCommissionRun: inTurn(progressOf(period, 0, 'posting')),
    postCommissions: inTurn(progressOf(period, 500, 'posting'), progressOf(period, 900, 'posted')),
    writeCommissionFile: inTurn(progressOf(period, 900, 'done')),
    ...script,
  };
}

function running(
  environment: WorkflowEnvironment,
  period: string,
  script: Script,
  operate: (handle: WorkflowHandle) => Promise<unknown> = () => Promise.resolve(),
): Promise<WorkflowHandle> {
  const { clients, namespaces } = environment;
  return working(environment, 'processes', script, async () => {
    await startCommissionRun({ temporal: { ...clients, namespaces } }, period);
    const handle = clients.processes.workflow.getHandle(commissionRunWorkflowId(period));
    await operate(handle);
    return ended(handle);
  });
}

function checking(
  environment: WorkflowEnvironment,
  check: CommissionCheckInput,
  found: Partial<CommissionCheckResult>,
) {
  const { clients, namespaces } = environment;
  const { kind, period, n } = check;
  const result: CommissionCheckResult = {
    ...{ kind, period, accruals: 900, totalUsd: '90.000000000000', csvSha256: SHA, identical: null, differences: [] },
    ...found,
  };
  const script = { dryRunCommissions: inTurn(result), replayCommissions: inTurn(result) };
  return working(environment, 'processes', script, async () => {
    await startCommissionCheck({ temporal: { ...clients, namespaces } }, check);
    const id = kind === 'dry_run' ? commissionDryRunWorkflowId(period, n) : commissionReplayWorkflowId(period, n);
    return ended(clients.processes.workflow.getHandle(id));
  });
}

/** The schedule's run, and that of the month that it started or found. */
function byMonth(
  environment: WorkflowEnvironment,
  script: Script,
  body: (trigger: () => Promise<WorkflowHandle>, period: string) => Promise<WorkflowHandle>,
): Promise<WorkflowHandle> {
  const { processes } = environment.clients;
  const now = new Date();
  const period = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1)).toISOString().slice(0, 7);
  return withSchedules(environment, () =>
    working(environment, 'processes', script, () =>
      body(
        () => triggered(processes.schedule.getHandle(COMMISSION_SCHEDULE_ID), (id) => processes.workflow.getHandle(id)),
        period,
      ),
    ),
  );
}

export const COMMISSION_RECORDINGS: readonly Recording[] = [
  {
    name: 'commissionRun.paid',
    record: (environment) => running(environment, '2020-01', paying('2020-01')),
  },
  {
    name: 'commissionRun.refused',
    record: (environment) =>
      running(environment, '2020-02', {
        beginCommissionRun: inTurn<CommissionProgress>(
          ApplicationFailure.nonRetryable('run of 2020-02 refused: period_not_ended', 'period_not_ended'),
        ),
      }),
  },
  {
    name: 'commissionRun.stuck-then-retried',
    record: (environment) => {
      let isAway = true;
      const script = paying('2020-03', {
        postCommissions: () => (isAway ? Promise.reject(FAULT) : Promise.resolve(progressOf('2020-03', 900, 'posted'))),
      });
      return running(environment, '2020-03', script, async (handle) => {
        await until('the run to be stuck', async () => (await handle.query(commissionStatusQuery)).failure !== null);
        isAway = false;
        await handle.executeUpdate(retryCommissionUpdate, { args: [{ by: 'grace' }] });
      });
    },
  },
  {
    name: 'checkCommissions.dry-run',
    record: (environment) => checking(environment, { kind: 'dry_run', period: '2020-04', n: 1 }, {}),
  },
  {
    name: 'checkCommissions.replay-differs',
    record: (environment) =>
      checking(
        environment,
        { kind: 'replay', period: '2020-05', n: 1 },
        { identical: false, differences: ['the stored file does not have the SHA-256 of its run'] },
      ),
  },
  {
    name: 'monthlyCommissions.started',
    record: (environment) => {
      const { processes } = environment.clients;
      return byMonth(environment, paying('2020-06'), async (trigger, period) => {
        const run = await trigger();
        await ended(processes.workflow.getHandle(commissionRunWorkflowId(period)));
        return ended(run);
      });
    },
  },
  {
    name: 'monthlyCommissions.under-way',
    record: (environment) => {
      const { processes } = environment.clients;
      const { clients, namespaces } = environment;
      const open = gate();
      const script = paying('2020-07', {
        beginCommissionRun: async () => {
          await open.passed;
          return progressOf('2020-07', 0, 'posting');
        },
      });
      return byMonth(environment, script, async (trigger, period) => {
        await startCommissionRun({ temporal: { ...clients, namespaces } }, period);
        const run = await trigger();
        await ended(run);
        open.open();
        await ended(processes.workflow.getHandle(commissionRunWorkflowId(period)));
        return run;
      });
    },
  },
];
