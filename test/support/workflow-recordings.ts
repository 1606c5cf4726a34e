/**
 * One recording per path through each workflow: how to make it happen, up to its end. Runs are started as production
 * starts them, so that the histories also hold what an operator reads. Ids are fixed, to keep new recordings comparable
 * with old ones.
 */
import type { WorkflowHandle } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import type { Evidence } from '../../providers/upstreams/usage-lookup.ts';
import type { SweepWork } from '../../activities/requests/sweep.ts';
import { SettleQueue } from '../../api/gateway/core/endings/settle-lane.ts';
import { wakeRefund } from '../../api/processes/temporal.ts';
import { wakeTopUp, openCheckout, wakeForEvent, checkTopUp } from '../../api/processes/top-ups.ts';
import type { Refund } from '../../db/requests/refunds.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import { formatId, uuidOf, type RequestUuid } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { createLogger } from '../../runtime/logger.ts';
import {
  requestManualCreditUpdate,
  lowBalanceWorkflowId,
  MAINTENANCE_SCHEDULE_ID,
  RECONCILE_SCHEDULE_ID,
  SWEEP_EVENTS_SCHEDULE_ID,
  meterWorkflowId,
  orphanWorkflowId,
  refundStart,
  refundStatusQuery,
  refundWorkflowId,
  reversalWorkflowId,
  SWEEP_SCHEDULE_ID,
  topUpWorkflowId,
  WORKFLOW_TYPES,
  type AutoTopUpStep,
  type ManualCreditView,
  type PageComparison,
  type RefundInput,
  type RewardRoute,
  type RefundStatus,
  type TopUpSnapshot,
} from '../../contract/index.ts';
import { AUTO_TOP_UP_RECORDINGS } from './auto-top-up-recordings.ts';
import { CHAIN_RECORDINGS } from './chain-recordings.ts';
import { COMMISSION_RECORDINGS } from './commission-recordings.ts';
import { REWARD_RECORDINGS } from './reward-recordings.ts';
import { ended, triggered, withSchedules, working, type Recording } from './recording.ts';
import { gate, inTurn, type Activities, type WorkflowEnvironment } from './workflow-environment.ts';
import { until } from './until.ts';

type Script = Partial<Activities>;

const logger = createLogger('record', 'silent');

/** The nth request (1 ≤ n ≤ 9999) of the recordings. */
function requestUuid(n: number): RequestUuid {
  return uuidOf('request', `01990000-0000-7000-8000-00000000${String(n).padStart(4, '0')}`);
}

function requestId(n: number): string {
  return formatId('request', requestUuid(n));
}

const ACCOUNT = uuidOf('account', '01990000-0000-7000-8000-0000000a0001');
const ACCOUNT_ID = formatId('account', ACCOUNT);
const OTHER_ACCOUNT_ID = formatId('account', uuidOf('account', '01990000-0000-7000-8000-0000000a0002'));
const POSTING_ID = formatId('posting', uuidOf('posting', '01990000-0000-7000-8000-0000000b0001'));

const FAULT = new Error('connection terminated');
const LOST_BOOST: RewardRoute = {
  process: 'boost',
  discordUserId: '700000000000000621',
  event: { provider: 'discord', eventId: 'message/900000000000000621' },
};
const SETTLED = { settled: 1, settleErrors: 0, lowBalanceAccountIds: [] };
const USAGE: Evidence = { kind: 'usage', usage: { prompt_tokens: 12, completion_tokens: 34 } };
const NO_LOOKUP: Evidence = { kind: 'no-lookup' };
const PENDING: Evidence = { kind: 'pending', reason: 'still running there' };

/** Settles requests through the queue; returns the run of the last batch. The first request always goes alone. */
async function settledByQueue(environment: WorkflowEnvironment, requests: readonly number[]): Promise<WorkflowHandle> {
  const queue = new SettleQueue({
    client: environment.clients.requests,
    taskQueue: environment.namespaces.requests,
    logger,
    floorSeconds: 0.2,
    slotSeconds: 10,
    onDropped: () => undefined,
  });
  for (const n of requests) queue.add(requestUuid(n));
  await queue.stop(10);
  const firstOfLast = requests.length === 1 ? requests[0]! : requests[1]!;
  return ended(environment.clients.requests.workflow.getHandle(meterWorkflowId(requestId(firstOfLast))));
}

