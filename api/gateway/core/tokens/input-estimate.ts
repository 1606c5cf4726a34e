/**
 * Input tokens of a request whose provider has not told them: its strings as counted here, everything else as it was
 * held.
 */
import type { Admission } from '../admission.ts';
import { nonTextInputTokens } from '../holds/reach.ts';
import type { TokenCounter } from './token-count.ts';

/** `withinMs`: after so long it is the bytes of the body, as they were held. */
export async function estimateInputTokens(
  { dialect, request, model }: Admission,
  tokens: TokenCounter,
  withinMs?: number,
): Promise<number> {
  const other = nonTextInputTokens(request, model);
  const left = Math.max(0, model.contextLength - other);
  const text = await tokens.countBody({ body: request.raw, dialect: dialect.name }, left, withinMs);
  return Math.min(other + text, model.contextLength);
}
