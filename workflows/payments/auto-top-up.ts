/**
 * Keeps one account's balance above its threshold by charging the saved card. Each check decides by level, from the
 * row: where there is nothing to do the run ends, where an attempt is open the check goes on with it, and where no
 * charge is possible yet the run waits. The database allows one attempt at a time and one per slot; this run is the
 * wait and its story.
 */
import { continueAsNew, proxyActivities, setHandler } from '@temporalio/workflow';
import type { AutoTopUpActivities } from '../../activities/payments/auto-top-up.ts';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { isOpenTopUp } from '../../domain/payments/top-up.ts';
import {
  autoTopUpStatusQuery,
  wakeSignal,
  checkAutoTopUpUpdate,
  type AutoTopUpInput,
  type AutoTopUpOutcome,
  type AutoTopUpStatus,
  type AutoTopUpStep,
  type TopUpSnapshot,
} from '../../contract/index.ts';
import { causeOf } from '../kit/cause.ts';
import { CheckLoop, type NextCheck } from '../kit/check-loop.ts';
import { PROVIDER_CALL } from '../kit/provider-call.ts';
import { showStatus, stuckText } from '../kit/status.ts';
import { signedBy } from '../kit/signature.ts';

const { beginAutoTopUp } = proxyActivities<AutoTopUpActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});
const { openTopUpCheckout, reconcileTopUp } = proxyActivities<TopUpActivities>(PROVIDER_CALL);
const { finishAutoTopUp } = proxyActivities<AutoTopUpActivities>(PROVIDER_CALL);

type Charge = AutoTopUpStep & { readonly kind: 'charge' };

export async function autoTopUp(input: AutoTopUpInput): Promise<AutoTopUpStatus> {
  const { accountId } = input;
  const loop = new CheckLoop(input);
  const { steps } = loop;
  let step: AutoTopUpStep | null = null;
  /** The order of the attempt that is open, as its provider last showed it. */
  let order: TopUpSnapshot | null = null;
  /** The order whose attempt this run has noted. */
  let noted: string | null = null;
  let isStuck = false;
  const status = (): AutoTopUpStatus => ({ step, steps: steps.list });

  setHandler(autoTopUpStatusQuery, status);
  setHandler(wakeSignal, () => loop.wake());
  setHandler(checkAutoTopUpUpdate, async (signature) => {
    steps.note(`check requested${signedBy(signature)}`);
    await loop.checkNow();
    return status();
  });

  await loop.run({
    check,
    failed(error) {
      const cause = causeOf(error);
      steps.note(`no answer: ${cause}`);
      show(stuckText('the provider does not answer or refuses', cause, 'checkNow'), 'provider_unreachable');
    },
    // The rows know everything else.
    continueAsNew: () => continueAsNew<typeof autoTopUp>(input),
  });
  return status();

  async function check(): Promise<NextCheck> {
    step = await beginAutoTopUp({ accountId, at: new Date().toISOString() });
    if (step.kind === 'charge') return charge(step);
    show(detailsOf(step));
    return step.kind === 'rest' ? 'done' : { at: Date.parse(step.until) };
  }

  /** Brings an attempt as far as its provider allows now. */
  async function charge({ topUpId, amountUsd, card, isResumed }: Charge): Promise<NextCheck> {
    if (noted !== topUpId) {
      noted = topUpId;
      steps.note(`${isResumed ? 'resuming' : 'beginning'} ${topUpId}: ${amountUsd} USD from ${card}`);
    }
    if (order?.topUpId !== topUpId || order.state === 'created') {
      // What is stuck stays shown until the provider answers.
      if (!isStuck) show(`Charging ${amountUsd} USD to ${card} for ${topUpId}.`);
      order = await openTopUpCheckout(topUpId);
    }
    if (isOpenTopUp(order.state)) order = await reconcileTopUp({ topUpId, events: [] });
    const { state, provider } = order;
    if (isOpenTopUp(state)) {
      show(`${topUpId} is ${state} at ${provider}; it is checked again automatically.`);
      return 'poll';
    }
    steps.note(outcomeWords(await finishAutoTopUp({ topUpId })));
    order = null;
    // What follows depends on the balance after it.
    loop.wake();
    return 'poll';
  }

  function show(details: string, stuck: string | null = null): void {
    isStuck = stuck !== null;
    showStatus(details, { stuck });
  }
}

function outcomeWords({ state, failure, declinesInARow, pause }: AutoTopUpOutcome): string {
  if (state !== 'failed') return state;
  const paused = pause === null ? '' : `: paused, ${pause}`;
  return `declined (${failure ?? 'no reason given'}), ${declinesInARow} in a row${paused}`;
}

const REST_WORDS = {
  off: 'The customer has not ordered automatic top-ups, or has ended them.',
  paused: 'Paused: the customer has been told why and can start it again.',
  frozen: 'Frozen after a dispute, a full refund or a fraud warning, or with its account: a person has to decide.',
  no_card: 'There is no card to charge.',
  enough: 'The balance is not below the threshold.',
} as const;

function detailsOf(step: Exclude<AutoTopUpStep, Charge>): string {
  if (step.kind === 'rest') return REST_WORDS[step.why];
  return step.why === 'cap_reached'
    ? `The monthly cap is reached; the next charge is possible from ${step.until}.`
    : `The card was charged or tried in this slot; the next attempt is possible from ${step.until}.`;
}
