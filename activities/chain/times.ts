/** Finds blocks by time. */
import type { BlockRef } from '../../domain/deposit.ts';
import { VendorError, type ChainVendor } from './vendor.ts';

/** The height of the first block that is not older than `time`; the head's where all are. Asks for about 25 headers. */
export async function heightAt(vendor: ChainVendor, head: BlockRef, time: number): Promise<number> {
  let low = 0;
  let high = head.height;
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const block = await vendor.block(middle);
    if (block === null) throw new VendorError(vendor.name, `has no block ${middle}, below its own head`);
    if (block.time >= time) high = middle;
    else low = middle + 1;
  }
  return low;
}
