/** Tells a top-up's workflow that there is news of its money, from inside the worker. */
import type { Client } from '@temporalio/client';
import type pg from 'pg';
import { formatId, type Uuid } from '../../domain/ids.ts';
import { summaryOfTopUp } from '../../domain/payments/top-up.ts';
import { topUpById } from '../../db/payments/top-ups.ts';
import type { TopUpRun } from '../../providers/payment-settings.ts';
import {
  pokeSignal,
  SEARCH_ATTRIBUTES,
  topUpWorkflowId,
  WORKFLOW_TYPES,
  type TopUpInput,
  type TopUpSnapshot,
} from '../../contract/index.ts';

/** Pokes a top-up's workflow, which is started where it has ended. Throws where Temporal is away: ask again. */
export function tellTopUpBy({
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
    const topUpId = formatId('topUp', id);
    await client.workflow.signalWithStart<
      (input: TopUpInput) => Promise<TopUpSnapshot | null>,
      [{ eventId: string | null }]
    >(WORKFLOW_TYPES.topUp, {
      workflowId: topUpWorkflowId(topUpId),
      taskQueue,
      args: [{ topUpId, ...topUpRun }],
      signal: pokeSignal,
      signalArgs: [{ eventId: null }],
      typedSearchAttributes: [
        { key: SEARCH_ATTRIBUTES.accountId, value: formatId('account', order.accountId) },
        { key: SEARCH_ATTRIBUTES.provider, value: order.provider },
      ],
      staticSummary: summaryOfTopUp(order),
    });
  };
}
