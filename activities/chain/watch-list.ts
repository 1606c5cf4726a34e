/** The addresses that are watched, kept in memory: they only ever grow, so each look at the database asks for the new ones. */
import type pg from 'pg';
import { watchedAddresses } from '../../db/deposits.ts';
import { ADDRESSES_PER_CALL, type WatchList } from './reader.ts';

const PAGE = 5000;

export class Addresses implements WatchList {
  readonly #pool: pg.Pool;
  readonly #known = new Set<string>();
  readonly #chunks: string[][] = [];
  #position = 0;
  #loading: Promise<void> | null = null;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  has(address: string): boolean {
    return this.#known.has(address);
  }

  get chunks(): readonly (readonly string[])[] {
    return this.#chunks;
  }

  /** Knows, when it resolves, every address that was given out before the call. */
  async refresh(): Promise<void> {
    // A load that has begun may not see what was committed since, so a second caller waits for one of his own.
    await this.#loading?.catch(() => undefined);
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    await this.#loading;
  }

  async #load(): Promise<void> {
    for (;;) {
      const page = await watchedAddresses(this.#pool, this.#position, PAGE);
      for (const { address, position } of page) {
        this.#position = position;
        this.#known.add(address);
        const last = this.#chunks.at(-1);
        const padded = `0x${address.slice(2).padStart(64, '0')}`;
        if (last === undefined || last.length >= ADDRESSES_PER_CALL) this.#chunks.push([padded]);
        else last.push(padded);
      }
      if (page.length < PAGE) return;
    }
  }
}
