/** Reading transfers out of logs. */
import type { Transfer } from '../../domain/payments/deposit.ts';
import type { ChainLog } from './rpc-vendor.ts';

/** Topic of `Transfer(address,address,uint256)`. */
export const TRANSFER_TOPIC = '0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef';

/** The transfer of a log; null where it is another event. The value is the log's, not the call's argument. */
export function transferOf(log: ChainLog): Transfer | null {
  const [topic, from, to] = log.topics;
  if (topic !== TRANSFER_TOPIC || log.topics.length !== 3 || from?.length !== 66 || to?.length !== 66) return null;
  if (!/^0x[0-9a-f]{64}$/.test(log.data)) return null;
  return { token: log.contract, from: addressIn(from), to: addressIn(to), units: BigInt(log.data) };
}

/** An address as a topic holds it, filled up to 32 bytes. */
function addressIn(topic: string): string {
  return `0x${topic.slice(26)}`;
}
