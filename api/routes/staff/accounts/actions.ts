/** The record of what staff did, for reading. It is written by the writes themselves and never changed. */
import { z } from 'zod';
import { listActions } from '../../../../db/accounts/operator-actions.ts';
import { READERS } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { listOf, pageById, pageOfQuery, renderPage, text, timeText } from '../../../http/fields.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';

const actionView = z.object({
  at: timeText(),
  actor: z.string(),
  action: z.string(),
  subject: z.string(),
  details: z.record(z.string(), z.unknown()),
});

export function actionRoutes({ reporter }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/actions',
      summary: 'List actions of staff, newest first',
      roles: READERS,
      query: z.strictObject({
        ...pageById,
        actor: text(1, 300).optional(),
        action: text(1, 100).optional().meta({ description: 'Like `account.freeze`.' }),
        subject: text(1, 300).optional().meta({ description: 'The id of the changed object.' }),
      }),
      response: listOf(actionView),
      async handle({ query }) {
        const filter = { actor: query.actor ?? null, action: query.action ?? null, subject: query.subject ?? null };
        const page = await listActions(reporter, filter, pageOfQuery(query));
        return ok(
          renderPage(page, ({ at, actor, action, subject, details }) => ({
            at: at.toISOString(),
            actor,
            action,
            subject,
            details: { ...details },
          })),
        );
      },
    }),
  ];
}
