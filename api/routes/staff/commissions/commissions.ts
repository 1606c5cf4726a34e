/**
 * Runs of commissions for finance: begin one, try one, read its files, have one recomputed; and the rules they follow.
 * The work is the workflow's; what is answered here is in the rows.
 */
import { z } from 'zod';
import type { Writable } from 'node:stream';
import { once } from 'node:events';
import {
  findCommissionCheck,
  findCommissionRun,
  listCommissionChecks,
  listCommissionRuns,
  orderCommissionRun,
  readCommissionPart,
  requestCommissionCheck,
} from '../../../../db/commissions/commission-run-records.ts';
import { listCommissionRules, publishCommissionRule } from '../../../../db/commissions/commissions.ts';
import { isPeriod, periodEnd } from '../../../../domain/commissions/commission.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { commissionDryRunWorkflowId, commissionRunWorkflowId } from '../../../../contract/index.ts';
import { READERS } from '../../../http/access.ts';
import { startCommissionCheck, startCommissionRun } from '../../../processes/commissions.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { listOf, pageByText, pageOfQuery, reason, renderPage } from '../../../http/fields.ts';
import {
  accepted,
  created,
  ok,
  staffRoute,
  type JsonReply,
  type Route,
  type StreamReply,
} from '../../../http/route.ts';
import { liveStatus, requireTemporal, WORKFLOW_STATUSES, workflowUrl } from '../../../processes/temporal.ts';
import { recordWrite, recordWriteOnce } from '../../../http/writes.ts';
import { ratePpm } from './affiliates.ts';
import { changeView, makeOrAsk, type ChangeView } from '../accounts/changes.ts';
import { requireCommissionBounds } from './commission-bounds.ts';
import { begunView, checkView, renderCheck, renderRule, renderRun, ruleView, runView } from './commission-views.ts';

/** A period's page shows so many of its dry runs and replays. */
const CHECKS_SHOWN = 20;

type Begun = z.output<typeof begunView>;

const period = () =>
  z
    .string()
    .refine(isPeriod, 'must be a month like 2026-10')
    .meta({ description: 'A month, UTC.', example: '2026-10' });
const days = (what: string) =>
  z
    .number()
    .int('must be a whole number')
    .min(0, 'must be from 0 to 3650')
    .max(3650, 'must be from 0 to 3650')
    .meta({ description: what });

const periodParams = z.strictObject({ period: period() });
const fileQuery = z.strictObject({
  dry_run: z
    .string()
    .regex(/^[1-9]\d{0,8}$/, 'must be the number of a dry run')
    .transform(Number)
    .optional()
    .meta({ description: 'The file of this dry run instead of the run’s file.' }),
});

