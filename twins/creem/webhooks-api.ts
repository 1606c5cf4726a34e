/** The webhook endpoint as Creem's API shows it, its signing secret included. */
import type { Webhooks } from './store.ts';
import { MODE, Refused } from './world.ts';

const ID = 'whk_twin';

/** A page of them; one, or none while no address is known. */
export function listWebhooks({ url }: Webhooks): unknown {
  const webhook = {
    ...{ id: ID, mode: MODE, object: 'webhook', store_id: 'sto_twin', name: 'twin', url: url ?? '' },
    ...{ delivery_mode: 'http', status: 'enabled' },
    events: ['checkout.completed', 'refund.created', 'dispute.created'],
  };
  const items = url === null ? [] : [webhook];
  return {
    items,
    pagination: { total_records: items.length, total_pages: 1, current_page: 1, next_page: null, prev_page: null },
  };
}

/** The secret that signs now. */
export function webhookSecret({ url, secrets }: Webhooks, id: string): unknown {
  if (url === null || id !== ID) throw new Refused(404, 'The webhook was not found.');
  return { secret: secrets[0] ?? '' };
}
