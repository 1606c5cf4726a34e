/**
 * Bug reports: received, triaged, given a severity, approved by a second person where needed, paid once or closed
 * with a reason.
 */
import { z } from 'zod';
import {
  bountyById,
  createBounty,
  listBounties,
  lockedBounty,
  takeBountyStep,
  type Bounty,
} from '../../../../db/rewards/bounties.ts';
import { BOUNTY_STATES, refusalOfStep, type BountyStep } from '../../../../domain/rewards/bounty.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, parseId, uuidOf } from '../../../../domain/ids.ts';
import { BOUNTY_SEVERITIES } from '../../../../domain/rewards/reward.ts';
import { bountyWorkflowId } from '../../../../contract/index.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import {
  flag,
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  reason,
  renderPage,
  renderTime,
  renderUsd,
  text,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { wakeBounty } from '../../../processes/rewards.ts';
import { created, ok, staffRoute, type Route, type StaffCall } from '../../../http/route.ts';
import { workflowUrl } from '../../../processes/temporal.ts';
import { recordWrite, recordWriteOnce } from '../../../http/writes.ts';

const params = z.strictObject({ id: id('bounty') });
const HANDLERS = ['support', 'operator', 'finance'] as const;

const bountyView = z.object({
  id: idText('bounty'),
  account_id: idText('account'),
  title: z.string(),
  description: z.string(),
  state: z.enum(BOUNTY_STATES),
  severity: z.enum(BOUNTY_SEVERITIES).nullable(),
  amount_usd: usdText().nullable(),
  reason: z.string().nullable().meta({ description: 'Why it was closed without a reward.' }),
  duplicate_of: idText('bounty').nullable(),
  reported_by: z.string(),
  reported_at: timeText(),
  triaged_by: z.string().nullable(),
  severity_by: z.string().nullable(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
  reward_id: idText('reward').nullable(),
  workflow_id: z.string(),
  workflow_url: z.string().nullable(),
});

export function bountyRoutes(deps: ManagementDeps): Route[] {
  const { management, temporal, settings } = deps;

  const render = (bounty: Bounty): z.output<typeof bountyView> => {
    const bountyId = formatId('bounty', bounty.id);
    const workflowId = bountyWorkflowId(bountyId);
    return {
      id: bountyId,
      account_id: formatId('account', bounty.accountId),
      title: bounty.title,
      description: bounty.description,
      state: bounty.state,
      severity: bounty.severity,
      amount_usd: renderUsd(bounty.amount),
      reason: bounty.reason,
      duplicate_of: bounty.duplicateOf === null ? null : formatId('bounty', bounty.duplicateOf),
      reported_by: bounty.reportedBy,
      reported_at: bounty.reportedAt.toISOString(),
      triaged_by: bounty.triagedBy,
      severity_by: bounty.severityBy,
      decided_by: bounty.decidedBy,
      decided_at: renderTime(bounty.decidedAt),
      reward_id: bounty.rewardId === null ? null : formatId('reward', bounty.rewardId),
      workflow_id: workflowId,
      workflow_url: workflowUrl(settings.temporalUiUrl, temporal.namespaces.processes, workflowId),
    };
  };
  const required = async (bountyId: Bounty['id']): Promise<Bounty> => {
    const bounty = await bountyById(management, bountyId);
    if (bounty === null) throw new Refusal('not_found');
    return bounty;
  };
  /** The report's run shows the step in Temporal; the step does not wait for it. */
  const wakeRun = async ({ log }: Pick<StaffCall<unknown, unknown, unknown>, 'log'>, bounty: Bounty): Promise<void> => {
    await wakeBounty(deps, bounty).catch((error: unknown) => {
      log.warn({ bounty_id: formatId('bounty', bounty.id), error: String(error) }, 'the run was not woken');
    });
  };

  const take = async (
    call: StaffCall<z.output<typeof params>, unknown, unknown>,
    step: BountyStep,
    details: Record<string, unknown> = {},
  ) => {
    const id = call.params.id;
    const after = await recordWrite(management, call, async (client) => {
      const before = await lockedBounty(client, id);
      if (before === null) throw new Refusal('not_found');
      const refusal = refusalOfStep(before.state, step);
      if (refusal !== null) throw new Refusal('conflict', { message: `Refused: ${refusal}.` });
      const duplicateOf = step.kind === 'duplicate' && step.of !== null ? parseId('bounty', step.of) : null;
      const { rules } = settings.rewards;
      const taken = { id, step, duplicateOf, rules, sums: settings.manualLimits, at: new Date() };
      const bounty = await takeBountyStep(client, taken);
      const action = { action: `bounty.${step.kind}`, subject: formatId('bounty', id), details };
      // A repeat of the step that led here changes nothing.
      return { result: bounty, action: bounty.state === before.state ? null : action };
    });
    await wakeRun(call, after);
    return ok(render(after));
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/bounties',
      summary: 'Record a bug report of a customer',
      statuses: [201],
      movesMoney: true,
      roles: HANDLERS,
      body: z.strictObject({ account_id: id('account'), title: text(3, 200), description: text(3, 10_000) }),
      response: bountyView,
      async handle(call) {
        const { reply, subject, made } = await recordWriteOnce(management, call, async (client, bountyId) => {
          const bounty = await createBounty(client, {
            id: uuidOf('bounty', bountyId),
            accountId: call.body.account_id,
            title: call.body.title,
            description: call.body.description,
            reportedBy: call.actor,
            reportedAt: new Date(),
          });
          const view = render(bounty);
          const action = { action: 'bounty.report', subject: view.id, details: { account_id: view.account_id } };
          return { reply: created(view), made: bounty, action };
        });
        // Also for a repeat: the first call may have ended before the run was woken.
        if (reply.status === 201) await wakeRun(call, made ?? (await required(uuidOf('bounty', subject))));
        return reply;
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/bounties',
      summary: 'List bug reports, newest first; open=true lists the undecided ones',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject({ ...pageById, open: flag().optional(), account_id: id('account').optional() }),
      response: listOf(bountyView),
      async handle({ query }) {
        const filter = { open: query.open ?? false, accountId: query.account_id ?? null };
        return ok(renderPage(await listBounties(management, filter, pageOfQuery(query)), render));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/bounties/{id}',
      summary: 'Get a bug report',
      roles: READERS_AND_SUPPORT,
      params,
      response: bountyView,
      handle: async (call) => ok(render(await required(call.params.id))),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/bounties/{id}/triage',
      summary: 'Confirm a report that was understood and reproduced',
      roles: HANDLERS,
      params,
      response: bountyView,
      handle: (call) => take(call, { kind: 'triage', by: call.actor }),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/bounties/{id}/severity',
      summary: 'Set the severity, which sets the amount; above the threshold it waits for a second person',
      roles: ['operator', 'finance'],
      params,
      body: z.strictObject({ severity: z.enum(BOUNTY_SEVERITIES) }),
      response: bountyView,
      handle: (call) => {
        const { severity } = call.body;
        return take(call, { kind: 'accept', by: call.actor, severity }, { severity });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/bounties/{id}/approve',
      summary: 'Approve the amount as second person; it is paid once',
      roles: ['operator', 'finance'],
      params,
      response: bountyView,
      handle: (call) => take(call, { kind: 'approve', by: call.actor }),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/bounties/{id}/duplicate',
      summary: 'Close as a duplicate of an earlier report',
      roles: HANDLERS,
      params,
      body: z.strictObject({ duplicate_of: id('bounty').optional(), reason: reason() }),
      response: bountyView,
      async handle(call) {
        const { duplicate_of: other, reason: words } = call.body;
        if (other !== undefined && (other === call.params.id || (await bountyById(management, other)) === null)) {
          throw invalidField('duplicate_of', 'must be another report');
        }
        const of = other === undefined ? null : formatId('bounty', other);
        return take(call, { kind: 'duplicate', by: call.actor, of, reason: words }, { of, reason: words });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/bounties/{id}/reject',
      summary: 'Close without a reward; the reporter sees the reason',
      roles: HANDLERS,
      params,
      body: z.strictObject({ reason: reason() }),
      response: bountyView,
      handle: (call) => {
        const { reason: words } = call.body;
        return take(call, { kind: 'reject', by: call.actor, reason: words }, { reason: words });
      },
    }),
  ];
}
