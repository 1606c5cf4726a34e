/**
 * Compares the ledger with what is on the providers' statements, and with its own rules. Each gap is a case; those
 * that a check of the order's own process closes are closed that way, so that the order's run tells the story, and
 * compared again. Runs by schedule, one at a time. The review of the ledger and the providers do not wait for each
 * other: a part that fails is named at the end, when all others have been compared.
 */
import {
  ApplicationFailure,
  isCancellation,
  ParentClosePolicy,
  proxyActivities,
  sleep,
  startChild,
  workflowInfo,
} from '@temporalio/workflow';
import type { ReconciliationActivities } from '../../activities/payments/reconciliation.ts';
import { topUpStart, wakeSignal } from '../../contract/index.ts';
import { causeOf } from '../kit/cause.ts';
import { startOrSignal } from '../kit/start-or-signal.ts';
import { showStatus } from '../kit/status.ts';
import type {
  ComparisonCursor,
  PageComparison,
  ProviderComparison,
  ReconcileInput,
  ReconcileResult,
} from '../../contract/reconcile.ts';
import { topUp } from './top-up.ts';

const { listComparedProviders, comparePage, compareTopUps } = proxyActivities<ReconciliationActivities>({
  startToCloseTimeout: '20m',
  heartbeatTimeout: '30s',
  retry: { initialInterval: '1s', maximumInterval: '30s', maximumAttempts: 5 },
});
// Twice the longest that its statement may take fits into a run; a third time would end the run with nothing said.
const { reviewLedger } = proxyActivities<ReconciliationActivities>({
  startToCloseTimeout: '20m',
  heartbeatTimeout: '30s',
  retry: { initialInterval: '1s', maximumAttempts: 2 },
});

/** Each is a child of the run: more at once would bury it, and a large outage is not closed in an hour by any means. */
const FIXES_MAX = 200;

export async function reconcile(input: ReconcileInput): Promise<ReconcileResult> {
  const { taskQueue, startTime } = workflowInfo();
  const secondsBefore = (seconds: number): string => new Date(startTime.getTime() - seconds * 1000).toISOString();
  /** Null until the ledger is reviewed. */
  let review: Review | null = null;
  const providers: (ProviderComparison & { fixed: number })[] = [];
  const unreachable: { readonly provider: string; readonly cause: string }[] = [];
  const reviewed = reviewLedger().then(
    (breaches) => ({ breaches }),
    (error: unknown) => ({ error }),
  );
  void reviewed.then((result) => {
    review = result;
    show();
  });
  for (const provider of await listComparedProviders()) {
    try {
      const comparison = await compareProvider(provider);
      providers.push({ ...comparison, fixed: await fix(comparison) });
    } catch (error) {
      if (isCancellation(error)) throw error;
      // The statements of the others are still compared; this one is named at the end, where the run fails.
      unreachable.push({ provider, cause: causeOf(error) });
    }
    show();
  }
  const result = await reviewed;
  if ('error' in result && isCancellation(result.error)) throw result.error;
  const failed = [
    ...('error' in result ? [`the ledger was not reviewed: ${causeOf(result.error)}`] : []),
    ...(unreachable.length > 0
      ? [`not compared: ${unreachable.map(({ provider, cause }) => `${provider} (${cause})`).join(', ')}`]
      : []),
  ];
  if ('error' in result || unreachable.length > 0) {
    const type = 'error' in result ? 'ledger_not_reviewed' : 'provider_unreachable';
    throw ApplicationFailure.nonRetryable(failed.join('; '), type);
  }
  return { providers, breaches: result.breaches };

  /** All pages of a provider, one after the other. */
  async function compareProvider(provider: string): Promise<ProviderComparison> {
    const run = startTime.toISOString();
    const period = { since: secondsBefore(input.periodSeconds), until: secondsBefore(input.graceSeconds) };
    const { fixLimitUsd } = input;
    const sum = { pages: 0, listed: 0, compared: 0, asked: 0, gaps: 0 };
    const fixable = new Map<string, number>();
    for (let cursor: ComparisonCursor | null = { part: 'waiting', after: null }; cursor !== null;) {
      const found: PageComparison = await comparePage({
        ...{ provider, run, page: sum.pages, fixLimitUsd, cursor },
        ...period,
      });
      sum.pages++;
      sum.listed += found.listed;
      sum.compared += found.compared;
      sum.asked += found.asked;
      sum.gaps += found.gaps;
      for (const { topUpId, gaps } of found.fixable) {
        if (fixable.size < FIXES_MAX || fixable.has(topUpId)) fixable.set(topUpId, (fixable.get(topUpId) ?? 0) + gaps);
      }
      cursor = found.next;
    }
    const fixableGaps = [...fixable.values()].reduce((total, gaps) => total + gaps, 0);
    return { provider, ...sum, fixable: [...fixable.keys()], fixableGaps };
  }

  /** Has the orders' own processes check again; returns how many gaps that closed. */
  async function fix({ fixable: topUpIds, fixableGaps }: ProviderComparison): Promise<number> {
    if (topUpIds.length === 0) return 0;
    for (const topUpId of topUpIds) await wake(topUpId);
    await sleep(input.checkSeconds * 1000, { summary: 'the orders check their providers' });
    const left = await compareTopUps(topUpIds);
    return Math.max(fixableGaps - left, 0);
  }

  async function wake(topUpId: string): Promise<void> {
    const summary = `top-up ${topUpId}, woken by reconciliation`;
    const options = topUpStart({ topUpId, summary }, taskQueue, input.topUp);
    // An order whose run has ended meanwhile has just been checked.
    await startOrSignal(() => startChild(topUp, { ...options, parentClosePolicy: ParentClosePolicy.ABANDON }), {
      workflowId: options.workflowId,
      signal: wakeSignal,
      args: [{ eventId: null }],
    });
  }

  function show(): void {
    const gaps = providers.reduce((sum, comparison) => sum + comparison.gaps - comparison.fixed, 0);
    const lines = providers.map(
      ({ provider, listed, compared, asked, gaps: found, fixed }) =>
        `- ${provider}: ${listed} entries on its statement, ${compared} payments compared, ${asked} orders asked about, ` +
        `${found} gaps, ${fixed} of them closed`,
    );
    const missing = unreachable.map(
      ({ provider, cause }) => `- **${provider}: its statement could not be read** (${cause})`,
    );
    const open = 'Open cases are in `GET /admin/cases`.';
    const stuck =
      review !== null && 'error' in review
        ? 'ledger_not_reviewed'
        : (review?.breaches ?? 0) > 0
          ? 'ledger_breach'
          : gaps > 0
            ? 'reconciliation_gap'
            : null;
    showStatus([describeReview(review), ...lines, ...missing, open].join('\n\n'), { stuck });
  }
}

type Review = { readonly breaches: number } | { readonly error: unknown };

function describeReview(review: Review | null): string {
  if (review === null) return "The ledger's own rules are being reviewed.";
  if ('error' in review) return `**The ledger's own rules could not be reviewed** (${causeOf(review.error)}).`;
  return `Breaches of the ledger's rules: ${review.breaches}.`;
}