function sweeping(environment: WorkflowEnvironment, found: SweepWork, script: Script = {}): Promise<WorkflowHandle> {
  const { requests } = environment.clients;
  const whole: Script = {
    findWork: inTurn(found),
    releaseOrphans: inTurn(undefined),
    settleRequests: inTurn(SETTLED),
    lookUpUsage: inTurn(NO_LOOKUP),
    finishOrphan: inTurn('Ended by an estimate.'),
    ...script,
  };
  return withSchedules(environment, () =>
    working(environment, 'requests', whole, () =>
      triggered(requests.schedule.getHandle(SWEEP_SCHEDULE_ID), (id) => requests.workflow.getHandle(id)),
    ),
  );
}

/** A resolver as the sweep starts it. */
function resolving(
  environment: WorkflowEnvironment,
  orphan: { n: number; clientLeft: boolean },
  script: Script,
): Promise<WorkflowHandle> {
  const { requests } = environment.clients;
  const found = { unsettled: [], orphans: [{ requestId: requestId(orphan.n), clientLeft: orphan.clientLeft }] };
  const whole: Script = {
    findWork: inTurn(found),
    releaseOrphans: inTurn(undefined),
    settleRequests: inTurn(SETTLED),
    ...script,
  };
  return withSchedules(environment, () =>
    working(environment, 'requests', whole, async () => {
      await triggered(requests.schedule.getHandle(SWEEP_SCHEDULE_ID), (id) => requests.workflow.getHandle(id));
      return ended(requests.workflow.getHandle(orphanWorkflowId(requestId(orphan.n))));
    }),
  );
}

function refundOf(n: number): Refund {
  return {
    requestId: requestUuid(n),
    n: 1,
    id: uuidOf('refund', '01990000-0000-7000-8000-0000000c0001'),
    accountId: ACCOUNT,
    amount: usd('0.25'),
    reason: 'answer was cut',
    state: 'waiting',
    needsApproval: true,
    requestedBy: 'ada',
    requestedAt: new Date(0),
    decidedBy: null,
    decidedAt: null,
    postingId: null,
  };
}

const DECIDED: RefundStatus = {
  state: 'posted',
  amountUsd: '0.250000000000',
  reason: 'answer was cut',
  requestedBy: 'ada',
  decidedBy: 'grace',
  postingId: POSTING_ID,
};

const WAITING_REFUND: RefundStatus = { ...DECIDED, state: 'waiting', decidedBy: null, postingId: null };

/** A refund's run as the interface starts it, told so often that its row was decided. */
function refunding(environment: WorkflowEnvironment, n: number, script: Script, told = 0): Promise<WorkflowHandle> {
  const { processes } = environment.clients;
  const temporal = { ...environment.clients, namespaces: environment.namespaces };
  return working(environment, 'processes', script, async () => {
    await wakeRefund(temporal, refundOf(n));
    const handle = processes.workflow.getHandle(refundWorkflowId(requestId(n), 1));
    for (let times = 0; times < told; times++) {
      await until('the row to have been read', async () => (await handle.query(refundStatusQuery)) !== null);
      await wakeRefund(temporal, refundOf(n));
    }
    return ended(handle);
  });
}

function topUpId(n: number): string {
  return formatId('topUp', orderOf(n).id);
}

function orderOf(n: number): TopUp {
  return {
    id: uuidOf('topUp', `01990000-0000-7000-8000-0000000d${String(n).padStart(4, '0')}`),
    accountId: ACCOUNT,
    state: 'created',
    method: 'card',
    provider: 'stripe',
    amount: usd('10'),
    fee: usd('0.5'),
    currency: 'usd',
    live: false,
    providerId: null,
    checkoutUrl: null,
    received: usd('0'),
    receivedOther: [],
    credited: usd('0'),
    stuck: null,
    expiresAt: new Date(0),
    createdAt: new Date(0),
    isGivenUp: false,
    card: { save: false, customerId: null, paymentMethod: null },
  };
}

type ReversalOf = TopUpSnapshot['reversals'][number];

const DISPUTED: ReversalOf = {
  objectId: 'du_1',
  kind: 'dispute',
  amountUsd: '10.500000000000',
  isTaken: true,
  isOpen: true,
};
const WON: ReversalOf = { ...DISPUTED, isTaken: false, isOpen: false };
const REFUNDED: ReversalOf = { ...DISPUTED, objectId: 're_621', kind: 'refund', isOpen: false };
const OTHER_REFUND: ReversalOf = { ...REFUNDED, objectId: 're_622' };

