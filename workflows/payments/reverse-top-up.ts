/**
 * One refund or dispute from the first word of it to its end: credit is taken back while the provider has the money, and
 * given back once if it fails or is won. What is moved follows from all reversals of the payment together
 * (domain/payments/top-up.ts), so this run only sees to it that the provider is asked until this one cannot change any more.
 */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  isCancellation,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import {
  pokeSignal,
  recheckUpdate,
  SEARCH_ATTRIBUTES,
  topUpStatusQuery,
  type ReversalInput,
  type TopUpSnapshot,
} from '../../contract/index.ts';

const { reconcileTopUp } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

type Reversal = TopUpSnapshot['reversals'][number];

export async function reverseTopUp(input: ReversalInput): Promise<TopUpSnapshot> {
  const { topUpId, objectId } = input;
  const startedAt = Date.now();
  const steps: { at: string; what: string }[] = [];
  let snapshot: TopUpSnapshot | null = null;
  let events = [...(input.events ?? [])];
  /** Looks that have begun, and that have ended: they come one after the other. */
  let begun = 0;
  let ended = 0;
  let isWanted = true;
  let waitSeconds = input.pollSeconds;

  setHandler(topUpStatusQuery, () => ({ snapshot, steps }));
  setHandler(pokeSignal, ({ eventId }) => {
    if (eventId !== null) events.push(eventId);
    isWanted = true;
  });
  setHandler(recheckUpdate, async () => {
    // One that is under way may have asked the provider before whatever it is about happened.
    const wanted = begun + 1;
    isWanted = true;
    await condition(() => ended >= wanted);
    return snapshot;
  });

  for (;;) {
    isWanted = false;
    begun++;
    const taken = events;
    events = [];
    let reversal: Reversal | undefined;
    try {
      snapshot = await reconcileTopUp({ topUpId, events: taken });
      reversal = snapshot.reversals.find((found) => found.objectId === objectId);
      show(wordsOf(reversal), snapshot.stuck);
    } catch (error) {
      if (isCancellation(error)) throw error;
      // No event need ever tell how it ends, so a run that failed would leave it as it is for good.
      events = [...taken, ...events];
      const words = `**stuck: the provider refuses** (${causeOf(error)}); it is asked again by itself, \`recheckNow\` asks at once`;
      show(words, 'provider_unreachable');
    }
    ended++;

    await condition(() => isWanted || allHandlersFinished());
    if (isWanted) continue;
    if (snapshot !== null && reversal !== undefined && !reversal.isOpen) return snapshot;
    if (Date.now() - startedAt > input.runSeconds * 1000)
      await continueAsNew<typeof reverseTopUp>({ ...input, events });
    const isPoked = await condition(() => isWanted, waitSeconds * 1000);
    waitSeconds = isPoked ? input.pollSeconds : Math.min(waitSeconds * 2, input.pollMaxSeconds);
  }

  function show(words: string, stuck: string | null): void {
    if (steps.at(-1)?.what !== words) steps.push({ at: new Date().toISOString(), what: words });
    setCurrentDetails(`${objectId}: ${words}.`);
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.stuck, value: stuck }]);
  }
}

function wordsOf(reversal: Reversal | undefined): string {
  if (reversal === undefined) return 'not known to the provider yet';
  const { kind, amountUsd, amount = `${amountUsd} USD`, isTaken, isOpen } = reversal;
  const taken = isTaken ? 'taken back from the account' : 'not taken from the account';
  return `${kind} over ${amount}, ${taken}, ${isOpen ? 'still open' : 'final'}`;
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}
