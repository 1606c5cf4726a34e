/** Requests as an operator sees them: a list to search, and each whole: its row, the money it moved, its workflows. */
import { z } from 'zod';
import { retrySettlement } from '../../../../db/accounts/cases.ts';
import { listRequests, type ListedRequest } from '../../../../db/requests/request-list.ts';
import { findRequestRecord, type RequestRecord } from '../../../../db/requests/request-record.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { OUTCOMES, type Outcome } from '../../../../domain/requests/request.ts';
import {
  UPSTREAM_KIND_NAMES,
  UPSTREAM_KINDS,
  type UpstreamEvidence,
} from '../../../../domain/requests/upstream-evidence.ts';
import { orphanWorkflowId, refundWorkflowId } from '../../../../contract/index.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import {
  id,
  idText,
  listOf,
  modelId,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  time,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { logRowFields, renderLogRow } from '../../account/requests/logs.ts';
import { explain, explanationFields } from '../../account/requests/receipt.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';
import { liveStatus, WORKFLOW_STATUSES, workflowUrl } from '../../../processes/temporal.ts';
import { recordWrite } from '../../../http/writes.ts';
import { refundView, renderRefund } from './refunds.ts';

const workflowView = z.object({
  type: z.enum(['meterRequests', 'resolveOrphan', 'refundRequest']),
  workflow_id: z.string(),
  namespace: z.string(),
  status: z.enum(WORKFLOW_STATUSES).meta({ description: '`unknown` while Temporal is not reachable.' }),
  url: z.string().nullable().meta({ description: 'Its page in the Temporal web UI.' }),
});

const upstreamView = z
  .object({
    name: z.string().meta({ description: "The upstream's place in the catalogue, and its host." }),
    kind: z.enum(UPSTREAM_KIND_NAMES).meta({
      description: Object.entries(UPSTREAM_KINDS)
        .map(([kind, meaning]) => `\`${kind}\`: ${meaning}`)
        .join('; '),
    }),
    status: z.number().nullable().meta({ description: 'HTTP status of its response; null: it gave none.' }),
    code: z.string().nullable().meta({ description: "The provider's own code." }),
    message: z.string().nullable().meta({ description: "The provider's message, without content of the request." }),
  })
  .nullable()
  .meta({ description: 'Failures at the provider; null: the first upstream answered without any.' });

const listedView = z.object({ ...logRowFields, account_id: idText('account'), upstream: upstreamView });

const listQuery = z.strictObject({
  ...pageById,
  account_id: id('account').optional(),
  model: modelId().optional(),
  outcome: z.enum(Object.keys(OUTCOMES) as Outcome[]).optional(),
  upstream_kind: z.enum(UPSTREAM_KIND_NAMES).optional(),
  upstream_status: z
    .string()
    .regex(/^[1-5]\d\d$/, 'must be an HTTP status from 100 to 599')
    .transform(Number)
    .optional(),
  from: time().optional().meta({ description: 'Inclusive.' }),
  to: time().optional().meta({ description: 'Exclusive.' }),
});

const requestView = z.object({
  ...logRowFields,
  account_id: idText('account'),
  free: z.boolean(),
  settled_at: timeText().nullable(),
  client_left_at: timeText().nullable(),
  expires_at: timeText(),
  gateway_id: z.string(),
  resolver_started_at: timeText().nullable(),
  settle_error: z.string().nullable().meta({ description: 'Why settlement quarantined this request.' }),
  upstream: upstreamView,
  usage: z.record(z.string(), z.number()),
  raw_usage: z.unknown().meta({ description: 'The usage as reported, stored where it was unusable or cut.' }),
  ...explanationFields,
  postings: z.array(
    z.object({
      id: idText('posting'),
      kind: z.string(),
      amount_usd: usdText(),
      debit_account: z.string(),
      credit_account: z.string(),
      created_at: timeText(),
    }),
  ),
  platform_costs: z.array(
    z.object({
      reason: z.string(),
      list_cost_usd: usdText(),
      estimated: z.boolean(),
      usage: z.unknown(),
      created_at: timeText(),
    }),
  ),
  refunds: z.array(refundView),
  workflows: z.array(workflowView),
});

type WorkflowView = z.output<typeof workflowView>;

const requestParams = z.strictObject({ id: id('request') });

