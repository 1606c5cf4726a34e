/**
 * OpenAI's chat completions as the twin writes them, field for field, and in the forms of those who say that they are
 * compatible. Plain text is joined from parts prepared once per answer, and no JSON is built per token; the other forms
 * are written as objects. `include_usage` follows the provider: `usage: null` on every chunk and one more chunk without
 * choices before [DONE].
 */
import type { AnswerWriter } from './dialect.ts';
import { OUTPUT_FORMS } from './output-forms.ts';
import type { ChunkPart, Fields, Part, WholePart } from './output-form.ts';
import { membersOf, type AnswerPlan, type UsageMembers } from './plan.ts';
import { isHidden, type Piece, type Segment } from './segments.ts';
import type { TokenCounts } from './token-counts.ts';
import type { UsagePlace } from './usage-shape.ts';
import { dataBytes, tokenText } from './words.ts';

interface Chunk extends ChunkPart {
  readonly index: number;
  /** The JSON member of the finish reason with its comma; may be empty. */
  readonly finish: string;
  readonly usage: readonly UsageMembers[];
}

export function chatCompletionWriter(plan: AnswerPlan, answerId: string | null, ordinal: number): AnswerWriter {
  const { finish, segments, seed, wantsUsage } = plan;
  const created = Math.floor(Date.now() / 1000);
  const id = answerId === null ? '' : `"id":${JSON.stringify(answerId)},`;
  const common = `"created":${created},"model":${JSON.stringify(plan.shownModel)},"service_tier":"default","system_fingerprint":"fp_twin"`;
  const chunkStart = `data: {${id}"object":"chat.completion.chunk",${common},"choices":[`;
  const nullUsage = wantsUsage ? ',"usage":null' : '';
  const indices = Array.from({ length: plan.choices }, (_, index) => index);
  const finishWord = plan.finishReason === 'tool_call' ? 'tool_calls' : plan.finishReason;
  const openFinish = finish.omit_before ? '' : `,"finish_reason":${JSON.stringify(finish.before ?? null)}`;
  const lastFinish =
    (finish.omit ? '' : `,"finish_reason":${JSON.stringify(finish.word === undefined ? finishWord : finish.word)}`) +
    (finish.native === undefined ? '' : `,"native_finish_reason":${JSON.stringify(finish.native)}`);
  const visible = segments.filter((segment) => !isHidden(segment));
  const lastVisible = visible.at(-1);
  const isPlain = (segment: Segment): boolean => segment.form === 'text';
  const opensWithCall = visible[0]?.form === 'tool_calls';

  const usageAt = (places: readonly UsagePlace[], counts: TokenCounts): UsageMembers[] =>
    plan.usage.filter(({ place }) => places.includes(place)).map(({ members }) => members(counts));
  const hasEvery = plan.usage.some(({ place }) => place === 'every');
  const every = (counts: TokenCounts): readonly UsageMembers[] => (hasEvery ? usageAt(['every'], counts) : NONE);

  const chunkText = ({ index, delta, choice, top, finish: reason, usage }: Chunk): string => {
    const deltaText = delta === undefined ? '' : `,"delta":${JSON.stringify(delta)}`;
    const beside = choice === undefined ? '' : `,${membersOf(choice)}`;
    const besideUsage = usage.map((members) => (members.choice === '' ? '' : `,${members.choice}`)).join('');
    const topText = top === undefined ? '' : `,${membersOf(top)}`;
    return `${chunkStart}{"index":${index}${deltaText},"logprobs":null${beside}${reason}${besideUsage}}]${topText}${usageText(usage)}}\n\n`;
  };

  /** The usage members of a chunk; `usage: null` where none says anything. */
  const usageText = (usage: readonly UsageMembers[]): string => {
    const text = usage.map(({ top }) => (top === '' ? '' : `,${top}`)).join('');
    return text.includes('"usage":') ? text : text + nullUsage;
  };

  /** One chunk per choice, as OpenAI sends them; usage stands in the last. */
  const chunks = (part: (choice: number) => ChunkPart, reason: string, usage: readonly UsageMembers[]): string =>
    indices
      .map((index) =>
        chunkText({ ...part(index), index, finish: reason, usage: index === plan.choices - 1 ? usage : NONE }),
      )
      .join('');

  /** A chunk of usage alone, with an empty delta or without choices. */
  const usageChunks = (places: readonly UsagePlace[], counts: TokenCounts): string =>
    plan.usage
      .filter(({ place }) => places.includes(place))
      .map(({ place, members }) => {
        const usage = members(counts);
        if (place === 'own_with_choice' || usage.choice !== '') {
          return chunkText({ index: 0, delta: { role: 'assistant', content: '' }, finish: openFinish, usage: [usage] });
        }
        return `${chunkStart}]${usage.top === '' ? '' : `,${usage.top}`}}\n\n`;
      })
      .join('');

  const words = (choice: number, from: number, tokens: number): string => {
    let text = '';
    for (let index = from; index < from + tokens; index += 1) text += tokenText(seed, choice, index);
    return text;
  };

  const partOf = ({ segment, from, tokens }: Piece, choice: number): Part => {
    const callIndex = callIndexOf(segments, segment);
    const start = segment.start - hiddenBefore(segments, segment);
    return {
      text: words(choice, start + from, tokens),
      soFar: () => words(choice, start, from + tokens),
      data: () => dataBytes(seed + choice + segment.start + from, tokens * segment.bytesPerToken, from === 0),
      choice,
      isFirst: from === 0,
      isLast: from + tokens === segment.tokens && !(segment === segments.at(-1) && plan.finishReason === 'length'),
      id: `call_twin_${ordinal}_${choice}${callIndex === 0 ? '' : `_${callIndex}`}`,
      toolName: plan.toolName,
      callIndex,
    };
  };

  /** The end of the plain text chunk of every choice, prepared for the many. */
  const plainEnd = `"},"logprobs":null${openFinish}}]${nullUsage}}\n\n`;

  const piece = (sent: Piece, counts: TokenCounts): string => {
    const { segment, from, tokens } = sent;
    const isLast = segment === lastVisible && from + tokens === segment.tokens;
    const reason = isLast && finish.place === 'with_content' ? lastFinish : openFinish;
    const usage = isLast && finish.place === 'with_content' ? usageAt(['every', 'finish'], counts) : every(counts);
    if (isPlain(segment) && reason === openFinish && usage.length === 0) {
      const start = segment.start - hiddenBefore(segments, segment) + from;
      return indices
        .map(
          (choice) => `${chunkStart}{"index":${choice},"delta":{"content":"${words(choice, start, tokens)}${plainEnd}`,
        )
        .join('');
    }
    const form = OUTPUT_FORMS[segment.form];
    const { head } = form;
    const before =
      head === undefined || from > 0 ? '' : chunks((choice) => head(partOf(sent, choice)), openFinish, every(counts));
    return before + chunks((choice) => form.chunk(partOf(sent, choice)), reason, usage);
  };

  return {
    opening: (counts) => {
      const reason = finish.place === 'first' ? lastFinish : openFinish;
      const usage = usageAt(['first', 'every'], counts);
      const content = opensWithCall ? null : '';
      return chunks(() => ({ delta: { role: 'assistant', content, refusal: null } }), reason, usage);
    },
    piece,
    garbage: () => (plan.stream ? `${chunkStart}{"index":0,"delta":{"cont\n\n` : `{${id}"choices":[{"ind`),
    error: ({ text, carrier }) => {
      if (!plan.stream) return text;
      if (carrier === 'bare') return `${text}\n`;
      return `${carrier === 'event' ? 'event: error\n' : ''}data: ${text}\n\n`;
    },
    closing: (counts) => {
      const before = usageChunks(['before_finish'], counts);
      if (finish.place === 'with_content' && lastVisible !== undefined) return before;
      if (finish.place === 'none' || finish.place === 'first') {
        const usage = usageAt(['finish'], counts);
        return before + (usage.length === 0 ? '' : chunks(() => ({ delta: {} }), openFinish, usage));
      }
      const closing = chunks(() => ({ delta: {} }), lastFinish, usageAt(['every', 'finish'], counts));
      return before + (finish.place === 'twice' ? closing + closing : closing);
    },
    usage: (place, counts) => usageChunks(place === 'own' ? ['own', 'own_with_choice'] : [place], counts),
    done: () => 'data: [DONE]\n\n',
    whole: (shown, counts) => {
      const usage = plan.usage[0]?.members(counts) ?? { top: '', choice: '' };
      const top: Fields = {};
      const choices = indices.map((index) => {
        const choice: Fields = {};
        const message: Fields = { role: 'assistant', content: null, refusal: null, annotations: [] };
        writeWhole({ message, choice, top }, visible, shown, (sent) => partOf(sent, index));
        if (message['content'] === null && !visible.some(({ form }) => OUTPUT_FORMS[form].isCall === true))
          message['content'] = '';
        const beside = Object.keys(choice).length === 0 ? '' : `,${membersOf(choice)}`;
        const choiceUsage = usage.choice === '' ? '' : `,${usage.choice}`;
        return `{"index":${index},"message":${JSON.stringify(message)},"logprobs":null${beside}${lastFinish}${choiceUsage}}`;
      });
      const topText = Object.keys(top).length === 0 ? '' : `,${membersOf(top)}`;
      const usageText = usage.top === '' ? '' : `,${usage.top}`;
      return `{${id}"object":"chat.completion",${common},"choices":[${choices.join(',')}]${topText}${usageText}}`;
    },
  };
}

const NONE: readonly UsageMembers[] = [];

/** Writes the first `shown` content chunks of a choice into a whole answer, a segment at a time. */
function writeWhole(
  whole: WholePart,
  segments: readonly Segment[],
  shown: number,
  partOf: (piece: Piece) => Part,
): void {
  let left = shown;
  for (const segment of segments) {
    const tokens = Math.min(segment.tokens, left * segment.chunkTokens);
    if (tokens === 0) return;
    OUTPUT_FORMS[segment.form].whole(whole, partOf({ segment, from: 0, tokens }));
    left -= Math.ceil(tokens / segment.chunkTokens);
  }
}

/** Which of the choice's calls a segment is. */
function callIndexOf(segments: readonly Segment[], segment: Segment): number {
  return segments.filter(({ form, start }) => OUTPUT_FORMS[form].isCall === true && start < segment.start).length;
}

/** Hidden tokens before a segment: words are counted among what is shown, so that hiding changes no text. */
function hiddenBefore(segments: readonly Segment[], segment: Segment): number {
  return segments.reduce((sum, other) => sum + (isHidden(other) && other.start < segment.start ? other.tokens : 0), 0);
}
