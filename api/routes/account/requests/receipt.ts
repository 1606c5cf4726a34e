/**
 * The receipt of a request: what it cost and why, line by line. It rates the recorded usage again at the recorded price
 * version and the time of the hold, so it proves the charge instead of repeating it.
 */
import { z } from 'zod';
import type { RequestRecord } from '../../../../db/requests/request-record.ts';
import { formatId, uuidTime } from '../../../../domain/ids.ts';
import { addUsd, formatUsd, maxUsd, picoUsd, ZERO_USD, type PicoUsd } from '../../../../domain/money.ts';
import { compilePrices, isPriceProblem, tiersAt } from '../../../../domain/requests/prices.ts';
import { rate, type RatedLine } from '../../../../domain/requests/rating.ts';
import { OUTCOMES } from '../../../../domain/requests/request.ts';
import { idText, timeText, usdText } from '../../../http/fields.ts';

export const ratedLineView = z.object({
  dimension: z.string(),
  quantity: z.number(),
  unit_price_usd: usdText().meta({ description: 'Per token or per unit.' }),
  amount_usd: usdText().meta({ description: '`quantity` × `unit_price_usd`.' }),
});

export const timelineView = z.object({
  event: z.enum([
    'refused',
    'held',
    'client_left',
    'finished',
    'charged',
    'released',
    'refund_requested',
    'refund_posted',
    'refund_rejected',
  ]),
  at: timeText(),
});

/** The explanation of a charge; the log row comes beside it. */
export const explanationFields = {
  outcome_meaning: z.string().nullable(),
  price: z
    .object({
      model: z.string(),
      version: z.number(),
      valid_from: timeText(),
      prices: z.record(z.string(), z.unknown()).meta({ description: 'The price version as published.' }),
    })
    .nullable(),
  lines: z.array(ratedLineView),
  lines_total_usd: usdText().meta({ description: 'Sum of the lines.' }),
  explained: z
    .boolean()
    .meta({ description: 'True when the lines add up to `list_cost_usd`; false is a case for support.' }),
  hold: z.object({
    held_usd: usdText(),
    charged_usd: usdText(),
    given_back_usd: usdText().meta({ description: 'The unused part of the hold; zero until settled.' }),
  }),
  overrun_usd: usdText().meta({ description: 'The part of the list cost above the hold.' }),
  not_charged_usd: usdText().meta({
    description: 'List cost that was not charged: a failed request or an overrun.',
  }),
  timeline: z.array(timelineView),
};

type Explanation = { [Field in keyof typeof explanationFields]: z.output<(typeof explanationFields)[Field]> };

/** Explains a request's cost from its record. */
export function explain(record: RequestRecord): Explanation {
  const lines = ratedLines(record);
  const total = addUsd(...lines.map((line) => line.amount));
  const listCost = record.listCost ?? ZERO_USD;
  const settled = record.settledAt !== null;
  return {
    outcome_meaning: record.outcome === null ? null : OUTCOMES[record.outcome].meaning,
    price:
      record.price === null
        ? null
        : {
            model: record.model,
            version: record.price.version,
            valid_from: record.price.validFrom.toISOString(),
            prices: { ...record.price.prices },
          },
    lines: lines.map(renderLine),
    lines_total_usd: formatUsd(total),
    explained: total === listCost,
    hold: {
      held_usd: formatUsd(record.held),
      charged_usd: formatUsd(record.cost),
      given_back_usd: formatUsd(settled ? above(record.held, record.cost) : ZERO_USD),
    },
    overrun_usd: formatUsd(above(listCost, record.held)),
    not_charged_usd: formatUsd(settled ? above(listCost, record.cost) : ZERO_USD),
    timeline: timelineOf(record),
  };
}

function above(value: PicoUsd, limit: PicoUsd): PicoUsd {
  return maxUsd(picoUsd(value - limit), ZERO_USD);
}

/** The lines behind the list cost; none where nothing was rated (still running, no price, failed before any usage). */
function ratedLines(record: RequestRecord): readonly RatedLine[] {
  if (record.price === null || record.listCost === null || record.listCost === 0n) return [];
  const version = compilePrices(record.price.prices);
  return isPriceProblem(version) ? [] : rate(tiersAt(version, uuidTime(record.requestId)), record.usage).lines;
}

function renderLine(line: RatedLine): z.output<typeof ratedLineView> {
  return {
    dimension: line.dimension,
    quantity: Number(line.quantity),
    unit_price_usd: formatUsd(line.unitPrice),
    amount_usd: formatUsd(line.amount),
  };
}

type TimelineEvent = z.output<typeof timelineView>;

function timelineOf(record: RequestRecord): TimelineEvent[] {
  if (record.outcome === 'refused') return [{ event: 'refused', at: record.createdAt.toISOString() }];
  const events: { event: TimelineEvent['event']; at: Date | null }[] = [
    { event: 'held', at: record.createdAt },
    { event: 'client_left', at: record.clientLeftAt },
    { event: 'finished', at: record.finishedAt },
    { event: record.state === 'charged' ? 'charged' : 'released', at: record.settledAt },
    ...record.refunds.flatMap((refund) => [
      { event: 'refund_requested' as const, at: refund.requestedAt },
      {
        event: refund.state === 'posted' ? ('refund_posted' as const) : ('refund_rejected' as const),
        at: refund.decidedAt,
      },
    ]),
  ];
  return events
    .flatMap(({ event, at }) => (at === null ? [] : [{ event, at: at.toISOString() }]))
    .sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0));
}

/** The customer's postings of a request: its charge, and what was given back. */
export const receiptPostingView = z.object({
  id: idText('posting'),
  kind: z.string(),
  amount_usd: usdText().meta({ description: 'Signed from the customer’s side.' }),
  created_at: timeText(),
});

export function renderReceiptPostings(record: RequestRecord): z.output<typeof receiptPostingView>[] {
  return record.postings.map((posting) => ({
    id: formatId('posting', posting.id),
    kind: posting.kind,
    amount_usd: formatUsd(posting.credit === record.accountId ? posting.amount : picoUsd(0n - posting.amount)),
    created_at: posting.createdAt.toISOString(),
  }));
}
