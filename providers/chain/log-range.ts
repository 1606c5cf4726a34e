/**
 * How many blocks, and transfers to how many addresses, one RPC vendor is asked for in one call. Vendors limit either,
 * by plan, by the number of logs or by time, and most do not say what would do. So sizes are found by asking: fewer
 * after a refusal, more after answers, and beyond a limit that was found only now and then. Kept in memory: every
 * process learns for itself.
 */

/** Vendors refuse longer lists of topics, or answer them slowly. */
export const ADDRESSES_PER_CALL = 1000;
const GROWTH = 2;
/** So many answers at a limit that was found, before more is tried: about one call in thirty may be refused for it. */
const ANSWERS_BEFORE_MORE = 32;
/** Some vendors cut a list at a thousand logs and say nothing. */
const LOGS_MAX = 1000;

/** A size between one and the most, that refusals and answers move. */
class Size {
  value: number;
  readonly #most: number;
  #ceiling: number;
  /** The last size that was answered; 0 while it is not known. */
  #answered = 0;
  #answers = 0;

  constructor(most: number) {
    this.value = most;
    this.#most = most;
    this.#ceiling = most;
  }

  answered(): void {
    this.#answered = this.value;
    this.#answers++;
    if (this.value >= this.#ceiling && this.#answers >= ANSWERS_BEFORE_MORE) {
      this.#ceiling = Math.min(this.#most, this.#ceiling * GROWTH);
      this.#answers = 0;
    }
    // Between what was answered and what was refused, half the way at a time.
    const middle = this.#ceiling < this.#most ? Math.ceil((this.value + this.#ceiling) / 2) : Infinity;
    this.value = Math.min(this.#ceiling, this.value * GROWTH, middle);
  }

  /** `suggested` is less than what was asked for. */
  refused(asked: number, suggested: number | null): void {
    this.#answers = 0;
    if (this.#answered >= asked) this.#answered = 0;
    this.#ceiling = Math.max(1, Math.min(this.#ceiling, asked - 1));
    // A range that was answered before will be again; sizes between are not worth a call each time.
    if (suggested === null && this.#answered > 0) this.#ceiling = this.#answered;
    this.value = suggested ?? (this.#answered > 0 ? this.#answered : Math.ceil(asked / 2));
  }

  /** Not even one was answered, which says nothing of a limit: the next calls begin with `value`. */
  forget(value: number): void {
    this.value = value;
    this.#ceiling = this.#most;
    this.#answered = 0;
  }
}

export class LogRange {
  readonly #blocks: Size;
  readonly #recipients = new Size(ADDRESSES_PER_CALL);
  /** So many logs of more than one block look as if some were left out. */
  readonly logsMax: number;

  constructor(most: number, { logsMax = LOGS_MAX }: { readonly logsMax?: number } = {}) {
    this.#blocks = new Size(most);
    this.logsMax = logsMax;
  }

  get blocks(): number {
    return this.#blocks.value;
  }

  /** How many addresses one call may name. */
  get recipients(): number {
    return this.#recipients.value;
  }

  /** `asked` blocks were answered for; fewer than could have been asked for teach nothing. */
  answered(asked = this.blocks): void {
    if (asked >= this.blocks) this.#blocks.answered();
    this.#recipients.answered();
  }

  /** Fewer blocks next time: as many as the vendor suggests, or half. False when there are no fewer. */
  refused(asked: number, suggested: number | null): boolean {
    if (asked <= 1) {
      this.#blocks.forget(1);
      return false;
    }
    this.#blocks.refused(asked, suggested !== null && suggested < asked ? suggested : null);
    return true;
  }

  /** Fewer addresses next time. False when there are no fewer. */
  refusedRecipients(asked: number): boolean {
    if (asked <= 1) {
      this.#recipients.forget(ADDRESSES_PER_CALL);
      return false;
    }
    this.#recipients.refused(asked, null);
    return true;
  }
}

/**
 * The number of blocks that a vendor's refusal says would do; null where it says none that is less than what was asked
 * for. A hint and no more: whatever it is, the next refusal makes less of it.
 */
export function suggestedBlocks(
  said: string,
  { from, to }: { readonly from: number; readonly to: number },
): number | null {
  const asked = to - from + 1;
  const fits = (blocks: number): boolean => Number.isSafeInteger(blocks) && blocks >= 1 && blocks < asked;
  for (const pattern of RANGES) {
    const match = pattern.exec(said);
    const blocks = match === null ? NaN : Number(match[2]) - Number(match[1]) + 1;
    if (fits(blocks)) return blocks;
  }
  const rest = RANGES.reduce((words, pattern) => words.replace(pattern, ' '), said);
  const limits = [...rest.matchAll(NUMBER)].flatMap((match) => {
    const [whole, digits, thousands] = match as unknown as [string, string, string | undefined];
    const before = rest.slice(Math.max(0, match.index - CONTEXT), match.index);
    const after = rest.slice(match.index + whole.length, match.index + whole.length + CONTEXT / 2);
    if (!LIMITS.test(before) || !BLOCKS.test(before + after) || OTHER_BEFORE.test(before) || OTHER_AFTER.test(after))
      return [];
    return [Number(digits.replaceAll(/[,_.]/g, '')) * (thousands === undefined ? 1 : 1000)];
  });
  const most = Math.max(...limits.filter(fits));
  return Number.isFinite(most) ? most : null;
}

/** From and to: in brackets (Infura, Alchemy), in an error's data (Infura), in decimals (reth). */
const RANGES = [
  /\[\s*(0x[0-9a-f]+)\s*,\s*(0x[0-9a-f]+)\s*\]/i,
  /"from":"(0x[0-9a-f]+)".{0,80}?"to":"(0x[0-9a-f]+)"/i,
  /range\s+\[?(\d+)\s*(?:-|,|to)\s*(\d+)/i,
] as const;
const NUMBER = /(?<![\w.])(\d[\d,_.]*\d|\d)(k)?(?!\w)/gi;
const CONTEXT = 60;
const LIMITS = /limit|max|most|up to|exceed|greater than|smaller than|allowed/i;
const BLOCKS = /block|range/i;
/** A limit of something else. */
const OTHER_BEFORE = /(?:results?|logs|entries|addresses|topics)\W*$/i;
const OTHER_AFTER = /^\W*(?:results?|logs|entries|addresses|topics|parameters|bytes|mb|kb|s\b|ms\b|sec)/i;
