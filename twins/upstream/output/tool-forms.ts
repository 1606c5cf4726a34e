/** Forms of output that call a tool. The argument is `{"text": "…"}`, valid JSON unless the maximum cut it. */
import { append, from, push, type Fields, type FormBody, type OutputForm, type Part } from './form.ts';

/** This part of the argument's JSON text. */
function argumentText({ isFirst, isLast, text }: Part): string {
  return `${isFirst ? '{"text":"' : ''}${text}${isLast ? '"}' : ''}`;
}

interface CallShape {
  /** The call in a chunk. */
  readonly chunk: (part: Part) => Fields;
  readonly whole?: (part: Part) => Fields;
}

/** A call that is sent in pieces, of which the first names the function. */
function calls({ chunk, whole = chunk }: CallShape): FormBody {
  return {
    countedAs: 'text',
    isCall: true,
    chunk: (part) => ({ delta: { tool_calls: [chunk(part)] } }),
    whole: ({ message }, part) => {
      message['content'] ??= null;
      push(message, 'tool_calls', whole(part));
    },
  };
}

function openAiCall(part: Part): Fields {
  const { id, toolName, isFirst } = part;
  return isFirst
    ? { id, type: 'function', function: { name: toolName, arguments: argumentText(part) } }
    : { function: { arguments: argumentText(part) } };
}

const wholeCall = (part: Part): Fields => ({
  id: part.id,
  type: 'function',
  function: { name: part.toolName, arguments: argumentText(part) },
});

export const TOOL_FORMS = {
  /** A chunk that names the function, then the argument piece by piece. */
  tool_calls: from('OpenAI API reference, chat completions: tool_calls', {
    ...calls({
      chunk: (part) => ({ index: part.callIndex, function: { arguments: argumentText(part) } }),
      whole: wholeCall,
    }),
    head: ({ callIndex, id, toolName }) => ({
      delta: { tool_calls: [{ index: callIndex, id, type: 'function', function: { name: toolName, arguments: '' } }] },
    }),
  }),
  /** The first piece names the function and has the beginning of the argument. */
  tool_calls_headless: from(
    'Mistral AI, DeepSeek, most servers',
    calls({ chunk: (part) => ({ index: part.callIndex, ...openAiCall(part) }), whole: wholeCall }),
  ),
  /** Whole calls in one chunk come with `chunk_tokens`. */
  tool_calls_without_index: from(
    'Gemini API, OpenAI compatibility: no index',
    calls({ chunk: openAiCall, whole: wholeCall }),
  ),
  tool_calls_repeated: from(
    'servers that repeat id, type and name in every piece',
    calls({ chunk: (part) => ({ index: part.callIndex, ...wholeCall(part) }), whole: wholeCall }),
  ),
  tool_calls_object: from(
    'Ollama API, chat: arguments as JSON, not as text that holds JSON',
    calls({
      chunk: ({ callIndex, id, toolName, text }) => ({
        index: callIndex,
        id,
        type: 'function',
        function: { name: toolName, arguments: { text } },
      }),
    }),
  ),
  tool_calls_single: from('a call where a list of calls belongs; Cohere API reference, chat v2: tool-call-delta', {
    countedAs: 'text',
    isCall: true,
    chunk: (part) => ({ delta: { tool_calls: { index: 0, ...openAiCall(part) } } }),
    whole: ({ message }, part) => {
      message['tool_calls'] = wholeCall(part);
    },
  }),
  custom_tool: from(
    'OpenAI API reference, chat completions: custom tools',
    calls({
      chunk: ({ callIndex, id, toolName, isFirst, text }) => ({
        index: callIndex,
        ...(isFirst && { id, type: 'custom' }),
        custom: { ...(isFirst && { name: toolName }), input: text },
      }),
      whole: ({ id, toolName, text }) => ({ id, type: 'custom', custom: { name: toolName, input: text } }),
    }),
  ),
  vendor_tool: from(
    'a kind of tool that is not known yet',
    calls({
      chunk: ({ callIndex, id, text }) => ({ index: callIndex, id, type: 'vendor_x', vendor_x: { program: text } }),
    }),
  ),
  function_call: from('OpenAI API reference, chat completions: function_call (deprecated)', {
    countedAs: 'text',
    isCall: true,
    chunk: (part) => ({
      delta: { function_call: { ...(part.isFirst && { name: part.toolName }), arguments: argumentText(part) } },
    }),
    whole: ({ message }, part) => {
      message['function_call'] = { name: part.toolName, arguments: argumentText(part) };
    },
  }),
  /** The call is text of the content. */
  tool_tag: from('open models without a parser for their calls', {
    countedAs: 'text',
    chunk: ({ isFirst, isLast, text }) => ({
      delta: { content: `${isFirst ? '<tool_call>' : ''}${text}${isLast ? '</tool_call>' : ''}` },
    }),
    whole: ({ message }, { text }) => append(message, 'content', `<tool_call>${text}</tool_call>`),
  }),
} as const satisfies Record<string, OutputForm>;
