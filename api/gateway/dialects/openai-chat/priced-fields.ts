/** What of a chat request needs a price of its own, and what of it is bounded for models that cost nothing. */
import type { PriceRow } from '../../../../domain/requests/prices.ts';
import type { FreeAsk } from '../../core/dialect.ts';
import { unsupported } from '../../core/refusals.ts';
import type { ChatRequest } from './request.ts';

/** Refuses what the model has no price for although its use would be charged by the provider. */
export function checkPricedFields({ webSearch, output }: ChatRequest, row: PriceRow): void {
  if (webSearch && row.web_search === undefined) throw unsupported('web_search_options');
  if (output.audio && row.audio_out === undefined)
    throw unsupported('modalities', '"audio" has no price on this model');
  if (output.image && row.image_out === undefined)
    throw unsupported('modalities', '"image" has no price on this model');
}

/** What the request asks for, by the fields in which it does. */
export function freeAsks({ answers, limits, reasoningTokens }: ChatRequest): FreeAsk[] {
  return [
    { field: 'n', value: answers, bound: 'answers' },
    { field: 'max_tokens', value: limits.max_tokens, bound: 'outputTokens' },
    { field: 'max_completion_tokens', value: limits.max_completion_tokens, bound: 'outputTokens' },
    // Some providers do not count it against the limit.
    { field: 'reasoning', value: reasoningTokens, bound: 'outputTokens' },
  ];
}
