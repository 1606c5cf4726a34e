/**
 * Reading recorded histories: the children that a run started, what an operator sees of it, and the files of
 * test/histories.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { WorkflowHandle } from '@temporalio/client';
import { defaultPayloadConverter } from '@temporalio/common';
import { tsToMs } from '@temporalio/common/lib/time.js';
import { historyFromJSON, historyToJSON, type History } from '@temporalio/common/lib/proto-utils.js';

type HistoryEvent = NonNullable<History['events']>[number];
type Payload = NonNullable<NonNullable<HistoryEvent['userMetadata']>['summary']>;

/** As the Temporal API numbers it. */
const PARENT_CLOSE_POLICY_ABANDON = 2;

export interface StartedChild {
  readonly type: string;
  readonly workflowId: string;
  readonly parentClosePolicy: string;
  readonly summary: string | null;
  readonly input: unknown;
}

/** The children that a run started, in the order of its commands; those that were running already are left out. */
export async function startedChildren(handle: WorkflowHandle): Promise<StartedChild[]> {
  return childrenOf(await handle.fetchHistory());
}

export function childrenOf({ events }: History): StartedChild[] {
  const started = new Set(
    (events ?? []).map(({ childWorkflowExecutionStartedEventAttributes: child }) => String(child?.initiatedEventId)),
  );
  return (events ?? []).flatMap((event) => {
    const child = event.startChildWorkflowExecutionInitiatedEventAttributes;
    if (child == null || !started.has(String(event.eventId))) return [];
    return {
      type: child.workflowType?.name ?? '',
      workflowId: child.workflowId ?? '',
      parentClosePolicy: Number(child.parentClosePolicy) === PARENT_CLOSE_POLICY_ABANDON ? 'ABANDON' : 'other',
      summary: textOf(event.userMetadata?.summary),
      input: valueOf(child.input?.payloads?.[0]),
    };
  });
}

/**
 * The commands that left in the same workflow task as the one activity of that type: activities by type, children by
 * workflow id.
 */
export async function commandsOfOneTask(handle: WorkflowHandle, activityType: string): Promise<string[]> {
  const { events } = await handle.fetchHistory();
  const commands = (events ?? []).flatMap((event) => {
    const activity = event.activityTaskScheduledEventAttributes;
    if (activity != null) {
      return { name: activity.activityType?.name ?? '', task: String(activity.workflowTaskCompletedEventId) };
    }
    const child = event.startChildWorkflowExecutionInitiatedEventAttributes;
    if (child != null) return { name: child.workflowId ?? '', task: String(child.workflowTaskCompletedEventId) };
    return [];
  });
  const { task } = commands.find(({ name }) => name === activityType) ?? {};
  return commands.filter((command) => command.task === task).map(({ name }) => name);
}

/** The timers that a run started, in milliseconds, in order. */
export function timersOf({ events }: History): number[] {
  return (events ?? []).flatMap(({ timerStartedEventAttributes: timer }) =>
    timer == null ? [] : tsToMs(timer.startToFireTimeout),
  );
}

/** The static summary a run was started with: what stands beside it in the Temporal UI. */
export function summaryOf({ events }: History): string | null {
  return textOf(events?.[0]?.userMetadata?.summary);
}

export function workflowTypeOf({ events }: History): string {
  return events?.[0]?.workflowExecutionStartedEventAttributes?.workflowType?.name ?? '';
}

export function workflowIdOf({ events }: History): string {
  return events?.[0]?.workflowExecutionStartedEventAttributes?.workflowId ?? '';
}

function valueOf(payload: Payload | null | undefined): unknown {
  return payload == null ? null : defaultPayloadConverter.fromPayload(payload);
}

function textOf(payload: Payload | null | undefined): string | null {
  const value = valueOf(payload);
  return typeof value === 'string' ? value : null;
}

/** The types of a history's events in the Temporal API's words, without `EVENT_TYPE_`. */
export function eventTypesOf(history: History): string[] {
  const { events } = JSON.parse(historyToJSON(history)) as { events: { eventType: string }[] };
  return events.map(({ eventType }) => eventType.replace(/^EVENT_TYPE_/, ''));
}

export const HISTORIES = resolve(import.meta.dirname, '../histories');

export interface RecordedHistory {
  /** The file's name without its ending: `<workflow type>.<path>`. */
  readonly name: string;
  readonly history: History;
}

/** Every committed history, by name. */
export function readHistories(): RecordedHistory[] {
  return readdirSync(HISTORIES)
    .filter((file) => file.endsWith('.json'))
    .sort()
    .map((file) => ({
      name: file.slice(0, -'.json'.length),
      history: historyFromJSON(JSON.parse(readFileSync(join(HISTORIES, file), 'utf8'))),
    }));
}
