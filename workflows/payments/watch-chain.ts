/**
 * Watches one chain without end: has an activity poll its vendors, and re-scans the last two days once a day. What
 * was read and found is in PostgreSQL; this run is the clock, the story an operator reads, and the place to ask from.
 */
import { continueAsNew, proxyActivities, setHandler } from '@temporalio/workflow';
import type { ChainActivities } from '../../activities/payments/chain/watch-chain.ts';
import {
  CHAIN_PROBLEMS,
  chainStatusQuery,
  configureChainSignal,
  checkChainUpdate,
  RESCAN_BLOCKS_MAX,
  rescanChainUpdate,
  type ChainStatus,
  type ChainSummary,
  type RescanRequest,
  type RescanSummary,
  type WatchChainInput,
} from '../../contract/watch-chain.ts';
import { causeOf } from '../kit/cause.ts';
import { CheckLoop, type NextCheck } from '../kit/check-loop.ts';
import { showStatus, stuckText } from '../kit/status.ts';

const RETRY = { initialInterval: '1s', maximumInterval: '30s' } as const;
/** A failure is shown after this many attempts; the next check polls again. */
const ATTEMPTS = 3;
const RESCAN_RETRY_SECONDS = 3600;

/** What this run has found. */
interface Found extends ChainStatus {
  readonly rescanFailure: string | null;
}

export async function watchChain(given: WatchChainInput): Promise<void> {
  let input = given;
  const loop = new CheckLoop(timingOf(input));
  let found: Found = { summary: null, failure: null, rescan: null, rescanFailure: null };
  let rescannedAt = given.rescannedAt ?? null;
  let isRescanning = false;

  setHandler(chainStatusQuery, (): ChainStatus => {
    const { summary, failure, rescan } = found;
    return { summary, failure, rescan };
  });
  setHandler(configureChainSignal, (next) => {
    input = next;
    loop.retime(timingOf(next));
  });
  // Beside the check that is under way, which may last for a minute.
  setHandler(checkChainUpdate, () => poll(0));
  setHandler(
    rescanChainUpdate,
    async ({ from, to }) => {
      const done = await rereading().rescanChain({ chainId: input.chainId, range: { from, to } });
      noteRescan(done);
      return done;
    },
    { validator: checkRange },
  );

  await loop.run({
    async check(): Promise<NextCheck> {
      if (!isRescanning && isRescanDue()) void rescanLately();
      await poll(input.pollSeconds);
      // The poll was the wait.
      loop.wake();
      return 'poll';
    },
    failed: (error) => show({ failure: causeOf(error) }),
    // A re-scan may take hours: the polling must not stand still meanwhile.
    isBusy: () => isRescanning,
    continueAsNew: () =>
      continueAsNew<typeof watchChain>({ ...input, ...(rescannedAt === null ? {} : { rescannedAt }) }),
  });

  /** Polls the vendors for so long. */
  async function poll(seconds: number): Promise<ChainSummary> {
    const summary = await polling(seconds).pollChain({ chainId: input.chainId, seconds });
    show({ summary, failure: null });
    return summary;
  }

  function isRescanDue(): boolean {
    return rescannedAt === null || Date.now() - Date.parse(rescannedAt) >= input.rescanSeconds * 1000;
  }

  /** Beside the polling. A task that fails is due again an hour later. */
  async function rescanLately(): Promise<void> {
    isRescanning = true;
    rescannedAt = new Date().toISOString();
    try {
      noteRescan(
        await rereading().rescanChain({ chainId: input.chainId, range: { backSeconds: input.rescanBackSeconds } }),
      );
    } catch (error) {
      const waitSeconds = Math.min(RESCAN_RETRY_SECONDS, input.rescanSeconds);
      rescannedAt = new Date(Date.now() - (input.rescanSeconds - waitSeconds) * 1000).toISOString();
      show({ rescanFailure: causeOf(error) });
    } finally {
      isRescanning = false;
    }
  }

  function noteRescan(done: RescanSummary): void {
    show({ rescan: { ...done, at: new Date().toISOString() }, rescanFailure: null });
  }

  function show(news: Partial<Found>): void {
    found = { ...found, ...news };
    const { summary, failure } = found;
    const code = failure === null ? CHAIN_PROBLEMS.find((known) => has(summary, known)) : 'reader_failed';
    showStatus(detailsOf(input, found), { stuck: code ?? null });
  }
}

/** A poll that fails is repeated after as long as a poll takes. */
function timingOf({ pollSeconds, runSeconds }: WatchChainInput): { pollSeconds: number; runSeconds: number } {
  return { pollSeconds, runSeconds };
}

function polling(seconds: number) {
  return proxyActivities<Pick<ChainActivities, 'pollChain'>>({
    startToCloseTimeout: (seconds + 120) * 1000,
    heartbeatTimeout: '10s',
    retry: { ...RETRY, maximumAttempts: ATTEMPTS },
  });
}

function rereading() {
  return proxyActivities<Pick<ChainActivities, 'rescanChain'>>({
    startToCloseTimeout: '6h',
    heartbeatTimeout: '10s',
    retry: { ...RETRY, maximumAttempts: ATTEMPTS },
  });
}

function checkRange({ from, to }: RescanRequest): void {
  if (!Number.isSafeInteger(from) || !Number.isSafeInteger(to) || from < 0 || to < from) {
    throw new Error('from and to must be block heights, from not above to');
  }
  if (to - from >= RESCAN_BLOCKS_MAX) throw new Error(`at most ${RESCAN_BLOCKS_MAX} blocks at once`);
}

const has = (summary: ChainSummary | null, code: string): boolean =>
  summary?.problems.some((problem) => problem.code === code) ?? false;

function detailsOf({ chainName }: WatchChainInput, { summary, failure, rescan, rescanFailure }: Found): string {
  const lines: string[] = [];
  if (failure !== null) lines.push(stuckText(`${chainName} cannot be read`, failure, 'checkNow'));
  if (summary !== null) {
    for (const { words } of summary.problems) lines.push(`**Stuck: ${words}**`);
    lines.push(`Head ${summary.head ?? 'unknown'}; ${summary.openDeposits} deposits wait for confirmations.`);
    for (const { name, head, readTo, fault, remark } of summary.vendors) {
      const notes = [fault, remark].filter((note) => note !== null && note !== undefined);
      const said = notes.length === 0 ? '' : ` (${notes.join('; ')})`;
      lines.push(`- ${name}: head ${head ?? 'unknown'}, read to ${readTo ?? 'nothing yet'}${said}`);
    }
  }
  if (rescan !== null) {
    lines.push(
      `Blocks ${rescan.from} to ${rescan.to} read again at ${rescan.at}: ${rescan.found} transfers had been missed.`,
    );
  }
  if (rescanFailure !== null) {
    lines.push(`Old blocks could not be read again (${rescanFailure}); that is retried within the hour.`);
  }
  return lines.length === 0 ? `Reading ${chainName} for the first time.` : lines.join('\n\n');
}