export function commissionRunRoutes(deps: ManagementDeps): Route[] {
  const { management, temporal, settings } = deps;

  /** The manifest of a file that is complete; refuses where there is none. */
  const manifestOf = async (month: string, dryRun: number | undefined): Promise<string> => {
    const manifest =
      dryRun === undefined
        ? (await findCommissionRun(management, month))?.manifest
        : (await findCommissionCheck(management, { kind: 'dry_run', period: month, n: dryRun }))?.manifest;
    if (manifest === undefined || manifest === null) throw new Refusal('not_found');
    return manifest;
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/commission-runs',
      summary: 'Pay the commissions of a month that has ended, or make a dry run now',
      statuses: [202],
      movesMoney: true,
      roles: ['operator', 'finance'],
      body: z.strictObject({ period: period(), dry_run: z.boolean().optional() }),
      response: begunView,
      async handle(call) {
        const { period: month, dry_run: isDry = false } = call.body;
        if (!isDry && periodEnd(month).getTime() > Date.now()) {
          throw invalidField('period', 'has not ended; use dry_run to try it');
        }
        await requireTemporal(temporal.processes);
        const { reply } = await recordWriteOnce(management, call, async (client) => {
          if (isDry) {
            const { n } = await requestCommissionCheck(client, { kind: 'dry_run', period: month, by: call.actor });
            const view: Begun = { period: month, dry_run: n, workflow_id: commissionDryRunWorkflowId(month, n) };
            const action = { action: 'commission_run.try', subject: month, details: { n } };
            return { reply: accepted(view), made: view, action };
          }
          const run = await findCommissionRun(client, month);
          if (run?.state === 'done') {
            throw new Refusal('conflict', {
              message: `The commissions of ${month} are already paid. A later run pays later accruals.`,
            });
          }
          await orderCommissionRun(client, { period: month, by: call.actor });
          const view: Begun = { period: month, dry_run: null, workflow_id: commissionRunWorkflowId(month) };
          const action = { action: 'commission_run.begin', subject: month, details: {} };
          return { reply: accepted(view), made: view, action };
        });
        if (reply.status !== 202) return reply;
        // Also for a repeat: what is done ends at once.
        if (reply.body.dry_run === null) await startCommissionRun(deps, month);
        else await startCommissionCheck(deps, { kind: 'dry_run', period: month, n: reply.body.dry_run });
        return reply;
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-runs',
      summary: 'List runs, the latest month first',
      roles: READERS,
      query: z.strictObject(pageByText),
      response: listOf(runView),
      handle: async ({ query }) => ok(renderPage(await listCommissionRuns(management, pageOfQuery(query)), renderRun)),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-runs/{period}',
      summary: 'Get the run of a month with its dry runs and replays',
      roles: READERS,
      params: periodParams,
      response: z.object({
        period: z.string(),
        run: runView.nullable(),
        checks: z.array(checkView),
        workflow: z.object({ id: z.string(), status: z.enum(WORKFLOW_STATUSES), url: z.string().nullable() }),
      }),
      async handle({ params }) {
        const run = await findCommissionRun(management, params.period);
        const checks = await listCommissionChecks(management, params.period, CHECKS_SHOWN);
        if (run === null && checks.length === 0) throw new Refusal('not_found');
        const workflowId = commissionRunWorkflowId(params.period);
        return ok({
          period: params.period,
          run: run === null ? null : renderRun(run),
          checks: checks.map(renderCheck),
          workflow: {
            id: workflowId,
            status: await liveStatus(temporal.processes, workflowId),
            url: workflowUrl(settings.temporalUiUrl, temporal.namespaces.processes, workflowId),
          },
        });
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-runs/{period}/file.csv',
      summary: 'Get the result file: one line per paid accrual',
      roles: READERS,
      params: periodParams,
      query: fileQuery,
      response: z.string().meta({ contentMediaType: 'text/csv' }),
      async handle({ params, query }): Promise<StreamReply> {
        await manifestOf(params.period, query.dry_run);
        const file = { period: params.period, dryRun: query.dry_run ?? 0 };
        return {
          contentType: 'text/csv; charset=utf-8; header=present',
          fileName: fileNameOf(file, 'csv'),
          async write(output) {
            for (let part = 0; ; part++) {
              const content = await readCommissionPart(management, file, part);
              if (content === null) return;
              await taken(output, content);
            }
          },
        };
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-runs/{period}/manifest.json',
      summary: 'Describe the result file: its SHA-256, list, rates, rules and sums',
      roles: READERS,
      params: periodParams,
      query: fileQuery,
      response: z.string().meta({ contentMediaType: 'application/json' }),
      async handle({ params, query }): Promise<StreamReply> {
        const manifest = await manifestOf(params.period, query.dry_run);
        return {
          contentType: 'application/json; charset=utf-8',
          fileName: fileNameOf({ period: params.period, dryRun: query.dry_run ?? 0 }, 'json'),
          write: (output) => taken(output, Buffer.from(manifest)),
        };
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/commission-runs/{period}/replay',
      summary: 'Recompute a run from its list, rates and rules, and compare the bytes',
      statuses: [200, 202],
      roles: ['operator', 'finance'],
      params: periodParams,
      response: checkView,
      async handle(call) {
        const { period: month } = call.params;
        if ((await findCommissionRun(management, month)) === null) throw new Refusal('not_found');
        await requireTemporal(temporal.processes);
        const { n } = await recordWrite(management, call, async (client) => {
          const check = await requestCommissionCheck(client, { kind: 'replay', period: month, by: call.actor });
          const action = { action: 'commission_run.replay', subject: month, details: { n: check.n } };
          return { result: check, action };
        });
        await startCommissionCheck(deps, { kind: 'replay', period: month, n });
        const check = await findCommissionCheck(management, { kind: 'replay', period: month, n });
        if (check === null) throw new Refusal('not_found');
        return check.result === null ? accepted(renderCheck(check)) : ok(renderCheck(check));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/commission-rules',
      summary: 'List commission rules, newest version first',
      roles: READERS,
      response: listOf(ruleView),
      handle: async () => ok({ data: (await listCommissionRules(management)).map(renderRule), next_cursor: null }),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/commission-rules',
      summary: 'Publish the next rule, for credits from now on; a rule that pays more or sooner needs a second person',
      statuses: [201, 202],
      roles: ['finance', 'operator'],
      body: z.strictObject({
        rate_ppm: ratePpm(),
        hold_days: days('From credit to maturity, for payments that can be charged back.'),
        final_hold_days: days('From finality to maturity, for other payments.'),
        dispute_days: days('How long a fraud warning, or a dispute that was not won, holds a commission back.'),
        reason: reason(),
      }),
      response: z.union([ruleView, changeView]),
      handle(call) {
        const { body } = call;
        requireCommissionBounds(settings.commissions, body);
        const { reason: why, ...change } = body;
        const wanted = {
          kind: 'commission_rule',
          subject: 'commission rule',
          change,
          cause: 'The rule pays more, or sooner, than the rule in force.',
          reason: why,
        } as const;
        return recordWrite<JsonReply<z.output<typeof ruleView> | ChangeView>>(management, call, (client) =>
          makeOrAsk(client, call, wanted, async () => {
            const rule = await publishCommissionRule(client, {
              ratePpm: body.rate_ppm,
              holdDays: body.hold_days,
              finalHoldDays: body.final_hold_days,
              disputeDays: body.dispute_days,
              reason: body.reason,
              createdBy: call.actor,
            });
            const action = { action: 'commission_rule.publish', subject: String(rule.version), details: body };
            return { result: created(renderRule(rule)), action };
          }),
        );
      },
    }),
  ];
}

function fileNameOf({ period: month, dryRun }: { period: string; dryRun: number }, ending: string): string {
  return `commissions-${month}${dryRun === 0 ? '' : `-dry-run-${dryRun}`}.${ending}`;
}

/** A reader that takes nothing for so long gets nothing more. */
const READER_TIMEOUT_MS = 60_000;

/** Writes as fast as its reader takes it. */
async function taken(output: Writable, content: Buffer): Promise<void> {
  if (output.destroyed) throw new Error('the reader has closed the connection');
  if (output.write(content)) return;
  const gone = new AbortController();
  const onClose = (): void => gone.abort();
  output.once('close', onClose);
  try {
    await once(output, 'drain', { signal: AbortSignal.any([gone.signal, AbortSignal.timeout(READER_TIMEOUT_MS)]) });
  } catch (error) {
    output.destroy();
    throw error;
  } finally {
    output.off('close', onClose);
  }
}
