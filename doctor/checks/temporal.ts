/** Temporal: reachable, provisioned, with a worker at work and no schedule paused. */
import { Connection, Client, ScheduleNotFoundError, WorkflowNotFoundError } from '@temporalio/client';
import type { Chain } from '../../providers/chain/settings.ts';
import {
  chainWorkflowId,
  COMMISSION_SCHEDULE_ID,
  MAINTENANCE_SCHEDULE_ID,
  RECONCILE_SCHEDULE_ID,
  RETENTION_DAYS,
  SEARCH_ATTRIBUTES,
  SWEEP_EVENTS_SCHEDULE_ID,
  SWEEP_SCHEDULE_ID,
  type Namespaces,
} from '../../contract/index.ts';
import { fault, listed, ok, warning, wordsOf, type Check, type Finding } from '../check.ts';

const CONNECT_TIMEOUT_MS = 5000;
const NOT_FOUND = 5;
const SECONDS_PER_DAY = 86_400;
/** `TASK_QUEUE_TYPE_WORKFLOW` and `TASK_QUEUE_TYPE_ACTIVITY` of the Temporal API. */
const QUEUE_TYPES = { workflows: 1, activities: 2 } as const;
const START_WORKER = 'start a worker (npm run start:worker); it makes what is missing';

export interface TemporalPlace {
  readonly temporalAddress: string;
  readonly namespaces: Namespaces;
  /** The watched chains. */
  readonly chains: readonly Chain[];
}

export function temporalCheck(place: TemporalPlace): Check {
  const { temporalAddress: address } = place;
  return {
    name: 'temporal',
    run: async () => {
      let connection: Connection;
      try {
        connection = await Connection.connect({ address, connectTimeout: CONNECT_TIMEOUT_MS });
      } catch (error) {
        const words = `no Temporal server answers at TEMPORAL_ADDRESS, ${address} (${wordsOf(error)})`;
        const cure = 'start it, or correct TEMPORAL_ADDRESS (host:port); requests go on meanwhile, payments wait';
        return [fault(words, cure)];
      }
      try {
        return await findingsAt(connection, place);
      } finally {
        await connection.close();
      }
    },
    silentCure: `see whether the server at ${address} is up and its database answers`,
  };
}

async function findingsAt(
  connection: Connection,
  { temporalAddress, namespaces, chains }: TemporalPlace,
): Promise<Finding[]> {
  const requests = new Client({ connection, namespace: namespaces.requests });
  const processes = new Client({ connection, namespace: namespaces.processes });
  const parts = await Promise.all([
    namespaceFindings(connection, namespaces.requests, RETENTION_DAYS.requests),
    namespaceFindings(connection, namespaces.processes, RETENTION_DAYS.processes),
  ]);
  const findings = parts.flat();
  if (findings.every(({ state }) => state !== 'fault')) {
    const scheduled: readonly (readonly [Client, string])[] = [
      [requests, SWEEP_SCHEDULE_ID],
      [processes, SWEEP_EVENTS_SCHEDULE_ID],
      [processes, RECONCILE_SCHEDULE_ID],
      [processes, MAINTENANCE_SCHEDULE_ID],
      [processes, COMMISSION_SCHEDULE_ID],
    ];
    const more = await Promise.all([
      ...scheduled.map(([client, id]) => scheduleFindings(client, id)),
      ...chains.map((chain) => chainWatchFindings(processes, chain)),
    ]);
    findings.push(...more.flat());
  }
  const summary = ok(
    `${temporalAddress}, namespaces ${namespaces.requests} and ${namespaces.processes}, workers at work`,
  );
  return findings.length === 0 ? [summary] : findings;
}

async function namespaceFindings(connection: Connection, namespace: string, days: number): Promise<Finding[]> {
  const { workflowService, operatorService } = connection;
  try {
    const { config } = await workflowService.describeNamespace({ namespace });
    const kept = Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0) / SECONDS_PER_DAY;
    const { customAttributes } = await operatorService.listSearchAttributes({ namespace });
    const missing = Object.values(SEARCH_ATTRIBUTES).filter(({ name }) => customAttributes?.[name] === undefined);
    const waiting: string[] = [];
    for (const [what, taskQueueType] of Object.entries(QUEUE_TYPES)) {
      const { pollers } = await workflowService.describeTaskQueue({
        namespace,
        taskQueue: { name: namespace },
        taskQueueType,
      });
      if ((pollers ?? []).length === 0) waiting.push(what);
    }
    return [
      ...(missing.length > 0
        ? [
            fault(
              `namespace ${namespace} lacks search attributes (${listed(missing.map(({ name }) => name))})`,
              START_WORKER,
            ),
          ]
        : []),
      ...(waiting.length > 0
        ? [
            fault(
              `no worker takes the ${listed(waiting)} of namespace ${namespace}`,
              'start a worker (npm run start:worker)',
            ),
          ]
        : []),
      ...(kept > 0 && kept < days
        ? [
            warning(
              `namespace ${namespace} keeps ended runs for ${kept} days instead of ${days}`,
              `temporal operator namespace update --retention ${days}d -n ${namespace}`,
            ),
          ]
        : []),
    ];
  } catch (error) {
    if ((error as { code?: unknown }).code !== NOT_FOUND) throw error;
    return [fault(`there is no namespace ${namespace}`, START_WORKER)];
  }
}

async function scheduleFindings(client: Client, id: string): Promise<Finding[]> {
  try {
    const { state } = await client.schedule.getHandle(id).describe();
    if (!state.paused) return [];
    const note = state.note === undefined || state.note === '' ? '' : ` (${state.note})`;
    return [warning(`the schedule ${id} is paused${note}`, 'unpause it in the Temporal UI once its reason is gone')];
  } catch (error) {
    if (!(error instanceof ScheduleNotFoundError)) throw error;
    return [fault(`there is no schedule ${id}`, START_WORKER)];
  }
}

async function chainWatchFindings({ workflow }: Client, { chainId, name }: Chain): Promise<Finding[]> {
  const id = chainWorkflowId(chainId);
  try {
    const { status, typedSearchAttributes } = await workflow.getHandle(id).describe();
    if (status.name !== 'RUNNING') {
      return [fault(`nobody watches ${name}: the workflow ${id} is ${status.name.toLowerCase()}`, START_WORKER)];
    }
    const stuck = typedSearchAttributes.get(SEARCH_ATTRIBUTES.stuck);
    if (stuck === undefined) return [];
    return [fault(`the watch of ${name} is stuck: ${stuck}`, `read the details of ${id} in the Temporal UI`)];
  } catch (error) {
    if (!(error instanceof WorkflowNotFoundError)) throw error;
    return [fault(`nobody watches ${name}: there is no workflow ${id}`, START_WORKER)];
  }
}
