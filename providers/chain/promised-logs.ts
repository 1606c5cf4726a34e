/**
 * Whether a block holds transfers to us that a vendor's logs leave out, by what its own header promises. The bloom
 * filter in a header never denies a log that is there; it can only promise a log that is not there. Where few bits are
 * set such promises are rare, and a promise without a log is settled by the receipts of the block's transactions. Where
 * most bits are set, as on busy chains, the filter says nothing and nothing is asked: there only reading again helps.
 */
import { keccak256 } from 'ethers';
import type { BlockContents, ChainVendor, Receipt } from './rpc-vendor.ts';

/** Bits of the filter, and how many of them each address and topic sets. */
const BLOOM_BITS = 2048;
const BLOOM_BYTES = BLOOM_BITS / 8;
const BITS_EACH = 3;
/** A promise is believed where fewer than one in so many blocks would make it by chance. */
const BLOCKS_PER_CHANCE = 100;
/**
 * So many addresses that were given out last are looked for: those that are likely to be paid, and no more hashing than
 * a block is worth.
 */
export const PROMISED_ADDRESSES = 500;
/** Blocks with a filter that says something have few transactions. */
const RECEIPTS_MAX = 64;
const AT_ONCE = 8;

/**
 * A log that has to be in a block for a transfer to be: who emits it, its first topic, and the padded addresses of
 * receivers.
 */
export interface PromisedTransfer {
  readonly contracts: readonly string[];
  readonly topic: string;
  readonly recipients: readonly string[];
}

/** True when the header promises a transfer to one of the recipients, and its promises mean something. */
export function promisesTransfer({ logsBloom }: BlockContents, wanted: PromisedTransfer): boolean {
  if (logsBloom === null || !/^0x[0-9a-f]{512}$/i.test(logsBloom)) return false;
  const bloom = Buffer.from(logsBloom.slice(2), 'hex');
  const { recipients } = wanted;
  if (recipients.length * shareSet(bloom) ** BITS_EACH * BLOCKS_PER_CHANCE >= 1) return false;
  return (
    mayHold(bloom, wanted.topic) &&
    wanted.contracts.some((contract) => mayHold(bloom, contract)) &&
    recipients.some((recipient) => mayHold(bloom, recipient))
  );
}

/**
 * The receipts of a block's transactions, as far as they belong to this very block. Empty where there are too many to
 * ask for: then the block waits to be read again.
 */
export async function receiptsOf(vendor: ChainVendor, { block, transactions }: BlockContents): Promise<Receipt[]> {
  if (transactions.length > RECEIPTS_MAX) return [];
  const receipts: Receipt[] = [];
  for (let n = 0; n < transactions.length; n += AT_ONCE) {
    const some = await Promise.all(transactions.slice(n, n + AT_ONCE).map((txHash) => vendor.receipt(txHash)));
    receipts.push(...some.filter((receipt) => receipt !== null).filter(({ blockHash }) => blockHash === block.hash));
  }
  return receipts;
}

function shareSet(bloom: Buffer): number {
  let set = 0;
  for (const byte of bloom) for (let bits = byte; bits > 0; bits &= bits - 1) set++;
  return set / BLOOM_BITS;
}

/** Filter bits of an address or topic in hex: the first three pairs of bytes of its hash name them. */
function mayHold(bloom: Buffer, value: string): boolean {
  const hash = Buffer.from(keccak256(value).slice(2), 'hex');
  return [0, 2, 4].every((place) => {
    const bit = hash.readUInt16BE(place) % BLOOM_BITS;
    return (bloom[BLOOM_BYTES - 1 - (bit >> 3)]! & (1 << (bit & 7))) !== 0;
  });
}
