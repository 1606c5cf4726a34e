/**
 * Hands finished requests to the settlement workflow: at most one start per floor, at most two runs in flight, each
 * with everything queued by then. At a normal load a request has a run of its own, under pressure requests share one,
 * and once many do, starts come half as often: a start costs the same whatever it carries.
 *
 * A batch is formed once and started until the start is known (a start that timed out though accepted is found again as
 * "already started"). Nothing here is needed for correctness: what is lost or dropped is finished in PostgreSQL and the
 * sweep settles it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client';
import type { Logger } from 'pino';
import { formatId, type RequestUuid } from '../../../../domain/ids.ts';
import { meterWorkflowId, WORKFLOW_TYPES, type MeterInput, type MeterResult } from '../../../../contract/index.ts';

export interface SettleQueueOptions {
  readonly client: Client;
  readonly taskQueue: string;
  readonly logger: Logger;
  /** Shortest time between two starts. */
  readonly floorSeconds: number;
  /** A run whose end is not known after this time gives its slot back. */
  readonly slotSeconds: number;
  readonly onDropped: (count: number) => void;
}

const SLOTS = 2;
const BATCH_MAX = 256;
/** From this many ids in a run on, the next start waits two floors: most requests share a run then as it is. */
const BUSY_BATCH = 4;
/** Ids are small; this is minutes of full load, after which the sweep has to help. */
const QUEUE_MAX = 200_000;
const START_TIMEOUT_MS = 5000;
const RETRY_FIRST_MS = 200;
const RETRY_MAX_MS = 2000;

export class SettleQueue {
  readonly #options: SettleQueueOptions;
  #queue: RequestUuid[] = [];
  #running = 0;
  #nextStartAt = 0;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(options: SettleQueueOptions) {
    this.#options = options;
  }

  get depth(): number {
    return this.#queue.length;
  }

  add(requestId: RequestUuid): void {
    if (this.#stopped || this.#queue.length >= QUEUE_MAX) {
      this.#options.onDropped(1);
      return;
    }
    this.#queue.push(requestId);
    this.#pump();
  }

  /** Starts what is queued for at most `seconds` more, then takes nothing. The rest is the sweep's. */
  async stop(seconds: number): Promise<void> {
    const deadline = performance.now() + seconds * 1000;
    while ((this.#queue.length > 0 || this.#running > 0) && performance.now() < deadline) await delay(20);
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  #pump(): void {
    if (this.#timer !== null || this.#running >= SLOTS || this.#queue.length === 0 || this.#stopped) return;
    const wait = this.#nextStartAt - performance.now();
    if (wait > 0) {
      this.#timer = setTimeout(() => {
        this.#timer = null;
        this.#pump();
      }, wait);
      return;
    }
    const batch = this.#queue.splice(0, BATCH_MAX);
    const floors = batch.length < BUSY_BATCH || this.#queue.length > 0 ? 1 : 2;
    this.#nextStartAt = performance.now() + floors * this.#options.floorSeconds * 1000;
    this.#running++;
    void this.#run(batch).finally(() => {
      this.#running--;
      this.#pump();
    });
    this.#pump();
  }

  async #run(batch: readonly RequestUuid[]): Promise<void> {
    const { client, logger, slotSeconds } = this.#options;
    const requestIds = batch.map((id) => formatId('request', id));
    const workflowId = meterWorkflowId(requestIds[0]!);
    for (let pause = RETRY_FIRST_MS; ; pause = Math.min(pause * 2, RETRY_MAX_MS)) {
      if (this.#stopped) return;
      try {
        await this.#start(workflowId, { requestIds });
        break;
      } catch (error) {
        logger.warn(
          { workflow_id: workflowId, requests: batch.length, error: String(error) },
          'settlement not started; repeating',
        );
        await delay(pause);
      }
    }
    const handle = client.workflow.getHandle(workflowId);
    const slot = new AbortController();
    const timer = setTimeout(() => slot.abort(), slotSeconds * 1000);
    try {
      await client.withAbortSignal(slot.signal, () => handle.result() as Promise<MeterResult>);
    } catch (error) {
      logger.warn(
        { workflow_id: workflowId, error: String(error) },
        'settlement has not ended in time; its slot is given back',
      );
    } finally {
      clearTimeout(timer);
    }
  }

  async #start(workflowId: string, input: MeterInput): Promise<void> {
    const { client, taskQueue } = this.#options;
    const { requestIds } = input;
    try {
      await client.withDeadline(Date.now() + START_TIMEOUT_MS, () =>
        client.workflow.start(WORKFLOW_TYPES.meterRequests, {
          workflowId,
          taskQueue,
          args: [input],
          workflowIdReusePolicy: 'REJECT_DUPLICATE',
          staticSummary: requestIds.length === 1 ? requestIds[0]! : `${requestIds.length} requests`,
        }),
      );
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }
}
