/** The differences between payment providers' webhooks: verification of an event, and its subject. */
import type { IncomingHttpHeaders } from 'node:http';
import type { ProviderEvent } from '../../../db/payments/provider-events.ts';
import type { EventSubject } from '../../../domain/payments/top-up.ts';
import type { WebhookRefusal } from '../../../providers/webhook-refusals.ts';

export type VerifiedEvent = Omit<ProviderEvent, 'provider'>;

/** Verification of a payment provider's events, and their subject. */
export interface WebhookSource {
  readonly provider: string;
  /** Without one of these headers a call is not signed at all. */
  readonly signatureHeaders: readonly string[];
  /** The event, if the provider signed exactly these bytes and it is about money of our mode; else why not. */
  verify(
    body: Buffer,
    headers: IncomingHttpHeaders,
  ): VerifiedEvent | WebhookRefusal | Promise<VerifiedEvent | WebhookRefusal>;
  subjectOf(payload: unknown): EventSubject;
}
