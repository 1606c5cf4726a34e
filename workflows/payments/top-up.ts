/**
 * One top-up from its order to its end: opens the provider's checkout, then checks the provider's truth whenever
 * something says that it may have changed (an event, an operator, a timer), in any order and number. The row is the
 * state, so a run can begin from it at any time and ends at once where there is nothing to do; what credits is keyed
 * in the ledger.
 */
import {
  condition,
  continueAsNew,
  currentUpdateInfo,
  proxyActivities,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import { ActivityFailure, ApplicationFailure } from '@temporalio/common';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { parseUsd } from '../../domain/money.ts';
import { isOpenTopUp } from '../../domain/payments/top-up.ts';
import {
  abandonUpdate,
  checkoutUpdate,
  requestManualCreditUpdate,
  wakeSignal,
  checkTopUpUpdate,
  topUpStatusQuery,
  type ManualCreditAction,
  type ManualCreditView,
  type TopUpInput,
  type TopUpSnapshot,
  type TopUpStatus,
} from '../../contract/index.ts';
import { causeOf, rootCause } from '../kit/cause.ts';
import { CheckLoop, type NextCheck } from '../kit/check-loop.ts';
import { PROVIDER_CALL } from '../kit/provider-call.ts';
import { showStatus, stuckText } from '../kit/status.ts';
import { refuseDecision } from '../kit/refuse-decision.ts';
import { signedBy } from '../kit/signature.ts';

const { openTopUpCheckout, reconcileTopUp } = proxyActivities<TopUpActivities>(PROVIDER_CALL);
const { requestManualCredit } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '10s',
  retry: { initialInterval: '500ms', maximumInterval: '15s' },
});

/** What the checks have found so far. */
interface Found {
  /** The order as it was last seen; null before the first answer. */
  readonly snapshot: TopUpSnapshot | null;
  /** Why the last check failed; null where it did not. */
  readonly failure: Failure | null;
}

export async function topUp(input: TopUpInput): Promise<TopUpSnapshot | null> {
  const { topUpId } = input;
  const loop = new CheckLoop(input);
  const { steps } = loop;
  let found: Found = { snapshot: null, failure: null };
  /** Events and operators' requests that no check has answered yet. */
  const events = [...(input.events ?? [])];
  let requests = 0;

  setHandler(topUpStatusQuery, (): TopUpStatus => {
    const { snapshot, failure } = found;
    // What was last seen of the order, and why no more of it is seen now.
    const shown = snapshot === null || failure === null ? snapshot : { ...snapshot, stuck: failure.stuck };
    return { snapshot: shown, steps: steps.list };
  });
  setHandler(wakeSignal, ({ eventId }) => {
    steps.note(eventId === null ? 'woken' : `event ${eventId}`);
    if (eventId !== null) events.push(eventId);
    loop.wake();
  });
  setHandler(checkoutUpdate, async () => {
    await condition(() => found.failure !== null || isOpened(found.snapshot));
    return found.snapshot;
  });
  setHandler(checkTopUpUpdate, async (signature) => {
    steps.note(`check requested${signedBy(signature)}`);
    requests++;
    await loop.checkNow();
    return found.snapshot;
  });
  refuseDecision(abandonUpdate, () => `POST /admin/top-ups/${topUpId}/abandon`);
  setHandler(
    requestManualCreditUpdate,
    async (wanted) => {
      const action = `${workflowInfo().workflowId}/${currentUpdateInfo()?.id ?? ''}`;
      try {
        return await requestManualCredit({ ...pickCredit(wanted), topUpId, action });
      } catch (error) {
        // The sender reads why, not that an activity failed.
        throw error instanceof ActivityFailure && error.cause !== undefined ? error.cause : error;
      } finally {
        loop.wake();
      }
    },
    { validator: requireSoundCredit },
  );

  await loop.run({
    check,
    failed(error) {
      found = { ...found, failure: failureOf(error) };
      steps.note(`no answer: ${causeOf(error)}`);
      show();
    },
    continueAsNew: () => continueAsNew<typeof topUp>({ ...input, events }),
  });
  return found.snapshot;

  async function check(): Promise<NextCheck> {
    // Only a check that ends well has answered them.
    const answered = { events: [...events], requests };
    const before = found.snapshot?.state ?? null;
    if (!isOpened(found.snapshot)) {
      const opened = await openTopUpCheckout(topUpId);
      if (opened.state !== before) steps.note(`checkout at ${opened.provider}`);
      found = { ...found, snapshot: opened };
      show();
    }
    const snapshot = await reconcileTopUp({
      topUpId,
      events: answered.events,
      ...(requests > 0 && { isRecheck: true }),
    });
    events.splice(0, answered.events.length);
    requests -= answered.requests;
    found = { snapshot, failure: null };
    if (snapshot.state !== before) steps.note(snapshot.state);
    // What others than the customer did about the order.
    for (const credit of snapshot.manualCredits ?? []) steps.noteOnce(manualCreditWords(credit));
    for (const id of snapshot.warnings ?? []) steps.noteOnce(`early fraud warning ${id}`);
    show();
    return isOpenTopUp(snapshot.state) ? 'poll' : 'done';
  }

  function show(): void {
    const { snapshot, failure } = found;
    showStatus(detailsOf(found), {
      stuck: failure === null ? (snapshot?.stuck ?? null) : failure.stuck,
      paymentState: snapshot?.state ?? null,
      ...(snapshot !== null && { accountId: snapshot.accountId, provider: snapshot.provider }),
    });
  }
}

function isOpened(snapshot: TopUpSnapshot | null): boolean {
  return snapshot !== null && snapshot.state !== 'created';
}