function topUpOf(n: number, state: TopUpSnapshot['state'], ...reversals: ReversalOf[]): TopUpSnapshot {
  return {
    topUpId: topUpId(n),
    accountId: ACCOUNT_ID,
    provider: 'stripe',
    state,
    amountUsd: '10.000000000000',
    chargeUsd: '10.500000000000',
    receivedUsd: state === 'credited' ? '10.500000000000' : '0.000000000000',
    creditedUsd: state === 'credited' ? '10.000000000000' : '0.000000000000',
    stuck: state === 'quarantined' ? 'amount_mismatch' : null,
    checkoutUrl: `https://checkout.test/${n}`,
    expiresAt: '2026-01-01T00:00:00.000Z',
    reversals,
  };
}

const REFUSED_BY_PROVIDER: Error = ApplicationFailure.nonRetryable('stripe: key expired', 'provider_refused');

type ManagementTopUps = Parameters<typeof openCheckout>[0];

function managementOf({ clients, namespaces }: WorkflowEnvironment): ManagementTopUps {
  return {
    temporal: { ...clients, namespaces },
    settings: {
      payments: { topUpRun: { pollSeconds: 1, pollMaxSeconds: 2, runSeconds: 3600 } },
    } as ManagementTopUps['settings'],
  };
}

/** A top-up as the management interface starts it, and what an operator does then. */
function toppingUp(
  environment: WorkflowEnvironment,
  n: number,
  script: Script,
  operate: (temporal: ManagementTopUps) => Promise<void> = () => Promise.resolve(),
): Promise<WorkflowHandle> {
  return working(environment, 'processes', script, async () => {
    const temporal = managementOf(environment);
    await openCheckout(temporal, orderOf(n));
    await operate(temporal);
    return ended(environment.clients.processes.workflow.getHandle(topUpWorkflowId(topUpId(n))));
  });
}

