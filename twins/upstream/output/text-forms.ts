/** Forms of output that are text: where providers put what a model says and what it thinks. */
import {
  append,
  from,
  push,
  type ChunkPart,
  type FormBody,
  type OutputForm,
  type Part,
  type WholePart,
} from './form.ts';

/** Text in one field of the delta and of the message. */
function inField(name: string, countedAs: OutputForm['countedAs'] = 'text'): FormBody {
  return {
    countedAs,
    chunk: ({ text }) => ({ delta: { [name]: text } }),
    whole: ({ message }, { text }) => append(message, name, text),
  };
}

/** Items in a list under one field of the delta and of the message. */
function inList(name: string, item: (part: Part) => unknown, countedAs: OutputForm['countedAs'] = 'text'): FormBody {
  return {
    countedAs,
    chunk: (part) => ({ delta: { [name]: [item(part)] } }),
    whole: ({ message }, part) => push(message, name, item(part)),
  };
}

/** Text between marks in the content. */
function between(start: string, end: string, beside: object = {}): FormBody {
  const marked = ({ isFirst, isLast, text }: Part): string => `${isFirst ? start : ''}${text}${isLast ? end : ''}`;
  return {
    countedAs: 'reasoning',
    chunk: (part) => ({ delta: { content: marked(part), ...beside } }),
    whole: ({ message }, part) => append(message, 'content', marked(part)),
  };
}

/** Nothing of it is shown; what a chunk says of it, if anything, is empty. */
function unseen(chunk: ChunkPart): FormBody {
  return { countedAs: 'reasoning', isShown: false, chunk: () => chunk, whole: () => undefined };
}

/** Fields of the choice, beside the delta. */
function besideDelta(field: (part: Part) => Record<string, string>): FormBody {
  return {
    countedAs: 'text',
    chunk: (part) => ({ delta: {}, choice: field(part) }),
    whole: ({ choice }, part) => addTo(choice, field(part)),
  };
}

/** Fields of the chunk, beside the choices. */
function besideChoices(field: (part: Part) => Record<string, string>): FormBody {
  return {
    countedAs: 'text',
    chunk: (part) => ({ delta: {}, top: field(part) }),
    whole: ({ top }, part) => addTo(top, field(part)),
  };
}

function addTo(fields: WholePart['choice'], added: Record<string, string>): void {
  for (const [name, text] of Object.entries(added)) append(fields, name, text);
}

/** The delta as usual, and the answer as far as it has come in a second place. */
function repeated(second: (soFar: string) => ChunkPart): FormBody {
  return {
    countedAs: 'text',
    chunk: ({ text, soFar }) => ({ delta: { role: 'assistant', content: text }, ...second(soFar()) }),
    whole: ({ message }, { text }) => append(message, 'content', text),
  };
}

const messageChoice = (text: string): object => ({ message: { role: 'assistant', content: text } });
const textPart = ({ text }: Part): object => ({ type: 'text', text });
const detail = (fields: object): object => ({ ...fields, format: 'unknown', index: 0 });

const CONTENT_FORMS = {
  text: from('OpenAI API reference, chat completions', inField('content')),
  refusal: from('OpenAI guides, structured outputs: refusals', inField('refusal')),
  content_parts: from('Mistral AI and gateways in front of Anthropic', inList('content', textPart)),
  content_nested: from(
    'gateways that pass on the output items of the responses interface',
    inList('content', (part) => ({ type: 'output', content: [{ type: 'text', content: [textPart(part)] }] })),
  ),
  content_strings: from(
    'servers that send the content as lines',
    inList('content', ({ text }) => text),
  ),
  content_unknown_part: from(
    'a part of a type that is not known yet',
    inList('content', ({ text }) => ({ type: 'vendor_x', vendor_x: { value: text } })),
  ),
  content_object: from('Cohere API reference, chat v2: content-delta', {
    countedAs: 'text',
    chunk: (part) => ({ delta: { content: textPart(part) } }),
    whole: ({ message }, { text }) => {
      const present = message['content'] as { text?: string } | null | undefined;
      message['content'] = { type: 'text', text: (present?.text ?? '') + text };
    },
  }),
} as const satisfies Record<string, OutputForm>;

