/**
 * Everything there is to know about one request, from one snapshot: its row, the price it was rated at, every posting,
 * refund and platform cost. The customer's receipt and the operator's page are both rendered from it. Reads only.
 */
import { uuidOf, type AccountUuid, type RequestUuid, type Uuid } from '../../domain/ids.ts';
import { usd, type PicoUsd } from '../../domain/money.ts';
import type { PriceVersionText } from '../../domain/requests/prices.ts';
import type { UpstreamEvidence } from '../../domain/requests/upstream-evidence.ts';
import type { Usage } from '../../domain/usage/usage.ts';
import { logColumns, toLogRow, type LogColumns, type LogRow } from './logs.ts';
import { toRefund, type Refund, type RefundRow } from './refunds.ts';
import type { Reporter } from '../shared/reporter.ts';
import { evidenceColumns, toEvidence, type EvidenceColumns } from './request-list.ts';
import { usageOfRow } from './requests.ts';

/** A posting seen from the request. */
export interface RequestPosting {
  readonly id: Uuid<'posting'>;
  readonly kind: string;
  readonly debit: string;
  readonly credit: string;
  readonly amount: PicoUsd;
  readonly createdAt: Date;
}

export interface PlatformCost {
  readonly reason: string;
  readonly usage: unknown;
  readonly listCost: PicoUsd;
  /** True where no provider said what it was. */
  readonly estimated: boolean;
  readonly createdAt: Date;
}

export interface RequestRecord extends LogRow {
  readonly accountId: AccountUuid;
  readonly free: boolean;
  readonly usage: Usage;
  readonly settledAt: Date | null;
  readonly clientLeftAt: Date | null;
  readonly expiresAt: Date;
  readonly gatewayId: string;
  readonly resolverStartedAt: Date | null;
  readonly settleError: string | null;
  /** For staff only. */
  readonly upstream: UpstreamEvidence | null;
  readonly rawUsage: unknown;
  /** Null where the row names no price version: `:free` models and some refusals. */
  readonly price: { readonly version: number; readonly validFrom: Date; readonly prices: PriceVersionText } | null;
  readonly postings: readonly RequestPosting[];
  readonly refunds: readonly Refund[];
  readonly platformCosts: readonly PlatformCost[];
}

interface RecordColumns extends LogColumns, EvidenceColumns {
  account_id: string;
  free: boolean;
  usage_detail: Parameters<typeof usageOfRow>[0]['usage_detail'];
  settled_at: Date | null;
  client_left_at: Date | null;
  expires_at: Date;
  gateway_id: string;
  resolver_started_at: Date | null;
  settle_error: string | null;
  raw_usage: unknown;
  price_valid_from: Date | null;
  prices: PriceVersionText | null;
}

/** Null when there is no such request, or it is not the given account's. `accountId` null looks at all accounts. */
export async function findRequestRecord(
  reporter: Reporter,
  which: { requestId: RequestUuid; accountId: AccountUuid | null },
): Promise<RequestRecord | null> {
  return reporter.begin('isolation level repeatable read read only', async (snapshot) => {
    const [row] = await snapshot<RecordColumns[]>`
      select ${logColumns(snapshot)}, ${evidenceColumns(snapshot)}, r.account_id, r.free, r.usage_detail, r.settled_at, r.client_left_at, r.expires_at,
        r.gateway_id, r.resolver_started_at, r.settle_error, r.raw_usage, p.valid_from as price_valid_from, p.prices
      from request r join api_key k on k.id = r.key_id
        left join price_version p on p.model_id = r.model_id and p.version = r.price_version
      where r.id = ${which.requestId} and (${which.accountId}::uuid is null or r.account_id = ${which.accountId})`;
    if (row === undefined) return null;
    const refunds = await snapshot<RefundRow[]>`
      select * from request_refund where request_id = ${which.requestId} order by n`;
    const postings = await snapshot<
      { id: string; kind: string; debit: string; credit: string; amount: string; created_at: Date }[]
    >`select id, kind, debit, credit, amount, created_at from posting
      where business_id in ${snapshot([which.requestId, ...refunds.map((refund) => refund.id)])} order by id`;
    const costs = await snapshot<
      { reason: string; usage: unknown; list_cost: string; estimated: boolean; created_at: Date }[]
    >`select reason, usage, list_cost, estimated, created_at from platform_cost where request_id = ${which.requestId} order by created_at`;
    return {
      ...toLogRow(row),
      accountId: uuidOf('account', row.account_id),
      free: row.free,
      usage: usageOfRow(row),
      settledAt: row.settled_at,
      clientLeftAt: row.client_left_at,
      expiresAt: row.expires_at,
      gatewayId: row.gateway_id,
      resolverStartedAt: row.resolver_started_at,
      settleError: row.settle_error,
      upstream: toEvidence(row),
      rawUsage: row.raw_usage,
      price:
        row.price_version === null || row.price_valid_from === null || row.prices === null
          ? null
          : { version: row.price_version, validFrom: row.price_valid_from, prices: row.prices },
      postings: postings.map((posting) => ({
        id: uuidOf('posting', posting.id),
        kind: posting.kind,
        debit: posting.debit,
        credit: posting.credit,
        amount: usd(posting.amount),
        createdAt: posting.created_at,
      })),
      refunds: refunds.map(toRefund),
      platformCosts: costs.map((cost) => ({
        reason: cost.reason,
        usage: cost.usage,
        listCost: usd(cost.list_cost),
        estimated: cost.estimated,
        createdAt: cost.created_at,
      })),
    };
  });
}
