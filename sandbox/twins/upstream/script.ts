/**
 * A plan as a list of beats, each a moment, the tokens produced by then and the text to send, ending in exactly
 * one ending. Pure generators: `player.ts` waits and writes.
 */
import type { AnswerWriter } from './dialect.ts';
import type { AnswerPlan, Cut, RefusalPlan } from './plan.ts';

export type Ending =
  | { readonly how: 'end'; readonly status: 'completed' | 'failed' }
  | { readonly how: 'destroy' }
  /** Nothing more, until the client leaves. */
  | { readonly how: 'hang' };

export interface Beat {
  /** Milliseconds since the request was read. */
  readonly atMs: number;
  /** To be sent; the first text sends the headers, even when it is empty. Undefined sends nothing. */
  readonly text?: string | undefined;
  /** Sent instead of `text`, in a TCP write of its own. */
  readonly bytes?: Uint8Array | undefined;
  /** Output tokens produced by all choices in this beat, reasoning included. */
  readonly tokens?: number | undefined;
  readonly reasoningTokens?: number | undefined;
  readonly ending?: Ending | undefined;
}

export type Script = Generator<Beat, void, undefined>;

/** The script of an answer in its dialect's words. */
export function scriptOf(plan: AnswerPlan, writer: AnswerWriter, stream: boolean): Script {
  const script = stream ? streamScript(plan, writer) : wholeScript(plan, writer);
  return plan.oddFraming ? oddlyFramed(script, stream) : script;
}

function* streamScript(plan: AnswerPlan, writer: AnswerWriter): Script {
  const { timing, cut, garbageAfter, visibleTokens, choices } = plan;
  const opening = cut?.afterTokens === 0 ? '' : writer.opening();
  yield { atMs: timing.headersAtMs, text: opening };
  yield reasoningBeat(plan);
  for (let index = 0; index <= visibleTokens; index += 1) {
    // A break or garbage due after more tokens than there are comes where the finish reason would have come.
    const isLastChance = index === visibleTokens;
    const atMs = isLastChance ? timing.endAtMs : timing.tokenAtMs(index);
    if (garbageAfter !== null && (garbageAfter === index || (isLastChance && garbageAfter > index))) {
      yield { atMs, text: writer.garbage() };
    }
    if (cut !== null && (cut.afterTokens === index || isLastChance)) {
      yield { atMs, text: cut.how === 'error' ? writer.error(cut.message) : undefined, ending: endingOf(cut) };
      return;
    }
    if (!isLastChance) yield { atMs, text: writer.token(index), tokens: choices };
  }
  yield { atMs: timing.endAtMs, text: writer.closing() };
  const usageAtMs = timing.endAtMs + plan.lateUsageMs;
  if (plan.usageText !== null) yield { atMs: usageAtMs, text: writer.usage(plan.usageText) };
  yield { atMs: usageAtMs, text: writer.done(), ending: { how: 'end', status: 'completed' } };
}

/** The same production as a stream's, unseen, and the body at its end. */
function* wholeScript(plan: AnswerPlan, writer: AnswerWriter): Script {
  const { timing, cut, visibleTokens, choices } = plan;
  yield reasoningBeat(plan);
  const produced = cut === null ? visibleTokens : Math.min(cut.afterTokens, visibleTokens);
  for (let index = 0; index < produced; index += 1) yield { atMs: timing.tokenAtMs(index), tokens: choices };
  if (cut !== null) {
    const atMs = produced === visibleTokens ? timing.endAtMs : timing.tokenAtMs(produced);
    const half = produced === 0 ? '' : firstHalf(writer.whole(produced));
    yield { atMs, text: cut.how === 'error' ? writer.error(cut.message) : half, ending: endingOf(cut) };
    return;
  }
  const text = plan.garbageAfter === null ? writer.whole(visibleTokens) : writer.garbage();
  yield { atMs: timing.endAtMs + plan.lateUsageMs, text, ending: { how: 'end', status: 'completed' } };
}

/** The one beat of an answer without a model. */
export function* refusalScript(plan: RefusalPlan): Script {
  switch (plan.how) {
    case 'destroy':
    case 'hang':
      yield { atMs: plan.atMs, ending: { how: plan.how } };
      return;
    case 'respond':
      yield { atMs: plan.atMs, text: plan.body, ending: { how: 'end', status: 'failed' } };
  }
}

/** Reasoning is produced at once, before the first visible token. */
function reasoningBeat({ timing, reasoningTokens, choices }: AnswerPlan): Beat {
  const tokens = reasoningTokens * choices;
  return { atMs: timing.tokenAtMs(0), tokens, reasoningTokens: tokens };
}

function endingOf(cut: Cut): Ending {
  switch (cut.how) {
    case 'error':
    case 'eof':
      return { how: 'end', status: 'failed' };
    case 'reset':
      return { how: 'destroy' };
    case 'hang':
      return { how: 'hang' };
  }
}

function firstHalf(text: string): string {
  return text.slice(0, text.length >> 1);
}

/** Long enough apart that two writes are two reads on the other side of a loopback connection. */
const APART_MS = 2;

/** Rewrites a script with framing that is legal and that careless parsers break on. */
function* oddlyFramed(script: Script, stream: boolean): Script {
  let earliestMs = 0;
  for (const beat of script) {
    if (beat.text === undefined || beat.text === '') {
      yield beat;
      continue;
    }
    const framed = stream ? `: keep-alive\r\n\r\n\r\n${beat.text.replaceAll('\n', '\r\n')}` : ` \r\n\r\n${beat.text}`;
    const [head, tail] = splitInsideCharacter(Buffer.from(framed));
    const { ending, ...rest } = beat;
    const atMs = Math.max(beat.atMs, earliestMs);
    yield { ...rest, text: undefined, atMs, bytes: head };
    yield { atMs: atMs + APART_MS, bytes: tail, ending };
    earliestMs = atMs + 2 * APART_MS;
  }
}

/** Cuts after the first byte of the first character that has several; in the middle when there is none. */
function splitInsideCharacter(bytes: Buffer): [Buffer, Buffer] {
  const isContinuation = (byte: number): boolean => (byte & 0xc0) === 0x80;
  const inside = bytes.findIndex(isContinuation);
  const at = inside === -1 ? bytes.length >> 1 : inside;
  return [bytes.subarray(0, at), bytes.subarray(at)];
}
