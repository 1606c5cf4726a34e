/**
 * One refund or dispute from its first event to its end: the account is debited while the provider has the money, and
 * credited again once if the reversal fails or is won. What is moved follows from all reversals of the payment together
 * (domain/payments/top-up.ts), so this run only has the provider checked until this reversal cannot change any more.
 */
import { continueAsNew, proxyActivities, setHandler } from '@temporalio/workflow';
import type { TopUpActivities } from '../../activities/payments/top-ups.ts';
import { assert } from '../../domain/assert.ts';
import {
  wakeSignal,
  checkTopUpUpdate,
  topUpStatusQuery,
  type ReversalInput,
  type TopUpSnapshot,
} from '../../contract/index.ts';
import { causeOf } from '../kit/cause.ts';
import { CheckLoop, type NextCheck } from '../kit/check-loop.ts';
import { showStatus, stuckText } from '../kit/status.ts';
import { signedBy } from '../kit/signature.ts';

const { reconcileTopUp } = proxyActivities<TopUpActivities>({
  startToCloseTimeout: '30s',
  heartbeatTimeout: '6s',
  retry: { initialInterval: '500ms', maximumInterval: '1m' },
});

type Reversal = TopUpSnapshot['reversals'][number];

export async function reverseTopUp(input: ReversalInput): Promise<TopUpSnapshot> {
  const { topUpId, objectId } = input;
  const loop = new CheckLoop(input);
  const { steps } = loop;
  let snapshot: TopUpSnapshot | null = null;
  /** Those that no check has answered yet. */
  const events = [...(input.events ?? [])];

  setHandler(topUpStatusQuery, () => ({ snapshot, steps: steps.list }));
  setHandler(wakeSignal, ({ eventId }) => {
    if (eventId !== null) events.push(eventId);
    loop.wake();
  });
  setHandler(checkTopUpUpdate, async (signature) => {
    steps.note(`check requested${signedBy(signature)}`);
    await loop.checkNow();
    return snapshot;
  });

  await loop.run({
    check,
    failed(error) {
      // Nothing outside tells how a reversal ends, so a run that failed would leave it as it is for good.
      const cause = causeOf(error);
      noteChange(`no answer: ${cause}`);
      const details = stuckText('the provider refuses', cause, 'checkNow');
      showStatus(`${objectId}: ${details}`, { stuck: 'provider_unreachable' });
    },
    continueAsNew: () => continueAsNew<typeof reverseTopUp>({ ...input, events }),
  });
  return lastSeen();

  async function check(): Promise<NextCheck> {
    const answered = [...events];
    snapshot = await reconcileTopUp({ topUpId, events: answered });
    events.splice(0, answered.length);
    const reversal = snapshot.reversals.find((found) => found.objectId === objectId);
    const words = wordsOf(reversal);
    noteChange(words);
    showStatus(`${objectId}: ${words}.`, { stuck: snapshot.stuck });
    return reversal === undefined || reversal.isOpen ? 'poll' : 'done';
  }

  /** Notes what differs from the last note. */
  function noteChange(words: string): void {
    if (steps.list.at(-1)?.what !== words) steps.note(words);
  }

  function lastSeen(): TopUpSnapshot {
    assert(snapshot !== null, 'a check that ends the run has seen the order');
    return snapshot;
  }
}

function wordsOf(reversal: Reversal | undefined): string {
  if (reversal === undefined) return 'not known to the provider yet';
  const { kind, amountUsd, amount = `${amountUsd} USD`, isTaken, isOpen } = reversal;
  const debit = isTaken ? 'debited from the account' : 'not debited from the account';
  return `${kind} over ${amount}, ${debit}, ${isOpen ? 'still open' : 'final'}`;
}
