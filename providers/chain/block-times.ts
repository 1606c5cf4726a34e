/** Finds blocks by time. */
import type { BlockRef } from '../../domain/payments/deposit.ts';
import { VendorError, type ChainVendor } from './rpc-vendor.ts';

/** The first step backwards from the head, in blocks. */
const FIRST_STEP = 256;

/**
 * The height of the first block that is not older than `time`; the head's where all are. Asks for about 25 headers.
 * Looked for from the head backwards: vendors no longer have the oldest blocks, and need not be asked for them.
 */
export async function heightAt(vendor: ChainVendor, head: BlockRef, time: number): Promise<number> {
  let low = 0;
  let high = head.height;
  for (let step = FIRST_STEP; step < head.height; step *= 2) {
    const height = head.height - step;
    if (await isOlder(height)) {
      low = height + 1;
      break;
    }
    high = height;
  }
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (await isOlder(middle)) low = middle + 1;
    else high = middle;
  }
  return low;

  async function isOlder(height: number): Promise<boolean> {
    const block = await vendor.block(height);
    if (block === null) throw new VendorError(vendor.name, `has no block ${height}, below its own head`);
    return block.time < time;
  }
}
