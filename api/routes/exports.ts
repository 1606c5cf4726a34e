/**
 * Exports as CSV. One holds a connection and a snapshot for as long as its reader takes, so few may run at once, whatever
 * they export, and none for long. Customers and staff have places of their own: who reads slowly on purpose must not keep
 * finance from its books.
 */
import { Refusal } from '../../domain/errors.ts';
import { CsvWriter, type CsvValue } from './csv.ts';
import type { StreamReply } from './route.ts';

export type Readership = 'customer' | 'staff';

/** Together fewer than the connections for reports, which lists and receipts need as well. */
const PLACES: Readonly<Record<Readership, number>> = { customer: 2, staff: 1 };
/** Ten minutes bring some million rows to a reader that keeps up. */
const EXPORT_TIMEOUT_SECONDS = 600;

export interface CsvExport {
  readonly readership: Readership;
  readonly fileName: string;
  readonly columns: readonly string[];
  /** Hands over all rows, batch by batch; the next one is asked for when the promise has settled. */
  readonly produce: (write: (rows: readonly (readonly CsvValue[])[]) => Promise<void>) => Promise<void>;
}

/** The exports of one process. */
export class Exports {
  readonly #running: Record<Readership, number> = { customer: 0, staff: 0 };

  /** The answer that writes an export; too many at once are refused when it begins. */
  reply({ readership, fileName, columns, produce }: CsvExport): StreamReply {
    return {
      contentType: 'text/csv; charset=utf-8; header=present',
      fileName,
      write: async (output) => {
        if (this.#running[readership] >= PLACES[readership]) {
          throw new Refusal('rate_limit_exceeded', { message: 'Too many exports at once.', retryAfterSeconds: 10 });
        }
        this.#running[readership]++;
        try {
          const csv = new CsvWriter(output, columns, AbortSignal.timeout(EXPORT_TIMEOUT_SECONDS * 1000));
          await produce((rows) => csv.write(rows));
          await csv.end();
        } finally {
          this.#running[readership]--;
        }
      },
    };
  }
}
