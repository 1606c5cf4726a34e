/**
 * Today's workflow code against recorded histories: a run that is open when new code is deployed must be able to go on.
 * A failure here means `patched()` or a new workflow type, not a new recording; see test/histories/record.ts.
 */
import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, Worker, type WorkflowBundle } from '@temporalio/worker';
import { DeterminismViolationError } from '@temporalio/workflow';
import { WORKFLOW_TYPES } from '../../contract/index.ts';
import { eventTypesOf, readHistories, summaryOf, workflowIdOf, workflowTypeOf } from '../support/workflow-history.ts';
import { productBundle, quietTemporalRuntime } from '../support/workflow-environment.ts';
import { RECORDINGS } from '../support/workflow-recordings.ts';

const histories = readHistories();

/** What an operator reads beside a run in the list of workflows. */
const SUMMARIES: Readonly<Record<string, RegExp>> = {
  meterRequests: /^(req_[0-9a-f]{32}|\d+ requests( found by the sweep)?)$/,
  noticeLowBalance: /^Low balance: acct_[0-9a-f]{32}$/,
  sweepRequests: /^Requests that stayed behind$/,
  resolveOrphan:
    /^req_[0-9a-f]{32}: (client had left, what was produced is billed|released, looking for platform cost)$/,
  refundRequest: /^refund \d+\.\d{12} USD of req_[0-9a-f]{32}$/,
  topUp: /^10 USD by card, 10\.5 USD asked at stripe$/,
  reverseTopUp: /^du_1 of top_[0-9a-f]{32}, 10 USD$/,
  sweepEvents: /^Events and top-ups that stayed behind$/,
  autoTopUp: /^Automatic top-up: acct_[0-9a-f]{32}$/,
  reconcile: /^The ledger against the providers and against its own rules$/,
  maintainLedger: /^Daily upkeep of the ledger$/,
  commissionRun: /^Commissions of \d{4}-\d\d$/,
  checkCommissions: /^(Dry run|Replay) \d+ of the commissions of \d{4}-\d\d$/,
  monthlyCommissions: /^Commissions of the month that has ended$/,
  watchChain: /^Deposits on Base$/,
  discordLink: /^Discord link of \d+$/,
  voteReward: /^votes of \d+ on topgg$/,
  boostReward: /^boosts of \d+$/,
  bugBounty: /^bug report bty_[0-9a-f]{32}$/,
  reconcileBoosts: /^Boosts and votes that no event told of$/,
};

/** Events without which a recording is not of the path that its name says. */
const PATHS: Readonly<Record<string, string>> = {
  'meterRequests.low-balance': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'meterRequests.notice-under-way': 'START_CHILD_WORKFLOW_EXECUTION_FAILED',
  'sweepRequests.late-settlements': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'sweepRequests.resolver-at-work': 'START_CHILD_WORKFLOW_EXECUTION_FAILED',
  'resolveOrphan.billed-below-threshold': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'resolveOrphan.booked-after-waiting': 'TIMER_FIRED',
  'topUp.paid': 'TIMER_FIRED',
  'topUp.provider-away-then-abandoned': 'ACTIVITY_TASK_FAILED',
  'topUp.credited-by-hand': 'WORKFLOW_EXECUTION_UPDATE_COMPLETED',
  'autoTopUp.charged': 'TIMER_FIRED',
  'autoTopUp.away-then-declined-then-paused': 'ACTIVITY_TASK_FAILED',
  'meterRequests.auto-top-up': 'ACTIVITY_TASK_COMPLETED',
  'reverseTopUp.won': 'WORKFLOW_EXECUTION_SIGNALED',
  'watchChain.continued-as-new': 'WORKFLOW_EXECUTION_CONTINUED_AS_NEW',
  'watchChain.stuck-then-well': 'ACTIVITY_TASK_FAILED',
  'watchChain.operated': 'WORKFLOW_EXECUTION_UPDATE_COMPLETED',
  'reconcile.gaps-closed': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'reconcile.provider-away': 'WORKFLOW_EXECUTION_FAILED',
  'sweepEvents.delivered-again': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'discordLink.linked-with-claims': 'WORKFLOW_EXECUTION_UPDATE_COMPLETED',
  'discordLink.taken-back': 'WORKFLOW_EXECUTION_SIGNALED',
  'voteReward.paid-then-refused': 'TIMER_FIRED',
  'boostReward.paid': 'WORKFLOW_EXECUTION_SIGNALED',
  'bugBounty.approved-by-a-second-person': 'WORKFLOW_EXECUTION_SIGNALED',
  'reconcileBoosts.missed-found': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'commissionRun.paid': 'WORKFLOW_EXECUTION_COMPLETED',
  'commissionRun.refused': 'WORKFLOW_EXECUTION_FAILED',
  'commissionRun.stuck-then-retried': 'WORKFLOW_EXECUTION_UPDATE_COMPLETED',
  'monthlyCommissions.started': 'CHILD_WORKFLOW_EXECUTION_STARTED',
  'monthlyCommissions.under-way': 'START_CHILD_WORKFLOW_EXECUTION_FAILED',
  'refundRequest.posted': 'WORKFLOW_EXECUTION_COMPLETED',
  'refundRequest.approved': 'WORKFLOW_EXECUTION_SIGNALED',
  'refundRequest.unknown': 'WORKFLOW_EXECUTION_FAILED',
  'refundRequest.continued-as-new': 'WORKFLOW_EXECUTION_CONTINUED_AS_NEW',
};

