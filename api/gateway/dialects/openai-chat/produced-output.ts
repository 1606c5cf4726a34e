/**
 * What a part of an answer carries: every text and every value that a model has produced, in whatever form a provider
 * sends it. Providers invent forms faster than a list of them can grow, and what a list does not know would be given
 * away: so all is output that is not known to be framing. Knows nothing of money.
 */
import type { ProducedOutput } from '../../core/dialect.ts';

/** Fields that frame what is produced. Everything else in a delta was written by the model. */
const FRAMING = new Set([
  'role',
  'id',
  'index',
  'type',
  'object',
  'call_id',
  'tool_call_id',
  'status',
  'format',
  'mime_type',
  'encoding',
  'expires_at',
]);

/** Values that the model wrote as JSON: some servers parse them before they send them. */
const ARGUMENTS = new Set(['arguments', 'input', 'parsed_arguments']);

/** `data:` URLs, and text as long as a picture's with nothing but base64 in it. */
const MEDIUM = /^(data:[^,]{1,200};base64,|[A-Za-z0-9+/_-]{256,}={0,2}$)/;

/** A part is nested a few levels deep; one that is deeper is printed and counted by its bytes. */
const DEPTH_MAX = 32;

/** The output of a choice of a stream's chunk or of a whole answer; null when it carries none. */
export function outputOfChoice(choice: Readonly<Record<string, unknown>>): ProducedOutput | null {
  // Beside a delta some providers repeat the whole message so far.
  return outputOf(choice['delta']) ?? outputOf(choice['message']) ?? outputOf(choice['text']);
}

/** The output of a delta, a message or a text; null when there is none. */
export function outputOf(part: unknown): ProducedOutput | null {
  if (part === undefined || part === null || part === '') return null;
  const found = new Found();
  found.walk(part, 0);
  return found.isEmpty ? null : found;
}

class Found implements ProducedOutput {
  readonly #texts = new Set<string>();
  #sawCall = false;
  otherBytes = 0;
  hasMedia = false;

  get texts(): readonly string[] {
    return [...this.#texts];
  }

  get isEmpty(): boolean {
    return this.#texts.size === 0 && this.otherBytes === 0 && !this.#sawCall;
  }

  walk(value: unknown, depth: number): void {
    switch (typeof value) {
      case 'string':
        this.#addText(value);
        return;
      case 'number':
      case 'boolean':
        this.otherBytes += String(value).length;
        return;
      case 'object':
        if (value === null) return;
        if (depth >= DEPTH_MAX) this.otherBytes += printedBytes(value);
        else if (Array.isArray(value)) for (const item of value) this.walk(item, depth + 1);
        else this.#walkFields(value as Record<string, unknown>, depth);
        return;
      default:
        return;
    }
  }

  #walkFields(fields: Record<string, unknown>, depth: number): void {
    for (const [name, value] of Object.entries(fields)) {
      if (FRAMING.has(name) && typeof value !== 'object') continue;
      // A call is output even before its name and arguments have come.
      if (name === 'tool_calls' && Array.isArray(value) && value.length > 0) this.#sawCall = true;
      if (ARGUMENTS.has(name) && typeof value === 'object' && value !== null) this.#addArguments(value);
      else this.walk(value, depth + 1);
    }
  }

  #addArguments(value: object): void {
    const text = printed(value);
    if (text === null) this.otherBytes += printedBytes(value);
    else this.#texts.add(text);
  }

  #addText(text: string): void {
    if (text === '') return;
    if (!MEDIUM.test(text)) {
      this.#texts.add(text);
      return;
    }
    this.hasMedia = true;
    this.otherBytes += text.length;
  }
}

/** A value as JSON; null when it is nested deeper than JSON can be written. */
function printed(value: unknown): string | null {
  try {
    return JSON.stringify(value);
  } catch {
    return null;
  }
}

/** About the bytes of a value as JSON, however deep it is nested; at least one. */
function printedBytes(value: unknown): number {
  let bytes = 0;
  const left = [value];
  while (left.length > 0) {
    const next = left.pop();
    bytes += typeof next === 'string' ? Buffer.byteLength(next) + 2 : 2;
    if (typeof next !== 'object' || next === null) continue;
    for (const [name, inner] of Object.entries(next)) {
      if (!Array.isArray(next)) bytes += Buffer.byteLength(name) + 3;
      left.push(inner);
    }
  }
  return bytes;
}
