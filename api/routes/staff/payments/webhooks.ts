/** Why webhooks lead to nothing, for staff who wonder where a provider's events are. */
import { z } from 'zod';
import { webhookCounts, type WebhookCount } from '../../../../db/payments/webhook-counts.ts';
import { webhookCureOf } from '../../../../providers/webhook-refusals.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { listOf, timeText } from '../../../http/fields.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';

const countView = z.object({
  provider: z.string().meta({ description: '`unknown` for a path that is no endpoint.' }),
  kind: z.enum(['refused', 'foreign']).meta({
    description:
      '`refused`: answered with an error. `foreign`: accepted, and closed because it concerns no object of ours.',
  }),
  reason: z.string(),
  count: z.number().int(),
  first_at: timeText(),
  last_at: timeText(),
  last_detail: z.string().nullable(),
  cure: z.string().nullable().meta({ description: 'Advice for the operator; null: no action needed.' }),
});

function renderCount(row: WebhookCount): z.output<typeof countView> {
  return {
    provider: row.provider,
    kind: row.kind,
    reason: row.reason,
    count: row.count,
    first_at: row.firstAt.toISOString(),
    last_at: row.lastAt.toISOString(),
    last_detail: row.lastDetail,
    cure: row.kind === 'refused' ? webhookCureOf(row.provider, row.reason) : null,
  };
}

export function webhookCountRoutes({ management }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/webhooks',
      summary: 'List refused and foreign webhooks by cause, latest first',
      roles: ['support', 'finance', 'operator', 'auditor'],
      response: listOf(countView),
      async handle() {
        // A row per provider and cause: one page has them all.
        return ok({ data: (await webhookCounts(management)).map(renderCount), next_cursor: null });
      },
    }),
  ];
}
