/** A run of reconciliation over many pages: each is compared once, in order, and what they found is added up. */
import assert from 'node:assert/strict';
import type { WorkflowFailedError } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import { topUpWorkflowId, WORKFLOW_TYPES, type ReconcileInput, type ReconcileResult } from '../../../contract/index.ts';
import type { PageComparison, TopUpSnapshot } from '../../../contract/index.ts';
import { provisionNamespaces } from '../../../worker/provision.ts';
import {
  currentDetailsOf,
  inTurn,
  openWorkflowEnvironment,
  type WorkflowEnvironment,
} from '../../support/workflow-environment.ts';
import { until } from '../../support/until.ts';

type Reconcile = (input: ReconcileInput) => Promise<ReconcileResult>;

const TOP_UP = 'top_0199000000007000800000000000b001';

const INPUT: ReconcileInput = {
  periodSeconds: 3600,
  graceSeconds: 60,
  fixLimitUsd: '50',
  checkSeconds: 1,
  topUp: { pollSeconds: 3600, pollMaxSeconds: 3600, runSeconds: 86_400 },
};

const CREDITED: TopUpSnapshot = {
  topUpId: TOP_UP,
  accountId: 'acct_0199000000007000800000000000b001',
  provider: 'stripe',
  state: 'credited',
  amountUsd: '10.000000000000',
  chargeUsd: '10.000000000000',
  receivedUsd: '10.000000000000',
  creditedUsd: '10.000000000000',
  stuck: null,
  checkoutUrl: null,
  expiresAt: '2026-11-24T12:00:00.000Z',
  reversals: [],
};

const page = (change: Partial<PageComparison>): PageComparison => ({
  ...{ next: null, listed: 0, compared: 0, asked: 0, gaps: 0, fixable: [] },
  ...change,
});

describe('reconcile', () => {
  let environment: WorkflowEnvironment;
  before(async () => {
    environment = await openWorkflowEnvironment();
    await provisionNamespaces(environment.connection, environment.namespaces);
  });
  after(() => environment.close());

  it('goes on where a page ended, repeats only a page that failed, and wakes an order of two pages once', async () => {
    const fixable = (gaps: number) => [{ topUpId: TOP_UP, gaps }];
    const script = {
      reviewLedger: inTurn(0),
      listComparedProviders: inTurn(['stripe']),
      comparePage: inTurn<PageComparison>(
        page({ next: { part: 'statement', after: null } }),
        page({
          next: { part: 'statement', after: 'b' },
          listed: 100,
          compared: 100,
          asked: 1,
          gaps: 2,
          fixable: fixable(2),
        }),
        new Error('the worker died'),
        page({
          next: { part: 'ledger', after: null },
          listed: 50,
          compared: 50,
          asked: 1,
          gaps: 1,
          fixable: fixable(1),
        }),
        page({ compared: 1, asked: 1 }),
      ),
      compareTopUps: inTurn(1),
      openTopUpCheckout: inTurn(CREDITED),
      reconcileTopUp: inTurn(CREDITED),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const handle = await workflow.start<Reconcile>(WORKFLOW_TYPES.reconcile, {
        ...{ workflowId: `reconcile-${worker.taskQueue}`, taskQueue: worker.taskQueue, args: [INPUT] },
      });
      const { providers } = await handle.result();
      assert.deepEqual(providers, [
        {
          ...{ provider: 'stripe', pages: 4, listed: 150, compared: 151, asked: 3, gaps: 3 },
          ...{ fixable: [TOP_UP], fixableGaps: 3, fixed: 2 },
        },
      ]);
      const calls = worker.callsOf('comparePage');
      assert.deepEqual(
        calls.map(({ page: number, cursor }) => [number, cursor.part, cursor.after]),
        [
          [0, 'waiting', null],
          [1, 'statement', null],
          [2, 'statement', 'b'],
          [2, 'statement', 'b'],
          [3, 'ledger', null],
        ],
      );
      // Pages that did not all speak of the same run and period would leave out what is between them.
      assert.equal(new Set(calls.map(({ run, since, until }) => [run, since, until].join())).size, 1);
      assert.deepEqual(worker.callsOf('compareTopUps'), [[TOP_UP]]);
      assert.match(
        await currentDetailsOf(handle),
        /150 entries on its statement, 151 payments compared, 3 orders asked about/,
      );
      await workflow.getHandle(topUpWorkflowId(TOP_UP)).result();
    });
  });

  it('compares every provider while the review of the ledger takes its time', async () => {
    const review = Promise.withResolvers<number>();
    const script = {
      reviewLedger: () => review.promise,
      listComparedProviders: inTurn(['stripe', 'creem']),
      comparePage: inTurn(page({ compared: 1 }), page({ compared: 2 })),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const handle = await workflow.start<Reconcile>(WORKFLOW_TYPES.reconcile, {
        ...{ workflowId: `reconcile-${worker.taskQueue}`, taskQueue: worker.taskQueue, args: [INPUT] },
      });
      await until('both providers are compared', () => worker.callsOf('comparePage').length === 2);
      review.resolve(3);
      const { providers, breaches } = await handle.result();
      assert.deepEqual([providers.map(({ compared }) => compared), breaches], [[1, 2], 3]);
    });
  });

  it('compares every provider when the review of the ledger fails, and then fails with the cause', async () => {
    const script = {
      reviewLedger: () =>
        Promise.reject(ApplicationFailure.nonRetryable('canceling statement due to statement timeout')),
      listComparedProviders: inTurn(['stripe', 'creem']),
      comparePage: inTurn(page({ compared: 1 }), page({ compared: 2 })),
    };
    await environment.withWorker('processes', script, async (worker) => {
      const { workflow } = environment.clients.processes;
      const handle = await workflow.start<Reconcile>(WORKFLOW_TYPES.reconcile, {
        ...{ workflowId: `reconcile-${worker.taskQueue}`, taskQueue: worker.taskQueue, args: [INPUT] },
      });
      await assert.rejects(handle.result(), (error: WorkflowFailedError) => {
        assert.ok(error.cause instanceof ApplicationFailure);
        assert.equal(error.cause.type, 'ledger_not_reviewed');
        assert.match(error.cause.message, /the ledger was not reviewed: canceling statement/);
        return true;
      });
      assert.equal(worker.callsOf('comparePage').length, 2);
      const details = await currentDetailsOf(handle);
      assert.match(details, /could not be reviewed/);
      assert.match(details, /creem: 0 entries on its statement, 2 payments compared/);
    });
  });
});
