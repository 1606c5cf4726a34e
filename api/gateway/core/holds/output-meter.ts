/**
 * What an answer has produced so far: its text (kept only while the request runs, for a local count), and whether the
 * hold still covers it. A token is at least one byte, so the byte count is a safe and cheap bound; only when the hold
 * cannot grow any more is the text really tokenized, so that nobody is cut off before the money is used up. What is no
 * text counts by its bytes even then.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ErrorCode, Refusal } from '../../../../domain/errors.ts';
import type { OutputSink, ProducedOutput } from '../dialect.ts';

export type ExtendResult =
  /** How far the hold reaches now. */
  | { readonly kind: 'extended'; readonly outputTokens: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'unavailable' };

/** Asks the ledger for a hold that covers `outputTokens`. */
export type ExtendHold = (outputTokens: number) => Promise<ExtendResult>;

export interface OutputMeterOptions {
  /** Output tokens that the hold covers now. */
  readonly covered: number;
  /** Output tokens that the request can reach at most. */
  readonly most: number;
  /** How many tokens to add at a time. */
  readonly slice: number;
  readonly extend: ExtendHold;
  /** Counts the tokens of a text; never fails. */
  readonly countTokens: (text: string) => Promise<number>;
  /** The hold is used up and cannot grow, or the upstream goes on far beyond its limit: the answer must end. */
  readonly onExhausted: () => void;
}

/** Ask for more when this much (or a quarter of what is covered, if that is less) is left. */
const MARGIN_TOKENS = 1024;
const RETRY_MS = 1000;
/**
 * Tokens of ours that an upstream may send for each one it was allowed, plus a few: its tokenizer may make fewer of the
 * same text than ours, by half at most. What goes on beyond that ignores its limit.
 */
const TOLERATED_FACTOR = 2;
const TOLERATED_TOKENS = 256;
/** How long an answer that has used up its hold waits for the ledger; a healthy one says in milliseconds. */
const ASK_TIMEOUT_MS = 200;

export class OutputMeter implements OutputSink {
  readonly #options: OutputMeterOptions;
  readonly #texts: string[] = [];
  #characters = 0;
  #bytes = 0;
  #otherBytes = 0;
  #hasMedia = false;
  #covered: number;
  #asking = false;
  #nextAskAt = 0;
  /** Set once the hold cannot grow: from then on tokens are really counted. */
  #refusal: Refusal | null = null;
  #countedTexts = 0;
  #countedOtherBytes = 0;
  #counted = 0;
  /** Bytes of texts that are not counted yet: as long as they fit as well, nothing need be counted. */
  #uncountedBytes = 0;
  #exhausted = false;
  /** The asking or counting that is under way. */
  #work: Promise<void> = Promise.resolve();
  sawContent = false;

  constructor(options: OutputMeterOptions) {
    this.#options = options;
    this.#covered = options.covered;
  }

  /** All text produced so far. */
  get text(): string {
    return this.#texts.join('');
  }

  /** Its length, without putting it together. */
  get characters(): number {
    return this.#characters;
  }

  /** Bytes of produced values that are no text. */
  get otherBytes(): number {
    return this.#otherBytes;
  }

  /** True when audio, images or other media came, whose tokens cannot be counted here. */
  get hasMedia(): boolean {
    return this.#hasMedia;
  }

  /** True when the hold covers all that the request can reach: nothing it produces can be lost. */
  get coversAll(): boolean {
    return this.#covered >= this.#options.most;
  }

  /** Output tokens that the hold covers now. */
  get coveredTokens(): number {
    return this.#covered;
  }

  /** Why the hold could not grow; null as long as it could. */
  get refusalCode(): ErrorCode | null {
    return this.#refusal?.code ?? null;
  }

  /** True when what was added may exceed what is held: the answer must wait for {@link catchUp}. */
  get isBehind(): boolean {
    return this.#isCounting || (this.#asking && this.#bytes > this.#covered);
  }

  /** True when what is added must really be counted: the hold cannot grow, or all that was allowed has come. */
  get #isCounting(): boolean {
    return this.#refusal !== null || (this.coversAll && this.#bytes > this.#tolerated);
  }

  /** Tokens that end the answer once they are really counted. */
  get #limit(): number {
    return this.#refusal === null ? this.#tolerated : this.#covered;
  }

  get #tolerated(): number {
    return this.#options.most * TOLERATED_FACTOR + TOLERATED_TOKENS;
  }

  /**
   * Resolves when the ledger has said whether the hold grows (or is too slow: our risk) and, if it does not, when all
   * that was added is counted. Without this wait an upstream that is faster than us would give away what nobody can
   * pay.
   */
  async catchUp(): Promise<void> {
    if (this.#asking) await Promise.race([this.#work, delay(ASK_TIMEOUT_MS, undefined, { ref: false })]);
    if (this.#isCounting) await this.#work;
  }

  /** Adds what a part of the answer carried; null is nothing. */
  add(output: ProducedOutput | null): void {
    if (output === null) return;
    this.sawContent = true;
    for (const text of output.texts) {
      const bytes = Buffer.byteLength(text);
      this.#texts.push(text);
      this.#characters += text.length;
      this.#bytes += bytes;
      this.#uncountedBytes += bytes;
    }
    this.#otherBytes += output.otherBytes;
    this.#bytes += output.otherBytes;
    this.#hasMedia ||= output.hasMedia;
    this.#check();
  }

  #check(): void {
    if (this.#exhausted) return;
    if (this.#isCounting) {
      const freshBytes = this.#otherBytes - this.#countedOtherBytes;
      if (this.#counted + this.#uncountedBytes + freshBytes < this.#limit) return;
      // One after the other, so that a caller that waits for the last has waited for all.
      this.#work = this.#work.then(() => this.#countAndCut());
      return;
    }
    if (this.coversAll) return;
    const margin = Math.min(MARGIN_TOKENS, this.#covered / 4);
    if (this.#bytes <= this.#covered - margin || this.#asking || performance.now() < this.#nextAskAt) return;
    this.#work = this.#ask();
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    const wanted = Math.min(Math.max(this.#covered, this.#bytes) + this.#options.slice, this.#options.most);
    const answer = await this.#options.extend(wanted);
    this.#asking = false;
    switch (answer.kind) {
      case 'extended':
        this.#covered = answer.outputTokens;
        break;
      case 'refused':
        this.#refusal = answer.refusal;
        await this.#countAndCut();
        break;
      case 'unavailable':
        // Our fault, not the customer's: the stream goes on, what it costs above the hold is our risk.
        this.#nextAskAt = performance.now() + RETRY_MS;
        break;
    }
  }

  async #countAndCut(): Promise<void> {
    const fresh = this.#texts.slice(this.#countedTexts);
    this.#countedTexts = this.#texts.length;
    const freshBytes = this.#otherBytes - this.#countedOtherBytes;
    this.#countedOtherBytes = this.#otherBytes;
    this.#counted += freshBytes;
    const tokens = await this.#options.countTokens(fresh.join(''));
    this.#counted += tokens;
    this.#uncountedBytes -= fresh.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0);
    if (this.#counted < this.#limit || this.#exhausted) return;
    this.#exhausted = true;
    this.#options.onExhausted();
  }
}
