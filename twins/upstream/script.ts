/**
 * A plan as a list of beats, each a moment, the tokens produced by then and the text to send, ending in exactly
 * one ending. Pure generators: `player.ts` waits and writes.
 */
import type { AnswerPlan, Cut } from './answer-plan.ts';
import type { Beat, Ending, Script } from './beats.ts';
import type { AnswerWriter } from './dialect.ts';
import { DEFAULT_FRAMING, framed, insertedBeat, type Insertion, type Position } from './framing.ts';
import type { RefusalPlan } from './refusal.ts';
import { isHidden, isUnseen, type Piece, piecesOf } from './output/segments.ts';
import { addProduction, type MutableCounts, type Production } from './token-counts.ts';

/** The script of an answer in its dialect's words. */
export function scriptOf(plan: AnswerPlan, writer: AnswerWriter): Script {
  const plain = plan.stream ? streamScript(plan, writer) : wholeScript(plan, writer);
  return plan.framing === DEFAULT_FRAMING ? plain : framed(plain, plan.framing, plan.stream);
}

/** The clock of a script, which pauses put back, and the counts so far. */
interface Progress {
  lateMs: number;
  pacedTokens: number;
  readonly counts: MutableCounts;
}

function* streamScript(plan: AnswerPlan, writer: AnswerWriter): Script {
  const { timing, garbageAfter } = plan;
  const progress = progressOf(plan);
  yield* inserted(plan, 'start', timing.headersAtMs);
  yield { atMs: timing.headersAtMs, text: plan.cut?.at === 0 ? '' : writer.opening(progress.counts) };
  // Most answers go smoothly, and asking at every chunk what might happen there costs more than the chunk.
  const isEventful =
    plan.cut !== null || [plan.pauses, plan.insertions, plan.passingErrors].some((list) => list.length > 0);
  let chunks = 0;
  let production: Production | undefined;
  for (const piece of piecesOf(plan.segments)) {
    const atMs = dueAt(plan, progress, piece);
    production = productionOf(plan, piece, production);
    if (isHidden(piece.segment)) {
      advance(progress, piece, production);
      yield { atMs: atMs + progress.lateMs, production };
      continue;
    }
    if (garbageAfter === chunks) yield { atMs: atMs + progress.lateMs, text: writer.garbage() };
    if (isEventful && (yield* events(plan, writer, progress, chunks, atMs))) return;
    if (isEventful) yield* inserted(plan, 'each', atMs + progress.lateMs);
    advance(progress, piece, production);
    yield { atMs: atMs + progress.lateMs, text: writer.piece(piece, progress.counts), production };
    chunks += 1;
  }
  // A break or garbage due after more chunks than there are comes where the finish reason would have come.
  const { endAtMs } = timing;
  const isGarbageLeft = garbageAfter !== null && garbageAfter >= chunks;
  if (isGarbageLeft) yield { atMs: endAtMs + progress.lateMs, text: writer.garbage() };
  if (yield* events(plan, writer, progress, { from: chunks }, endAtMs)) return;
  yield { atMs: endAtMs + progress.lateMs, text: writer.closing(progress.counts) };
  if (yield* events(plan, writer, progress, 'finish', endAtMs)) return;
  yield { atMs: endAtMs + progress.lateMs, text: writer.usage('own', progress.counts) };
  if (yield* events(plan, writer, progress, 'usage', endAtMs)) return;
  yield* endingWithTheLast(tailScript(plan, writer, progress));
}

/** [DONE], and what comes after it. */
function* tailScript(plan: AnswerPlan, writer: AnswerWriter, progress: Progress): Script {
  const { endAtMs } = plan.timing;
  yield doneBeat(plan, writer, endAtMs + progress.lateMs);
  if (yield* events(plan, writer, progress, 'done', endAtMs)) return;
  const usage = writer.usage('after_done', progress.counts);
  if (usage !== '') yield { atMs: endAtMs + progress.lateMs, text: usage };
}

/** Gives the last beat the end of the answer, so that its bytes and the end leave together. */
function* endingWithTheLast(script: Script): Script {
  let held: Beat | undefined;
  for (const beat of script) {
    if (held !== undefined) yield held;
    held = beat;
  }
  if (held !== undefined) yield { ending: { how: 'end', status: 'completed' }, ...held };
}

