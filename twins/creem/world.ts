/** State of the Creem twin's operations, and the objects that they make. */
import type { OrderEntity$Outbound } from 'creem/models/components';

import type { Webhooks } from './store.ts';
import { type Checkout, type CreemEvent, type Customer, newId, type Product, type Store } from './store.ts';

export interface World {
  readonly store: Store;
  /** Tax on top of a price, in parts per million of it. */
  readonly taxPpm: number;
  /** Where the checkout pages are, without a trailing slash. */
  readonly publicUrl: () => string;
  readonly deliver: (event: CreemEvent) => void;
  /** Where events are sent now. */
  readonly webhooks: () => Webhooks;
}

/** The mode of every object of this twin: never real money. */
export const MODE = 'test';

/** A call or a control that cannot be done as things are. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The one product: sold once, at the price that each checkout names. */
export function makeProduct(id: string): Product {
  const madeAt = '2026-01-01T00:00:00.000Z';
  return {
    id,
    mode: MODE,
    object: 'product',
    name: 'Credit',
    description: 'Prepaid credit',
    price: 1000,
    currency: 'USD',
    billing_type: 'onetime',
    billing_period: 'once',
    status: 'active',
    tax_mode: 'exclusive',
    tax_category: 'saas',
    created_at: madeAt,
    updated_at: madeAt,
  };
}

export function makeCustomer(world: World): Customer {
  const now = new Date().toISOString();
  const customer: Customer = {
    id: newId('cust'),
    mode: MODE,
    object: 'customer',
    email: 'buyer@example.test',
    name: 'Test Buyer',
    country: 'NL',
    created_at: now,
    updated_at: now,
  };
  world.store.customers.set(customer.id, customer);
  return customer;
}

/** The checkout of a transaction's order. */
export function checkoutOfOrder(world: World, orderId: string): Checkout & { order: OrderEntity$Outbound } {
  for (const checkout of world.store.checkouts.values()) {
    if (checkout.order?.id === orderId) return checkout as Checkout & { order: OrderEntity$Outbound };
  }
  throw new Refused(404, `There is no order '${orderId}'.`);
}

/** Writes an event down, with the object as it is now, and hands it to the deliveries. */
export function emit(world: World, eventType: string, object: object): CreemEvent {
  const event = { id: newId('evt'), eventType, created_at: Date.now(), object: structuredClone(object) };
  world.store.events.set(event.id, event);
  world.deliver(event);
  return event;
}

export function existing<T>(rows: ReadonlyMap<string, T>, id: string): T {
  const row = rows.get(id);
  if (row === undefined) throw new Refused(404, `There is no '${id}'.`);
  return row;
}
