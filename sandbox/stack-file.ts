/**
 * `stack.json` in the data dir: how scripts and tests find a running stack. Written when the stack is ready and again
 * whenever a part runs under a new pid; removed by an orderly stop. It holds secrets: mode 0600.
 */
import { writeFileAtomic } from '../twins/kit/files.ts';

export interface StackFile {
  readonly base_url: string;
  readonly console_url: string | null;
  /** The api's metrics, on a port that customers need not reach. */
  readonly metrics_url: string;
  readonly temporal_ui_url: string | null;
  readonly temporal_address: string;
  /** The auditor's login, read-only; null where the database is not the sandbox's own. */
  readonly database_url: string | null;
  readonly operator_token: string;
  /** Another person's: what waits for a second person can be approved with it. */
  readonly second_operator_token: string;
  readonly demo: {
    readonly account_id: string;
    readonly management_token: string;
    readonly api_key: string;
    readonly model: string;
    readonly free_model: string;
  };
  /** Null: no such twin yet. */
  readonly twins: {
    readonly upstream_url: string;
    readonly stripe_url: string | null;
    readonly creem_url: string | null;
    readonly discord_url: string | null;
    readonly rpc_urls: Readonly<Record<string, readonly string[]>> | null;
    readonly chain_control_url: string | null;
  };
  /** Pids; null for a real part that is not ours, and for a part that is being restarted. */
  readonly processes: {
    readonly api: number | null;
    readonly worker: number | null;
    readonly temporal: number | null;
    readonly postgres: number | null;
  };
}

export function writeStackFile(file: string, stack: StackFile): void {
  writeFileAtomic(file, `${JSON.stringify(stack, null, 2)}\n`);
}