async function replay(workflowBundle: WorkflowBundle): Promise<Map<string, Error | undefined>> {
  const errors = new Map<string, Error | undefined>();
  const named = histories.map(({ name, history }) => ({ workflowId: name, history }));
  for await (const { workflowId, error } of Worker.runReplayHistories({ workflowBundle }, named)) {
    errors.set(workflowId, error);
  }
  return errors;
}

describe('replay of recorded histories', () => {
  before(quietTemporalRuntime);

  describe('by today’s code', () => {
    let errors: Map<string, Error | undefined>;
    before(async () => {
      errors = await replay(await productBundle());
    });

    for (const { name } of histories) {
      it(`${name} goes on`, () => {
        assert.ok(errors.has(name), 'it was replayed');
        assert.ifError(errors.get(name));
      });
    }
  });

  it('notices a change in the order of commands, in the workflow that was changed and in no other', async () => {
    const changed = await bundleWorkflowCode({
      workflowsPath: fileURLToPath(new URL('../support/workflow-changed.ts', import.meta.url)),
      logger: new DefaultLogger('ERROR'),
    });
    const errors = await replay(changed);
    assert.equal(errors.size, histories.length);
    for (const { name, history } of histories) {
      const error = errors.get(name);
      if (workflowTypeOf(history) === WORKFLOW_TYPES.meterRequests) {
        assert.ok(error instanceof DeterminismViolationError, `${name} is noticed`);
      } else {
        assert.ifError(error);
      }
    }
  });

  describe('covers', () => {
    for (const type of Object.values(WORKFLOW_TYPES)) {
      it(`${type}`, () => {
        assert.ok(histories.some(({ history }) => workflowTypeOf(history) === type));
      });
    }

    it('what the recorder records: no file is missing and none is left over', () => {
      assert.deepEqual(histories.map(({ name }) => name).sort(), RECORDINGS.map(({ name }) => name).sort());
    });

    for (const [name, event] of Object.entries(PATHS)) {
      it(`the path of ${name}`, () => {
        const { history } = histories.find((recorded) => recorded.name === name)!;
        assert.ok(eventTypesOf(history).includes(event), `${event} is in it`);
      });
    }
  });

  describe('holds what an operator reads of a run:', () => {
    for (const { name, history } of histories) {
      it(`${name} has a summary that says what it is for`, () => {
        const type = workflowTypeOf(history);
        assert.equal(name.split('.')[0], type);
        assert.match(summaryOf(history) ?? '', SUMMARIES[type]!, workflowIdOf(history));
      });
    }
  });
});
