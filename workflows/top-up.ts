/**
 * One top-up from its order to its end: opens the provider's checkout, then looks at the provider's truth whenever
 * something says that it may have changed (an event, an operator, a timer), in any order and number. The row is the state,
 * so a run can begin from it at any time and ends at once where there is nothing to do; what credits is keyed in the ledger.
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
import { isOpenTopUp } from '../domain/top-up.ts';
import {
  abandonUpdate,
  checkoutUpdate,
  pokeSignal,
  recheckUpdate,
  SEARCH_ATTRIBUTES,
  topUpStatusQuery,
  type TopUpInput,
  type TopUpSnapshot,
  type TopUpStatus,
} from './contract.ts';

/** What a provider that does not answer is given before the wait is shown as stuck; it is asked again all the same. */
const { openTopUpCheckout, reconcileTopUp, abandonTopUp } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  scheduleToCloseTimeout: '90s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
});

/** Runs that gather this many steps begin anew: a history must not grow without end. */
const STEPS_MAX = 200;

export async function topUp(input: TopUpInput): Promise<TopUpSnapshot | null> {
  const { topUpId } = input;
  const steps: { at: string; what: string }[] = [];
  const startedAt = Date.now();
  let snapshot: TopUpSnapshot | null = null;
  let failure: string | null = null;
  let looks = 0;
  let isWanted = true;
  let waitSeconds = input.pollSeconds;
  let events = [...(input.events ?? [])];

  const note = (what: string): void => void steps.push({ at: new Date().toISOString(), what });

  setHandler(topUpStatusQuery, (): TopUpStatus => ({ snapshot, steps }));
  setHandler(pokeSignal, ({ eventId }) => {
    note(eventId === null ? 'asked to look again' : `event ${eventId}`);
    if (eventId !== null) events.push(eventId);
    isWanted = true;
  });
  setHandler(checkoutUpdate, async () => {
    await condition(() => failure !== null || (snapshot !== null && (snapshot.checkoutUrl !== null || !isOpen())));
    return snapshot;
  });
  setHandler(recheckUpdate, async ({ by }) => {
    note(`re-check by ${by}`);
    const before = looks;
    isWanted = true;
    await condition(() => looks > before);
    return snapshot;
  });
  setHandler(abandonUpdate, async ({ by }) => {
    note(`abandoned by ${by}`);
    snapshot = await abandonTopUp(topUpId);
    isWanted = true;
    return snapshot;
  });

  for (;;) {
    while (isWanted) {
      isWanted = false;
      await look();
      if (steps.length > STEPS_MAX) break;
    }
    await condition(allHandlersFinished);
    if (isWanted && steps.length <= STEPS_MAX) continue;
    if (!isOpen() && failure === null && !isWanted) return snapshot;
    if (steps.length > STEPS_MAX || Date.now() - startedAt > input.runSeconds * 1000) {
      await continueAsNew<typeof topUp>({ ...input, events });
    }
    const isPoked = await condition(() => isWanted, waitSeconds * 1000);
    waitSeconds = isPoked ? input.pollSeconds : Math.min(waitSeconds * 2, input.pollMaxSeconds);
    isWanted = true;
  }

  function isOpen(): boolean {
    return snapshot === null || isOpenTopUp(snapshot.state);
  }

  async function look(): Promise<void> {
    const taken = events;
    events = [];
    const before = snapshot?.state ?? null;
    try {
      if (snapshot === null || snapshot.state === 'created') {
        snapshot = await openTopUpCheckout(topUpId);
        if (snapshot.state !== before) note(`checkout at ${snapshot.provider}`);
        show();
      }
      snapshot = await reconcileTopUp({ topUpId, events: taken });
      failure = null;
    } catch (error) {
      // Nothing is lost: the events go with the next look.
      events = [...taken, ...events];
      failure = causeOf(error);
      note(`no answer: ${failure}`);
    }
    looks++;
    if (snapshot !== null && snapshot.state !== before) note(snapshot.state);
    show();
  }

  function show(): void {
    const stuck = failure === null ? (snapshot?.stuck ?? null) : 'provider_unreachable';
    setCurrentDetails(detailsOf(snapshot, failure));
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.stuck, value: stuck },
      { key: SEARCH_ATTRIBUTES.paymentState, value: snapshot?.state ?? null },
    ]);
  }
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}

const STUCK_WORDS: Readonly<Record<string, string>> = {
  amount_mismatch: 'another amount was paid than was asked for',
  currency_mismatch: 'it was paid in another currency than was asked for',
  mode_mismatch: 'it was paid in test mode for a live order, or the other way round',
  no_payment: 'the checkout completed without a payment',
  reversal_unexplained: 'a refund or dispute changed its mind more than once; a case is open',
};

function detailsOf(snapshot: TopUpSnapshot | null, failure: string | null): string {
  if (failure !== null) {
    return `**Stuck: the provider does not answer or refuses** (${failure}). It is asked again by itself; \`recheckNow\` asks at once.`;
  }
  if (snapshot === null) return 'Opening the checkout.';
  const { amountUsd, chargeUsd, receivedUsd, creditedUsd, provider, expiresAt, stuck } = snapshot;
  if (stuck !== null) {
    return (
      `**Stuck: ${STUCK_WORDS[stuck] ?? stuck}.** Asked for ${chargeUsd} USD, received ${receivedUsd} USD, credited ${creditedUsd} USD. ` +
      '`recheckNow` looks again, `abandon` gives it up.'
    );
  }
  switch (snapshot.state) {
    case 'created':
      return `Opening a checkout over ${chargeUsd} USD at ${provider}.`;
    case 'waiting':
      return `Waiting for the customer to pay ${chargeUsd} USD at ${provider}, until ${expiresAt}.`;
    case 'processing':
      return `Paid by a method that takes days; ${provider} has not confirmed it. Nothing is credited yet.`;
    case 'credited':
      return `Credited ${creditedUsd} USD.${reversalWords(snapshot)}`;
    case 'expired':
      return 'Nobody paid in time. A payment that comes all the same is credited.';
    case 'failed':
      return 'The payment failed. A payment that comes all the same is credited.';
    case 'abandoned':
      return 'Given up. A payment that comes all the same is credited.';
    case 'quarantined':
      return `A payment was not credited; order over ${amountUsd} USD.`;
  }
}

function reversalWords({ reversals }: TopUpSnapshot): string {
  return reversals
    .map(
      ({ objectId, kind, amountUsd, isTaken }) =>
        ` ${kind} ${objectId} over ${amountUsd} USD ${isTaken ? 'taken back' : 'not taken'}.`,
    )
    .join('');
}
