/**
 * One top-up from its order to its end: opens the provider's checkout, then looks at the provider's truth whenever
 * something says that it may have changed (an event, an operator, a timer), in any order and number. The row is the state,
 * so a run can begin from it at any time and ends at once where there is nothing to do; what credits is keyed in the ledger.
 */
import {
  allHandlersFinished,
  condition,
  continueAsNew,
  currentUpdateInfo,
  proxyActivities,
  setCurrentDetails,
  setHandler,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { parseUsd } from '../../domain/money.ts';
import { isOpenTopUp } from '../../domain/payments/top-up.ts';
import {
  abandonUpdate,
  checkoutUpdate,
  creditByHandUpdate,
  pokeSignal,
  recheckUpdate,
  SEARCH_ATTRIBUTES,
  topUpStatusQuery,
  type HandCreditAction,
  type HandCreditView,
  type TopUpInput,
  type TopUpSnapshot,
  type TopUpStatus,
} from '../../contract/index.ts';
import { refuseDecision } from '../kit/refuse-decision.ts';
import { signedBy } from '../kit/signature.ts';

/** What a provider that does not answer is given before the wait is shown as stuck; it is asked again all the same. */
const { openTopUpCheckout, reconcileTopUp } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  scheduleToCloseTimeout: '90s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
});
const { creditByHand } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
});

/** Runs that gather this many steps begin anew: a history must not grow without end. */
const STEPS_MAX = 200;

export async function topUp(input: TopUpInput): Promise<TopUpSnapshot | null> {
  const { topUpId } = input;
  const steps: { at: string; what: string }[] = [];
  const startedAt = Date.now();
  let snapshot: TopUpSnapshot | null = null;
  let failure: Failure | null = null;
  /** Looks that have begun, and that have ended: they come one after the other. */
  let begun = 0;
  let ended = 0;
  let isWanted = true;
  /** A person has asked since the last look began. */
  let isRecheck = false;
  let waitSeconds = input.pollSeconds;
  let events = [...(input.events ?? [])];
  const noted = new Set<string>();

  const note = (what: string): void => void steps.push({ at: new Date().toISOString(), what });

  setHandler(topUpStatusQuery, (): TopUpStatus => {
    // What was last seen of the order, and why no more of it is seen now.
    return {
      snapshot: snapshot === null || failure === null ? snapshot : { ...snapshot, stuck: failure.stuck },
      steps,
    };
  });
  setHandler(pokeSignal, ({ eventId }) => {
    note(eventId === null ? 'asked to look again' : `event ${eventId}`);
    if (eventId !== null) events.push(eventId);
    isWanted = true;
  });
  setHandler(checkoutUpdate, async () => {
    await condition(() => failure !== null || (snapshot !== null && snapshot.state !== 'created'));
    return snapshot;
  });
  setHandler(recheckUpdate, async (signature) => {
    note(`re-check${signedBy(signature)}`);
    // One that is under way may have asked the provider before whatever it is about happened.
    const wanted = begun + 1;
    isWanted = true;
    isRecheck = true;
    await condition(() => ended >= wanted);
    return snapshot;
  });
  refuseDecision(abandonUpdate, () => `POST /admin/top-ups/${topUpId}/abandon`);
  setHandler(
    creditByHandUpdate,
    async (wanted) => {
      const action = `${workflowInfo().workflowId}/${currentUpdateInfo()?.id ?? ''}`;
      try {
        return await creditByHand({ ...pickCredit(wanted), topUpId, action });
      } catch (error) {
        // Who asks reads why, not that an activity failed.
        throw error instanceof ActivityFailure && error.cause !== undefined ? error.cause : error;
      } finally {
        isWanted = true;
      }
    },
    { validator: requireSoundCredit },
  );

  for (;;) {
    while (isWanted && !(isLong() && allHandlersFinished())) {
      isWanted = false;
      await look();
    }
    await condition(() => isWanted || allHandlersFinished());
    if (isWanted && !(isLong() && allHandlersFinished())) continue;
    if (!isOpen() && failure === null && !isWanted) return snapshot;
    if (isLong() || Date.now() - startedAt > input.runSeconds * 1000) {
      await continueAsNew<typeof topUp>({ ...input, events });
    }
    const isPoked = await condition(() => isWanted, waitSeconds * 1000);
    waitSeconds = isPoked ? input.pollSeconds : Math.min(waitSeconds * 2, input.pollMaxSeconds);
    isWanted = true;
  }

  function isLong(): boolean {
    return steps.length > STEPS_MAX;
  }

  function isOpen(): boolean {
    return snapshot === null || isOpenTopUp(snapshot.state);
  }

  async function look(): Promise<void> {
    const taken = events;
    const asked = isRecheck;
    events = [];
    isRecheck = false;
    const before = snapshot?.state ?? null;
    begun++;
    try {
      if (snapshot === null || snapshot.state === 'created') {
        snapshot = await openTopUpCheckout(topUpId);
        if (snapshot.state !== before) note(`checkout at ${snapshot.provider}`);
        show();
      }
      snapshot = await reconcileTopUp({ topUpId, events: taken, ...(asked && { isRecheck: true }) });
      failure = null;
    } catch (error) {
      // Nothing is lost: the events go with the next look.
      events = [...taken, ...events];
      isRecheck ||= asked;
      failure = failureOf(error);
      note(`no answer: ${failure.words}`);
    }
    ended++;
    if (snapshot !== null && snapshot.state !== before) note(snapshot.state);
    noteOnce();
    show();
  }

  /** What others than the customer did about the order, each once. */
  function noteOnce(): void {
    const happened = [
      ...(snapshot?.handCredits ?? []).map(handCreditWords),
      ...(snapshot?.warnings ?? []).map((id) => `early fraud warning ${id}`),
    ];
    for (const what of happened) {
      if (noted.has(what)) continue;
      noted.add(what);
      note(what);
    }
  }

  function show(): void {
    const stuck = failure === null ? (snapshot?.stuck ?? null) : failure.stuck;
    setCurrentDetails(detailsOf(snapshot, failure?.words ?? null));
    upsertSearchAttributes([
      { key: SEARCH_ATTRIBUTES.stuck, value: stuck },
      { key: SEARCH_ATTRIBUTES.paymentState, value: snapshot?.state ?? null },
    ]);
  }
}