/** Why a check failed, as a code and in words. */
interface Failure {
  readonly stuck: string;
  readonly words: string;
}

/** Refusals that say more than that the provider does not answer; a person has to resolve them at the provider. */
const KNOWN_REFUSALS = ['permission_missing', 'key_refused'];

function failureOf(error: unknown): Failure {
  const cause = rootCause(error);
  const type = cause instanceof ApplicationFailure ? cause.type : undefined;
  const stuck = KNOWN_REFUSALS.find((known) => known === type) ?? 'provider_unreachable';
  return { stuck, words: causeOf(error) };
}

const STUCK_WORDS: Readonly<Record<string, string>> = {
  amount_mismatch: 'the amount paid is not the amount ordered',
  currency_mismatch: 'it was paid in another currency than ordered',
  mode_mismatch: 'it was paid in test mode for a live order, or the other way round',
  no_payment: 'the checkout completed without a payment',
  permission_missing:
    "the provider's key may not read what it must, so refunds or disputes are not seen; a case names the permission",
  key_refused: 'the provider does not accept our key',
  provider_refused: 'the provider refuses to show it',
  vendors_disagree: 'RPC vendors contradict each other about a deposit',
  vendors_behind: 'only one RPC vendor has reached the block of a deposit',
  peg_lost: 'its token is not worth a dollar now',
  reversal_unexplained: 'a refund or dispute changed more than once; a case is open',
};

function detailsOf({ snapshot, failure }: Found): string {
  if (failure !== null) return stuckText('the provider does not answer or refuses', failure.words, 'checkNow');
  if (snapshot === null) return 'Opening the checkout.';
  const { amountUsd, chargeUsd, receivedUsd, receivedOther = [], creditedUsd, provider, expiresAt, stuck } = snapshot;
  if (stuck !== null) {
    const received = [`${receivedUsd} USD`, ...receivedOther].join(' and ');
    return (
      `**Stuck: ${STUCK_WORDS[stuck] ?? stuck}.** Ordered ${chargeUsd} USD, received ${received}, credited ` +
      `${creditedUsd} USD. \`checkNow\` checks again, \`requestManualCredit\` asks to credit it.` +
      `${remarkWords(snapshot)}${storyWords(snapshot)}`
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
      return 'Nobody paid in time. A later payment is still credited.';
    case 'failed':
      return 'The payment failed. A later payment is still credited.';
    case 'abandoned':
      return 'Given up. A later payment is still credited.';
    case 'quarantined':
      return `A payment was not credited; order over ${amountUsd} USD.`;
  }
}

/** What a payment that is not credited yet waits for; empty where it waits for nothing. */
function remarkWords({ waitsFor }: TopUpSnapshot): string {
  return waitsFor === undefined ? '' : ` ${waitsFor[0]!.toUpperCase()}${waitsFor.slice(1)}.`;
}

function reversalWords({ reversals }: TopUpSnapshot): string {
  return reversals
    .map(
      ({ objectId, kind, amountUsd, amount = `${amountUsd} USD`, isTaken }) =>
        ` ${kind} ${objectId} over ${amount} ${isTaken ? 'debited' : 'not debited'}.`,
    )
    .join('');
}

/** Manual credits and warnings, for the details; empty where there are none. */
function storyWords({ manualCredits = [], warnings = [] }: TopUpSnapshot): string {
  const credits = manualCredits.map((credit) => ` ${manualCreditWords(credit)}.`);
  const fraud = warnings.map((id) => ` **Early fraud warning ${id}: a case is open, automatic top-ups are frozen.**`);
  return [...credits, ...fraud].join('');
}

function manualCreditWords(credit: ManualCreditView): string {
  const { amountUsd, paymentId, state, isKnown, requestedBy, decidedBy, reason } = credit;
  const requester = requestedBy === null ? 'requested in Temporal' : `requested by ${requestedBy}`;
  const what = `manual credit of ${amountUsd} USD for ${paymentId}, ${requester} (${reason})`;
  switch (state) {
    case 'waiting': {
      const approvers = requestedBy === null ? 'two persons of the interface' : 'a second person';
      return `${what}: waits for ${approvers}${isKnown ? '' : '; the provider does not know this payment'}`;
    }
    case 'posted':
      return decidedBy === null ? `${what}: credited` : `${what}: approved by ${decidedBy}, credited`;
    case 'rejected':
      return `${what}: rejected by ${decidedBy ?? 'nobody'}`;
    case 'superseded':
      return `${what}: not needed, the payment was credited automatically`;
  }
}

/** A person may type it in the Temporal UI: only what is known goes on. */
function pickCredit({ paymentId, amountUsd, reason }: ManualCreditAction): ManualCreditAction {
  return { paymentId: paymentId.trim(), amountUsd, reason: reason.trim() };
}

function requireSoundCredit(wanted: ManualCreditAction): void {
  // What comes over the wire has the type only by promise.
  const { paymentId, amountUsd, reason } = wanted as Partial<Record<keyof ManualCreditAction, unknown>>;
  const isText = (value: unknown, min: number, max: number): boolean =>
    typeof value === 'string' && value.trim().length >= min && value.trim().length <= max;
  const amount = typeof amountUsd === 'string' ? parseUsd(amountUsd) : null;
  const fault =
    (!isText(paymentId, 1, 2000) && "paymentId: must be the provider's id of the payment") ||
    ((amount === null || amount <= 0n) && 'amountUsd: must be a decimal USD string above zero, like "12.50"') ||
    (!isText(reason, 3, 2000) && 'reason: must say why, in 3 to 2000 characters');
  if (fault !== false) throw ApplicationFailure.nonRetryable(fault, 'invalid_field');
}
