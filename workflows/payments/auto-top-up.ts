/**
 * Keeps one account's balance above its threshold by charging the kept card. Decides by level at every step, from the
 * row: a run that finds nothing to do ends, one that finds an attempt goes on with it, one that may not charge yet waits.
 * One attempt at a time and per slot is the database's doing; this run is the wait and its story.
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
import type { AutoTopUpActivities } from '../../activities/payments/auto-top-up.ts';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { isOpenTopUp } from '../../domain/payments/top-up.ts';
import {
  autoTopUpStatusQuery,
  pokeSignal,
  recheckAutoTopUpUpdate,
  SEARCH_ATTRIBUTES,
  type AutoTopUpInput,
  type AutoTopUpStatus,
  type AutoTopUpStep,
  type TopUpSnapshot,
} from '../../contract/index.ts';
import { signedBy } from '../kit/signature.ts';

const { beginAutoTopUp } = proxyActivities<AutoTopUpActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

/** What a provider that does not answer is given before the wait is shown as stuck; it is asked again all the same. */
const { openTopUpCheckout, reconcileTopUp } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  scheduleToCloseTimeout: '90s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
});
const { finishAutoTopUp } = proxyActivities<AutoTopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  scheduleToCloseTimeout: '90s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
});

/** Runs that gather this many steps begin anew: a history must not grow without end. */
const STEPS_MAX = 200;

export async function autoTopUp(input: AutoTopUpInput): Promise<AutoTopUpStatus> {
  const { accountId } = input;
  const steps: { at: string; what: string }[] = [];
  let step: AutoTopUpStep | null = null;
  const runEnds = Date.now() + input.runSeconds * 1000;
  let looks = 0;
  let isWanted = false;

  const note = (what: string): void => void steps.push({ at: new Date().toISOString(), what });

  setHandler(autoTopUpStatusQuery, () => ({ step, steps }));
  setHandler(pokeSignal, () => void (isWanted = true));
  setHandler(recheckAutoTopUpUpdate, async (signature) => {
    note(`re-check${signedBy(signature)}`);
    const before = looks;
    isWanted = true;
    await condition(() => looks > before);
    return { step, steps };
  });

  for (;;) {
    isWanted = false;
    step = await beginAutoTopUp({ accountId, at: new Date().toISOString() });
    looks++;
    if (step.kind === 'charge') {
      await charge(step);
      continue;
    }
    setCurrentDetails(detailsOf(step));
    await condition(allHandlersFinished);
    if (isWanted) continue;
    if (step.kind === 'rest') return { step, steps };
    const until = Math.min(Date.parse(step.until), runEnds);
    await wait(Math.max(until - Date.now(), 1));
  }

  /** Until somebody wants a look, or so long. A run that is old begins anew: everything it knows is in the rows. */
  async function wait(milliseconds: number): Promise<void> {
    await condition(() => isWanted, milliseconds);
    if (Date.now() < runEnds && steps.length <= STEPS_MAX) return;
    await condition(allHandlersFinished);
    await continueAsNew<typeof autoTopUp>(input);
  }

  async function charge({ topUpId, amountUsd, card, isResumed }: AutoTopUpStep & { kind: 'charge' }): Promise<void> {
    note(`${isResumed ? 'going on with' : 'beginning'} ${topUpId}: ${amountUsd} USD from ${card}`);
    setCurrentDetails(`Charging ${amountUsd} USD to ${card} for ${topUpId}.`);
    const snapshot = await answered(() => openTopUpCheckout(topUpId));
    await settled(topUpId, snapshot);
    const { state, failure, strikes, pause } = await answered(() => finishAutoTopUp({ topUpId }));
    note(
      state === 'failed'
        ? `declined (${failure ?? 'no reason given'}), ${strikes} in a row${pause === null ? '' : `: paused, ${pause}`}`
        : state,
    );
  }

  /** Looks at the charge until it is decided. */
  async function settled(topUpId: string, first: TopUpSnapshot): Promise<void> {
    let snapshot = first;
    let waitSeconds = input.pollSeconds;
    while (isOpenTopUp(snapshot.state)) {
      snapshot = await answered(() => reconcileTopUp({ topUpId, events: [] }));
      if (!isOpenTopUp(snapshot.state)) return;
      setCurrentDetails(`${topUpId} is ${snapshot.state} at ${snapshot.provider}; it is asked again by itself.`);
      isWanted = false;
      await wait(waitSeconds * 1000);
      waitSeconds = Math.min(waitSeconds * 2, input.pollMaxSeconds);
    }
  }

  /** Asks until there is an answer: what a provider does not say is never taken for a decline. */
  async function answered<T>(ask: () => Promise<T>): Promise<T> {
    for (let waitSeconds = input.pollSeconds; ; waitSeconds = Math.min(waitSeconds * 2, input.pollMaxSeconds)) {
      try {
        const answer = await ask();
        looks++;
        upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.stuck, value: null }]);
        return answer;
      } catch (error) {
        const cause = causeOf(error);
        note(`no answer: ${cause}`);
        upsertSearchAttributes([{ key: SEARCH_ATTRIBUTES.stuck, value: 'provider_unreachable' }]);
        setCurrentDetails(
          `**Stuck: the provider does not answer or refuses** (${cause}). It is asked again by itself; \`recheckNow\` asks at once.`,
        );
        looks++;
        isWanted = false;
      }
      await wait(waitSeconds * 1000);
    }
  }
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? cause.message : String(cause);
}

const REST_WORDS = {
  off: 'The customer has not ordered automatic top-ups, or ended them.',
  paused: 'Paused: the customer has been told why and can start it again.',
  frozen: 'Frozen after a dispute, a full refund or a fraud warning, or with its account: a person has to look first.',
  no_card: 'There is no card to charge.',
  enough: 'The balance is not below the threshold.',
} as const;

function detailsOf(step: Exclude<AutoTopUpStep, { kind: 'charge' }>): string {
  if (step.kind === 'rest') return REST_WORDS[step.why];
  return step.why === 'cap_reached'
    ? `The monthly cap is reached; the next charge is possible from ${step.until}.`
    : `The card was charged or tried in this slot; the next attempt is possible from ${step.until}.`;
}
