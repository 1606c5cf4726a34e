/**
 * Telling deposits from tokens of our own that move. A transfer from one of our addresses to another brings nothing
 * that was not here before, no matter who moves them and in how many steps: directly, by a contract between the two, or
 * swapped for another token on the way. So a transaction that takes tokens out of an address of ours pays none of them
 * in. Nobody but the operator can make one, because it takes the address's key; a transfer of nothing does not, and
 * does not count.
 */
import type { ChainToken } from './settings.ts';
import { transferOf } from './transfer-logs.ts';
import type { Receipt } from './rpc-vendor.ts';

export interface Ours {
  readonly tokens: readonly ChainToken[];
  has(address: string): boolean;
}

/** True when a transaction was sent by an address of ours, or moves tokens out of one. */
export function movesOurTokens({ sender, logs }: Receipt, ours: Ours): boolean {
  return (
    ours.has(sender) ||
    logs.some((log) => {
      const transfer = ours.tokens.some(({ contract }) => contract === log.contract) ? transferOf(log) : null;
      return transfer !== null && transfer.units > 0n && ours.has(transfer.from);
    })
  );
}
