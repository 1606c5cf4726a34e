/**
 * The receipt of a top-up: what was paid, what it credited and what was taken back. Only a credited order has one. It
 * tells the state of the ledger and nothing else, so the same state gives the same document, byte by byte.
 */
import { z } from 'zod';
import {
  findTopUpRecord,
  type RecordedPayment,
  type RecordedReversal,
  type TopUpRecord,
} from '../../../../db/payments/top-up-records.ts';
import { amountText } from '../../../../domain/currency.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type AccountUuid, type Uuid } from '../../../../domain/ids.ts';
import { addUsd, formatUsdShort, picoUsd, type PicoUsd } from '../../../../domain/money.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps, ReceiptSettings } from '../../../http/deps.ts';
import { id } from '../../../http/fields.ts';
import type { Receipt, ReceiptLine, ReceiptSection } from './receipt-pdf.ts';
import { ReceiptRenderer } from './receipt-renderer.ts';
import { accountRoute, staffRoute, type Route, type StreamReply } from '../../../http/route.ts';

/** Digits of the order's id in the number: with the day, unique beyond any real number of orders. */
const NUMBER_DIGITS = 12;

/** Sellers of their own that put tax on top of what we ask: it is theirs to hand on and to give an invoice for. */
const TAXING_PROVIDERS: ReadonlySet<string> = new Set(['creem']);

/** Says what the receipt of an order says. The order must be credited. */
export function receiptOf(order: TopUpRecord, { seller, footer }: ReceiptSettings): Receipt {
  const [first] = order.payments;
  if (first === undefined) throw new Error(`invariant broken: ${order.id} is credited and has no payment`);
  const paid = TAXING_PROVIDERS.has(order.provider) ? 'Paid, without tax' : 'Paid';
  const reversals = order.payments.flatMap((payment) => payment.reversals);
  const reversed = addUsd(...order.payments.map((payment) => payment.reversed));
  return {
    number: `${day(first.creditedAt).replaceAll('-', '')}-${order.id.replaceAll('-', '').slice(-NUMBER_DIGITS).toUpperCase()}`,
    asOf: Math.max(
      ...[...order.payments.map(({ creditedAt }) => creditedAt), ...reversals.map(({ at }) => at)].map(Number),
    ),
    seller,
    footer,
    sections: [
      {
        title: '',
        lines: [
          line('Date', day(first.creditedAt)),
          line('Customer', order.accountName),
          ...(order.accountEmail === null ? [] : [line('E-mail', order.accountEmail)]),
          line('Account', formatId('account', order.accountId)),
          line('Top-up', formatId('topUp', order.id)),
          line('Method', order.method === order.provider ? order.method : `${order.method} (${order.provider})`),
          ...(order.live ? [] : [line('Mode', 'test: no real money was paid')]),
        ],
      },
      {
        title: 'Credit ordered',
        lines: [
          line('Amount', money(order.amount)),
          line('Fee', money(order.fee)),
          line('Total asked', money(addUsd(order.amount, order.fee))),
        ],
      },
      ...order.payments.map((payment, at): ReceiptSection => ({
        title: order.payments.length === 1 ? 'Payment' : `Payment ${at + 1} of ${order.payments.length}`,
        lines: [
          line(paid, paidText([payment])),
          line('Credited', money(payment.credited)),
          line('Booked', moment(payment.creditedAt)),
          line('Payment id', payment.paymentId),
          ...payment.reversals.map(reversalLine),
        ],
      })),
      {
        title: 'Total',
        lines: [
          line(paid, paidText(order.payments)),
          line('Credited', money(order.credited)),
          ...(reversals.length === 0 ? [] : [line('Taken back', money(reversed))]),
          { ...line('Remaining credit', money(picoUsd(order.credited - reversed))), bold: true },
        ],
      },
    ],
  };
}

/** The paid sum in USD, and beside it sums paid in other currencies, for which there is no rate. */
function paidText(payments: readonly RecordedPayment[]): string {
  const inUsd = payments.filter(({ paidIn }) => paidIn === null).map(({ received }) => received);
  const others = payments.flatMap(({ paidIn }) => (paidIn === null ? [] : [paidIn]));
  const sums = others.map(({ amount, currency }) => amountText(amount, currency));
  return [...(inUsd.length > 0 ? [money(addUsd(...inUsd))] : []), ...sums].join(' + ');
}

const line = (label: string, text: string): ReceiptLine => ({ label, text });

const REVERSAL_NAMES = { refund: 'Refund', dispute: 'Dispute', reorg: 'Lost block' } as const;

function reversalLine({ kind, direction, amount, at, objectId }: RecordedReversal): ReceiptLine {
  const what = direction === 'out' ? 'credit reversed' : 'credit restored';
  return line(REVERSAL_NAMES[kind], `${money(amount)} ${what}, ${moment(at)}, ${objectId}`);
}

/** Whole cents with two decimals, anything else to its last digit. */
function money(amount: PicoUsd): string {
  const [whole, decimals = ''] = formatUsdShort(amount).split('.');
  return `${whole}.${decimals.padEnd(2, '0')} USD`;
}

const day = (at: Date): string => at.toISOString().slice(0, 10);
const moment = (at: Date): string => `${day(at)} ${at.toISOString().slice(11, 19)} UTC`;

const params = z.strictObject({ id: id('topUp') });
const pdf = () => z.string().meta({ contentMediaType: 'application/pdf' });

export function topUpReceiptRoutes({ reporter, settings }: ManagementDeps): Route[] {
  const renderer = new ReceiptRenderer();
  const reply = async (which: { id: Uuid<'topUp'>; accountId: AccountUuid | null }): Promise<StreamReply> => {
    const order = await findTopUpRecord(reporter, which);
    if (order === null) throw new Refusal('not_found');
    if (order.state !== 'credited') {
      throw new Refusal('conflict', { message: `The top-up is ${order.state}: only a credited top-up has a receipt.` });
    }
    const receipt = receiptOf(order, settings.receipts);
    const bytes = await renderer.render(which.accountId ?? 'staff', receipt);
    return {
      contentType: 'application/pdf',
      fileName: `receipt-${receipt.number}.pdf`,
      write: (output) => {
        output.write(bytes);
        return Promise.resolve();
      },
    };
  };

  return [
    accountRoute({
      method: 'get',
      path: '/api/top-ups/{id}/receipt.pdf',
      scope: 'read',
      summary: 'Get the receipt of a credited top-up',
      isReport: true,
      params,
      response: pdf(),
      handle: ({ accountId, params: { id: topUpId } }) => reply({ id: topUpId, accountId }),
    }),
    staffRoute({
      method: 'get',
      path: '/admin/top-ups/{id}/receipt.pdf',
      summary: 'Get the receipt of a credited top-up as its customer sees it',
      roles: READERS_AND_SUPPORT,
      params,
      response: pdf(),
      handle: ({ params: { id: topUpId } }) => reply({ id: topUpId, accountId: null }),
    }),
  ];
}