export const RECORDINGS: readonly Recording[] = [
  {
    name: 'meterRequests.one-request',
    record: (environment) =>
      working(environment, 'requests', { settleRequests: inTurn(SETTLED) }, () => settledByQueue(environment, [101])),
  },
  {
    name: 'meterRequests.batch',
    record: (environment) =>
      working(environment, 'requests', { settleRequests: inTurn({ ...SETTLED, settled: 2, settleErrors: 1 }) }, () =>
        settledByQueue(environment, [111, 112, 113, 114]),
      ),
  },
  {
    name: 'meterRequests.after-a-fault',
    record: (environment) =>
      working(environment, 'requests', { settleRequests: inTurn(FAULT, SETTLED) }, () =>
        settledByQueue(environment, [121]),
      ),
  },
  {
    name: 'meterRequests.low-balance',
    record: (environment) => {
      const script: Script = {
        settleRequests: inTurn({ ...SETTLED, lowBalanceAccountIds: [ACCOUNT_ID, OTHER_ACCOUNT_ID] }),
        writeLowBalanceNotice: inTurn(true),
      };
      return working(environment, 'requests', script, () => settledByQueue(environment, [131]));
    },
  },
  {
    name: 'meterRequests.auto-top-up',
    record: (environment) => {
      const script: Script = {
        settleRequests: inTurn({ ...SETTLED, autoTopUpAccountIds: [ACCOUNT_ID] }),
        startAutoTopUps: inTurn(undefined),
      };
      return working(environment, 'requests', script, () => settledByQueue(environment, [136]));
    },
  },
  {
    name: 'meterRequests.notice-under-way',
    record: (environment) => {
      const written = gate();
      const script: Script = {
        settleRequests: inTurn({ ...SETTLED, lowBalanceAccountIds: [ACCOUNT_ID] }),
        writeLowBalanceNotice: async () => {
          await written.passed;
          return true;
        },
      };
      return working(environment, 'requests', script, async () => {
        await settledByQueue(environment, [141]);
        const second = await settledByQueue(environment, [142]);
        written.open();
        await ended(environment.clients.requests.workflow.getHandle(lowBalanceWorkflowId(ACCOUNT_ID)));
        return second;
      });
    },
  },
  ...[
    { path: 'written', written: true, n: 201 },
    { path: 'nothing-to-do', written: false, n: 202 },
  ].map(({ path, written, n }) => ({
    name: `noticeLowBalance.${path}`,
    record: (environment: WorkflowEnvironment) => {
      const script: Script = {
        settleRequests: inTurn({ ...SETTLED, lowBalanceAccountIds: [ACCOUNT_ID] }),
        writeLowBalanceNotice: inTurn(written),
      };
      return working(environment, 'requests', script, async () => {
        await settledByQueue(environment, [n]);
        return ended(environment.clients.requests.workflow.getHandle(lowBalanceWorkflowId(ACCOUNT_ID)));
      });
    },
  })),
  {
    name: 'sweepRequests.nothing-left',
    record: (environment) => sweeping(environment, { unsettled: [], orphans: [] }),
  },
  {
    name: 'sweepRequests.late-settlements',
    record: (environment) => sweeping(environment, { unsettled: [301, 302, 303].map(requestId), orphans: [] }),
  },
  {
    name: 'sweepRequests.orphans',
    record: (environment) =>
      sweeping(environment, {
        unsettled: [311].map(requestId),
        orphans: [
          { requestId: requestId(312), clientLeft: false },
          { requestId: requestId(313), clientLeft: true },
          { requestId: requestId(314), clientLeft: false },
        ],
      }),
  },
  {
    name: 'sweepRequests.resolver-at-work',
    record: (environment) => {
      const found = { unsettled: [], orphans: [{ requestId: requestId(321), clientLeft: true }] };
      const evidence = gate();
      const { requests } = environment.clients;
      const script: Script = {
        findWork: inTurn(found),
        lookUpUsage: async () => {
          await evidence.passed;
          return NO_LOOKUP;
        },
        finishOrphan: inTurn('Ended by an estimate.'),
        settleRequests: inTurn(SETTLED),
      };
      return withSchedules(environment, () =>
        working(environment, 'requests', script, async () => {
          const schedule = requests.schedule.getHandle(SWEEP_SCHEDULE_ID);
          const workflow = (id: string): WorkflowHandle => requests.workflow.getHandle(id);
          const first = await triggered(schedule, workflow);
          const second = await until('a run of its own', async () => {
            const handle = await triggered(schedule, workflow);
            return handle.workflowId !== first.workflowId && handle;
          });
          evidence.open();
          await ended(requests.workflow.getHandle(orphanWorkflowId(requestId(321))));
          return second;
        }),
      );
    },
  },
  {
    name: 'resolveOrphan.billed-by-usage',
    record: (environment) =>
      resolving(
        environment,
        { n: 401, clientLeft: true },
        { lookUpUsage: inTurn(USAGE), finishOrphan: inTurn("Ended by the upstream's usage.") },
      ),
  },
  {
    name: 'resolveOrphan.billed-by-estimate',
    record: (environment) =>
      resolving(
        environment,
        { n: 402, clientLeft: true },
        { lookUpUsage: inTurn(NO_LOOKUP), finishOrphan: inTurn('Ended by an estimate.') },
      ),
  },
  {
    name: 'resolveOrphan.billed-below-threshold',
    record: (environment) =>
      resolving(
        environment,
        { n: 403, clientLeft: true },
        {
          lookUpUsage: inTurn(USAGE),
          finishOrphan: inTurn("Ended by the upstream's usage."),
          settleRequests: async ({ requestIds }) =>
            requestIds.includes(requestId(403)) ? { ...SETTLED, lowBalanceAccountIds: [ACCOUNT_ID] } : SETTLED,
          writeLowBalanceNotice: inTurn(true),
        },
      ),
  },
  {
    name: 'resolveOrphan.booked-after-waiting',
    record: (environment) =>
      resolving(
        environment,
        { n: 411, clientLeft: false },
        {
          lookUpUsage: inTurn<Evidence>(PENDING, PENDING, USAGE),
          bookOrphanCost: inTurn(FAULT, `Platform cost of ${requestId(411)}: 0.000080000000 USD.`),
        },
      ),
  },
  {
    name: 'resolveOrphan.nothing-to-book',
    record: (environment) =>
      resolving(environment, { n: 412, clientLeft: false }, { lookUpUsage: inTurn<Evidence>({ kind: 'nothing' }) }),
  },
  {
    name: 'resolveOrphan.booked-as-held',
    record: (environment) =>
      resolving(
        environment,
        { n: 413, clientLeft: false },
        {
          lookUpUsage: inTurn(NO_LOOKUP),
          bookOrphanCost: inTurn(`Platform cost of ${requestId(413)}: 0.002000000000 USD (an estimate).`),
        },
      ),
  },
  {
    name: 'refundRequest.posted',
    record: (environment) =>
      refunding(environment, 501, { readRefund: inTurn(FAULT, { ...DECIDED, decidedBy: 'ada' }) }),
  },
  {
    name: 'refundRequest.approved',
    record: (environment) => refunding(environment, 502, { readRefund: inTurn(WAITING_REFUND, DECIDED) }, 1),
  },
  {
    name: 'refundRequest.unknown',
    record: (environment) =>
      refunding(environment, 505, {
        readRefund: inTurn<RefundStatus>(ApplicationFailure.nonRetryable('there is no refund', 'not_found')),
      }),
  },
  {
    name: 'refundRequest.continued-as-new',
    record: (environment) =>
      working(environment, 'processes', { readRefund: inTurn(WAITING_REFUND) }, async () => {
        // As `wakeRefund` starts it, but with a run that is over in a moment instead of a day.
        const { processes } = environment.clients;
        const input: RefundInput = { requestId: requestId(506), n: 1, runSeconds: 0.5 };
        const start = { ...input, accountId: ACCOUNT_ID, amountUsd: DECIDED.amountUsd };
        const { firstExecutionRunId, workflowId } = await processes.workflow.start(
          WORKFLOW_TYPES.refundRequest,
          refundStart(start, environment.namespaces.processes),
        );
        const first = await ended(processes.workflow.getHandle(workflowId, firstExecutionRunId));
        await processes.workflow.getHandle(workflowId).terminate('recorded');
        return first;
      }),
  },
  {
    name: 'topUp.paid',
    record: (environment) =>
      toppingUp(environment, 601, {
        openTopUpCheckout: inTurn(topUpOf(601, 'waiting')),
        reconcileTopUp: inTurn(topUpOf(601, 'waiting'), topUpOf(601, 'processing'), topUpOf(601, 'credited')),
      }),
  },
  {
    name: 'topUp.provider-away-then-abandoned',
    record: (environment) => {
      let state: TopUpSnapshot['state'] = 'quarantined';
      const script: Script = {
        openTopUpCheckout: inTurn(REFUSED_BY_PROVIDER, topUpOf(602, 'waiting')),
        reconcileTopUp: () => Promise.resolve(topUpOf(602, state)),
      };
      return toppingUp(environment, 602, script, async (temporal) => {
        await checkTopUp(temporal, orderOf(602), 'ada');
        state = 'abandoned';
        await checkTopUp(temporal, orderOf(602), 'ada');
      });
    },
  },
  {
    name: 'topUp.credited-by-hand',
    record: (environment) => {
      const { processes } = environment.clients;
      const wanted = { paymentId: 'pi_1', amountUsd: '7', reason: 'bank letter' };
      const credit: ManualCreditView = {
        ...{ id: 'hcr_01990000000070008000000000000603', paymentId: 'pi_1', amountUsd: '7.000000000000' },
        ...{ reason: 'bank letter', state: 'waiting', isKnown: true, requestedBy: null, decidedBy: null },
      };
      let after: Partial<TopUpSnapshot> = {};
      const script: Script = {
        openTopUpCheckout: inTurn(topUpOf(603, 'waiting')),
        reconcileTopUp: () => Promise.resolve({ ...topUpOf(603, 'quarantined'), ...after }),
        requestManualCredit: () => {
          after = { manualCredits: [credit] };
          return Promise.resolve(credit);
        },
      };
      return toppingUp(environment, 603, script, async () => {
        const run = processes.workflow.getHandle(topUpWorkflowId(topUpId(603)));
        // What the validator refuses leaves nothing behind.
        await run.executeUpdate(requestManualCreditUpdate, { args: [{ ...wanted, reason: '' }] }).catch(() => null);
        await run.executeUpdate(requestManualCreditUpdate, { args: [wanted] });
        // Somebody else has approved it in the interface, which then has the run look again.
        const decided: ManualCreditView = { ...credit, state: 'posted', decidedBy: 'bob' };
        after = { state: 'credited', stuck: null, creditedUsd: '7.000000000000', manualCredits: [decided] };
        await wakeTopUp(managementOf(environment), orderOf(603));
      });
    },
  },
  {
    name: 'reverseTopUp.won',
    record: (environment) => {
      const { processes } = environment.clients;
      const script: Script = {
        reconcileTopUp: inTurn(topUpOf(611, 'credited', DISPUTED), topUpOf(611, 'credited', WON)),
      };
      return working(environment, 'processes', script, async () => {
        const temporal = managementOf(environment);
        await wakeForEvent(temporal, orderOf(611), { eventId: 'evt_1', reversalId: DISPUTED.objectId });
        return ended(processes.workflow.getHandle(reversalWorkflowId('stripe', DISPUTED.objectId)));
      });
    },
  },
  {
    name: 'sweepEvents.delivered-again',
    record: (environment) => {
      const { processes } = environment.clients;
      const lost = { provider: 'stripe', eventId: 'evt_2', topUpId: topUpId(621), reversalId: null };
      const script: Script = {
        findLostEvents: inTurn([lost, { ...lost, eventId: 'evt_3', reversalId: 're_621' }]),
        findQuietTopUps: inTurn([topUpId(622)]),
        findQuietReversals: inTurn([{ provider: 'stripe', objectId: OTHER_REFUND.objectId, topUpId: topUpId(622) }]),
        findQuietAutoTopUps: inTurn([OTHER_ACCOUNT_ID]),
        beginAutoTopUp: inTurn<AutoTopUpStep>({ kind: 'rest', why: 'enough' }),
        findLostRewards: inTurn([LOST_BOOST]),
        rewardBoosts: inTurn({ results: ['1 new'], boosts: 1 }),
        openTopUpCheckout: (id) => Promise.resolve({ ...topUpOf(621, 'waiting'), topUpId: id }),
        reconcileTopUp: (input) =>
          Promise.resolve({ ...topUpOf(621, 'credited', REFUNDED, OTHER_REFUND), topUpId: input.topUpId }),
      };
      return withSchedules(environment, () =>
        working(environment, 'processes', script, async () => {
          const run = await triggered(processes.schedule.getHandle(SWEEP_EVENTS_SCHEDULE_ID), (id) =>
            processes.workflow.getHandle(id),
          );
          for (const n of [621, 622]) await ended(processes.workflow.getHandle(topUpWorkflowId(topUpId(n))));
          await ended(processes.workflow.getHandle(reversalWorkflowId('stripe', OTHER_REFUND.objectId)));
          return run;
        }),
      );
    },
  },
  {
    name: 'reconcile.gaps-closed',
    record: (environment) => {
      const { processes } = environment.clients;
      const page = { next: null, listed: 0, compared: 0, asked: 0, gaps: 0, fixable: [] };
      const statement = { part: 'statement', after: null } as const;
      const found = { listed: 3, compared: 2, asked: 1, gaps: 2, fixable: [{ topUpId: topUpId(631), gaps: 2 }] };
      const script: Script = {
        reviewLedger: inTurn(0),
        listComparedProviders: inTurn(['stripe', 'creem']),
        comparePage: inTurn<PageComparison>({ ...page, next: statement }, { ...page, ...found }, page),
        compareTopUps: inTurn(0),
        openTopUpCheckout: () => Promise.resolve(topUpOf(631, 'waiting')),
        reconcileTopUp: () => Promise.resolve(topUpOf(631, 'credited')),
      };
      return withSchedules(environment, () =>
        working(environment, 'processes', script, async () => {
          const run = await triggered(processes.schedule.getHandle(RECONCILE_SCHEDULE_ID), (id) =>
            processes.workflow.getHandle(id),
          );
          await ended(processes.workflow.getHandle(topUpWorkflowId(topUpId(631))));
          return run;
        }),
      );
    },
  },
  {
    name: 'reconcile.provider-away',
    record: (environment) => {
      const { processes } = environment.clients;
      const script: Script = {
        reviewLedger: inTurn(1),
        listComparedProviders: inTurn(['stripe']),
        comparePage: () => Promise.reject(ApplicationFailure.nonRetryable('the statement is closed')),
      };
      return withSchedules(environment, () =>
        working(environment, 'processes', script, () =>
          triggered(processes.schedule.getHandle(RECONCILE_SCHEDULE_ID), (id) => processes.workflow.getHandle(id)),
        ),
      );
    },
  },
  {
    name: 'maintainLedger.partitions-made',
    record: (environment) =>
      withSchedules(environment, () =>
        working(environment, 'processes', { ensurePartitions: inTurn(2) }, () => {
          const { processes } = environment.clients;
          return triggered(processes.schedule.getHandle(MAINTENANCE_SCHEDULE_ID), (id) =>
            processes.workflow.getHandle(id),
          );
        }),
      ),
  },
  ...REWARD_RECORDINGS,
  ...CHAIN_RECORDINGS,
  ...AUTO_TOP_UP_RECORDINGS,
  ...COMMISSION_RECORDINGS,
];
