/**
 * Review cases: questions that the system left to staff. Most say that money is not where the ledger has it, so
 * that closing one ends the search for it: that takes somebody who answers for money.
 */
import { z } from 'zod';
import { closeCase, findCase, listCases, type Case } from '../../../../db/accounts/cases.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId } from '../../../../domain/ids.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import {
  id,
  idText,
  listOf,
  pageById,
  pageOfQuery,
  renderPage,
  renderTime,
  text,
  timeText,
} from '../../../http/fields.ts';
import { ok, staffRoute, type Route } from '../../../http/route.ts';
import { recordWrite } from '../../../http/writes.ts';

/**
 * Kinds that support may close: the request itself stays marked until it is settled. A kind that is not named here is
 * about money.
 */
const SUPPORT_CLOSES: readonly string[] = ['settle_error'];

const caseView = z.object({
  id: idText('case'),
  kind: z.string(),
  subject: z.string(),
  evidence: z.record(z.string(), z.unknown()),
  state: z.enum(['open', 'closed']),
  opened_at: timeText(),
  closed_at: timeText().nullable(),
  closed_by: z.string().nullable(),
  resolution: z.string().nullable(),
});

function renderCase(row: Case): z.output<typeof caseView> {
  return {
    id: formatId('case', row.id),
    kind: row.kind,
    subject: row.subject,
    evidence: { ...row.evidence },
    state: row.closedAt === null ? 'open' : 'closed',
    opened_at: row.openedAt.toISOString(),
    closed_at: renderTime(row.closedAt),
    closed_by: row.closedBy,
    resolution: row.resolution,
  };
}

export function caseRoutes({ management }: ManagementDeps): Route[] {
  return [
    staffRoute({
      method: 'get',
      path: '/admin/cases',
      summary: 'List review cases, newest first',
      roles: READERS_AND_SUPPORT,
      query: z.strictObject({ ...pageById, state: z.enum(['open', 'closed']).optional() }),
      response: listOf(caseView),
      async handle({ query }) {
        const open = query.state === undefined ? null : query.state === 'open';
        return ok(renderPage(await listCases(management, open, pageOfQuery(query)), renderCase));
      },
    }),
    staffRoute({
      method: 'post',
      path: '/admin/cases/{id}/close',
      summary: 'Close a review case with its resolution',
      roles: ['operator', 'finance', 'support'],
      params: z.strictObject({ id: id('case') }),
      body: z.strictObject({ resolution: text(3, 2000) }),
      response: caseView,
      async handle(call) {
        const { params, body } = call;
        const closed = await recordWrite(management, call, async (client) => {
          const found = await findCase(client, params.id);
          if (found === null) throw new Refusal('not_found');
          if (call.role === 'support' && !SUPPORT_CLOSES.includes(found.kind)) {
            const message = `A case of kind ${found.kind} is about money: only an operator or finance can close it.`;
            throw new Refusal('forbidden', { message });
          }
          const row = await closeCase(client, { id: params.id, by: call.actor, resolution: body.resolution });
          if (row === null) throw new Refusal('conflict', { message: 'The case is already closed.' });
          const details = { kind: row.kind, about: row.subject, resolution: body.resolution };
          return { result: row, action: { action: 'case.close', subject: formatId('case', row.id), details } };
        });
        return ok(renderCase(closed));
      },
    }),
  ];
}
