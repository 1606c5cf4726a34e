/** Input tokens of a request whose provider has not told them. */
import { textOf } from './chat-request.ts';
import type { Exchange } from './exchange.ts';
import { countTokens } from './token-count.ts';

export function estimateInputTokens({ request }: Exchange): Promise<number> {
  return countTokens(textOf(request));
}
