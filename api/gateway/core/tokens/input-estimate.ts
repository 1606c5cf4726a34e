/** Input tokens of a request whose provider has not told them: its strings as counted here, everything else as it was held. */
import { nonTextInputTokens } from '../holds/reach.ts';
import type { Exchange } from '../held-request.ts';
import { countBodyTokens } from './token-count.ts';

/** `withinMs`: after so long it is the bytes of the body, as they were held. */
export async function estimateInputTokens({ request, model }: Exchange, withinMs?: number): Promise<number> {
  const other = nonTextInputTokens(request, model);
  const left = Math.max(0, model.contextLength - other);
  return Math.min(other + (await countBodyTokens(request.raw, left, withinMs)), model.contextLength);
}
