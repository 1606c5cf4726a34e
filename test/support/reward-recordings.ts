/** The recordings of the workflows of rewards; see workflow-recordings.ts, which lists them. */
import type { WorkflowHandle } from '@temporalio/client';
import { linkDiscordUser, wakeForReward, wakeBounty } from '../../api/processes/rewards.ts';
import type { Bounty } from '../../db/rewards/bounties.ts';
import { formatId, uuidOf } from '../../domain/ids.ts';
import {
  boostWorkflowId,
  bountyStatusQuery,
  bountyWorkflowId,
  discordLinkWorkflowId,
  RECONCILE_BOOSTS_SCHEDULE_ID,
  voteWorkflowId,
  type BountyStatus,
  type RewardRoute,
} from '../../contract/index.ts';
import { inTurn, type WorkflowEnvironment } from './workflow-environment.ts';
import { until } from './until.ts';
import { ended, triggered, withSchedules, working, type Recording } from './recording.ts';

const USER = '700000000000000001';
const ACCOUNT = uuidOf('account', '01990000-0000-7000-8000-0000000a0001');
const FAULT = new Error('connection terminated');

const BOOST: RewardRoute = {
  process: 'boost',
  discordUserId: USER,
  event: { provider: 'discord', eventId: 'message/900000000000000001' },
};
const voteEvent = (eventId: string): RewardRoute => ({
  process: 'vote',
  site: 'topgg',
  discordUserId: USER,
  event: { provider: 'votes/topgg', eventId },
});

const interfaceOf = ({ clients, namespaces }: WorkflowEnvironment): Parameters<typeof wakeBounty>[0] => ({
  temporal: { ...clients, namespaces },
});

const BOUNTY: Bounty = {
  id: uuidOf('bounty', '01990000-0000-7000-8000-0000000e0001'),
  accountId: ACCOUNT,
  title: 'Free inference',
  description: 'A request without a key is answered.',
  state: 'submitted',
  severity: null,
  amount: null,
  reason: null,
  duplicateOf: null,
  reportedBy: 'ann',
  reportedAt: new Date(0),
  triagedBy: null,
  severityBy: null,
  decidedBy: null,
  decidedAt: null,
  rewardId: null,
};

function statusOf(state: BountyStatus['state'], given: Partial<BountyStatus> = {}): BountyStatus {
  const { id, title } = BOUNTY;
  const accountId = formatId('account', ACCOUNT);
  const unset = { severity: null, amountUsd: null, reason: null, severityBy: null, decidedBy: null };
  return { bountyId: formatId('bounty', id), accountId, title, state, ...unset, ...given };
}

/** A report's run, woken at each step that people take with it. */
function bounty(environment: WorkflowEnvironment, ...steps: readonly BountyStatus[]): Promise<WorkflowHandle> {
  let row = statusOf('submitted');
  return working(environment, 'processes', { readBounty: () => Promise.resolve(row) }, async () => {
    const temporal = interfaceOf(environment);
    const handle = environment.clients.processes.workflow.getHandle(bountyWorkflowId(formatId('bounty', BOUNTY.id)));
    await wakeBounty(temporal, BOUNTY);
    for (const status of steps) {
      const { state } = row;
      await until('the step before', async () => (await handle.query(bountyStatusQuery))?.state === state);
      row = status;
      await wakeBounty(temporal, BOUNTY);
    }
    return ended(handle);
  });
}

export const REWARD_RECORDINGS: readonly Recording[] = [
  {
    name: 'discordLink.linked-with-claims',
    record: (environment) => {
      const linked = { outcome: 'linked', accountId: formatId('account', ACCOUNT) };
      const script = { linkDiscordUser: inTurn(FAULT, linked), releaseRewardClaims: inTurn(3, 0) };
      return working(environment, 'processes', script, async () => {
        await linkDiscordUser(interfaceOf(environment), { discordUserId: USER, attemptId: 'attempt-1' });
        return ended(environment.clients.processes.workflow.getHandle(discordLinkWorkflowId(USER)));
      });
    },
  },
  {
    name: 'discordLink.taken-back',
    record: (environment) => {
      const script = { noteDiscordEvent: inTurn('link marked as stale'), releaseRewardClaims: inTurn(0) };
      const route: RewardRoute = {
        process: 'link',
        discordUserId: USER,
        event: { provider: 'discord', eventId: 'webhook/1' },
      };
      return working(environment, 'processes', script, async () => {
        await wakeForReward(interfaceOf(environment), route);
        return ended(environment.clients.processes.workflow.getHandle(discordLinkWorkflowId(USER)));
      });
    },
  },
  {
    name: 'voteReward.paid-then-refused',
    record: (environment) => {
      const nextVoteAt = new Date(Date.now() + 3000).toISOString();
      const script = {
        rewardVotes: inTurn(
          { results: ['accepted'], nextVoteAt },
          { results: ['refused: cooldown'], nextVoteAt },
          { results: [], nextVoteAt: null },
        ),
      };
      return working(environment, 'processes', script, async () => {
        const temporal = interfaceOf(environment);
        const handle = environment.clients.processes.workflow.getHandle(voteWorkflowId('topgg', USER));
        await wakeForReward(temporal, voteEvent('v1'));
        await handle.query('status');
        await wakeForReward(temporal, voteEvent('v2'));
        return ended(handle);
      });
    },
  },
  {
    name: 'boostReward.paid',
    record: (environment) => {
      const script = { rewardBoosts: inTurn(FAULT, { results: ['2 new'], boosts: 2 }) };
      return working(environment, 'processes', script, async () => {
        await wakeForReward(interfaceOf(environment), BOOST);
        return ended(environment.clients.processes.workflow.getHandle(boostWorkflowId(USER)));
      });
    },
  },
  {
    name: 'bugBounty.approved-by-a-second-person',
    record: (environment) => {
      const worth = { severity: 'critical', amountUsd: '50.000000000000', severityBy: 'ann' } as const;
      return bounty(
        environment,
        statusOf('triaged'),
        statusOf('accepted', worth),
        statusOf('rewarded', { ...worth, decidedBy: 'bob' }),
      );
    },
  },
  {
    name: 'bugBounty.rejected',
    record: (environment) =>
      bounty(environment, statusOf('rejected', { reason: 'Not reproducible.', decidedBy: 'ann' })),
  },
  {
    name: 'reconcileBoosts.missed-found',
    record: (environment) => {
      const { processes } = environment.clients;
      const script = {
        findMissedBoostMessages: inTurn([BOOST]),
        findMissedMembers: inTurn(
          { members: 1000, missed: [voteEvent('v3')], next: '5' },
          { members: 3, missed: [], next: null },
        ),
        expireRewardClaims: inTurn(2),
        rewardBoosts: inTurn({ results: ['1 new'], boosts: 1 }),
        rewardVotes: inTurn({ results: ['accepted'], nextVoteAt: null }),
      };
      return withSchedules(environment, () =>
        working(environment, 'processes', script, async () => {
          const schedule = processes.schedule.getHandle(RECONCILE_BOOSTS_SCHEDULE_ID);
          const run = await triggered(schedule, (id) => processes.workflow.getHandle(id));
          await ended(processes.workflow.getHandle(boostWorkflowId(USER)));
          await ended(processes.workflow.getHandle(voteWorkflowId('topgg', USER)));
          return run;
        }),
      );
    },
  },
];
