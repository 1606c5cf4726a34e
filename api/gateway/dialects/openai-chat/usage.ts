/** The usage object that a client reads, in OpenAI's shape, with what it cost. */
import { formatUsdShort } from '../../../../domain/money.ts';
import { withoutPurchasePrice } from '../../../../domain/requests/purchase-price.ts';
import { rawUsageOf } from '../../../../domain/usage/reported-usage.ts';
import type { ClientUsage } from '../../core/dialect.ts';

/** `cost` is a JSON number by the OpenRouter convention. */
export function renderUsage({ usage, estimated, reported, cost }: ClientUsage): Record<string, unknown> {
  const shown: Record<string, unknown> = {
    prompt_tokens: usage.inputTokens,
    completion_tokens: usage.outputTokens,
    total_tokens: usage.inputTokens + usage.outputTokens,
    ...(estimated ? { estimated: true } : (withoutPurchasePrice(rawUsageOf(reported)) as object | null)),
  };
  // Printed from the exact decimal: a JavaScript number could not hold it.
  shown['cost'] = JSON.rawJSON(formatUsdShort(cost));
  return shown;
}
