/** What the rest of the system may know of `watchChain`: its id, inputs, signals, updates and query. */
import { defineQuery, defineSignal, defineUpdate } from '@temporalio/workflow';

export function chainWorkflowId(chainId: number): string {
  return `chain/${chainId}`;
}

export interface WatchChainInput {
  readonly chainId: number;
  readonly chainName: string;
  /** How long one activity polls. */
  readonly pollSeconds: number;
  /** How often everything of the last `rescanBackSeconds` is read again, should a vendor have missed a log. */
  readonly rescanSeconds: number;
  readonly rescanBackSeconds: number;
  /** How long one run goes on before it continues as new. */
  readonly runSeconds: number;
  /** When the last re-scan began; not given: never. */
  readonly rescannedAt?: string;
}

/** Why a chain needs a person. In this order of importance. */
export const CHAIN_PROBLEMS = [
  'reader_failed',
  'wrong_chain',
  'wrong_decimals',
  'vendors_disagree',
  'vendor_away',
  'logs_refused',
  'vendor_behind',
  'peg_lost',
  'head_old',
] as const;
export type ChainProblem = (typeof CHAIN_PROBLEMS)[number];

export interface ChainSummary {
  /** The height that two vendors have reached; null while it is not known. */
  readonly head: number | null;
  readonly vendors: readonly {
    readonly name: string;
    readonly head: number | null;
    readonly readTo: number | null;
    /** Why it does not answer as it should; null when it does. */
    readonly fault: string | null;
    /** What else is worth knowing of it. */
    readonly remark?: string;
  }[];
  readonly openDeposits: number;
  readonly problems: readonly { readonly code: ChainProblem; readonly words: string }[];
}

export interface RescanSummary {
  readonly from: number;
  readonly to: number;
  /** Transfers that were not known before. */
  readonly found: number;
}

export interface ChainStatus {
  readonly summary: ChainSummary | null;
  readonly failure: string | null;
  readonly rescan: (RescanSummary & { readonly at: string }) | null;
}

export interface RescanRequest {
  readonly by: string;
  readonly from: number;
  readonly to: number;
}

/** More than this at once would keep the vendors busy for hours; ask for it in parts. */
export const RESCAN_BLOCKS_MAX = 1_000_000;

export const chainStatusQuery = defineQuery<ChainStatus>('status');
/** A worker that starts says how this chain is to be watched from now on. */
export const configureChainSignal = defineSignal<[WatchChainInput]>('configure');
/** An operator: poll all vendors now. */
export const checkChainUpdate = defineUpdate<ChainSummary, [{ readonly by: string }]>('checkNow');
/**
 * An operator: read a range of blocks again. Adds what was missed, asks again for what is known, takes nothing away
 * on its own.
 */
export const rescanChainUpdate = defineUpdate<RescanSummary, [RescanRequest]>('rescan');

/** How the watch of a chain is started; a watch that runs is sent the same input by `configureChainSignal`. */
export function watchChainStart(input: WatchChainInput, taskQueue: string) {
  const args: [WatchChainInput] = [input];
  return {
    workflowId: chainWorkflowId(input.chainId),
    taskQueue,
    args,
    staticSummary: `Deposits on ${input.chainName}`,
  };
}
