/**
 * Finds out what an orphan (a hold whose gateway is gone) consumed. Where the client had still been there, the hold is
 * already released and evidence only becomes platform cost. Where the client had left, evidence is what it pays; without
 * any for `evidenceSeconds`, an estimate. The request's row keeps the first outcome whatever this workflow finds later.
 */
import { proxyActivities, proxyLocalActivities, setCurrentDetails, sleep, workflowInfo } from '@temporalio/workflow';
import type { OrphanActivities } from '../activities/orphans.ts';
import type { SettlementActivities } from '../activities/settlement.ts';
import type { OrphanInput } from './contract.ts';

const { lookUpUsage, finishOrphan, bookOrphanCost } = proxyActivities<OrphanActivities>({
  startToCloseTimeout: '15s',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
});
const { settleRequests } = proxyLocalActivities<SettlementActivities>({ startToCloseTimeout: '5s' });

/** First pause between two look-ups; it doubles up to a minute. */
const PAUSE_FIRST_SECONDS = 2;
const PAUSE_MAX_SECONDS = 60;

export async function resolveOrphan({
  requestId,
  clientLeft,
  evidenceSeconds,
}: OrphanInput): Promise<{ resolution: string }> {
  const deadline = Date.now() + evidenceSeconds * 1000;
  for (let pause = PAUSE_FIRST_SECONDS; ; pause = Math.min(pause * 2, PAUSE_MAX_SECONDS)) {
    const evidence = await lookUpUsage(requestId);
    if (evidence.kind === 'usage' || evidence.kind === 'no-lookup' || Date.now() >= deadline) {
      const usage = evidence.kind === 'usage' ? evidence.usage : null;
      return { resolution: clientLeft ? await bill(usage) : await book(usage) };
    }
    setCurrentDetails(`The upstream has no final usage yet (${evidence.reason}); asking again in at most ${pause} s.`);
    await sleep(Math.min(pause * 1000, Math.max(deadline - Date.now(), 0)));
  }

  async function bill(usage: unknown): Promise<string> {
    const resolution = await finishOrphan({ requestId, usage });
    await settleRequests({ requestIds: [requestId], workflowId: workflowInfo().workflowId });
    setCurrentDetails(resolution);
    return resolution;
  }

  async function book(usage: unknown): Promise<string> {
    const resolution =
      usage === null
        ? 'The upstream could not say what it produced; nothing to book.'
        : await bookOrphanCost({ requestId, usage });
    setCurrentDetails(resolution);
    return resolution;
  }
}
