/** Audit for staff: violations of the invariants, and platform cost. Reads only. */
import { z } from 'zod';
import { listViolations, sumPlatformCosts } from '../../../../db/accounts/audit.ts';
import { addUsd, formatUsd } from '../../../../domain/money.ts';
import { READERS } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { time, timeText, usdText } from '../../../http/fields.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';

/** More breaches than these say nothing new. */
const VIOLATIONS_SHOWN = 1000;
const PERIOD_DEFAULT_MS = 30 * 86_400_000;

export function auditRoutes({ reporter }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/violations',
      summary: "List violations of the ledger's invariants; empty when healthy",
      roles: READERS,
      response: z.object({
        healthy: z.boolean(),
        data: z.array(
          z.object({
            rule: z.string(),
            subject: z.string(),
            stored: z.string().nullable(),
            expected: z.string().nullable(),
          }),
        ),
        next_cursor: z.null(),
      }),
      async handle() {
        const violations = await listViolations(reporter, VIOLATIONS_SHOWN);
        return ok({ healthy: violations.length === 0, data: violations, next_cursor: null });
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/platform-costs',
      summary: 'List platform cost: usage that was not charged, by reason',
      roles: READERS,
      query: z.strictObject({
        from: time().optional().meta({ description: 'Inclusive. Default: 30 days before `to`.' }),
        to: time().optional().meta({ description: 'Exclusive. Default: now.' }),
      }),
      response: z.object({
        from: timeText(),
        to: timeText(),
        data: z.array(z.object({ reason: z.string(), requests: z.number(), list_cost_usd: usdText() })),
        total_usd: usdText(),
        free_usd: usdText().meta({ description: 'The part of the total from `:free` models.' }),
      }),
      async handle({ query }) {
        const to = query.to ?? new Date();
        const from = query.from ?? new Date(to.getTime() - PERIOD_DEFAULT_MS);
        if (from >= to) throw invalidField(query.to === undefined ? 'from' : 'to', 'must be later than from');
        const sums = await sumPlatformCosts(reporter, { from, to });
        return ok({
          from: from.toISOString(),
          to: to.toISOString(),
          data: sums.map(({ reason, requests, listCost }) => ({
            reason,
            requests,
            list_cost_usd: formatUsd(listCost),
          })),
          total_usd: formatUsd(addUsd(...sums.map(({ listCost }) => listCost))),
          free_usd: formatUsd(
            addUsd(...sums.filter(({ reason }) => reason === 'free').map(({ listCost }) => listCost)),
          ),
        });
      },
    }),
  ];
}
