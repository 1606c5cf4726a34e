/** Starts the run of the month that has ended, by schedule; a backfill of the schedule starts those of past months. */
import { ParentClosePolicy, setCurrentDetails, startChild, workflowInfo } from '@temporalio/workflow';
import { periodBefore } from '../../domain/commissions/commission.ts';
import { commissionRun } from './commission-run.ts';
import {
  commissionRunStart,
  type MonthlyCommissionsInput,
  type MonthlyCommissionsResult,
} from '../../contract/index.ts';
import { startUnlessRunning } from '../kit/start-unless-running.ts';

export async function monthlyCommissions(input: MonthlyCommissionsInput): Promise<MonthlyCommissionsResult> {
  const { taskQueue } = workflowInfo();
  const period = periodBefore(scheduledAt());
  const started = await startUnlessRunning(() =>
    startChild(commissionRun, {
      ...commissionRunStart({ ...input, period }, taskQueue),
      parentClosePolicy: ParentClosePolicy.ABANDON,
    }),
  );
  setCurrentDetails(started ? `Started the run of ${period}.` : `The run of ${period} was under way already.`);
  return { period, started };
}

/** When the schedule meant this run to start: long ago where it is backfilled. */
function scheduledAt(): Date {
  const { searchAttributes, startTime } = workflowInfo();
  const [scheduled] = (searchAttributes['TemporalScheduledStartTime'] ?? []) as (Date | string)[];
  return scheduled === undefined ? startTime : new Date(scheduled);
}
