/** A refund or dispute is asked about until it cannot change any more, whatever its provider answers meanwhile. */
import assert from 'node:assert/strict';
import { ApplicationFailure } from '@temporalio/common';
import {
  wakeSignal,
  checkTopUpUpdate,
  reversalStart,
  SEARCH_ATTRIBUTES,
  WORKFLOW_TYPES,
  type ReversalInput,
  type TopUpSnapshot,
} from '../../../contract/index.ts';
import { provisionNamespaces } from '../../../worker/provision.ts';
import {
  currentDetailsOf,
  inTurn,
  openWorkflowEnvironment,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';
import { until } from '../../support/until.ts';

type ReverseTopUp = (input: ReversalInput) => Promise<TopUpSnapshot>;

const TOP_UP = 'top_0199000000007000800000000000a001';

/** A credited order with a dispute. */
function snapshot(isOpen: boolean): TopUpSnapshot {
  return {
    topUpId: TOP_UP,
    accountId: 'acct_0199000000007000800000000000a001',
    provider: 'creem',
    state: 'credited',
    amountUsd: '10.000000000000',
    chargeUsd: '10.000000000000',
    receivedUsd: '10.000000000000',
    creditedUsd: '10.000000000000',
    stuck: null,
    checkoutUrl: null,
    expiresAt: '2026-11-24T12:00:00.000Z',
    reversals: [{ objectId: 'dp_1', kind: 'dispute', amountUsd: '10.000000000000', isTaken: isOpen, isOpen }],
  };
}

describe('reverseTopUp', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  it('outlives a refusal of the provider: no event will ever tell that a dispute was won', async () => {
    const refusal = ApplicationFailure.nonRetryable('creem: the key is not valid', 'provider_refused');
    const script = { reconcileTopUp: inTurn(snapshot(true), refusal, snapshot(false)) };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const subject = { topUpId: TOP_UP, provider: 'creem', objectId: 'dp_1', events: ['evt_1'], summary: 'a test' };
      const timing = { pollSeconds: 3600, pollMaxSeconds: 3600, runSeconds: 86_400 };
      const handle = await workflow.start<ReverseTopUp>(
        WORKFLOW_TYPES.reverseTopUp,
        reversalStart(subject, worker.taskQueue, timing),
      );
      await until('the first check', async () => /still open/.test(await currentDetailsOf(handle)));

      await handle.signal(wakeSignal, { eventId: 'evt_2' });
      await until('the refusal to be shown', async () => /the key is not valid/.test(await currentDetailsOf(handle)));
      const { typedSearchAttributes } = await handle.describe();
      assert.equal(typedSearchAttributes.get(SEARCH_ATTRIBUTES.stuck), 'provider_unreachable');

      await handle.executeUpdate(checkTopUpUpdate, { args: [{ by: 'ada' }] });
      const { reversals } = await handle.result();
      assert.deepEqual(
        reversals.map(({ isOpen }) => isOpen),
        [false],
      );
      const checks = worker.callsOf('reconcileTopUp') as { events: readonly string[] }[];
      assert.deepEqual(
        checks.map(({ events }) => events),
        [['evt_1'], ['evt_2'], ['evt_2']],
        'the event goes with the next check',
      );
    });
  });
});
