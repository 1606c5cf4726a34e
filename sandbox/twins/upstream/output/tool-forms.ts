/** Forms of output that call a tool. The argument is `{"text": "…"}`, valid JSON unless the maximum cut it. */
import { append, push, type Fields, type OutputForm, type Part } from './form.ts';

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
function calls({ chunk, whole = chunk }: CallShape): OutputForm {
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
  /** OpenAI: a chunk that names the function, then the argument piece by piece. */
  tool_calls: {
    ...calls({
      chunk: (part) => ({ index: part.callIndex, function: { arguments: argumentText(part) } }),
      whole: wholeCall,
    }),
    head: ({ callIndex, id, toolName }) => ({
      delta: { tool_calls: [{ index: callIndex, id, type: 'function', function: { name: toolName, arguments: '' } }] },
    }),
  },
  /** Most others: the first piece names the function and has the beginning of the argument. */
  tool_calls_headless: calls({ chunk: (part) => ({ index: part.callIndex, ...openAiCall(part) }), whole: wholeCall }),
  /** Gemini's OpenAI interface and others: no index. Whole calls in one chunk come with `chunk_tokens`. */
  tool_calls_without_index: calls({ chunk: openAiCall, whole: wholeCall }),
  /** Servers that repeat id, type and name in every piece. */
  tool_calls_repeated: calls({ chunk: (part) => ({ index: part.callIndex, ...wholeCall(part) }), whole: wholeCall }),
  /** Ollama and others: the argument is JSON, not text that holds JSON. */
  tool_calls_object: calls({
    chunk: ({ callIndex, id, toolName, text }) => ({
      index: callIndex,
      id,
      type: 'function',
      function: { name: toolName, arguments: { text } },
    }),
  }),
  /** A call where a list of calls belongs. */
  tool_calls_single: {
    countedAs: 'text',
    isCall: true,
    chunk: (part) => ({ delta: { tool_calls: { index: 0, ...openAiCall(part) } } }),
    whole: ({ message }, part) => {
      message['tool_calls'] = wholeCall(part);
    },
  },
  /** OpenAI's custom tools, whose input is free text. */
  custom_tool: calls({
    chunk: ({ callIndex, id, toolName, isFirst, text }) => ({
      index: callIndex,
      ...(isFirst && { id, type: 'custom' }),
      custom: { ...(isFirst && { name: toolName }), input: text },
    }),
    whole: ({ id, toolName, text }) => ({ id, type: 'custom', custom: { name: toolName, input: text } }),
  }),
  /** A kind of tool that is not known. */
  vendor_tool: calls({
    chunk: ({ callIndex, id, text }) => ({ index: callIndex, id, type: 'vendor_x', vendor_x: { program: text } }),
  }),
  /** OpenAI's older form. */
  function_call: {
    countedAs: 'text',
    isCall: true,
    chunk: (part) => ({
      delta: { function_call: { ...(part.isFirst && { name: part.toolName }), arguments: argumentText(part) } },
    }),
    whole: ({ message }, part) => {
      message['function_call'] = { name: part.toolName, arguments: argumentText(part) };
    },
  },
  /** Open models without a parser for their calls: the call is text of the content. */
  tool_tag: {
    countedAs: 'text',
    chunk: ({ isFirst, isLast, text }) => ({
      delta: { content: `${isFirst ? '<tool_call>' : ''}${text}${isLast ? '</tool_call>' : ''}` },
    }),
    whole: ({ message }, { text }) => append(message, 'content', `<tool_call>${text}</tool_call>`),
  },
} as const satisfies Record<string, OutputForm>;
