/**
 * All that the Creem twin remembers, in the wire's own form. With a state file, everything is written to it before
 * anybody learns of a change, so that not even kill -9 loses a payment that a client has seen.
 */
import { existsSync, readFileSync } from 'node:fs';
import type {
  CheckoutEntity$Outbound,
  CustomerEntity$Outbound,
  DisputeEntity$Outbound,
  ProductEntity$Outbound,
  RefundEntity$Outbound,
  TransactionEntity$Outbound,
} from 'creem/models/components';

import { writeFileAtomic } from '../kit/files.ts';
import type { DeliveryRow } from '../kit/deliveries.ts';
import { randomId } from '../kit/ids.ts';
import { Table } from '../kit/tables.ts';
import type { SignatureForm } from './signature.ts';

/** The endpoint that events are sent to. */
export interface Webhooks {
  readonly url: string | null;
  /** The current one, and the old one while it is being rotated out. */
  readonly secrets: readonly string[];
  readonly form: SignatureForm;
}

/** The SDK's types of the wire: a field that drifts breaks the build. */
export type Checkout = CheckoutEntity$Outbound & { product: string };
export type Transaction = TransactionEntity$Outbound;
export type Product = ProductEntity$Outbound;
export type Customer = CustomerEntity$Outbound;

export interface Refund {
  readonly id: string;
  status: RefundEntity$Outbound['status'];
  readonly refund_amount: number;
  readonly reason: string;
  readonly transaction: string;
  readonly created_at: number;
}

export interface Dispute {
  readonly id: string;
  readonly amount: DisputeEntity$Outbound['amount'];
  readonly transaction: string;
  readonly created_at: number;
  /** The status of the transaction after a won dispute. */
  readonly refundedBefore: number;
  outcome: 'open' | 'won' | 'lost' | 'refunded';
}

export interface CreemEvent {
  readonly id: string;
  readonly eventType: string;
  readonly created_at: number;
  readonly object: object;
}

interface Snapshot {
  checkouts: Checkout[];
  transactions: Transaction[];
  customers: Customer[];
  refunds: Refund[];
  disputes: Dispute[];
  events: CreemEvent[];
  deliveries: DeliveryRow[];
  webhooks: Webhooks | null;
}

export class Store {
  readonly checkouts = new Map<string, Checkout>();
  readonly transactions = new Map<string, Transaction>();
  readonly customers = new Map<string, Customer>();
  readonly refunds = new Map<string, Refund>();
  readonly disputes = new Map<string, Dispute>();
  readonly events = new Map<string, CreemEvent>();
  readonly deliveries = new Table<DeliveryRow>();
  readonly product: Product;
  /** Null until `POST /_twin/webhooks` has changed what the process was started with. */
  webhooks: Webhooks | null = null;
  readonly #file: string | null;

  constructor(product: Product, file: string | null) {
    this.product = product;
    this.#file = file;
    if (file === null || !existsSync(file)) return;
    const kept = JSON.parse(readFileSync(file, 'utf8')) as Snapshot;
    fill(this.checkouts, kept.checkouts);
    fill(this.transactions, kept.transactions);
    fill(this.customers, kept.customers);
    fill(this.refunds, kept.refunds);
    fill(this.disputes, kept.disputes);
    fill(this.events, kept.events);
    for (const row of kept.deliveries) this.deliveries.put(row);
    this.webhooks = kept.webhooks;
  }

  snapshot(): Snapshot {
    return {
      checkouts: [...this.checkouts.values()],
      transactions: [...this.transactions.values()],
      customers: [...this.customers.values()],
      refunds: [...this.refunds.values()],
      disputes: [...this.disputes.values()],
      events: [...this.events.values()],
      deliveries: this.deliveries.oldestFirst(),
      webhooks: this.webhooks,
    };
  }

  /** Called after every change, before any client learns of it. */
  flush(): void {
    if (this.#file !== null) writeFileAtomic(this.#file, JSON.stringify(this.snapshot()));
  }
}

function fill<T extends { readonly id: string }>(map: Map<string, T>, rows: readonly T[]): void {
  for (const row of rows) map.set(row.id, row);
}

export function newId(prefix: string): string {
  return randomId(prefix, 22);
}
