/**
 * Webhooks of providers that the api has refused lately, by reason. A refusal counts until an event of that provider
 * has come since: then its cause is gone.
 */
import type { WebhookCount } from '../../db/payments/webhook-counts.ts';
import { isForged, WEBHOOK_REFUSAL_CURES, type WebhookRefusalReason } from '../../providers/webhook-refusals.ts';
import { fault, ok, warning, type Check, type Finding } from '../check.ts';
import type { Arrivals } from './arrivals.ts';

const LATELY_MS = 3 * 86_400_000;

/** Nobody's mistake here, or no provider's call. */
const OF_NO_PROVIDER: readonly string[] = [
  'no_signature',
  'too_large',
  'not_received',
] satisfies WebhookRefusalReason[];

/** `counts` and `arrivals`: null while the database cannot be asked. */
export function webhookRefusalsCheck(
  counts: () => Promise<readonly WebhookCount[] | null>,
  arrivalsOf: (provider: string) => Arrivals,
): Check {
  return {
    name: 'webhooks',
    run: async () => {
      const all = await counts();
      if (all === null)
        return [warning('cannot be told while the database cannot be asked', 'see the line of postgresql')];
      const findings: Finding[] = [];
      for (const count of all) {
        const isWorthIt = count.kind === 'refused' && !OF_NO_PROVIDER.includes(count.reason);
        if (!isWorthIt || Date.now() - count.lastAt.getTime() > LATELY_MS) continue;
        const arrived = await arrivalsOf(count.provider)([]);
        if (arrived?.lastAt != null && arrived.lastAt > count.lastAt) continue;
        findings.push(findingOf(count));
      }
      return findings.length > 0 ? findings : [ok('none that a provider sent was refused lately')];
    },
    silentCure: 'see whether PostgreSQL is busy or blocked: pg_stat_activity',
  };
}

function findingOf({ provider, reason, count, lastAt, lastDetail }: WebhookCount): Finding {
  const code = reason as WebhookRefusalReason;
  const detail = lastDetail === null ? '' : ` (${lastDetail})`;
  const words = `calls of ${provider} are refused: ${reason}${detail}, ${count} so far, the last at ${lastAt.toISOString()}`;
  const cure = WEBHOOK_REFUSAL_CURES[code].replaceAll('{provider}', provider);
  // A sender without any secret can cause these as well.
  return isForged({ reason: code }) || code === 'not_configured' ? warning(words, cure) : fault(words, cure);
}
