/** The recordings of `autoTopUp`; see workflow-recordings.ts, which lists them. */
import type { WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import {
  autoTopUpStart,
  autoTopUpWorkflowId,
  wakeBy,
  WORKFLOW_TYPES,
  type AutoTopUpOutcome,
  type AutoTopUpStep,
  type TopUpSnapshot,
} from '../../contract/index.ts';
import { inTurn, type Activities, type WorkflowEnvironment } from './workflow-environment.ts';
import { ended, working, type Recording } from './recording.ts';

const TOP_UP_ID = 'top_019900000000700080000000000d0701';
const CHARGE: AutoTopUpStep = {
  kind: 'charge',
  topUpId: TOP_UP_ID,
  amountUsd: '10.000000000000',
  card: 'visa ····4242',
  isResumed: false,
};
const RESUMED: AutoTopUpStep = { ...CHARGE, isResumed: true };
const ENOUGH: AutoTopUpStep = { kind: 'rest', why: 'enough' };
const AWAY = ApplicationFailure.nonRetryable('stripe: key expired', 'provider_refused');

function snapshotOf(accountId: string, state: TopUpSnapshot['state']): TopUpSnapshot {
  return {
    topUpId: TOP_UP_ID,
    accountId,
    provider: 'stripe',
    state,
    amountUsd: '10.000000000000',
    chargeUsd: '10.500000000000',
    receivedUsd: '0.000000000000',
    creditedUsd: '0.000000000000',
    stuck: null,
    checkoutUrl: null,
    expiresAt: '2026-01-01T00:00:00.000Z',
    reversals: [],
  };
}

/** A run as a settlement starts it. */
function keeping(
  environment: WorkflowEnvironment,
  accountId: string,
  script: Partial<Activities>,
): Promise<WorkflowHandle> {
  return working(environment, 'processes', script, async () => {
    const { processes } = environment.clients;
    await processes.workflow.signalWithStart(WORKFLOW_TYPES.autoTopUp, {
      ...autoTopUpStart(accountId, environment.namespaces.processes, {
        ...{ pollSeconds: 0.5, pollMaxSeconds: 1, runSeconds: 3600 },
      }),
      ...wakeBy(null),
    });
    return ended(processes.workflow.getHandle(autoTopUpWorkflowId(accountId)));
  });
}

/** Possible again in a moment. */
const soon = (): AutoTopUpStep => ({
  kind: 'wait',
  why: 'slot_used',
  until: new Date(Date.now() + 500).toISOString(),
});

export const AUTO_TOP_UP_RECORDINGS: readonly Recording[] = [
  {
    name: 'autoTopUp.charged',
    record: (environment) => {
      const accountId = 'acct_019900000000700080000000000a0701';
      return keeping(environment, accountId, {
        beginAutoTopUp: inTurn<AutoTopUpStep>(CHARGE, RESUMED, ENOUGH),
        openTopUpCheckout: inTurn(snapshotOf(accountId, 'waiting')),
        reconcileTopUp: inTurn(snapshotOf(accountId, 'processing'), snapshotOf(accountId, 'credited')),
        finishAutoTopUp: inTurn({ state: 'succeeded', failure: null, declinesInARow: 0, pause: null }),
      });
    },
  },
  {
    name: 'autoTopUp.away-then-declined-then-paused',
    record: (environment) => {
      const accountId = 'acct_019900000000700080000000000a0702';
      const declined: AutoTopUpOutcome = {
        state: 'failed',
        failure: 'generic_decline',
        declinesInARow: 2,
        pause: null,
      };
      const paused: AutoTopUpStep = { kind: 'rest', why: 'paused' };
      const steps = [() => CHARGE, () => RESUMED, soon, () => CHARGE, () => paused];
      return keeping(environment, accountId, {
        beginAutoTopUp: () => Promise.resolve(steps.shift()!()),
        openTopUpCheckout: inTurn<TopUpSnapshot>(AWAY, snapshotOf(accountId, 'failed')),
        finishAutoTopUp: inTurn(declined, { ...declined, declinesInARow: 3, pause: 'card_declined' }),
      });
    },
  },
];
