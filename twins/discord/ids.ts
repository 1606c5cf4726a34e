/**
 * Snowflakes: Discord's ids, whose upper bits are the time at which the thing was made (so a user's id tells the
 * account's age).
 */
import { randomInt } from 'node:crypto';

/** 2015-01-01, from which snowflakes count. */
const EPOCH_MS = 1_420_070_400_000;
const MAKER_BITS = 10n;
const COUNTER_BITS = 12n;
const COUNTER_MASK = (1n << COUNTER_BITS) - 1n;

/** Makes ids that no other maker makes, in order of their times, and within a millisecond in order of the calls. */
export class SnowflakeMaker {
  readonly #maker = BigInt(randomInt(2 ** Number(MAKER_BITS)));
  #made = 0n;

  at(timeMs: number): string {
    const time = BigInt(Math.max(0, Math.floor(timeMs) - EPOCH_MS));
    this.#made += 1n;
    return String((((time << MAKER_BITS) | this.#maker) << COUNTER_BITS) | (this.#made & COUNTER_MASK));
  }
}

export function snowflakeTimeMs(id: string): number {
  return Number(BigInt(id) >> (MAKER_BITS + COUNTER_BITS)) + EPOCH_MS;
}

export function isSnowflake(text: string): boolean {
  return /^\d{17,20}$/.test(text);
}

/** For sorting and paging: ids are numbers that a JavaScript number cannot hold. */
export function compareSnowflakes(left: string, right: string): number {
  const [a, b] = [BigInt(left), BigInt(right)];
  return a < b ? -1 : a > b ? 1 : 0;
}
