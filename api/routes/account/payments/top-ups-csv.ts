/**
 * Top-ups as CSV: a customer's own, and all of a period for finance. One line per order, what was taken back beside it.
 */
import { z } from 'zod';
import {
  EVERY_TOP_UP,
  exportTopUps,
  type TopUpFilter,
  type TopUpRecord,
} from '../../../../db/payments/top-up-records.ts';
import { amountText } from '../../../../domain/currency.ts';
import { formatId } from '../../../../domain/ids.ts';
import { addUsd, formatUsd, picoUsd } from '../../../../domain/money.ts';
import { READERS } from '../../../http/access.ts';
import type { CsvValue } from '../../../http/csv.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import type { Exports, Readership } from '../../../http/exports.ts';
import { time } from '../../../http/fields.ts';
import { accountRoute, staffRoute, type Route, type StreamReply } from '../../../http/route.ts';

/** The columns of an order. */
const COLUMNS: Readonly<Record<string, (order: TopUpRecord) => CsvValue>> = {
  id: ({ id }) => formatId('topUp', id),
  created_at: ({ createdAt }) => createdAt.toISOString(),
  state: ({ state }) => state,
  method: ({ method }) => method,
  currency: ({ currency }) => currency,
  amount_usd: ({ amount }) => formatUsd(amount),
  fee_usd: ({ fee }) => formatUsd(fee),
  received_usd: ({ received }) => formatUsd(received),
  received_other: ({ receivedOther }) =>
    receivedOther.map(({ amount, currency }) => amountText(amount, currency)).join('; '),
  credited_usd: ({ credited }) => formatUsd(credited),
  reversed_usd: (order) => formatUsd(reversedOf(order)),
  net_usd: (order) => formatUsd(picoUsd(order.credited - reversedOf(order))),
  credited_at: ({ payments }) => payments[0]?.creditedAt.toISOString() ?? null,
  payment_ids: ({ payments }) => payments.map(({ paymentId }) => paymentId).join(' '),
  reversals: ({ payments }) => payments.flatMap(({ reversals }) => reversals.map(describeReversal)).join('; '),
};

const STAFF_COLUMNS: typeof COLUMNS = {
  ...COLUMNS,
  account_id: ({ accountId }) => formatId('account', accountId),
  account_name: ({ accountName }) => accountName,
  account_email: ({ accountEmail }) => accountEmail,
  provider: ({ provider }) => provider,
  provider_id: ({ providerId }) => providerId,
  live: ({ live }) => live,
  stuck: ({ stuck }) => stuck,
  posting_ids: ({ payments }) => payments.map(({ postingId }) => formatId('posting', postingId)).join(' '),
};

const reversedOf = ({ payments }: TopUpRecord) => addUsd(...payments.map(({ reversed }) => reversed));

/** `2027-01-31T12:00:00.000Z refund re_1 took 5.000000000000`; a dispute that was won `gave back`. */
function describeReversal({
  at,
  kind,
  objectId,
  direction,
  amount,
}: TopUpRecord['payments'][0]['reversals'][0]): string {
  return `${at.toISOString()} ${kind} ${objectId} ${direction === 'out' ? 'took' : 'gave back'} ${formatUsd(amount)}`;
}

const period = z.strictObject({
  from: time().optional().meta({ description: 'Ordered at or after this time.' }),
  to: time().optional().meta({ description: 'Ordered before.' }),
});

function periodOf(query: z.output<typeof period>): Pick<TopUpFilter, 'from' | 'to'> {
  const { from = null, to = null } = query;
  if (from !== null && to !== null && from >= to) throw invalidField('to', 'must be later than from');
  return { from, to };
}

const csvText = () => z.string().meta({ contentMediaType: 'text/csv' });

export function topUpCsvRoutes({ exportReporter }: ManagementDeps, exports: Exports): Route[] {
  const reply = (readership: Readership, columns: typeof COLUMNS, filter: TopUpFilter): StreamReply =>
    exports.reply({
      readership,
      fileName: 'holdfast-top-ups.csv',
      columns: Object.keys(columns),
      produce: (write) =>
        exportTopUps(exportReporter, filter, (orders) =>
          write(orders.map((order) => Object.values(columns).map((cell) => cell(order)))),
        ),
    });

  return [
    accountRoute({
      method: 'get',
      path: '/api/top-ups.csv',
      scope: 'read',
      summary: 'Export top-ups as CSV, newest first',
      query: period,
      response: csvText(),
      handle: ({ accountId, query }) =>
        Promise.resolve(reply(accountId, COLUMNS, { ...EVERY_TOP_UP, accountId, ...periodOf(query) })),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/top-ups.csv',
      summary: 'Export top-ups of all accounts as CSV, newest first',
      roles: READERS,
      query: period,
      response: csvText(),
      handle: ({ query }) => Promise.resolve(reply('staff', STAFF_COLUMNS, { ...EVERY_TOP_UP, ...periodOf(query) })),
    }),
  ];
}
