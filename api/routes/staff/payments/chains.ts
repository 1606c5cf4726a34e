/**
 * Chains for staff: what has been asked to be read again, and asking for it. The chain's watch does the reading, piece
 * by piece; asking twice for the same blocks, while they wait, is one rescan.
 */
import { z } from 'zod';
import {
  chainHead,
  listBlockRescans,
  requestBlockRescan,
  type BlockRescan,
} from '../../../../db/payments/block-rescans.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, uuidOf } from '../../../../domain/ids.ts';
import { RESCAN_BLOCKS_MAX } from '../../../../contract/index.ts';
import { READERS_AND_SUPPORT } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { invalidField } from '../../../http/errors.ts';
import { idText, listOf, pageById, pageOfQuery, renderPage, renderTime, timeText } from '../../../http/fields.ts';
import { accepted, staffRoute, ok, type Route } from '../../../http/route.ts';
import { recordWriteOnce } from '../../../http/writes.ts';

/** More of a chain at once than anybody oversees; each may take the vendors hours. */
const OPEN_MAX = 10;
const RETRY_SECONDS = 60;

const chainId = z
  .string()
  .regex(/^[1-9]\d{0,9}$/, 'must be the id of a chain, like 8453')
  .transform(Number)
  .meta({ description: 'The id of a chain.', example: '8453' });
const params = z.strictObject({ id: chainId });

const height = (what: string) =>
  z
    .number()
    .int('must be the height of a block')
    .min(0, 'must be the height of a block')
    .max(Number.MAX_SAFE_INTEGER, 'must be the height of a block')
    .meta({ description: what });

const rescanView = z.object({
  id: idText('rescan'),
  chain_id: z.number(),
  state: z.enum(['waiting', 'done']),
  from_block: z.number().nullable(),
  to_block: z.number().nullable(),
  next_block: z.number().nullable().meta({ description: 'The next block to read; null before the start.' }),
  found: z.number().meta({ description: 'Number of newly found deposits.' }),
  top_up_id: idText('topUp')
    .nullable()
    .meta({ description: 'The order whose address alone is scanned, in the blocks of its time.' }),
  requested_by: z.string(),
  requested_at: timeText(),
  done_at: timeText().nullable(),
  fault: z.string().nullable().meta({ description: 'The last reason for no progress.' }),
});

function renderRescan(rescan: BlockRescan): z.output<typeof rescanView> {
  return {
    id: formatId('rescan', rescan.id),
    chain_id: rescan.chainId,
    state: rescan.doneAt === null ? 'waiting' : 'done',
    from_block: rescan.range?.from ?? null,
    to_block: rescan.range?.to ?? null,
    next_block: rescan.doneAt === null ? rescan.next : null,
    found: rescan.found,
    top_up_id: rescan.topUpId === null ? null : formatId('topUp', rescan.topUpId),
    requested_by: rescan.requestedBy,
    requested_at: rescan.requestedAt.toISOString(),
    done_at: renderTime(rescan.doneAt),
    fault: rescan.fault,
  };
}

export function chainRoutes({ management, settings }: ManagementDeps): Route[] {
  const requireChain = (id: number): void => {
    if (settings.payments.crypto?.chains.some((chain) => chain.chainId === id) !== true) throw new Refusal('not_found');
  };

  return [
    staffRoute({
      method: 'post',
      path: '/admin/chains/{id}/rescan',
      summary: 'Read a range of blocks again, in case vendors left out deposits; no deposit is credited twice',
      statuses: [202],
      movesMoney: true,
      roles: ['finance', 'operator'],
      params,
      body: z.strictObject({ from_block: height('First block.'), to_block: height('Last block.') }),
      response: rescanView,
      async handle(call) {
        const { id: chain } = call.params;
        const { from_block: from, to_block: to } = call.body;
        requireChain(chain);
        if (to < from) throw invalidField('to_block', 'must not be below from_block');
        if (to - from >= RESCAN_BLOCKS_MAX) {
          throw invalidField('to_block', `must be at most ${RESCAN_BLOCKS_MAX - 1} above from_block`);
        }
        const { reply } = await recordWriteOnce(management, call, async (client, subject) => {
          const head = await chainHead(client, chain);
          if (head !== null && from > head)
            throw invalidField('from_block', `is above the last block of the chain (${head})`);
          const wanted = {
            id: uuidOf('rescan', subject),
            chainId: chain,
            range: { from, to },
            openMax: OPEN_MAX,
            by: call.actor,
          };
          const rescan = await requestBlockRescan(client, wanted);
          if (rescan === null) {
            const message = `${OPEN_MAX} ranges of this chain are already waiting. Wait until one is done.`;
            throw new Refusal('rate_limit_exceeded', { message, retryAfterSeconds: RETRY_SECONDS });
          }
          const details = { from_block: from, to_block: to, rescan: formatId('rescan', rescan.id) };
          const action = { action: 'chain.rescan', subject: `chain ${chain}`, details };
          return { reply: accepted(renderRescan(rescan)), made: rescan, action };
        });
        return reply;
      },
    }),
    staffRoute({
      method: 'get',
      path: '/admin/chains/{id}/rescans',
      summary: 'List re-scans of a chain, newest first: requested by staff, or for re-checked orders',
      roles: READERS_AND_SUPPORT,
      params,
      query: z.strictObject({ ...pageById }),
      response: listOf(rescanView),
      async handle({ params: { id: chain }, query }) {
        requireChain(chain);
        return ok(renderPage(await listBlockRescans(management, chain, pageOfQuery(query)), renderRescan));
      },
    }),
  ];
}
