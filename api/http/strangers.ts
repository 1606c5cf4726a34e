/**
 * Calls without a token: an affiliate's link, the return from Discord. Such calls go one by one, by turns of the
 * sites they come from, so that inventing codes and states keeps nobody else from theirs.
 */
import type { IncomingMessage } from 'node:http';
import type { ClientAddress } from './client-address.ts';
import { networkOf } from './connections.ts';
import { FairGate } from './fair-gate.ts';

const CALLS = { atOnce: 1, atOncePerHolder: 1, waiting: 1024, waitingPerHolder: 64, retryAfterSeconds: 1 };

export class StrangersGate {
  readonly addressOf: ClientAddress;
  readonly #gate = new FairGate({ what: 'calls', ...CALLS });

  constructor(addressOf: ClientAddress) {
    this.addressOf = addressOf;
  }

  /**
   * Runs `work` when it is the caller's turn. Throws `rate_limit_exceeded` when too much of that site waits already.
   */
  run<T>(request: IncomingMessage, work: () => Promise<T>): Promise<T> {
    return this.#gate.run(networkOf(this.addressOf(request)), work);
  }
}
