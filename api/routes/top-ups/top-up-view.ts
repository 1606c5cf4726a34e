/** How a top-up is shown to its customer and to staff. */
import { z } from 'zod';
import { formatId } from '../../../domain/ids.ts';
import { formatUsd } from '../../../domain/money.ts';
import { TOP_UP_STATES } from '../../../domain/top-up.ts';
import type { TopUp } from '../../../db/top-ups.ts';
import { depositFields } from './deposit-view.ts';
import { idText, timeText, usdText } from '../fields.ts';

const fields = {
  id: idText('topUp'),
  state: z.enum(TOP_UP_STATES),
  method: z.string(),
  amount_usd: usdText().meta({ description: 'What is credited.' }),
  fee_usd: usdText().meta({ description: 'Comes on top of the amount.' }),
  received_usd: usdText().meta({ description: 'The most that was seen to be paid, credited or not.' }),
  credited_usd: usdText(),
  checkout_url: z.string().nullable().meta({ description: 'Where to pay; null until it exists and once it is over.' }),
  expires_at: timeText(),
  created_at: timeText(),
};

export const topUpView = z.object(fields);
/** A top-up that is shown alone. */
export const topUpDetailView = z.object({ ...fields, ...depositFields });
export const staffTopUpView = z.object({
  ...fields,
  account_id: idText('account'),
  provider: z.string(),
  provider_id: z.string().nullable(),
  stuck: z.string().nullable().meta({ description: 'Why a person has to look; null when nobody has to.' }),
  workflow_id: z.string(),
  workflow_url: z.string().nullable(),
});

export function renderTopUp(order: TopUp): z.output<typeof topUpView> {
  return {
    id: formatId('topUp', order.id),
    state: order.state,
    method: order.method,
    amount_usd: formatUsd(order.amount),
    fee_usd: formatUsd(order.fee),
    received_usd: formatUsd(order.received),
    credited_usd: formatUsd(order.credited),
    checkout_url: order.state === 'waiting' ? order.checkoutUrl : null,
    expires_at: order.expiresAt.toISOString(),
    created_at: order.createdAt.toISOString(),
  };
}
