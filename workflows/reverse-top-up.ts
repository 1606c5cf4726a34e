/**
 * One refund or dispute from the first word of it to its end: credit is taken back while the provider has the money, and
 * given back once if it fails or is won. What is moved follows from all reversals of the payment together
 * (domain/top-up.ts), so this run only sees to it that the provider is asked until this one cannot change any more.
 */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
} from '@temporalio/workflow';
import type { TopUpActivities } from '../activities/top-ups.ts';
import {
  pokeSignal,
  recheckUpdate,
  SEARCH_ATTRIBUTES,
  topUpStatusQuery,
  type ReversalInput,
  type TopUpSnapshot,
} from './contract.ts';

const { reconcileTopUp } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

export async function reverseTopUp(input: ReversalInput): Promise<TopUpSnapshot> {
  const { topUpId, objectId } = input;
  const startedAt = Date.now();
  const steps: { at: string; what: string }[] = [];
  let snapshot: TopUpSnapshot | null = null;
  let events = [...(input.events ?? [])];
  let looks = 0;
  let isWanted = true;
  let waitSeconds = input.pollSeconds;

  setHandler(topUpStatusQuery, () => ({ snapshot, steps }));
  setHandler(pokeSignal, ({ eventId }) => {
    if (eventId !== null) events.push(eventId);
    isWanted = true;
  });
  setHandler(recheckUpdate, async () => {
    const before = looks;
    isWanted = true;
    await condition(() => looks > before);
    return snapshot;
  });

  for (;;) {
    isWanted = false;
    const taken = events;
    events = [];
    snapshot = await reconcileTopUp({ topUpId, events: taken });
    looks++;
    const reversal = snapshot.reversals.find((found) => found.objectId === objectId);
    const words =
      reversal === undefined
        ? 'not known to the provider yet'
        : `${reversal.kind} over ${reversal.amountUsd} USD, ${reversal.isTaken ? 'taken back from the account' : 'not taken from the account'}` +
          (reversal.isOpen ? ', still open' : ', final');
    if (steps.at(-1)?.what !== words) steps.push({ at: new Date().toISOString(), what: words });
    setCurrentDetails(`${objectId}: ${words}.`);
    upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.stuck, value: snapshot.stuck }]);

    await condition(allHandlersFinished);
    if (isWanted) continue;
    if (reversal !== undefined && !reversal.isOpen) return snapshot;
    if (Date.now() - startedAt > input.runSeconds * 1000)
      await continueAsNew<typeof reverseTopUp>({ ...input, events });
    const isPoked = await condition(() => isWanted, waitSeconds * 1000);
    waitSeconds = isPoked ? input.pollSeconds : Math.min(waitSeconds * 2, input.pollMaxSeconds);
  }
}
