/** Dependencies of the management interface, given by the process that serves it. */
import type { Client } from '@temporalio/client';
import type pg from 'pg';
import type { Logger } from 'pino';
import type { ManualLimitSums } from '../../db/accounts/manual-limits.ts';
import type { Reporter } from '../../db/shared/reporter.ts';
import type { PicoUsd } from '../../domain/money.ts';
import type { PaymentSettings } from '../../providers/payment-settings.ts';
import type { RewardSettings } from '../../providers/reward-settings.ts';
import type { UpstreamRules } from '../../providers/upstreams/settings.ts';
import type { Namespaces } from '../../contract/index.ts';
import type { FailedAttempts } from './failed-attempts.ts';
import type { WebhookRefusals } from '../routes/webhooks/refusals.ts';
import type { TokenLookup } from './authenticate.ts';
import type { CommissionBounds } from '../routes/staff/commissions/commission-bounds.ts';

/** The text on every receipt. */
export interface ReceiptSettings {
  /** Name and address of the seller, line by line. */
  readonly seller: readonly string[];
  /** Small print; empty for none. */
  readonly footer: string;
}

/** Clients of the two namespaces, connected at their first use: the interface serves while Temporal is away. */
export interface ManagementTemporal {
  readonly requests: Client;
  readonly processes: Client;
  readonly namespaces: Namespaces;
}

export interface ManagementSettings {
  /** Notice that a new price version needs, so that every gateway knows it in time. */
  readonly priceLeadSeconds: number;
  /** Adjustments above this amount (in either direction) wait for a second person. */
  readonly adjustmentApprovalThreshold: PicoUsd;
  /** Refunds of one request that together exceed this amount wait for a second person. */
  readonly refundApprovalThreshold: PicoUsd;
  /** API keys of an account that are not revoked. */
  readonly keysMax: number;
  /** Management tokens in use of an account, and of what one member of staff made. */
  readonly tokensMax: number;
  /** Limits of the sums that one person may move alone, and that may go so to one account. */
  readonly manualLimits: ManualLimitSums;
  readonly commissions: CommissionBounds;
  /** The largest cut of a price that one person may publish, in parts per million. */
  readonly priceCutPpm: number;
  /** Which upstreams models may have. */
  readonly upstreams: UpstreamRules;
  readonly payments: PaymentSettings;
  /** Signs the cookie of an affiliate's link; null: links set none. */
  readonly referralKey: string | null;
  /** Where affiliates' links lead; null: to the page at our own address. */
  readonly referralLandingUrl: string | null;
  readonly rewards: RewardSettings;
  readonly receipts: ReceiptSettings;
  /** Base of the Temporal web UI for links; null where there is none. */
  readonly temporalUiUrl: string | null;
  /** CIDR ranges whose forwarded headers count. */
  readonly trustedProxies: readonly string[];
  /** After this long a call that got no answer from the database is answered with 503. Default 20. */
  readonly callTimeoutSeconds?: number;
}

/**
 * Dependencies of the management interface. Each kind of caller has its own connections, so that a flood of one kind of
 * call keeps no other from the database.
 */
export interface ManagementDeps {
  /** For calls with a known token. */
  readonly management: pg.Pool;
  /** For webhooks: a payment's event is stored under any load of customers. */
  readonly webhooks: pg.Pool;
  /** For unauthenticated calls: affiliates' links, callbacks. */
  readonly strangers: pg.Pool;
  readonly reporter: Reporter;
  /** For exports, which hold a connection for minutes. */
  readonly exportReporter: Reporter;
  readonly tokens: TokenLookup;
  readonly failures: FailedAttempts;
  readonly webhookRefusals: WebhookRefusals;
  readonly temporal: ManagementTemporal;
  readonly settings: ManagementSettings;
  readonly logger: Logger;
}
