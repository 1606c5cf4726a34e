/**
 * A streamed chat completion: what each event adds to the answer, and how it is shown. The finish reasons, the usage
 * chunk and `[DONE]` are told at the end, in our own words; the provider's usage is taken out of every chunk.
 */
import { openAiErrorBody, type Refusal } from '../../../../domain/errors.ts';
import { mergeReportedUsage, type ReportedUsage } from '../../../../domain/usage/reported-usage.ts';
import type { Model } from '../../../../db/requests/catalogue.ts';
import type { AnswerStream, ClientUsage, CutReason, OutputSink, StreamStep } from '../../core/dialect.ts';
import { sseData, type SseEvent } from '../../core/streams/sse.ts';
import { ChoiceEnds } from './choice-ends.ts';
import { isObject, readStreamEvent, type Chunk } from './chunk.ts';
import { outputOfChoice } from './produced-output.ts';
import { answerWithoutPurchasePrice } from './purchase-price.ts';
import type { ChatRequest } from './request.ts';
import { renderUsage } from './usage.ts';

const DONE = sseData('[DONE]');

export class ChatStream implements AnswerStream {
  readonly #request: ChatRequest;
  readonly #modelId: string;
  readonly #meter: OutputSink;
  readonly #ends = new ChoiceEnds();
  /** The current event, where it is a chunk. */
  #chunk: Chunk = {};
  /** Of the last chunk with choices: our own chunks carry the same. */
  #template: Pick<Chunk, 'id' | 'created'> = {};
  #sawDone = false;
  failure: unknown = null;
  usage: ReportedUsage | null = null;

  constructor(request: ChatRequest, { id }: Model, meter: OutputSink) {
    this.#request = request;
    this.#modelId = id;
    this.#meter = meter;
  }

  get hasEnded(): boolean {
    return this.#ends.count > 0;
  }

  /** `[DONE]`, or a finish reason for every choice asked for. */
  get isComplete(): boolean {
    return this.#sawDone || this.#ends.count >= this.#request.answers;
  }

  get isOver(): boolean {
    return this.#sawDone;
  }

  read(event: SseEvent): StreamStep {
    const said = readStreamEvent(event);
    switch (said.kind) {
      case 'chunk':
        return this.#readChunk(said.chunk);
      case 'nothing':
        return event.data === null ? 'comment' : 'aside';
      case 'done':
        this.#sawDone = true;
        return 'aside';
      case 'error':
        this.failure = said.body;
        return 'failure';
      case 'unreadable':
        return 'unreadable';
    }
  }

  #readChunk(chunk: Chunk): StreamStep {
    this.#chunk = chunk;
    this.usage = mergeReportedUsage(this.usage, chunk);
    const choices = chunk.choices ?? [];
    let hasContent = false;
    for (const choice of choices) {
      const output = outputOfChoice(choice);
      this.#meter.add(output);
      hasContent ||= output !== null;
      this.#ends.note(choice['index'], output !== null, choice['finish_reason']);
    }
    // A chunk without choices carries usage or vendor extras; the usage chunk of our own comes at the end.
    if (choices.length === 0) return 'aside';
    this.#template = { id: chunk.id, created: chunk.created };
    return hasContent ? 'content' : 'frame';
  }

  /**
   * The chunk without the provider's usage, wherever it stands: ours comes at the end, where it was asked for. What was
   * parsed for this event alone is changed in its place: a copy of every chunk would cost as much as writing it.
   */
  render(): Buffer {
    const shown = answerWithoutPurchasePrice(this.#chunk) as Record<string, unknown>;
    shown['model'] = this.#modelId;
    for (const choice of shown['choices'] as Record<string, unknown>[]) this.#showChoice(choice);
    if (this.#request.wantsUsage) shown['usage'] = null;
    else hideUsage(shown);
    const { x_groq: extras } = shown;
    if (isObject(extras)) hideUsage(extras);
    return sseData(JSON.stringify(shown));
  }

  /** A word that means nothing must not end the answer for the client either. */
  #showChoice(choice: Record<string, unknown>): void {
    const reason = choice['finish_reason'];
    if (typeof reason === 'string' && this.#ends.isMeaningless(reason)) choice['finish_reason'] = null;
    hideUsage(choice);
  }

  end(cutBy: CutReason | null, used: ClientUsage): Buffer[] {
    const parts: Buffer[] = [];
    if (cutBy !== null) {
      const endedBy = cutBy === 'output_limit' ? 'max_tokens' : cutBy;
      for (const index of this.#ends.open) {
        const choice = { index, delta: {}, finish_reason: 'length' };
        parts.push(this.#ownChunk({ choices: [choice], holdfast: { ended_by: endedBy } }));
      }
    }
    if (this.#request.wantsUsage) parts.push(this.#ownChunk({ choices: [], usage: renderUsage(used) }));
    parts.push(DONE);
    return parts;
  }

  #ownChunk(fields: Record<string, unknown>): Buffer {
    const frame = { ...this.#template, object: 'chat.completion.chunk', model: this.#modelId };
    return sseData(JSON.stringify({ ...frame, ...fields }));
  }

  fail(refusal: Refusal): Buffer {
    return sseData(JSON.stringify(openAiErrorBody(refusal)));
  }
}

/** As JSON shows it: `undefined` is not written, and unlike a deleted field costs the object none of its speed. */
function hideUsage(fields: Record<string, unknown>): void {
  if (fields['usage'] !== undefined) fields['usage'] = undefined;
}
