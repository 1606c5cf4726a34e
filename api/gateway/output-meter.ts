/**
 * What an answer has produced so far: its text (kept only while the request runs, for a local count), and whether the
 * hold still covers it. A token is at least one byte, so the byte count is a safe and cheap bound; only when the hold
 * cannot grow any more is the text really tokenized, so that nobody is cut off before the money is used up.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { ErrorCode, Refusal } from '../../domain/errors.ts';
import { countTokens } from './token-count.ts';

/** Asks the ledger for a hold that covers `outputTokens`; how far the hold then reaches, or the refusal. */
export type ExtendHold = (
  outputTokens: number,
) => Promise<
  | { readonly kind: 'extended'; readonly outputTokens: number }
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'unavailable' }
>;

export interface OutputMeterOptions {
  /** Output tokens that the hold covers now. */
  readonly covered: number;
  /** Output tokens that the request can reach at most. */
  readonly most: number;
  /** How many tokens to add at a time. */
  readonly slice: number;
  readonly extend: ExtendHold;
  /** The hold is used up and cannot grow: the answer must end. */
  readonly onExhausted: () => void;
}

/** Fields of a delta or message that carry produced text. */
const TEXT_FIELDS = ['content', 'refusal', 'reasoning', 'reasoning_content'] as const;
/** Ask for more when this much (or a quarter of what is covered, if that is less) is left. */
const MARGIN_TOKENS = 1024;
const RETRY_MS = 1000;
/** How long an answer that has used up its hold waits for the ledger; a healthy one says in milliseconds. */
const ASK_PATIENCE_MS = 200;

export class OutputMeter {
  readonly #options: OutputMeterOptions;
  readonly #texts: string[] = [];
  #bytes = 0;
  #covered: number;
  #asking = false;
  #nextAskAt = 0;
  /** Set once the hold cannot grow: from then on tokens are really counted. */
  #refusal: Refusal | null = null;
  #countedTexts = 0;
  #counted = 0;
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

  /** Pieces of content so far: about one token each, good enough for evidence. */
  get pieces(): number {
    return this.#texts.length;
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
    return this.#refusal !== null || (this.#asking && this.#bytes > this.#covered);
  }

  /**
   * Resolves when the ledger has said whether the hold grows (or is too slow: our risk) and, if it does not, when all that
   * was added is counted. Without this wait an upstream that is faster than us would give away what nobody can pay.
   */
  async catchUp(): Promise<void> {
    if (this.#asking) await Promise.race([this.#work, delay(ASK_PATIENCE_MS, undefined, { ref: false })]);
    if (this.#refusal !== null) await this.#work;
  }

  /** Adds deltas (or whole messages); true when they carried content. */
  add(deltas: readonly (Record<string, unknown> | null)[]): boolean {
    let hasContent = false;
    for (const delta of deltas) {
      if (delta === null) continue;
      for (const field of TEXT_FIELDS) {
        if (typeof delta[field] === 'string') hasContent = this.#addText(delta[field]) || hasContent;
      }
      for (const call of callsOf(delta)) {
        hasContent = true;
        this.#addText(call);
      }
      if (delta['audio'] !== undefined && delta['audio'] !== null) hasContent = true;
    }
    if (hasContent) {
      this.sawContent = true;
      this.#check();
    }
    return hasContent;
  }

  #addText(text: string): boolean {
    if (text === '') return false;
    this.#texts.push(text);
    this.#bytes += Buffer.byteLength(text);
    return true;
  }

  #check(): void {
    if (this.#exhausted || this.#covered >= this.#options.most) return;
    if (this.#refusal !== null) {
      this.#work = this.#countAndCut();
      return;
    }
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
    // Not `+=` on the awaited value: that would read the sum before the wait and lose what another count adds meanwhile.
    const tokens = await countTokens(fresh.join(''));
    this.#counted += tokens;
    if (this.#counted < this.#covered || this.#exhausted || this.#refusal === null) return;
    this.#exhausted = true;
    this.#options.onExhausted();
  }
}

/** Names and arguments of the tool calls in a delta or message. */
function callsOf(delta: Record<string, unknown>): string[] {
  const calls = Array.isArray(delta['tool_calls']) ? (delta['tool_calls'] as unknown[]) : [];
  const legacy = delta['function_call'];
  return [...calls, ...(legacy === undefined || legacy === null ? [] : [{ function: legacy }])].map((call) => {
    const { function: called, custom } = (call ?? {}) as {
      function?: Record<string, unknown>;
      custom?: Record<string, unknown>;
    };
    return [called?.['name'], called?.['arguments'], custom?.['name'], custom?.['input']]
      .filter((part) => typeof part === 'string')
      .join('');
  });
}