/** Why a look failed, as a code and in words. */
interface Failure {
  readonly stuck: string;
  readonly words: string;
}

/** Refusals that say more than that the provider does not answer; a person has to see to them at the provider. */
const TOLD_REFUSALS = ['permission_missing', 'key_refused'];

function failureOf(error: unknown): Failure {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  return {
    stuck: TOLD_REFUSALS.find((known) => known === type) ?? 'provider_unreachable',
    words: cause instanceof Error ? cause.message : String(cause),
  };
}

const STUCK_WORDS: Readonly<Record<string, string>> = {
  amount_mismatch: 'another amount was paid than was asked for',
  currency_mismatch: 'it was paid in another currency than was asked for',
  mode_mismatch: 'it was paid in test mode for a live order, or the other way round',
  no_payment: 'the checkout completed without a payment',
  permission_missing:
    "the provider's key may not read what it must, so refunds or disputes are not seen; a case names the permission",
  key_refused: 'the provider does not take our key',
  provider_refused: 'the provider refuses to tell of it',
  vendors_disagree: 'RPC vendors contradict each other about a deposit',
  vendors_behind: 'only one RPC vendor has reached the block of a deposit',
  peg_lost: 'its token is not worth a dollar now',
  reversal_unexplained: 'a refund or dispute changed its mind more than once; a case is open',
};

