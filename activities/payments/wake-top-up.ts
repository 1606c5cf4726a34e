/** Wakes a top-up's workflow from inside the worker, when there is news of its money. */
import type { Client } from '@temporalio/client';
import type pg from 'pg';
import { formatId, type Uuid } from '../../domain/ids.ts';
import { summaryOfTopUp } from '../../domain/payments/top-up.ts';
import { topUpById } from '../../db/payments/top-ups.ts';
import type { TopUpRun } from '../../providers/payment-settings.ts';
import {
  topUpStart,
  wakeBy,
  WORKFLOW_TYPES,
  type TopUpInput,
  type TopUpSnapshot,
  type WakeReason,
} from '../../contract/index.ts';

/** Wakes a top-up's workflow, which is started where it has ended. Throws where Temporal is away: call it again. */
export function createTopUpWaker({
  client,
  pool,
  taskQueue,
  topUpRun,
}: {
  client: Client;
  pool: pg.Pool;
  taskQueue: string;
  topUpRun: TopUpRun;
}): (id: Uuid<'topUp'>) => Promise<void> {
  return async (id) => {
    const order = await topUpById(pool, id);
    if (order === null) throw new Error(`invariant broken: there is no top-up ${id}`);
    const start = {
      topUpId: formatId('topUp', id),
      found: { accountId: formatId('account', order.accountId), provider: order.provider },
      summary: summaryOfTopUp(order),
    };
    await client.workflow.signalWithStart<(input: TopUpInput) => Promise<TopUpSnapshot | null>, [WakeReason]>(
      WORKFLOW_TYPES.topUp,
      { ...topUpStart(start, taskQueue, topUpRun), ...wakeBy(null) },
    );
  };
}
