/** Input tokens of a request whose provider has not told them: text as it is counted here, everything else as it was held. */
import { nonTextInputTokens } from './chat-reach.ts';
import { textOf } from './chat-text.ts';
import type { Exchange } from './exchange.ts';
import { countTokens } from './token-count.ts';

export async function estimateInputTokens({ request, model }: Exchange): Promise<number> {
  const tokens = (await countTokens(textOf(request))) + nonTextInputTokens(request, model);
  return Math.min(tokens, model.contextLength);
}
