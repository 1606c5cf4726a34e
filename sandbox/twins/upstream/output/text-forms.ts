/** Forms of output that are text: where providers put what a model says and what it thinks. */
import { append, push, type ChunkPart, type OutputForm, type Part, type WholePart } from './form.ts';

/** Text in one field of the delta and of the message. */
function inField(name: string, countedAs: OutputForm['countedAs'] = 'text'): OutputForm {
  return {
    countedAs,
    chunk: ({ text }) => ({ delta: { [name]: text } }),
    whole: ({ message }, { text }) => append(message, name, text),
  };
}

/** Items in a list under one field of the delta and of the message. */
function inList(name: string, item: (part: Part) => unknown, countedAs: OutputForm['countedAs'] = 'text'): OutputForm {
  return {
    countedAs,
    chunk: (part) => ({ delta: { [name]: [item(part)] } }),
    whole: ({ message }, part) => push(message, name, item(part)),
  };
}

/** Text between marks in the content. */
function between(start: string, end: string, beside: object = {}): OutputForm {
  const marked = ({ isFirst, isLast, text }: Part): string => `${isFirst ? start : ''}${text}${isLast ? end : ''}`;
  return {
    countedAs: 'reasoning',
    chunk: (part) => ({ delta: { content: marked(part), ...beside } }),
    whole: ({ message }, part) => append(message, 'content', marked(part)),
  };
}

/** Nothing of it is shown; what a chunk says of it, if anything, is empty. */
function unseen(chunk: ChunkPart): OutputForm {
  return { countedAs: 'reasoning', isShown: false, chunk: () => chunk, whole: () => undefined };
}

function besideDelta(field: (part: Part) => Record<string, unknown>): OutputForm {
  return {
    countedAs: 'text',
    chunk: (part) => ({ delta: {}, choice: field(part) }),
    whole: ({ choice }, part) => {
      for (const [name, value] of Object.entries(field(part))) addValue(choice, name, value);
    },
  };
}

function besideChoices(field: (part: Part) => Record<string, unknown>): OutputForm {
  return {
    countedAs: 'text',
    chunk: (part) => ({ delta: {}, top: field(part) }),
    whole: ({ top }, part) => {
      for (const [name, value] of Object.entries(field(part))) addValue(top, name, value);
    },
  };
}

function addValue(fields: WholePart['choice'], name: string, value: unknown): void {
  if (typeof value === 'string') append(fields, name, value);
  else fields[name] = value;
}

const textPart = ({ text }: Part): object => ({ type: 'text', text });

