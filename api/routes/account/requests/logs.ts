/** A customer's log: pages, export as CSV, and the receipt of one request. */
import { z } from 'zod';
import { exportLogs, listLogs, type LogFilter, type LogRow } from '../../../../db/requests/logs.ts';
import { findRequestRecord } from '../../../../db/requests/request-record.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { formatUsd } from '../../../../domain/money.ts';
import { OUTCOMES, REQUEST_STATES, type Outcome } from '../../../../domain/requests/request.ts';
import type { CsvValue } from '../../../http/csv.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import type { Exports } from '../../../http/exports.ts';
import {
  id,
  idText,
  listOf,
  modelId,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  renderUsd,
  time,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { explain, explanationFields, receiptPostingView, renderReceiptPostings } from './receipt.ts';
import { accountRoute, ok, type Route } from '../../../http/route.ts';

const OUTCOME_NAMES = Object.keys(OUTCOMES) as Outcome[];

export const logRowFields = {
  request_id: idText('request'),
  created_at: timeText(),
  finished_at: timeText().nullable(),
  model: z.string(),
  key_id: idText('key'),
  key_name: z.string(),
  input_tokens: z.number().nullable(),
  output_tokens: z.number().nullable(),
  cached_input_tokens: z.number().nullable().meta({ description: 'Part of `input_tokens`.' }),
  reasoning_tokens: z.number().nullable().meta({ description: 'Part of `output_tokens`.' }),
  held_usd: usdText(),
  list_cost_usd: usdText().nullable().meta({ description: 'Cost by the price list; null while the request runs.' }),
  cost_usd: usdText().meta({ description: 'Deducted from the balance; zero while the request runs.' }),
  refunded_usd: usdText(),
  state: z.enum(REQUEST_STATES),
  outcome: z.enum(OUTCOME_NAMES).nullable(),
  refusal_code: z.string().nullable(),
  estimated: z
    .boolean()
    .meta({ description: 'True when the provider reported no usable usage and the gateway counted it.' }),
  stream: z.boolean(),
  latency_ms: z.number().nullable(),
  first_token_ms: z.number().nullable(),
  price_version: z.number().nullable(),
  workflow_id: z.string().nullable(),
};
const logRowView = z.object(logRowFields);

export function renderLogRow(row: LogRow): z.output<typeof logRowView> {
  return {
    request_id: formatId('request', row.requestId),
    created_at: row.createdAt.toISOString(),
    finished_at: renderTime(row.finishedAt),
    model: row.model,
    key_id: formatId('key', row.keyId),
    key_name: row.keyName,
    input_tokens: row.inputTokens,
    output_tokens: row.outputTokens,
    cached_input_tokens: row.cachedInputTokens,
    reasoning_tokens: row.reasoningTokens,
    held_usd: formatUsd(row.held),
    list_cost_usd: renderUsd(row.listCost),
    cost_usd: formatUsd(row.cost),
    refunded_usd: formatUsd(row.refunded),
    state: row.state,
    outcome: row.outcome,
    refusal_code: row.refusalCode,
    estimated: row.estimated,
    stream: row.stream,
    latency_ms: row.latencyMs,
    first_token_ms: row.firstTokenMs,
    price_version: row.priceVersion,
    workflow_id: row.workflowId,
  };
}

const CSV_COLUMNS = Object.keys(logRowFields) as (keyof typeof logRowFields)[];

const filterFields = {
  model: modelId().optional(),
  key_id: id('key').optional(),
  request_id: id('request').optional(),
  outcome: z.enum(OUTCOME_NAMES).optional(),
  state: z.enum(REQUEST_STATES).optional(),
  from: time().optional().meta({ description: 'Inclusive.' }),
  to: time().optional().meta({ description: 'Exclusive.' }),
};
const logFilter = z.strictObject(filterFields);

function filterOf(query: z.output<typeof logFilter>): LogFilter {
  const { from = null, to = null } = query;
  if (from !== null && to !== null && from >= to) throw invalidField('to', 'must be later than from');
  return {
    model: query.model ?? null,
    keyId: query.key_id ?? null,
    requestId: query.request_id ?? null,
    outcome: query.outcome ?? null,
    state: query.state ?? null,
    from,
    to,
  };
}

const receiptView = z.object({
  ...logRowFields,
  ...explanationFields,
  postings: z.array(receiptPostingView),
  refunds: z.array(
    z.object({
      id: idText('refund'),
      n: z.number(),
      amount_usd: usdText(),
      reason: z.string(),
      state: z.enum(['waiting', 'posted', 'rejected']),
      requested_at: timeText(),
      decided_at: timeText().nullable(),
      posting_id: idText('posting').nullable(),
    }),
  ),
});

export function logRoutes({ reporter, exportReporter }: ManagementDeps, exports: Exports): Route[] {
  return [
    accountRoute({
      method: 'get',
      path: '/api/logs',
      scope: 'read',
      summary: 'List requests, newest first',
      isReport: true,
      query: z.strictObject({ ...pageById, ...filterFields }),
      response: listOf(logRowView),
      async handle({ accountId, query }) {
        const page = await listLogs(reporter, accountId, filterOf(query), pageOfQuery(query));
        return ok(renderPage(page, renderLogRow));
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/logs.csv',
      scope: 'read',
      summary: 'Export all matching requests as CSV',
      query: logFilter,
      response: z.string().meta({ contentMediaType: 'text/csv' }),
      async handle({ accountId, query }) {
        const filter = filterOf(query);
        return exports.reply({
          readership: accountId,
          fileName: 'holdfast-logs.csv',
          columns: CSV_COLUMNS,
          produce: (write) => exportLogs(exportReporter, accountId, filter, (rows) => write(rows.map(csvRow))),
        });
      },
    }),
    accountRoute({
      method: 'get',
      path: '/api/logs/{request_id}',
      scope: 'read',
      summary: 'Get the receipt of a request: its cost, line by line',
      isReport: true,
      params: z.strictObject({ request_id: id('request') }),
      response: receiptView,
      async handle({ accountId, params, log }) {
        const record = await findRequestRecord(reporter, { requestId: params.request_id, accountId });
        if (record === null) throw new Refusal('not_found');
        const explanation = explain(record);
        if (!explanation.explained) {
          log.error({ subject: formatId('request', record.requestId) }, 'a recorded cost does not match its usage');
        }
        return ok({
          ...renderLogRow(record),
          ...explanation,
          postings: renderReceiptPostings(record),
          refunds: record.refunds.map((refund) => ({
            id: formatId('refund', refund.id),
            n: refund.n,
            amount_usd: formatUsd(refund.amount),
            reason: refund.reason,
            state: refund.state,
            requested_at: refund.requestedAt.toISOString(),
            decided_at: renderTime(refund.decidedAt),
            posting_id: refund.postingId === null ? null : formatId('posting', refund.postingId),
          })),
        });
      },
    }),
  ];
}

function csvRow(row: LogRow): CsvValue[] {
  const rendered = renderLogRow(row);
  return CSV_COLUMNS.map((column) => rendered[column]);
}
