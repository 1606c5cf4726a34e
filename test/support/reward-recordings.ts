/** The recordings of the workflows of rewards; see workflow-recordings.ts, which lists them. */
import type { WorkflowHandle } from '@temporalio/client';
import { linkDiscordUser, pokeForReward, startBounty, stepBounty } from '../../api/routes/rewards/reward-runs.ts';
import type { Bounty } from '../../db/bounties.ts';
import type { BountyStep } from '../../domain/bounty.ts';
import { formatId, uuidOf } from '../../domain/ids.ts';
import {
  boostWorkflowId,
  bountyWorkflowId,
  discordLinkWorkflowId,
  RECONCILE_BOOSTS_SCHEDULE_ID,
  voteWorkflowId,
  type BountyStatus,
  type RewardRoute,
} from '../../workflows/contract.ts';
import { inTurn, type WorkflowEnvironment } from './workflow-environment.ts';
import { ended, triggered, withSchedules, working, type Recording } from './workflow-recordings.ts';

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

const interfaceOf = ({ clients, namespaces }: WorkflowEnvironment): Parameters<typeof startBounty>[0] => ({
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

/** A report with the steps that people take, each answered by the next status. */
function bounty(
  environment: WorkflowEnvironment,
  steps: readonly { readonly step: BountyStep; readonly status: BountyStatus }[],
): Promise<WorkflowHandle> {
  const script = {
    readBounty: inTurn(statusOf('submitted')),
    takeBountyStep: inTurn(...steps.map(({ status }) => status)),
  };
  return working(environment, 'processes', script, async () => {
    const temporal = interfaceOf(environment);
    await startBounty(temporal, BOUNTY);
    for (const [n, { step }] of steps.entries()) await stepBounty(temporal, BOUNTY, { step, actionId: `step-${n}` });
    return ended(environment.clients.processes.workflow.getHandle(bountyWorkflowId(formatId('bounty', BOUNTY.id))));
  });
}

export const REWARD_RECORDINGS: readonly Recording[] = [
  {
    name: 'discordLink.linked-with-claims',
    record: (environment) => {
      const script = { linkDiscordUser: inTurn(FAULT, 'linked'), releaseRewardClaims: inTurn(3, 0) };
      return working(environment, 'processes', script, async () => {
        const accountId = formatId('account', ACCOUNT);
        const request = { discordUserId: USER, accountId, username: 'ada', attemptId: 'attempt-1' };
        await linkDiscordUser(interfaceOf(environment), request);
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
        await pokeForReward(interfaceOf(environment), route);
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
        await pokeForReward(temporal, voteEvent('v1'));
        await handle.query('status');
        await pokeForReward(temporal, voteEvent('v2'));
        return ended(handle);
      });
    },
  },
  {
    name: 'boostReward.paid',
    record: (environment) => {
      const script = { rewardBoosts: inTurn(FAULT, { results: ['2 new'], boosts: 2 }) };
      return working(environment, 'processes', script, async () => {
        await pokeForReward(interfaceOf(environment), BOOST);
        return ended(environment.clients.processes.workflow.getHandle(boostWorkflowId(USER)));
      });
    },
  },
  {
    name: 'bugBounty.approved-by-a-second-person',
    record: (environment) => {
      const worth = { severity: 'critical', amountUsd: '50.000000000000', severityBy: 'ann' } as const;
      return bounty(environment, [
        { step: { kind: 'triage', by: 'ann' }, status: statusOf('triaged') },
        { step: { kind: 'accept', by: 'ann', severity: 'critical' }, status: statusOf('accepted', worth) },
        { step: { kind: 'approve', by: 'bob' }, status: statusOf('rewarded', { ...worth, decidedBy: 'bob' }) },
      ]);
    },
  },
  {
    name: 'bugBounty.rejected',
    record: (environment) =>
      bounty(environment, [
        {
          step: { kind: 'reject', by: 'ann', reason: 'Not reproducible.' },
          status: statusOf('rejected', { reason: 'Not reproducible.', decidedBy: 'ann' }),
        },
      ]),
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