export function adminRequestRoutes({ management, reporter, temporal, settings }: ManagementDeps): Route[] {
  const { namespaces } = temporal;

  const workflowsOf = (record: RequestRecord): Promise<WorkflowView[]> => {
    const requestId = formatId('request', record.requestId);
    const known: { type: WorkflowView['type']; workflowId: string }[] = [
      ...(record.workflowId === null ? [] : [{ type: 'meterRequests' as const, workflowId: record.workflowId }]),
      ...(record.resolverStartedAt === null
        ? []
        : [{ type: 'resolveOrphan' as const, workflowId: orphanWorkflowId(requestId) }]),
      ...record.refunds.map(({ n }) => ({
        type: 'refundRequest' as const,
        workflowId: refundWorkflowId(requestId, n),
      })),
    ];
    return Promise.all(
      known.map(async ({ type, workflowId }) => {
        const space = type === 'refundRequest' ? ('processes' as const) : ('requests' as const);
        return {
          type,
          workflow_id: workflowId,
          namespace: namespaces[space],
          status: await liveStatus(temporal[space], workflowId),
          url: workflowUrl(settings.temporalUiUrl, namespaces[space], workflowId),
        };
      }),
    );
  };

  return [
    staffRoute({
      method: 'get',
      path: '/admin/requests',
      summary: 'List requests of all accounts, newest first; a page with few rows may still have a `next_cursor`',
      roles: READERS_AND_SUPPORT,
      query: listQuery,
      response: listOf(listedView),
      async handle({ query }) {
        const { from = null, to = null } = query;
        if (from !== null && to !== null && from >= to) throw invalidField('to', 'must be later than from');
        const filter = {
          accountId: query.account_id ?? null,
          model: query.model ?? null,
          outcome: query.outcome ?? null,
          upstreamKind: query.upstream_kind ?? null,
          upstreamStatus: query.upstream_status ?? null,
          from,
          to,
        };
        return ok(renderPage(await listRequests(reporter, filter, pageOfQuery(query)), renderListed));
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/requests/{id}',
      summary: 'Get a request with its postings, costs, refunds and workflows',
      roles: READERS_AND_SUPPORT,
      params: requestParams,
      response: requestView,
      async handle({ params }) {
        const record = await findRequestRecord(reporter, { requestId: params.id, accountId: null });
        if (record === null) throw new Refusal('not_found');
        return ok({ ...renderRecord(record), workflows: await workflowsOf(record) });
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/requests/{id}/retry-settlement',
      summary: 'Return a quarantined request to settlement',
      roles: ['operator', 'finance'],
      params: requestParams,
      response: z.object({ request_id: idText('request'), state: z.literal('finished') }),
      async handle(call) {
        const record = await findRequestRecord(reporter, { requestId: call.params.id, accountId: null });
        if (record === null) throw new Refusal('not_found');
        const subject = formatId('request', record.requestId);
        await recordWrite(management, call, async (client) => {
          if (!(await retrySettlement(client, record.requestId))) {
            throw new Refusal('conflict', { message: 'The request is not quarantined.' });
          }
          const details = { settle_error: record.settleError };
          return { result: null, action: { action: 'request.retry_settlement', subject, details } };
        });
        return ok({ request_id: subject, state: 'finished' as const });
      },
    }),
  ];
}

function renderListed(row: ListedRequest): z.output<typeof listedView> {
  return {
    ...renderLogRow(row),
    account_id: formatId('account', row.accountId),
    upstream: renderUpstream(row.upstream),
  };
}

function renderUpstream(evidence: UpstreamEvidence | null): z.output<typeof upstreamView> {
  return evidence === null ? null : { ...evidence };
}

function renderRecord(record: RequestRecord): Omit<z.output<typeof requestView>, 'workflows'> {
  return {
    ...renderLogRow(record),
    account_id: formatId('account', record.accountId),
    free: record.free,
    settled_at: renderTime(record.settledAt),
    client_left_at: renderTime(record.clientLeftAt),
    expires_at: record.expiresAt.toISOString(),
    gateway_id: record.gatewayId,
    resolver_started_at: renderTime(record.resolverStartedAt),
    settle_error: record.settleError,
    upstream: renderUpstream(record.upstream),
    usage: { ...record.usage },
    raw_usage: record.rawUsage,
    ...explain(record),
    postings: record.postings.map((posting) => ({
      id: formatId('posting', posting.id),
      kind: posting.kind,
      amount_usd: formatUsd(posting.amount),
      debit_account: posting.debit,
      credit_account: posting.credit,
      created_at: posting.createdAt.toISOString(),
    })),
    platform_costs: record.platformCosts.map((cost) => ({
      reason: cost.reason,
      list_cost_usd: formatUsd(cost.listCost),
      estimated: cost.estimated,
      usage: cost.usage,
      created_at: cost.createdAt.toISOString(),
    })),
    refunds: record.refunds.map(renderRefund),
  };
}
