/**
 * Workflows on the real dev server with scripted activities: namespaces and connections of a test file's own, the
 * product's bundle built once per process, and for each test a Worker on a task queue of its own, so that nothing that
 * an earlier test left running can reach it.
 */
import { randomBytes, randomUUID } from 'node:crypto';
import { Client, Connection, type WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { DefaultLogger, NativeConnection, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker';
import { bundleWorkflows, type createActivities } from '../../worker/workers.ts';
import type { Namespaces } from '../../contract/index.ts';
import { createTestNamespaces, testServices } from './services.ts';

export type Activities = ReturnType<typeof createActivities>;
export type ActivityName = keyof Activities;

export interface ActivityCall {
  readonly name: ActivityName;
  readonly input: unknown;
}

/** The worker of one test and what it was asked to do. */
export interface ScriptedWorker {
  readonly taskQueue: string;
  /** Every activity attempt so far, in order. */
  readonly calls: readonly ActivityCall[];
  /** The inputs of the attempts of one activity, in order. */
  callsOf<Name extends ActivityName>(name: Name): Parameters<Activities[Name]>[0][];
}

export interface WorkflowEnvironment {
  readonly connection: Connection;
  readonly namespaces: Namespaces;
  /** Clients of both namespaces, under an identity that says nothing of the machine. */
  readonly clients: { readonly requests: Client; readonly processes: Client };
  /** Runs `body` while a worker of `namespace` answers activities by `script`; those not in it must not be called. */
  withWorker<T>(
    namespace: keyof Namespaces,
    script: Partial<Activities>,
    body: (worker: ScriptedWorker) => Promise<T>,
    options?: { readonly taskQueue?: string },
  ): Promise<T>;
  close(): Promise<void>;
}

const IDENTITY = 'holdfast-test';

/**
 * Temporal's runtime is one per process, first come; its log would drown the test report. It keeps the process alive
 * until the last worker or connection that was made on it is closed.
 */
export function quietTemporalRuntime(): void {
  if (Runtime.instantiator !== undefined) return;
  Runtime.install({
    logger: new DefaultLogger('ERROR'),
    telemetryOptions: { logging: { forward: {}, filter: { core: 'ERROR' } } },
    shutdownSignals: [],
  });
}

let bundle: Promise<WorkflowBundle> | null = null;

/** The product's workflows, bundled as the worker process bundles them; built at the first call. */
export function productBundle(): Promise<WorkflowBundle> {
  return (bundle ??= bundleWorkflows());
}

export async function openWorkflowEnvironment(): Promise<WorkflowEnvironment> {
  quietTemporalRuntime();
  const { temporalAddress: address } = testServices();
  const [namespaces, workflowBundle, connection, native] = await Promise.all([
    createTestNamespaces(),
    productBundle(),
    Connection.connect({ address }),
    NativeConnection.connect({ address }),
  ]);
  const clientOf = (namespace: string): Client => new Client({ connection, namespace, identity: IDENTITY });
  return {
    connection,
    namespaces,
    clients: { requests: clientOf(namespaces.requests), processes: clientOf(namespaces.processes) },
    async withWorker(namespace, script, body, { taskQueue = `test-${randomBytes(4).toString('hex')}` } = {}) {
      const calls: ActivityCall[] = [];
      const worker = await Worker.create({
        connection: native,
        namespace: namespaces[namespace],
        taskQueue,
        workflowBundle,
        identity: IDENTITY,
        activities: recording(script, calls),
      });
      const scripted: ScriptedWorker = {
        taskQueue,
        calls,
        callsOf: <Name extends ActivityName>(name: Name) =>
          calls.filter((call) => call.name === name).map((call) => call.input as Parameters<Activities[Name]>[0]),
      };
      return worker.runUntil(() => body(scripted));
    },
    async close() {
      await native.close();
      await connection.close();
    },
  };
}

const NAMES = {
  settleRequests: true,
  findWork: true,
  releaseOrphans: true,
  lookUpUsage: true,
  finishOrphan: true,
  bookOrphanCost: true,
  writeLowBalanceNotice: true,
  readRefund: true,
  ensurePartitions: true,
  rewardVotes: true,
  rewardBoosts: true,
  readBounty: true,
  findLostRewards: true,
  expireRewardClaims: true,
  linkDiscordUser: true,
  releaseRewardClaims: true,
  noteDiscordEvent: true,
  findMissedMembers: true,
  findMissedBoostMessages: true,
  beginCommissionRun: true,
  postCommissions: true,
  writeCommissionFile: true,
  dryRunCommissions: true,
  replayCommissions: true,
  openTopUpCheckout: true,
  reconcileTopUp: true,
  requestManualCredit: true,
  startAutoTopUps: true,
  beginAutoTopUp: true,
  findQuietAutoTopUps: true,
  finishAutoTopUp: true,
  findLostEvents: true,
  findQuietTopUps: true,
  findQuietReversals: true,
  pollChain: true,
  rescanChain: true,
  listComparedProviders: true,
  comparePage: true,
  compareTopUps: true,
  reviewLedger: true,
} as const satisfies Record<ActivityName, true>;

function recording(script: Partial<Activities>, calls: ActivityCall[]): Record<string, (input: unknown) => unknown> {
  return Object.fromEntries(
    (Object.keys(NAMES) as ActivityName[]).map((name) => [
      name,
      (input: unknown) => {
        calls.push({ name, input });
        const answer = script[name] as ((input: unknown) => unknown) | undefined;
        if (answer === undefined) {
          throw ApplicationFailure.nonRetryable(`the test's script has no ${name}`, 'not_in_script');
        }
        return answer(input);
      },
    ]),
  );
}

/** An answer per attempt: each is returned, or thrown where it is an error; the last one is repeated. */
export function inTurn<T>(...answers: readonly (T | Error)[]): () => Promise<T> {
  let turn = 0;
  return async () => {
    const answer = answers[Math.min(turn++, answers.length - 1)]!;
    if (answer instanceof Error) throw answer;
    return answer;
  };
}

/** A door that activities wait at until the test opens it. */
export function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { passed: promise, open: resolve };
}

/** The "Current Details" in the Temporal UI; asked of the worker, as the UI does. */
export async function currentDetailsOf(handle: WorkflowHandle): Promise<string> {
  const metadata = await handle.query<{ currentDetails?: string }>('__temporal_workflow_metadata');
  return metadata.currentDetails ?? '';
}

/** A request id in wire form that no other test has. */
export function someRequestId(): string {
  return `req_${randomUUID().replaceAll('-', '')}`;
}

/** An account id in wire form that no other test has. */
export function someAccountId(): string {
  return `acct_${randomUUID().replaceAll('-', '')}`;
}
