/**
 * Top-ups for search and accounting: search by details that a customer knows (an amount, a date, a
 * provider's id), rows for export, and one order with everything that was paid and taken back. Reads only.
 */
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, picoAmount, usd, type PicoUsd } from '../../domain/money.ts';
import { namesIn } from '../../domain/payments/payment-names.ts';
import type { ReversalDirection, ReversalFacts, TopUpState } from '../../domain/payments/top-up.ts';
import { pageOf, type Page, type PageRequest } from '../shared/page.ts';
import type { Reporter, ReporterSession } from '../shared/reporter.ts';
import { toTopUp, type ForeignAmount, type TopUp, type TopUpRow } from './top-ups.ts';

/** Which orders; null filters nothing. */
export interface TopUpFilter {
  readonly accountId: AccountUuid | null;
  readonly state: TopUpState | null;
  readonly provider: string | null;
  /** Only those that wait for a person. */
  readonly stuck: boolean;
  /** The ordered amount or, with its fee, the price: customers state either. */
  readonly amount: PicoUsd | null;
  /**
   * A provider's id in full: of the checkout, a payment (any id of it, also in a link), a refund or dispute; of a chain
   * transfer also its hash alone.
   */
  readonly providerId: string | null;
  /** Ordered at or after. */
  readonly from: Date | null;
  /** Ordered before. */
  readonly to: Date | null;
}

export const EVERY_TOP_UP: TopUpFilter = {
  accountId: null,
  state: null,
  provider: null,
  stuck: false,
  amount: null,
  providerId: null,
  from: null,
  to: null,
};

export interface RecordedReversal {
  readonly objectId: string;
  readonly kind: ReversalFacts['kind'];
  readonly direction: ReversalDirection;
  readonly amount: PicoUsd;
  readonly at: Date;
}

export interface RecordedPayment {
  readonly id: Uuid<'payment'>;
  /** The provider's. */
  readonly paymentId: string;
  readonly received: PicoUsd;
  /** The paid amount in another currency; `received` is then the value that the crediting staff set. */
  readonly paidIn: ForeignAmount | null;
  readonly credited: PicoUsd;
  readonly reversed: PicoUsd;
  readonly creditedAt: Date;
  readonly postingId: Uuid<'posting'>;
  /** In the order in which they were booked; steps that moved nothing are left out. */
  readonly reversals: readonly RecordedReversal[];
}

export interface TopUpRecord extends TopUp {
  readonly accountName: string;
  readonly accountEmail: string | null;
  readonly payments: readonly RecordedPayment[];
}

interface PaymentJson {
  id: string;
  payment_id: string;
  received: string;
  credited: string;
  reversed: string;
  credited_at: string;
  posting_id: string;
  paid: string | null;
  paid_currency: string | null;
  reversals: {
    object_id: string;
    kind: ReversalFacts['kind'];
    direction: ReversalDirection;
    amount: string;
    at: string;
  }[];
}

type RecordRow = TopUpRow & { account_name: string; account_email: string | null; payments: PaymentJson[] };

const toPayment = (row: PaymentJson): RecordedPayment => ({
  id: uuidOf('payment', row.id),
  paymentId: row.payment_id,
  received: usd(row.received),
  paidIn:
    row.paid === null || row.paid_currency === null
      ? null
      : { currency: row.paid_currency, amount: picoAmount(row.paid) },
  credited: usd(row.credited),
  reversed: usd(row.reversed),
  creditedAt: new Date(row.credited_at),
  postingId: uuidOf('posting', row.posting_id),
  reversals: row.reversals.map((step) => ({
    objectId: step.object_id,
    kind: step.kind,
    direction: step.direction,
    amount: usd(step.amount),
    at: new Date(step.at),
  })),
});

const toRecord = (row: RecordRow): TopUpRecord => ({
  ...toTopUp(row),
  accountName: row.account_name,
  accountEmail: row.account_email,
  payments: row.payments.map(toPayment),
});

/** Amounts leave as text: a JSON number would be rounded on its way. */
function recordColumns(session: ReporterSession) {
  return session`t.*, a.name as account_name, a.email as account_email, (
    select coalesce(json_agg(json_build_object('id', p.id, 'payment_id', p.payment_id, 'received', p.received::text,
      'credited', p.credited::text, 'reversed', p.reversed::text, 'credited_at', p.credited_at, 'posting_id', p.posting_id,
      'paid', h.shown::text, 'paid_currency', h.shown_currency,
      'reversals', (
        select coalesce(json_agg(json_build_object('object_id', r.object_id, 'kind', r.kind, 'direction', r.direction,
          'amount', r.amount::text, 'at', r.created_at) order by r.id), '[]')
        from payment_reversal r where r.payment = p.id and r.amount > 0
      )) order by p.id), '[]')
    from payment p left join hand_credit h
      on h.top_up_id = p.top_up_id and h.payment = p.id and h.shown_currency <> t.currency
    where p.top_up_id = t.id) as payments`;
}

