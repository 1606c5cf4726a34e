/** The words and data of each piece of an answer, in the form in which the output forms take them. */
import type { AnswerPlan } from '../answer-plan.ts';
import { dataBytes, tokenText } from '../words.ts';
import type { Part } from './form.ts';
import { OUTPUT_FORMS } from './forms.ts';
import { isHidden, type Piece, type Segment } from './segments.ts';

interface PartMaker {
  (piece: Piece, choice: number): Part;
  /** The words of a piece alone. */
  readonly words: (piece: Piece, choice: number) => string;
}

interface Place {
  /** Shown tokens before the segment: words are counted among what is shown, so that hiding changes no text. */
  readonly start: number;
  /** Tool calls before it. */
  readonly callIndex: number;
  readonly isLast: boolean;
}

/** `ordinal` names the answer in the ids of its calls. */
export function partMaker(plan: AnswerPlan, ordinal: number): PartMaker {
  const { seed } = plan;
  const places = placesOf(plan);
  const placeOf = (segment: Segment): Place => places.get(segment.start) ?? { start: 0, callIndex: 0, isLast: true };

  const text = (choice: number, from: number, tokens: number): string => {
    if (tokens === 1) return tokenText(seed, choice, from);
    let words = '';
    for (let index = from; index < from + tokens; index += 1) words += tokenText(seed, choice, index);
    return words;
  };
  const words = ({ segment, from, tokens }: Piece, choice: number): string =>
    text(choice, placeOf(segment).start + from, tokens);

  const make = (piece: Piece, choice: number): Part => {
    const { segment, from, tokens } = piece;
    const { start, callIndex, isLast } = placeOf(segment);
    return {
      text: words(piece, choice),
      soFar: () => text(choice, start, from + tokens),
      data: () => dataBytes(seed + choice + start + from, tokens * segment.bytesPerToken, from === 0),
      choice,
      isFirst: from === 0,
      isLast: from + tokens === segment.tokens && !(isLast && plan.finishReason === 'length'),
      id: `call_twin_${ordinal}_${choice}${callIndex === 0 ? '' : `_${callIndex}`}`,
      toolName: plan.toolName,
      callIndex,
    };
  };
  return Object.assign(make, { words });
}

function placesOf({ segments }: AnswerPlan): Map<number, Place> {
  const places = new Map<number, Place>();
  let start = 0;
  let callIndex = 0;
  for (const segment of segments) {
    places.set(segment.start, { start, callIndex, isLast: segment === segments.at(-1) });
    if (!isHidden(segment)) start += segment.tokens;
    if (OUTPUT_FORMS[segment.form].isCall === true) callIndex += 1;
  }
  return places;
}

/** The first `chunks` content chunks of a choice, as one piece for each segment. */
export function* shownPieces(visible: readonly Segment[], chunks: number): Generator<Piece, void, undefined> {
  let left = chunks;
  for (const segment of visible) {
    const tokens = Math.min(segment.tokens, left * segment.chunkTokens);
    if (tokens === 0) return;
    yield { segment, from: 0, tokens };
    left -= Math.ceil(tokens / segment.chunkTokens);
  }
}
