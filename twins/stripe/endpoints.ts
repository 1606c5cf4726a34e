/** The webhook endpoint as the API lists it, and what the account's events say of their delivery. */
import type Stripe from 'stripe';

import type { Params } from './form.ts';
import { API_VERSION } from './events.ts';
import { pageOf } from './lists.ts';
import type { Webhooks } from './store.ts';
import type { World } from './world.ts';

/** One, or none while no address is known. Its secret is told by no call that reads. */
export function listEndpoints({ webhooks }: World, params: Params): object {
  const { url, events = ['*'], status = 'enabled' } = webhooks();
  const endpoint = {
    id: 'we_twin',
    object: 'webhook_endpoint',
    api_version: API_VERSION,
    application: null,
    created: 1_767_225_600,
    description: null,
    enabled_events: [...events],
    livemode: false,
    metadata: {},
    status,
    url: url ?? '',
  } satisfies Omit<Stripe.WebhookEndpoint, 'enabled_events'> & { enabled_events: string[] };
  return pageOf(url === null ? [] : [endpoint], params, '/v1/webhook_endpoints');
}

/** Whether the endpoint wants events of this type. */
export function isSubscribed({ events = ['*'], status = 'enabled' }: Webhooks, type: string): boolean {
  return status === 'enabled' && (events.includes('*') || events.includes(type));
}

/** An event with how many endpoints have not taken it yet. */
export function withDelivery({ store }: World, event: Stripe.Event): Stripe.Event {
  const delivery = store.deliveries.get(event.id);
  return { ...event, pending_webhooks: delivery === undefined || delivery.state === 'delivered' ? 0 : 1 };
}
