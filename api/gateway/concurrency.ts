/** How many requests each key has open in this process; a key at its limit gets 429. */
import { Refusal } from '../../domain/errors.ts';
import type { KeyUuid } from '../../domain/ids.ts';

export class ConcurrencyLimit {
  readonly #max: number;
  readonly #open = new Map<KeyUuid, number>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Counts a request in, or throws the Refusal. Each success must be followed by one `leave`. */
  enter(keyId: KeyUuid): void {
    const open = this.#open.get(keyId) ?? 0;
    if (open >= this.#max) {
      throw new Refusal('rate_limit_exceeded', {
        message: `This API key has ${open} requests open, which is its limit.`,
      });
    }
    this.#open.set(keyId, open + 1);
  }

  leave(keyId: KeyUuid): void {
    const open = this.#open.get(keyId) ?? 0;
    if (open <= 1) this.#open.delete(keyId);
    else this.#open.set(keyId, open - 1);
  }
}