function detailsOf(snapshot: TopUpSnapshot | null, failure: string | null): string {
  if (failure !== null) {
    return `**Stuck: the provider does not answer or refuses** (${failure}). It is asked again by itself; \`recheckNow\` asks at once.`;
  }
  if (snapshot === null) return 'Opening the checkout.';
  const { amountUsd, chargeUsd, receivedUsd, receivedOther = [], creditedUsd, provider, expiresAt, stuck } = snapshot;
  if (stuck !== null) {
    return (
      `**Stuck: ${STUCK_WORDS[stuck] ?? stuck}.** Asked for ${chargeUsd} USD, received ${[`${receivedUsd} USD`, ...receivedOther].join(' and ')}, credited ${creditedUsd} USD. ` +
      `\`recheckNow\` looks again, \`creditByHand\` asks to credit it.${remarkWords(snapshot)}${storyWords(snapshot)}`
    );
  }
  switch (snapshot.state) {
    case 'created':
      return `Opening a checkout over ${chargeUsd} USD at ${provider}.`;
    case 'waiting':
      return `Waiting for the customer to pay ${chargeUsd} USD at ${provider}, until ${expiresAt}.`;
    case 'processing':
      if (snapshot.waitsFor !== undefined) return `${remarkWords(snapshot).trim()} Nothing is credited yet.`;
      return `Paid by a method that takes days; ${provider} has not confirmed it. Nothing is credited yet.`;
    case 'credited':
      return `Credited ${creditedUsd} USD.${remarkWords(snapshot)}${reversalWords(snapshot)}${storyWords(snapshot)}`;
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

/** What a payment that is not credited yet waits for; empty where nothing does. */
function remarkWords({ waitsFor }: TopUpSnapshot): string {
  return waitsFor === undefined ? '' : ` ${waitsFor[0]!.toUpperCase()}${waitsFor.slice(1)}.`;
}

function reversalWords({ reversals }: TopUpSnapshot): string {
  return reversals
    .map(
      ({ objectId, kind, amountUsd, amount = `${amountUsd} USD`, isTaken }) =>
        ` ${kind} ${objectId} over ${amount} ${isTaken ? 'taken back' : 'not taken'}.`,
    )
    .join('');
}

/** Credits by hand and warnings, for the details; empty where there are none. */
function storyWords({ handCredits = [], warnings = [] }: TopUpSnapshot): string {
  const byHand = handCredits.map((credit) => ` ${handCreditWords(credit)}.`);
  const fraud = warnings.map((id) => ` **Early fraud warning ${id}: a case is open, automatic top-ups are frozen.**`);
  return [...byHand, ...fraud].join('');
}

function handCreditWords(credit: HandCreditView): string {
  const { amountUsd, paymentId, state, isKnown, requestedBy, decidedBy, reason } = credit;
  const asked = requestedBy === null ? 'asked for in Temporal' : `asked by ${requestedBy}`;
  const what = `credit by hand of ${amountUsd} USD for ${paymentId}, ${asked} (${reason})`;
  switch (state) {
    case 'waiting': {
      const whom = requestedBy === null ? 'two persons of the interface' : 'a second person';
      return `${what}: waits for ${whom}${isKnown ? '' : '; the provider does not know this payment'}`;
    }
    case 'posted':
      return decidedBy === null ? `${what}: credited` : `${what}: approved by ${decidedBy}, credited`;
    case 'rejected':
      return `${what}: rejected by ${decidedBy ?? 'nobody'}`;
    case 'superseded':
      return `${what}: not needed, the payment was credited by itself`;
  }
}

/** A person may type it in the Temporal UI: only what is known goes on. */
function pickCredit({ paymentId, amountUsd, reason }: HandCreditAction): HandCreditAction {
  return { paymentId: paymentId.trim(), amountUsd, reason: reason.trim() };
}

function requireSoundCredit(wanted: HandCreditAction): void {
  // What comes over the wire has the type only by promise.
  const { paymentId, amountUsd, reason } = wanted as Partial<Record<keyof HandCreditAction, unknown>>;
  const isText = (value: unknown, min: number, max: number): boolean =>
    typeof value === 'string' && value.trim().length >= min && value.trim().length <= max;
  const amount = typeof amountUsd === 'string' ? parseUsd(amountUsd) : null;
  const fault =
    (!isText(paymentId, 1, 2000) && "paymentId: must be the provider's id of the payment") ||
    ((amount === null || amount <= 0n) && 'amountUsd: must be a decimal USD string above zero, like "12.50"') ||
    (!isText(reason, 3, 2000) && 'reason: must say why, in 3 to 2000 characters');
  if (fault !== false) throw ApplicationFailure.nonRetryable(fault, 'invalid_field');
}
