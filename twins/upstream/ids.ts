/** The ids that vendors give an answer, in its body and in its headers, whatever id the request came with. */

interface AnswerIds {
  /** The `id` of the answer; null leaves it out. */
  readonly answer: string | null;
  readonly headers: Readonly<Record<string, string>>;
}

type IdMaker = (ordinal: number, seed: number) => AnswerIds;

/** Digits of a request that look random and are not. */
function hex(ordinal: number, seed: number, length: number): string {
  let state = (seed ^ Math.imul(ordinal, 0x9e3779b1)) >>> 0;
  let text = '';
  while (text.length < length) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    text += state.toString(16).padStart(8, '0');
  }
  return text.slice(0, length);
}

const MAKERS = {
  twin: (ordinal, seed) => ({
    answer: `chatcmpl-twin-${ordinal}-${seed.toString(36)}`,
    headers: { 'x-request-id': `req-twin-${ordinal}` },
  }),
  openai: (ordinal, seed) => ({
    answer: `chatcmpl-${hex(ordinal, seed, 29)}`,
    headers: {
      'x-request-id': `req_${hex(ordinal, seed, 32)}`,
      'openai-processing-ms': '12',
      'cf-ray': `${hex(ordinal, seed, 16)}-FRA`,
    },
  }),
  openrouter: (ordinal, seed) => ({
    answer: `gen-1700000000-${hex(ordinal, seed, 20)}`,
    headers: { 'cf-ray': `${hex(ordinal, seed, 16)}-FRA` },
  }),
  anthropic: (ordinal, seed) => ({
    answer: `msg_01${hex(ordinal, seed, 22)}`,
    headers: { 'request-id': `req_01${hex(ordinal, seed, 22)}` },
  }),
  groq: (ordinal, seed) => ({
    answer: `chatcmpl-${hex(ordinal, seed, 32)}`,
    headers: { 'x-request-id': `req_01${hex(ordinal, seed, 24)}` },
  }),
  deepseek: (ordinal, seed) => ({
    answer: hex(ordinal, seed, 32),
    headers: { 'x-ds-trace-id': hex(ordinal, seed, 32) },
  }),
  /** The same id for every answer, as some open servers give it. */
  constant: () => ({ answer: 'chatcmpl-0', headers: {} }),
  empty: () => ({ answer: '', headers: {} }),
  none: () => ({ answer: null, headers: {} }),
} as const satisfies Record<string, IdMaker>;

export type IdStyle = keyof typeof MAKERS;

export const ID_STYLES = Object.keys(MAKERS) as IdStyle[];

export function idsOf(style: IdStyle, ordinal: number, seed: number): AnswerIds {
  return MAKERS[style](ordinal, seed);
}
