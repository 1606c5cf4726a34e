/**
 * Finds out what an orphan (a hold whose gateway is gone) consumed. Where the client had still been there, the hold
 * is already released and evidence only becomes platform cost. Where the client had left, evidence is what it pays;
 * without any for `evidenceSeconds`, an estimate. The request's row keeps the first outcome whatever this workflow
 * finds later.
 */
import { proxyActivities, proxyLocalActivities, setCurrentDetails, sleep, workflowInfo } from '@temporalio/workflow';
import type { OrphanActivities } from '../../activities/requests/orphans.ts';
import type { SettlementActivities } from '../../activities/requests/settlement.ts';
import type { OrphanInput } from '../../contract/index.ts';
import { startFollowUps } from './follow-ups.ts';

const { lookUpUsage, finishOrphan, bookOrphanCost } = proxyActivities<OrphanActivities>({
  startToCloseTimeout: '15s',
  retry: { initialInterval: '1s', maximumInterval: '30s' },
});
const { settleRequests } = proxyLocalActivities<SettlementActivities>({ startToCloseTimeout: '5s' });

/**
 * Pauses between two look-ups, as shares of the time there is: with the usual 10 minutes the first is 2 s, and they
 * double up to a minute, so that about a dozen look-ups are made.
 */
const FIRST_PAUSE_SHARE = 1 / 300;
const LONGEST_PAUSE_SHARE = 1 / 10;

export async function resolveOrphan({
  requestId,
  clientLeft,
  evidenceSeconds,
}: OrphanInput): Promise<{ resolution: string }> {
  const evidenceMs = evidenceSeconds * 1000;
  const deadline = Date.now() + evidenceMs;
  const pauseMax = evidenceMs * LONGEST_PAUSE_SHARE;
  setCurrentDetails('Asking the upstream what this request consumed.');
  for (let pause = evidenceMs * FIRST_PAUSE_SHARE; ; pause = Math.min(pause * 2, pauseMax)) {
    const evidence = await lookUpUsage(requestId);
    const isOver = Date.now() >= deadline;
    const isWorkless = evidence.kind === 'nothing' || (evidence.kind === 'unknown' && isOver);
    if (isWorkless && !clientLeft) return { resolution: noteNothing() };
    const isFinal = evidence.kind !== 'pending' && evidence.kind !== 'unknown';
    if (isFinal || isOver) {
      const usage = evidence.kind === 'usage' ? evidence.usage : null;
      return { resolution: clientLeft ? await bill(usage) : await book(usage) };
    }
    const wait = Math.ceil(Math.min(pause, deadline - Date.now()));
    const reason = evidence.kind === 'unknown' ? 'it does not know the request' : evidence.reason;
    setCurrentDetails(`The upstream has no final usage yet (${reason}); asking again in ${wait / 1000} s.`);
    await sleep(wait);
  }

  async function bill(usage: unknown): Promise<string> {
    const resolution = await finishOrphan({ requestId, usage });
    const followUps = await settleRequests({
      requestIds: [requestId],
      workflowId: workflowInfo().workflowId,
    });
    setCurrentDetails(resolution);
    await startFollowUps(followUps);
    return resolution;
  }

  async function book(usage: unknown): Promise<string> {
    const resolution = await bookOrphanCost({ requestId, usage });
    setCurrentDetails(resolution);
    return resolution;
  }

  function noteNothing(): string {
    const resolution = 'The upstream says that it did no work for this request; nothing to book.';
    setCurrentDetails(resolution);
    return resolution;
  }
}
