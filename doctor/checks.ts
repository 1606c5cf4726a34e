/** Every check of a set-up, from its settings. */
import type pg from 'pg';
import { createPool } from '../db/shared/client.ts';
import { loadModels } from '../db/requests/catalogue.ts';
import { arrivedEvents } from '../db/payments/provider-events.ts';
import { webhookCounts } from '../db/payments/webhook-counts.ts';
import type { Check } from './check.ts';
import type { Arrivals } from './checks/arrivals.ts';
import { addressCheck } from './checks/address.ts';
import { chainChecks } from './checks/chain.ts';
import { creemChecks } from './checks/creem.ts';
import { discordCheck } from './checks/discord.ts';
import { postgresChecks } from './checks/postgres.ts';
import { stripeChecks } from './checks/stripe.ts';
import { temporalCheck } from './checks/temporal.ts';
import { upstreamCheck } from './checks/upstreams.ts';
import { webhookRefusalsCheck } from './checks/webhook-refusals.ts';
import type { DoctorSettings } from './settings.ts';

export interface OpenChecks {
  readonly checks: readonly Check[];
  /** Closes what the checks have opened. */
  close(): Promise<void>;
}

/** The checks of what is configured; what is not has none. */
export function checksOf(settings: DoctorSettings): OpenChecks {
  const { databases, temporalAddress, namespaces, payments, rewards, upstreams } = settings;
  const { stripe, creem, crypto, publicUrl } = payments;
  // Any role may read what is asked for here; a worker alone knows only its own address.
  const place = databases.find(({ role }) => role === 'management') ?? databases[0];
  const pool = place === undefined ? null : createPool({ url: place.url, role: place.role, max: 2 });
  const isLive = payments.methods.some(({ live }) => live);
  return {
    checks: [
      ...postgresChecks(databases),
      temporalCheck({ temporalAddress, namespaces, chains: crypto?.chains ?? [] }),
      addressCheck(publicUrl, isLive),
      webhookRefusalsCheck(
        () => (pool === null ? Promise.resolve(null) : webhookCounts(pool).catch(() => null)),
        (provider) => arrivalsAt(pool, provider),
      ),
      ...(stripe === null ? [] : stripeChecks({ settings: stripe, publicUrl, arrivals: arrivalsAt(pool, 'stripe') })),
      ...(creem === null ? [] : creemChecks(creem, publicUrl)),
      ...(crypto === null ? [] : chainChecks(crypto)),
      ...discordCheck(rewards.discord),
      upstreamCheck(upstreams, () => (pool === null ? Promise.reject(new Error('no database')) : loadModels(pool))),
    ],
    close: () => pool?.end() ?? Promise.resolve(),
  };
}

/** Null where the database does not answer. */
function arrivalsAt(pool: pg.Pool | null, provider: string): Arrivals {
  return (ids) => (pool === null ? Promise.resolve(null) : arrivedEvents(pool, provider, ids).catch(() => null));
}
