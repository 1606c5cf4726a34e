/**
 * The addresses that are watched, kept in memory: they only ever grow, so each look at the database asks for the new
 * ones.
 */
import type pg from 'pg';
import { watchedAddresses } from '../../../db/payments/deposits.ts';
import { ADDRESSES_PER_CALL } from '../../../providers/chain/log-range.ts';
import type { WatchedAddresses } from '../../../providers/chain/transfer-reader.ts';

const PAGE = 5000;

export class DepositAddresses implements WatchedAddresses {
  readonly #pool: pg.Pool;
  readonly #known = new Set<string>();
  readonly #chunks: string[][] = [];
  /** The last one that is known. */
  #last: { readonly position: number; readonly address: string } | null = null;
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
    // A load that has begun may not see what was committed since, so a second caller waits for a load of its own.
    await this.#loading?.catch(() => undefined);
    this.#loading ??= this.#load().finally(() => (this.#loading = null));
    await this.#loading;
  }

  async #load(): Promise<void> {
    for (;;) {
      // With the last one that is known: a database that was restored under this process has other addresses at its
      // positions.
      const page = await watchedAddresses(this.#pool, (this.#last?.position ?? 1) - 1, PAGE);
      const [first] = page;
      if (this.#last !== null && (first?.position !== this.#last.position || first.address !== this.#last.address)) {
        this.#last = null;
        this.#known.clear();
        this.#chunks.splice(0);
        continue;
      }
      for (const { address, position } of page) {
        this.#last = { position, address };
        if (this.#known.has(address)) continue;
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
