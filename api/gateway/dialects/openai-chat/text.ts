/** The text of a chat request, for counting tokens locally when the upstream does not. */
import type { ChatRequest } from './request.ts';

interface ReadBody {
  readonly messages: readonly { readonly content?: unknown }[];
  readonly tools?: unknown;
}

/** Contents of the messages and the tools. The body has been read before, so it is JSON within its bounds. */
export function textOf({ raw }: ChatRequest): string {
  const body = JSON.parse(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength).toString()) as ReadBody;
  const texts: string[] = [];
  for (const { content } of body.messages) {
    if (typeof content === 'string') texts.push(content);
    else if (Array.isArray(content)) {
      for (const part of content as { text?: unknown }[]) if (typeof part.text === 'string') texts.push(part.text);
    }
  }
  if (body.tools !== undefined && body.tools !== null) texts.push(JSON.stringify(body.tools));
  return texts.join('\n');
}
