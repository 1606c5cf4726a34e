/**
 * Vouchers for staff: a batch is made with a reason, above the threshold only with a second person; its codes are
 * handed out in the answer that makes it and never again. Unredeemed vouchers of a batch can be withdrawn, also with a
 * reason.
 */
import { z } from 'zod';
import {
  createVoucherBatch,
  decideVoucherBatch,
  voidVoucherBatch,
  type NewVoucherBatch,
  type VoucherBatch,
} from '../../../../db/payments/vouchers.ts';
import {
  findVoucherBatch,
  findVoucherByCode,
  listVoucherBatches,
  listVouchers,
  type CountedBatch,
  type Voucher,
} from '../../../../db/payments/voucher-records.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf, type Uuid } from '../../../../domain/ids.ts';
import { formatUsd, picoUsd, PICO_PER_USD } from '../../../../domain/money.ts';
import { formatVoucherCode, VOUCHER_BATCH_STATES, VOUCHER_STATES } from '../../../../domain/payments/voucher.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import { CsvWriter } from '../../../http/csv.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import {
  amount,
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  reason,
  renderPage,
  renderTime,
  text,
  time,
  timeText,
  usdText,
} from '../../../http/fields.ts';
import { accepted, created, ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../../../http/route.ts';
import { voucherCode } from '../../account/payments/vouchers.ts';
import { recordWrite, recordWriteOnce } from '../../../http/writes.ts';
import { approvalPair } from '../approval-pair.ts';

const COUNT_MAX = 10_000;
/** Upper bound against typing errors. */
const VOUCHER_MAX_USD = 10_000n;
/** So many codes are written quickly; a reader that takes longer is gone. */
const CSV_TIMEOUT_MS = 60_000;

const batchFields = {
  id: idText('voucherBatch'),
  name: z.string(),
  state: z.enum(VOUCHER_BATCH_STATES),
  amount_usd: usdText().meta({ description: 'Of each voucher.' }),
  total_usd: usdText().meta({ description: 'Of all vouchers together.' }),
  expires_at: timeText().nullable(),
  reason: z.string(),
  requested_by: z.string(),
  requested_at: timeText(),
  decided_by: z.string().nullable().meta({ description: 'null: no second person was needed.' }),
  decided_at: timeText().nullable(),
  voided_by: z.string().nullable(),
  voided_at: timeText().nullable(),
  void_reason: z.string().nullable(),
  issued_count: z.number().meta({ description: 'Number of vouchers in the batch.' }),
  redeemed_count: z.number(),
  open_count: z.number().meta({ description: 'Vouchers that can still be redeemed (after approval, where needed).' }),
  expired_count: z.number(),
  void_count: z.number(),
};
const batchView = z.object(batchFields);
const newBatchView = z.object({
  ...batchFields,
  codes: z
    .array(z.string())
    .nullable()
    .meta({ description: 'In this response only; null when it is repeated for an Idempotency-Key.' }),
});

type NewBatchView = z.output<typeof newBatchView>;

function renderBatch({ counts, ...batch }: CountedBatch): z.output<typeof batchView> {
  return {
    id: formatId('voucherBatch', batch.id),
    name: batch.name,
    state: batch.state,
    amount_usd: formatUsd(batch.amount),
    total_usd: formatUsd(totalOf(batch)),
    expires_at: renderTime(batch.expiresAt),
    reason: batch.reason,
    requested_by: batch.requestedBy,
    requested_at: batch.requestedAt.toISOString(),
    decided_by: batch.decidedBy,
    decided_at: renderTime(batch.decidedAt),
    voided_by: batch.voidedBy,
    voided_at: renderTime(batch.voidedAt),
    void_reason: batch.voidReason,
    issued_count: batch.count,
    redeemed_count: counts.redeemed,
    open_count: counts.open,
    expired_count: counts.expired,
    void_count: counts.void,
  };
}

const totalOf = ({ amount: each, count }: Pick<VoucherBatch, 'amount' | 'count'>) => picoUsd(each * BigInt(count));

const voucherView = z.object({
  id: idText('voucher'),
  batch_id: idText('voucherBatch'),
  prefix: z.string().meta({ description: 'The first characters of its code.' }),
  state: z.enum(VOUCHER_STATES),
  amount_usd: usdText(),
  expires_at: timeText().nullable(),
  redeemed_by: idText('account').nullable(),
  redeemed_at: timeText().nullable(),
  posting_id: idText('posting').nullable(),
});

function renderVoucher(voucher: Voucher): z.output<typeof voucherView> {
  return {
    id: formatId('voucher', voucher.id),
    batch_id: formatId('voucherBatch', voucher.batchId),
    prefix: voucher.prefix,
    state: voucher.state,
    amount_usd: formatUsd(voucher.amount),
    expires_at: renderTime(voucher.expiresAt),
    redeemed_by: voucher.redeemedBy === null ? null : formatId('account', voucher.redeemedBy),
    redeemed_at: renderTime(voucher.redeemedAt),
    posting_id: voucher.postingId === null ? null : formatId('posting', voucher.postingId),
  };
}

const newBatch = z.strictObject({
  name: text(1, 200),
  count: z.int().min(1, `must be from 1 to ${COUNT_MAX}`).max(COUNT_MAX, `must be from 1 to ${COUNT_MAX}`),
  amount_usd: amount()
    .refine((value) => value > 0n, 'must be above zero')
    .refine((value) => value <= VOUCHER_MAX_USD * PICO_PER_USD, `must be at most ${VOUCHER_MAX_USD}`)
    .meta({ description: 'Of each voucher.' }),
  expires_at: time().nullable().meta({ description: 'null: never.' }),
  reason: reason(),
});
type NewBatchCall = StaffCall<unknown, unknown, z.output<typeof newBatch>>;

const params = z.strictObject({ id: id('voucherBatch') });
const WRITERS = ['operator', 'finance'] as const;

export function adminVoucherRoutes({ management, settings }: ManagementDeps): Route[] {
  const required = async (batchId: Uuid<'voucherBatch'>): Promise<CountedBatch> => {
    const batch = await findVoucherBatch(management, batchId);
    if (batch === null) throw new Refusal('not_found');
    return batch;
  };

  /** The codes stay outside of what is kept for a repeat of an Idempotency-Key: nothing but their hashes is stored. */
  const create = async (call: NewBatchCall): Promise<JsonReply<NewBatchView>> => {
    const { body } = call;
    if (body.expires_at !== null && body.expires_at.getTime() <= Date.now()) {
      throw invalidField('expires_at', 'must lie in the future');
    }
    const { reply, made } = await recordWriteOnce(management, call, async (client, subject) => {
      const order: NewVoucherBatch = {
        id: uuidOf('voucherBatch', subject),
        name: body.name,
        count: body.count,
        amount: body.amount_usd,
        expiresAt: body.expires_at,
        reason: body.reason,
        requestedBy: call.actor,
        limits: { ...settings.manualLimits, movement: settings.adjustmentApprovalThreshold },
      };
      const { batch, codes } = await createVoucherBatch(client, order);
      const counts = { redeemed: 0, open: batch.count, expired: 0, void: 0 };
      const view: NewBatchView = { ...renderBatch({ ...batch, counts }), codes: null };
      const { name, state, issued_count: count, amount_usd, total_usd } = view;
      const action = {
        action: 'voucher_batch.create',
        subject: view.id,
        details: { name, state, count, amount_usd, total_usd, reason: view.reason },
      };
      return { reply: state === 'waiting' ? accepted(view) : created(view), made: codes, action };
    });
    return made === null ? reply : { ...reply, body: { ...reply.body, codes: made.map(formatVoucherCode) } };
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/voucher-batches',
      summary: 'Create vouchers; a total above the threshold waits for a second person',
      statuses: [201, 202],
      movesMoney: true,
      roles: WRITERS,
      body: newBatch,
      response: newBatchView,
      handle: create,
    }),
    staffRoute({
      method: 'post',
      path: '/admin/voucher-batches.csv',
      summary: 'Create vouchers and get their codes as CSV; a total above the threshold waits for a second person',
      movesMoney: true,
      roles: WRITERS,
      body: newBatch,
      response: z.string().meta({ contentMediaType: 'text/csv' }),
      async handle(call) {
        const { status, body } = await create(call);
        // A refusal that an Idempotency-Key repeats has no batch.
        if (status >= 400) return { status, body: body as never };
        const { codes } = body;
        if (codes === null) {
          throw new Refusal('conflict', { message: `The first response contained the codes of ${body.id}.` });
        }
        return {
          contentType: 'text/csv; charset=utf-8; header=present',
          fileName: `holdfast-vouchers-${body.id}.csv`,
          async write(output) {
            const csv = new CsvWriter(output, ['code', 'amount_usd', 'expires_at', 'batch_id'], {
              deadline: AbortSignal.timeout(CSV_TIMEOUT_MS),
              batchTimeoutMs: CSV_TIMEOUT_MS,
            });
            await csv.write(codes.map((code) => [code, body.amount_usd, body.expires_at, body.id]));
          },
        };
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/voucher-batches',
      summary: 'List batches of vouchers, newest first',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject(pageById),
      response: listOf(batchView),
      handle: async ({ query }) =>
        ok(renderPage(await listVoucherBatches(management, pageOfQuery(query)), renderBatch)),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/voucher-batches/{id}',
      summary: 'Get a batch of vouchers',
      roles: READERS_AND_SUPPORT,
      params,
      response: batchView,
      handle: async (call) => ok(renderBatch(await required(call.params.id))),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/voucher-batches/{id}/vouchers',
      summary: 'List the vouchers of a batch, newest first, without their codes',
      roles: READERS_AND_SUPPORT,
      params,
      query: z.strictObject({ ...pageById, state: z.enum(VOUCHER_STATES).optional() }),
      response: listOf(voucherView),
      async handle(call) {
        const batch = await required(call.params.id);
        const filter = { batchId: batch.id, state: call.query.state ?? null };
        return ok(renderPage(await listVouchers(management, filter, pageOfQuery(call.query)), renderVoucher));
      },
    }),
    ...approvalPair(management, {
      path: '/admin/voucher-batches/{id}',
      params,
      response: batchView,
      approve: {
        segment: 'approve',
        summary: 'Approve a waiting batch as second person',
        action: 'voucher_batch.approve',
        state: 'issued',
      },
      reject: {
        segment: 'reject',
        summary: 'Reject a waiting batch',
        action: 'voucher_batch.reject',
        state: 'rejected',
      },
      conflict: (state) => `The batch is ${state} already.`,
      decide: (client, call, { approve }) =>
        decideVoucherBatch(client, { id: call.params.id, approve, decidedBy: call.actor }),
      record: (batch) => ({
        subject: formatId('voucherBatch', batch.id),
        details: { name: batch.name, total_usd: formatUsd(totalOf(batch)) },
      }),
      render: async (batch) => renderBatch(await required(batch.id)),
    }),
    staffRoute({
      method: 'post',
      path: '/admin/voucher-batches/{id}/void',
      summary: 'Withdraw an issued batch: its unredeemed vouchers become void',
      roles: WRITERS,
      params,
      body: z.strictObject({ reason: reason() }),
      response: batchView,
      async handle(call) {
        await recordWrite(management, call, async (client) => {
          const batch = await voidVoucherBatch(client, {
            id: call.params.id,
            reason: call.body.reason,
            voidedBy: call.actor,
          });
          if (batch.state !== 'void') throw new Refusal('conflict', { message: `The batch is ${batch.state}.` });
          const action = {
            action: 'voucher_batch.void',
            subject: formatId('voucherBatch', batch.id),
            details: { name: batch.name, reason: call.body.reason },
          };
          return { result: batch, action: batch.voidedNow ? action : null };
        });
        return ok(renderBatch(await required(call.params.id)));
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/vouchers/lookup',
      summary: 'Look up a voucher by code',
      roles: ['operator', 'finance', 'support'],
      body: z.strictObject({ code: voucherCode() }),
      response: voucherView,
      async handle({ body }) {
        const voucher = await findVoucherByCode(management, body.code);
        if (voucher === null) throw new Refusal('voucher_unknown', { param: 'code' });
        return ok(renderVoucher(voucher));
      },
    }),
  ];
}