/** The same production as a stream's, unseen, and the body at its end. */
function* wholeScript(plan: AnswerPlan, writer: AnswerWriter): Script {
  const { timing, cut } = plan;
  const progress = progressOf(plan);
  const last = typeof cut?.at === 'number' ? cut.at : Infinity;
  let chunks = 0;
  let cutAtMs = timing.endAtMs;
  for (const piece of piecesOf(plan.segments)) {
    const atMs = dueAt(plan, progress, piece);
    if (!isHidden(piece.segment)) {
      if (chunks === last) {
        cutAtMs = atMs;
        break;
      }
      progress.lateMs += pausesAt(plan, chunks);
      chunks += 1;
    }
    const production = productionOf(plan, piece);
    advance(progress, piece, production);
    yield { atMs: atMs + progress.lateMs, production };
  }
  for (const at of ['finish', 'usage', 'done'] as const) progress.lateMs += pausesAt(plan, at);
  if (cut !== null && (typeof cut.at === 'number' || cut.how === 'error')) {
    const half = chunks === 0 ? '' : firstHalf(writer.whole(chunks, progress.counts));
    const text = cut.how === 'error' ? writer.error(cut) : half;
    yield { atMs: cutAtMs + progress.lateMs, text, ending: endingOf(cut) };
    return;
  }
  const atMs = timing.endAtMs + progress.lateMs;
  yield* inserted(plan, 'start', atMs);
  const [error] = plan.passingErrors;
  const body = plan.garbageAfter === null ? writer.whole(chunks, progress.counts) : writer.garbage();
  const text = error === undefined ? body : writer.error(error);
  const ending: Ending = cut === null ? { how: 'end', status: 'completed' } : endingOf(cut);
  const tail = plan.insertions.filter(({ at }) => at === 'done');
  yield { atMs, text, ...(tail.length === 0 && { ending }) };
  for (const [index, insertion] of tail.entries()) {
    yield { ...insertedBeat(insertion, atMs), ...(index === tail.length - 1 && { ending }) };
  }
}

function progressOf({ work }: AnswerPlan): Progress {
  return { lateMs: 0, pacedTokens: 0, counts: { ...work.counts } };
}

/** When a piece is due: its last token where it is paced, else together with the next that is. */
function dueAt({ timing }: AnswerPlan, { pacedTokens }: Progress, { segment, tokens }: Piece): number {
  return timing.tokenAtMs(segment.isPaced ? pacedTokens + tokens - 1 : pacedTokens);
}

/** The output of a piece; the object of the last one is used again where it is the same. */
function productionOf({ choices }: AnswerPlan, { segment, tokens }: Piece, last?: Production): Production {
  const { countedAs } = segment;
  const isUnshown = isUnseen(segment);
  const isSame = last?.tokens === tokens * choices && last.countedAs === countedAs && last.isHidden === isUnshown;
  return isSame ? last : { tokens: tokens * choices, countedAs, isHidden: isUnshown };
}

function advance(progress: Progress, { segment, tokens }: Piece, production: Production): void {
  if (segment.isPaced) progress.pacedTokens += tokens;
  addProduction(progress.counts, production);
}

/**
 * Plays the events at a position: pauses, insertions, errors that pass, and the break; true when the answer ends there.
 */
function* events(
  plan: AnswerPlan,
  writer: AnswerWriter,
  progress: Progress,
  at: Position | { readonly from: number },
  dueMs: number,
): Generator<Beat, boolean, undefined> {
  const { cut } = plan;
  const pauseMs = pausesAt(plan, at);
  progress.lateMs += pauseMs;
  const atMs = dueMs + progress.lateMs;
  // Behind the last text there is no other beat that would wait.
  if (pauseMs > 0) yield { atMs };
  yield* inserted(plan, at, atMs);
  for (const error of plan.passingErrors) {
    if (isAt(error.at, at)) yield { atMs, text: writer.error(error), isRaw: error.carrier === 'bare' };
  }
  if (cut === null || !isAt(cut.at, at)) return false;
  const text = cut.how === 'error' ? writer.error(cut) : undefined;
  yield { atMs, text, isRaw: cut.carrier === 'bare', ending: endingOf(cut) };
  return true;
}

function isAt(position: Insertion['at'], at: Insertion['at'] | { readonly from: number }): boolean {
  return typeof at === 'object' ? typeof position === 'number' && position >= at.from : position === at;
}

function pausesAt({ pauses }: AnswerPlan, at: Position | { readonly from: number }): number {
  return pauses.reduce((sum, pause) => sum + (isAt(pause.at, at) ? pause.ms : 0), 0);
}

function* inserted(plan: AnswerPlan, at: Insertion['at'] | { readonly from: number }, atMs: number): Script {
  for (const insertion of plan.insertions) {
    if (isAt(insertion.at, at)) yield insertedBeat(insertion, atMs);
  }
}

function doneBeat({ framing }: AnswerPlan, writer: AnswerWriter, atMs: number): Beat {
  if (framing.done === undefined) return { atMs, text: writer.done() };
  return { atMs, text: framing.done ?? '', isRaw: true };
}

/** The one beat of an answer without a model. */
export function* refusalScript(plan: RefusalPlan, choices: number): Script {
  const { atMs, produced } = plan;
  const production: Production | undefined =
    produced === null ? undefined : { tokens: produced * choices, countedAs: 'text', isHidden: true };
  switch (plan.how) {
    case 'destroy':
    case 'reset':
      yield { atMs, production, ending: { how: plan.how } };
      return;
    case 'hang':
      yield { atMs, production, ending: { how: 'hang', isDone: false } };
      return;
    case 'respond':
      yield { atMs, production, bytes: plan.body, ending: { how: 'end', status: 'failed' } };
  }
}

function endingOf(cut: Cut): Ending {
  const isLate = typeof cut.at !== 'number';
  switch (cut.how) {
    case 'error':
    case 'eof':
      return { how: 'end', status: isLate ? 'completed' : 'failed' };
    case 'reset':
      return { how: 'destroy' };
    case 'hang':
      return { how: 'hang', isDone: isLate };
  }
}

function firstHalf(text: string): string {
  return text.slice(0, text.length >> 1);
}