const REASONING_FORMS = {
  reasoning_content: from(
    'DeepSeek, Moonshot, DashScope, xAI, SGLang, older vLLM',
    inField('reasoning_content', 'reasoning'),
  ),
  reasoning: from('OpenRouter; Groq with reasoning_format parsed; vLLM; Cerebras', inField('reasoning', 'reasoning')),
  thinking: from('Ollama', inField('thinking', 'reasoning')),
  reasoning_details: from(
    'OpenRouter docs, reasoning tokens: reasoning.text',
    inList('reasoning_details', ({ text }) => detail({ type: 'reasoning.text', text, signature: null }), 'reasoning'),
  ),
  reasoning_summary: from(
    'OpenRouter docs, reasoning tokens: reasoning.summary',
    inList('reasoning_details', ({ text }) => detail({ type: 'reasoning.summary', summary: text }), 'reasoning'),
  ),
  reasoning_encrypted: from(
    'OpenRouter docs, reasoning tokens: reasoning.encrypted',
    inList(
      'reasoning_details',
      ({ text, id }) => detail({ type: 'reasoning.encrypted', data: Buffer.from(text).toString('base64'), id }),
      'reasoning',
    ),
  ),
  /** The same words twice in one delta, which are produced once. */
  reasoning_twice: from('OpenRouter, reasoning beside reasoning_details', {
    countedAs: 'reasoning',
    chunk: ({ text }) => ({
      delta: { reasoning: text, reasoning_details: [detail({ type: 'reasoning.text', text })] },
    }),
    whole: ({ message }, { text }) => {
      append(message, 'reasoning', text);
      push(message, 'reasoning_details', detail({ type: 'reasoning.text', text }));
    },
  }),
  thinking_blocks: from(
    'LiteLLM docs, reasoning content: thinking_blocks of Anthropic',
    inList(
      'thinking_blocks',
      ({ text, isLast }) => ({ type: 'thinking', thinking: text, signature: isLast ? 'c2lnbmF0dXJl' : null }),
      'reasoning',
    ),
  ),
  think_tag: from('open models without a parser for their marks', between('<think>', '</think>')),
  google_thought: from(
    'Gemini API, OpenAI compatibility: include_thoughts',
    between('<thought>', '</thought>', { extra_content: { google: { thought: true } } }),
  ),
  content_thinking: from(
    'Mistral AI docs, reasoning: thinking parts of the content',
    inList(
      'content',
      ({ text }) => ({ type: 'thinking', thinking: [{ type: 'text', text }], closed: true }),
      'reasoning',
    ),
  ),
} as const satisfies Record<string, OutputForm>;

const PLACE_FORMS = {
  vendor: from('a field of the delta that is not known yet', inField('vendor_x')),
  vendor_object: from('the same, with text deep inside', {
    countedAs: 'text',
    chunk: ({ text }) => ({ delta: { vendor_x: { parts: [{ deep: { value: text } }] } } }),
    whole: ({ message }, { text }) => push(message, 'vendor_x', { deep: { value: text } }),
  }),
  delta_string: from('proxies in front of completions', {
    countedAs: 'text',
    chunk: ({ text }) => ({ delta: text }),
    whole: ({ message }, { text }) => append(message, 'content', text),
  }),
  delta_text: from('proxies in front of Anthropic: text_delta', inField('text')),
  vendor_choice: from(
    'a field of the choice that is not known yet',
    besideDelta(({ text }) => ({ vendor_x: text })),
  ),
  choice_text: from(
    'OpenAI API reference, completions (legacy)',
    besideDelta(({ text }) => ({ text })),
  ),
  choice_message: from('servers that send a message where a delta belongs', {
    countedAs: 'text',
    chunk: ({ text }) => ({ choice: { message: { role: 'assistant', content: text } } }),
    whole: ({ message }, { text }) => append(message, 'content', text),
  }),
  choice_message_so_far: from(
    'Perplexity; perplexityai/api-discussion issue 209',
    repeated((soFar) => ({ choice: { message: { role: 'assistant', content: soFar } } })),
  ),
  top_so_far: from(
    '0xPlaygrounds/rig issue 534',
    repeated((soFar) => ({ top: { content: soFar, lastOne: false } })),
  ),
  vendor_top: from(
    'a field of the chunk that is not known yet',
    besideChoices(({ text }) => ({ vendor_x: text })),
  ),
  top_response: from(
    'Cloudflare Workers AI, streaming',
    besideChoices(({ text }) => ({ response: text })),
  ),
  top_output: from('Alibaba Cloud Model Studio, DashScope API reference', {
    countedAs: 'text',
    chunk: ({ text }) => ({ delta: {}, top: { output: { choices: [messageChoice(text)] } } }),
    whole: ({ top }, { text }) => {
      const { choices } = (top['output'] ??= { choices: [] }) as { choices: object[] };
      choices.push(messageChoice(text));
    },
  }),
} as const satisfies Record<string, OutputForm>;

const UNSEEN_FORMS = {
  hidden: from('OpenAI guides, reasoning: reasoning tokens are billed and not shown', unseen({})),
  empty_content: from('chunks that say nothing while the model thinks', unseen({ delta: { content: '' } })),
  null_content: from('the same, with null', unseen({ delta: { content: null } })),
  empty_delta: from('the same, without a field', unseen({ delta: {} })),
} as const satisfies Record<string, OutputForm>;

export const TEXT_FORMS = { ...CONTENT_FORMS, ...REASONING_FORMS, ...PLACE_FORMS, ...UNSEEN_FORMS };
