/**
 * Watches one chain for ever: has an activity poll its vendors again and again, and the last two days read anew once a day.
 * What was read and found is in PostgreSQL; this run is the clock, the story an operator reads, and the place to ask from.
 */
import {
  allHandlersFinished,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  sleep,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { ChainActivities } from '../../activities/payments/chain/watch-chain.ts';
import {
  CHAIN_PROBLEMS,
  chainStatusQuery,
  configureChainSignal,
  recheckChainUpdate,
  RESCAN_BLOCKS_MAX,
  rescanChainUpdate,
  type ChainStatus,
  type ChainSummary,
  type RescanRequest,
  type RescanSummary,
  type WatchChainInput,
} from '../../contract/watch-chain.ts';
import { SEARCH_ATTRIBUTES } from '../../contract/index.ts';

const RETRY = { initialInterval: '1s', maximumInterval: '30s' } as const;
/** A failure is shown after this many attempts; the chain is asked again all the same. */
const ATTEMPTS = 3;
const RESCAN_RETRY_SECONDS = 3600;

export async function watchChain(given: WatchChainInput): Promise<void> {
  let input = given;
  const startedAt = Date.now();
  let summary: ChainSummary | null = null;
  let failure: string | null = null;
  let rescanFailure: string | null = null;
  let rescan: (RescanSummary & { at: string }) | null = null;
  let rescannedAt = given.rescannedAt ?? null;
  let isRescanning = false;

  setHandler(chainStatusQuery, () => ({ summary, failure, rescan }));
  setHandler(configureChainSignal, (next) => {
    input = next;
  });
  setHandler(recheckChainUpdate, async () => {
    const { pollChain } = polling(0);
    summary = await pollChain({ chainId: input.chainId, seconds: 0 });
    failure = null;
    show();
    return summary;
  });
  setHandler(
    rescanChainUpdate,
    async ({ from, to }) => {
      const done = await rereading().rescanChain({ chainId: input.chainId, range: { from, to } });
      noteRescan(done);
      return done;
    },
    { validator: checkRange },
  );

  for (;;) {
    if (!isRescanning && isRescanDue()) void rescanLately();
    try {
      const { pollChain } = polling(input.pollSeconds);
      summary = await pollChain({ chainId: input.chainId, seconds: input.pollSeconds });
      failure = null;
    } catch (error) {
      failure = causeOf(error);
    }
    show();
    if (failure !== null) await sleep(input.pollSeconds * 1000);
    const isOld = workflowInfo().continueAsNewSuggested || Date.now() - startedAt > input.runSeconds * 1000;
    // While a re-scan or an operator's update is under way the polling goes on: it must not stand still for hours.
    if (isOld && allHandlersFinished() && !isRescanning) {
      await continueAsNew<typeof watchChain>({ ...input, ...(rescannedAt === null ? {} : { rescannedAt }) });
    }
  }

  function isRescanDue(): boolean {
    return rescannedAt === null || Date.now() - Date.parse(rescannedAt) >= input.rescanSeconds * 1000;
  }

  /** Beside the polling, which must not stand still meanwhile. One that fails is due again an hour later. */
  async function rescanLately(): Promise<void> {
    isRescanning = true;
    rescannedAt = new Date().toISOString();
    try {
      noteRescan(
        await rereading().rescanChain({ chainId: input.chainId, range: { backSeconds: input.rescanBackSeconds } }),
      );
    } catch (error) {
      rescanFailure = causeOf(error);
      const waitSeconds = Math.min(RESCAN_RETRY_SECONDS, input.rescanSeconds);
      rescannedAt = new Date(Date.now() - (input.rescanSeconds - waitSeconds) * 1000).toISOString();
      show();
    } finally {
      isRescanning = false;
    }
  }

  function noteRescan(done: RescanSummary): void {
    rescan = { ...done, at: new Date().toISOString() };
    rescanFailure = null;
    show();
  }

  function show(): void {
    setCurrentDetails(detailsOf(input, { summary, failure, rescan, rescanFailure }));
    const code = failure === null ? CHAIN_PROBLEMS.find((known) => has(summary, known)) : 'reader_failed';
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.stuck, value: code ?? null }]);
  }
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

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}

function detailsOf(
  { chainName }: WatchChainInput,
  { summary, failure, rescan, rescanFailure }: ChainStatus & { readonly rescanFailure: string | null },
): string {
  const lines: string[] = [];
  if (failure !== null) {
    lines.push(
      `**Stuck: ${chainName} cannot be read** (${failure}). It is tried again by itself; \`recheckNow\` tries at once.`,
    );
  }
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
    lines.push(`Old blocks could not be read again (${rescanFailure}); it is tried again within the hour.`);
  }
  return lines.length === 0 ? `Reading ${chainName} for the first time.` : lines.join('\n\n');
}