/** An order's id carries the moment an api process made it; this margin lets a filter by time also bound the id. */
const CLOCK_MARGIN_MS = 24 * 3600 * 1000;

function matching(session: ReporterSession, filter: TopUpFilter) {
  const { accountId, state, provider, stuck, amount, providerId, from, to } = filter;
  return session`true
    ${accountId === null ? session`` : session`and t.account_id = ${accountId}`}
    ${state === null ? session`` : session`and t.state = ${state}`}
    ${provider === null ? session`` : session`and t.provider = ${provider}`}
    ${stuck ? session`and t.stuck is not null` : session``}
    ${amount === null ? session`` : session`and ${formatUsd(amount)}::numeric in (t.amount, t.amount + t.fee)`}
    ${providerId === null ? session`` : session`and t.id in (${ordersOf(session, providerId)})`}
    ${from === null ? session`` : session`and t.created_at >= ${from} and t.id >= v7_floor(${shifted(from, -CLOCK_MARGIN_MS)})`}
    ${to === null ? session`` : session`and t.created_at < ${to} and t.id < v7_floor(${shifted(to, CLOCK_MARGIN_MS)})`}`;
}

/** A chain transfer's payment id is `<chain>/<transaction hash>/<ordinal>`; people only know the hash. */
function ordersOf(session: ReporterSession, providerId: string) {
  const names = [providerId.toLowerCase(), ...namesIn(providerId)];
  return session`
    select id from top_up where provider_id = ${providerId}
    union all select top_up_id from payment where payment_id = ${providerId}
    union all select top_up_id from known_payment
      where names && array(select json_array_elements_text(${JSON.stringify(names)}::text::json))
    union all select top_up_id from payment where provider = 'crypto' and split_part(payment_id, '/', 2) = lower(${providerId})
    union all select p.top_up_id from payment_reversal r join payment p on p.id = r.payment where r.object_id = ${providerId}`;
}

function shifted(at: Date, milliseconds: number): Date {
  return new Date(at.getTime() + milliseconds);
}

/** Orders that match, newest first. */
export async function searchTopUps(reporter: Reporter, filter: TopUpFilter, page: PageRequest): Promise<Page<TopUp>> {
  const rows = await reporter<TopUpRow[]>`
    select t.* from top_up t where ${matching(reporter, filter)}
      ${page.after === null ? reporter`` : reporter`and t.id < ${page.after}`}
    order by t.id desc limit ${page.limit + 1}`;
  return pageOf(rows.map(toTopUp), page.limit, (topUp) => topUp.id);
}

/** One order with its payments; null when there is none, or it is not the given account's. */
export async function findTopUpRecord(
  reporter: Reporter,
  which: { readonly id: Uuid<'topUp'>; readonly accountId: AccountUuid | null },
): Promise<TopUpRecord | null> {
  const [row] = await reporter<RecordRow[]>`
    select ${recordColumns(reporter)} from top_up t join account a on a.id = t.account_id
    where t.id = ${which.id} and (${which.accountId}::uuid is null or t.account_id = ${which.accountId})`;
  return row === undefined ? null : toRecord(row);
}

const EXPORT_BATCH_ROWS = 500;
/** For one batch: rows that match a narrow filter may lie far apart. */
const EXPORT_BATCH_TIMEOUT = '60s';

/**
 * All orders that match, newest first, in batches through a cursor: one snapshot and bounded memory, as for the log.
 */
export async function exportTopUps(
  reporter: Reporter,
  filter: TopUpFilter,
  onRows: (rows: TopUpRecord[]) => Promise<void>,
): Promise<void> {
  await reporter.begin('read only', async (transaction) => {
    await transaction`select set_config('statement_timeout', ${EXPORT_BATCH_TIMEOUT}, true)`;
    const cursor = transaction<RecordRow[]>`
      select ${recordColumns(transaction)} from top_up t join account a on a.id = t.account_id
      where ${matching(transaction, filter)} order by t.id desc`;
    for await (const rows of cursor.cursor(EXPORT_BATCH_ROWS)) await onRows(rows.map(toRecord));
  });
}
