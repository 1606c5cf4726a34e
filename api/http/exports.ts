/**
 * Exports as CSV. One holds a connection and a snapshot for as long as its reader takes, so few may run at once,
 * whatever they export, and none for long. A customer has two places at most, the second one only while there are
 * places for others, and staff have one of their own: a slow reader blocks neither other customers nor
 * finance.
 */
import type { AccountUuid } from '../../domain/ids.ts';
import { Refusal } from '../../domain/errors.ts';
import { CsvWriter, type CsvValue } from './csv.ts';
import type { StreamReply } from './route.ts';

/** The reader of an export: a customer, or staff. */
export type Readership = AccountUuid | 'staff';

/** Each is a connection of the exports' own; `sum` is how many they need. */
export const EXPORT_PLACES = { customers: 5, ofOneCustomer: 2, reservedForOthers: 2, staff: 1, sum: 6 };
/** Ten minutes bring some million rows to a reader that keeps up. */
const EXPORT_TIMEOUT_SECONDS = 600;
/** Time for a reader to take each batch of some hundred kilobytes: slower readers block a place. */
const BATCH_TIMEOUT_SECONDS = 15;

export interface CsvExport {
  readonly readership: Readership;
  readonly fileName: string;
  readonly columns: readonly string[];
  /** Hands over all rows, batch by batch; the next one is asked for when the promise has settled. */
  readonly produce: (write: (rows: readonly (readonly CsvValue[])[]) => Promise<void>) => Promise<void>;
}

/** The exports of one process. */
export class Exports {
  /** The accounts that hold the customers' places. */
  readonly #customers: AccountUuid[] = [];
  #staff = 0;

  /** The answer that writes an export; too many at once are refused when it begins. */
  reply({ readership, fileName, columns, produce }: CsvExport): StreamReply {
    return {
      contentType: 'text/csv; charset=utf-8; header=present',
      fileName,
      write: async (output) => {
        const leave = this.#enter(readership);
        try {
          const csv = new CsvWriter(output, columns, {
            deadline: AbortSignal.timeout(EXPORT_TIMEOUT_SECONDS * 1000),
            batchTimeoutMs: BATCH_TIMEOUT_SECONDS * 1000,
          });
          await produce((rows) => csv.write(rows));
          await csv.end();
        } finally {
          leave();
        }
      },
    };
  }

  /** Takes a place; returns how to give it back. */
  #enter(readership: Readership): () => void {
    if (readership === 'staff') {
      if (this.#staff >= EXPORT_PLACES.staff) throw tooMany('Too many exports at once.');
      this.#staff++;
      return () => this.#staff--;
    }
    const { customers, ofOneCustomer, reservedForOthers } = EXPORT_PLACES;
    const own = this.#customers.filter((holder) => holder === readership).length;
    if (own >= ofOneCustomer) throw tooMany('Other exports of this account are still being read.');
    if (this.#customers.length >= customers - (own > 0 ? reservedForOthers : 0))
      throw tooMany('Too many exports at once.');
    this.#customers.push(readership);
    return () => this.#customers.splice(this.#customers.indexOf(readership), 1);
  }
}

function tooMany(message: string): Refusal {
  return new Refusal('rate_limit_exceeded', { message, retryAfterSeconds: 10 });
}
