/** Messages that more than one process understands. See contract.ts, which exports this file. */
import { defineSignal } from '@temporalio/workflow';

export interface WakeReason {
  /** A stored event that is to be marked as handled afterwards; null where no event is the reason. */
  readonly eventId: string | null;
}

/** Something that the process follows may have changed: check it again. */
export const wakeSignal = defineSignal<[WakeReason]>('wake');

/** What a client that wakes a process passes to `signalWithStart`, beside the start options of that process. */
export function wakeBy(eventId: string | null): { signal: typeof wakeSignal; signalArgs: [WakeReason] } {
  return { signal: wakeSignal, signalArgs: [{ eventId }] };
}

/** What may come with an update, for the run's story. The sender is not authenticated, so the name proves nothing. */
export interface Signature {
  readonly by?: unknown;
}
