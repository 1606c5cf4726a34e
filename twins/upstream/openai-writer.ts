/**
 * OpenAI's chat completions as the twin writes them, field for field, and in the forms of those who say that they are
 * compatible. Plain text is joined from parts prepared once per answer, and no JSON is built per token; the other forms
 * are written as objects. `include_usage` follows the provider: `usage: null` on every chunk and one more chunk without
 * choices before [DONE].
 */
import type { AnswerPlan, UsageMembers } from './answer-plan.ts';
import type { AnswerWriter } from './dialect.ts';
import { DEFAULT_ENVELOPE } from './envelope.ts';
import { membersOf } from './json.ts';
import type { ChunkPart, Fields } from './output/form.ts';
import { OUTPUT_FORMS } from './output/forms.ts';
import { partMaker, shownPieces } from './output/parts.ts';
import { isHidden, type Piece } from './output/segments.ts';
import type { TokenCounts } from './token-counts.ts';
import type { UsagePlace } from './usage/shape.ts';
import { tokenLogprobs } from './words.ts';

const NONE: readonly UsageMembers[] = [];

/** JSON members behind others: nothing where there are none. */
function following(members: string): string {
  return members === '' ? '' : `,${members}`;
}

export function chatCompletionWriter(plan: AnswerPlan, answerId: string | null, ordinal: number): AnswerWriter {
  const { finish, wantsUsage } = plan;
  const { envelope } = plan.steering;
  const created = Math.floor(Date.now() / 1000);
  const id = answerId === null ? '' : `"id":${JSON.stringify(answerId)},`;
  const common = `"created":${created},"model":${JSON.stringify(plan.shownModel)},"service_tier":"default","system_fingerprint":"fp_twin"`;
  const chunkStart = `data: {${id}"object":"chat.completion.chunk",${common},"choices":[`;
  const nullUsage = wantsUsage ? ',"usage":null' : '';
  const extraTop = following(membersOf(envelope.extra_top));
  const extraChoice = following(membersOf(envelope.extra_choice));
  const indices = Array.from({ length: plan.choices }, (_, index) => index);
  const visible = plan.segments.filter((segment) => !isHidden(segment));
  const lastVisible = visible.at(-1);
  const isCall = visible.some(({ form }) => OUTPUT_FORMS[form].isCall === true);
  const partOf = partMaker(plan, ordinal);

  const finishWord = plan.finishReason === 'tool_call' ? 'tool_calls' : plan.finishReason;
  const openFinish = finish.omit_before ? '' : `,"finish_reason":${JSON.stringify(finish.before ?? null)}`;
  const lastFinish =
    (finish.omit ? '' : `,"finish_reason":${JSON.stringify(finish.word === undefined ? finishWord : finish.word)}`) +
    (finish.native === undefined ? '' : `,"native_finish_reason":${JSON.stringify(finish.native)}`);

  const usageAt = (places: readonly UsagePlace[], counts: TokenCounts): readonly UsageMembers[] =>
    plan.usage.filter(({ place }) => places.includes(place)).map(({ members }) => members(counts));
  const tellsOnTheWay = plan.usage.some(({ place }) => place === 'every' || place === 'content');
  const onTheWay = (counts: TokenCounts): readonly UsageMembers[] =>
    tellsOnTheWay ? usageAt(['every', 'content'], counts) : NONE;

  const choiceText = (index: number, part: ChunkPart, reason: string, usage: readonly UsageMembers[]): string => {
    const members = [
      envelope.index ? `"index":${index}` : '',
      part.delta === undefined ? '' : `"delta":${JSON.stringify(withExtras(part.delta, envelope.extra_delta))}`,
      `"logprobs":${JSON.stringify(part.logprobs ?? null)}`,
      part.choice === undefined ? '' : membersOf(part.choice),
    ];
    const beside = usage.map(({ choice }) => following(choice)).join('');
    return `{${members.filter((member) => member !== '').join(',')}${reason}${extraChoice}${beside}}`;
  };

  /** The rest of a chunk behind its choices; `usage: null` where none says anything. */
  const chunkEnd = (top: Fields | undefined, usage: readonly UsageMembers[]): string => {
    const told = usage.map((members) => following(members.top)).join('');
    const beside = top === undefined ? '' : following(membersOf(top));
    return `]${beside}${told}${told.includes('"usage":') ? '' : nullUsage}${extraTop}}\n\n`;
  };

  /** A part of every choice: a chunk for each, as OpenAI sends them, or one for all. Usage stands in the last. */
  const chunks = (part: (choice: number) => ChunkPart, reason: string, usage: readonly UsageMembers[]): string => {
    const parts = indices.map((index) => ({ index, ...part(index) }));
    const ofLast = (index: number): readonly UsageMembers[] => (index === plan.choices - 1 ? usage : NONE);
    // Fields beside the choices belong to one choice, and have no place in a chunk of all.
    if (envelope.together && parts.every(({ top }) => top === undefined)) {
      const texts = parts.map(({ index, ...rest }) => choiceText(index, rest, reason, ofLast(index)));
      return `${chunkStart}${texts.join(',')}${chunkEnd(undefined, usage)}`;
    }
    return parts
      .map(({ index, ...rest }) => {
        const told = ofLast(index);
        return `${chunkStart}${choiceText(index, rest, reason, told)}${chunkEnd(rest.top, told)}`;
      })
      .join('');
  };

  /** Usage in an event of its own: without choices, with an empty delta, or as nothing but itself. */
  const usageChunk = (place: UsagePlace, usage: UsageMembers): string => {
    if (place === 'bare') return `data: {${[usage.top, usage.choice].filter((text) => text !== '').join(',')}}\n\n`;
    if (place !== 'own_with_choice' && usage.choice === '')
      return `${chunkStart}]${following(usage.top)}${extraTop}}\n\n`;
    const empty: ChunkPart = { delta: { role: 'assistant', content: '' } };
    return `${chunkStart}${choiceText(0, empty, openFinish, [usage])}${chunkEnd(undefined, [usage])}`;
  };
  const usageChunks = (places: readonly UsagePlace[], counts: TokenCounts): string =>
    plan.usage
      .filter(({ place }) => places.includes(place))
      .map(({ place, members }) => usageChunk(place, members(counts)))
      .join('');

  const isUsual = envelope === DEFAULT_ENVELOPE && !plan.wantsLogprobs;
  const plainEnd = `"},"logprobs":null${openFinish}}]${nullUsage}}\n\n`;

  const piece = (sent: Piece, counts: TokenCounts): string => {
    const { segment, from, tokens } = sent;
    const isEnd = finish.place === 'with_content' && segment === lastVisible && from + tokens === segment.tokens;
    const usage = isEnd ? usageAt(['every', 'finish'], counts) : onTheWay(counts);
    if (segment.form === 'text' && isUsual && !isEnd && usage.length === 0) {
      return indices
        .map((index) => `${chunkStart}{"index":${index},"delta":{"content":"${partOf.words(sent, index)}${plainEnd}`)
        .join('');
    }
    const form = OUTPUT_FORMS[segment.form];
    const { head } = form;
    const before =
      head === undefined || from > 0 ? '' : chunks((choice) => head(partOf(sent, choice)), openFinish, NONE);
    const chunkOf = (choice: number): ChunkPart => {
      const part = form.chunk(partOf(sent, choice));
      return plan.wantsLogprobs ? { ...part, logprobs: tokenLogprobs(partOf.words(sent, choice)) } : part;
    };
    return before + chunks(chunkOf, isEnd ? lastFinish : openFinish, usage);
  };

  return {
    opening: (counts) => {
      if (!envelope.opening) return '';
      const reason = finish.place === 'first' ? lastFinish : openFinish;
      const content = visible[0] !== undefined && OUTPUT_FORMS[visible[0].form].isCall === true ? null : '';
      const usage = usageAt(['first', 'every', 'content'], counts);
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
      const isSaid = finish.place !== 'none' && finish.place !== 'first';
      const usage = usageAt(['every', 'finish'], counts);
      if (!isSaid && usage.length === 0) return before;
      const closing = chunks(() => ({ delta: {} }), isSaid ? lastFinish : openFinish, usage);
      return before + (finish.place === 'twice' ? closing + closing : closing);
    },
    usage: (place, counts) => usageChunks(place === 'own' ? ['own', 'own_with_choice', 'bare'] : [place], counts),
    done: () => 'data: [DONE]\n\n',
    whole: (shown, counts) => {
      const usage = plan.usage[0]?.members(counts) ?? { top: '', choice: '' };
      const top: Fields = {};
      const choices = indices.map((index) => {
        const choice: Fields = {};
        const message: Fields = {
          role: 'assistant',
          content: isCall ? null : '',
          refusal: null,
          annotations: [],
          ...envelope.extra_delta,
        };
        let words = '';
        for (const sent of shownPieces(visible, shown)) {
          OUTPUT_FORMS[sent.segment.form].whole({ message, choice, top }, partOf(sent, index));
          words += partOf.words(sent, index);
        }
        const members = [
          envelope.index ? `"index":${index}` : '',
          `"message":${JSON.stringify(message)}`,
          `"logprobs":${plan.wantsLogprobs ? JSON.stringify(tokenLogprobs(words)) : 'null'}`,
          membersOf(choice),
        ];
        return `{${members.filter((member) => member !== '').join(',')}${lastFinish}${extraChoice}${following(usage.choice)}}`;
      });
      const beside = following(membersOf(top)) + following(usage.top) + extraTop;
      return `{${id}"object":"chat.completion",${common},"choices":[${choices.join(',')}]${beside}}`;
    },
  };
}

/** A delta with further fields; a delta that is no object has no room for them. */
function withExtras(delta: unknown, extras: Readonly<Record<string, unknown>>): unknown {
  return typeof delta === 'object' ? { ...extras, ...delta } : delta;
}