export const TEXT_FORMS = {
  /** OpenAI. */
  text: inField('content'),
  /** OpenAI: structured outputs that the model declines. */
  refusal: inField('refusal'),

  /** DeepSeek, Moonshot, DashScope, xAI, older vLLM. */
  reasoning_content: inField('reasoning_content', 'reasoning'),
  /** OpenRouter, Groq with `reasoning_format: parsed`, vLLM, Cerebras. */
  reasoning: inField('reasoning', 'reasoning'),
  /** Ollama, Together's older models. */
  thinking: inField('thinking', 'reasoning'),
  /** OpenRouter: beside `reasoning`, or alone. */
  reasoning_details: inList(
    'reasoning_details',
    ({ text }) => ({ type: 'reasoning.text', text, format: 'unknown', index: 0 }),
    'reasoning',
  ),
  reasoning_summary: inList(
    'reasoning_details',
    ({ text }) => ({ type: 'reasoning.summary', summary: text, format: 'openai-responses-v1', index: 0 }),
    'reasoning',
  ),
  /** OpenRouter: what a provider shows of its reasoning only encrypted. */
  reasoning_encrypted: inList(
    'reasoning_details',
    ({ text, id }) => ({
      type: 'reasoning.encrypted',
      data: Buffer.from(text).toString('base64'),
      id,
      format: 'anthropic-claude-v1',
      index: 0,
    }),
    'reasoning',
  ),
  /** OpenRouter: the same words twice in one delta, which are produced once. */
  reasoning_twice: {
    countedAs: 'reasoning',
    chunk: ({ text }) => ({
      delta: { reasoning: text, reasoning_details: [{ type: 'reasoning.text', text, format: 'unknown', index: 0 }] },
    }),
    whole: ({ message }, { text }) => {
      append(message, 'reasoning', text);
      push(message, 'reasoning_details', { type: 'reasoning.text', text, format: 'unknown', index: 0 });
    },
  },
  /** LiteLLM, for Anthropic's models. */
  thinking_blocks: inList(
    'thinking_blocks',
    ({ text, isLast }) => ({ type: 'thinking', thinking: text, signature: isLast ? 'c2lnbmF0dXJl' : null }),
    'reasoning',
  ),
  /** Open models without a parser for their marks. */
  think_tag: between('<think>', '</think>'),
  /** Gemini's OpenAI interface with `include_thoughts`. */
  google_thought: between('<thought>', '</thought>', { extra_content: { google: { thought: true } } }),
  /** Mistral's reasoning models: parts within a part of the content. */
  content_thinking: inList(
    'content',
    ({ text }) => ({ type: 'thinking', thinking: [{ type: 'text', text }], closed: true }),
    'reasoning',
  ),

  /** Mistral and gateways in front of Anthropic: content as a list of parts. */
  content_parts: inList('content', textPart),
  content_nested: inList('content', (part) => ({
    type: 'output',
    content: [{ type: 'text', content: [textPart(part)] }],
  })),
  content_strings: inList('content', ({ text }) => text),
  /** A part whose text is in a field of its own name. */
  content_unknown_part: inList('content', ({ text }) => ({ type: 'vendor_x', vendor_x: { value: text } })),
  content_object: {
    countedAs: 'text',
    chunk: (part) => ({ delta: { content: textPart(part) } }),
    whole: ({ message }, { text }) => {
      const present = message['content'] as { text?: string } | null | undefined;
      message['content'] = { type: 'text', text: (present?.text ?? '') + text };
    },
  },

  /** A field that no documentation names. */
  vendor: inField('vendor_x'),
  vendor_object: {
    countedAs: 'text',
    chunk: ({ text }) => ({ delta: { vendor_x: { parts: [{ deep: { value: text } }] } } }),
    whole: ({ message }, { text }) => push(message, 'vendor_x', { deep: { value: text } }),
  },
  /** A delta that is text, as some proxies in front of completions send it. */
  delta_string: {
    countedAs: 'text',
    chunk: ({ text }) => ({ delta: text }),
    whole: ({ message }, { text }) => append(message, 'content', text),
  },
  delta_text: inField('text'),
  vendor_choice: besideDelta(({ text }) => ({ vendor_x: text })),
  /** The legacy completions interface. */
  choice_text: besideDelta(({ text }) => ({ text })),
  /** Servers that send a message where a delta belongs. */
  choice_message: {
    countedAs: 'text',
    chunk: ({ text }) => ({ choice: { message: { role: 'assistant', content: text } } }),
    whole: ({ message }, { text }) => append(message, 'content', text),
  },
  /** Perplexity: the delta, and beside it the message as far as it has come. */
  choice_message_so_far: {
    countedAs: 'text',
    chunk: ({ text, soFar }) => ({
      delta: { role: 'assistant', content: text },
      choice: { message: { role: 'assistant', content: soFar() } },
    }),
    whole: ({ message }, { text }) => append(message, 'content', text),
  },
  vendor_top: besideChoices(({ text }) => ({ vendor_x: text })),
  /** Proxies that repeat the answer as far as it has come beside the choices. */
  top_so_far: {
    countedAs: 'text',
    chunk: ({ text, soFar }) => ({ delta: { content: text }, top: { content: soFar() } }),
    whole: ({ message, top }, { text }) => {
      append(message, 'content', text);
      append(top, 'content', text);
    },
  },
  /** Cloudflare's Workers AI. */
  top_response: besideChoices(({ text }) => ({ response: text })),
  /** DashScope's own interface. */
  top_output: besideChoices(({ text }) => ({
    output: { choices: [{ message: { role: 'assistant', content: text } }] },
  })),

  /** Produced, counted, and without a byte in the answer. */
  hidden: unseen({}),
  /** Produced, counted, and shown as a chunk that says nothing. */
  empty_content: unseen({ delta: { content: '' } }),
  null_content: unseen({ delta: { content: null } }),
  empty_delta: unseen({ delta: {} }),
} as const satisfies Record<string, OutputForm>;
