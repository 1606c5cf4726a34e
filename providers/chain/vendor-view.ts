/**
 * A vendor's present view of a deposit: its own header and its own receipt, compared. Where header and receipt
 * disagree, the view is `silent`: a lagging node, a node behind a balancer and a reorganization under way look like
 * that.
 */
import { assert } from '../../domain/assert.ts';
import type { BlockRef, ChainHead, Transfer, VendorView } from '../../domain/payments/deposit.ts';
import type { OpenDeposit } from '../../db/payments/deposits.ts';
import { movesOurTokens, type Ours } from './own-transfers.ts';
import { transferOf } from './transfer-logs.ts';
import type { ChainVendor, Receipt } from './rpc-vendor.ts';

/** More receipts than this are forgotten together; asking for them again costs only time. */
const RECEIPTS_MAX = 5000;

/**
 * Reads one vendor's views. Remembers headers as long as its head is the same block, and receipts as long as their
 * block is there: neither can differ then. Missing and failed answers are requested again.
 */
export class VendorViewReader {
  readonly #vendor: ChainVendor;
  readonly #blocks = new Map<number, Promise<BlockRef | null>>();
  readonly #receipts = new Map<string, Promise<Receipt | null>>();
  #head: ChainHead | null = null;

  constructor(vendor: ChainVendor) {
    this.#vendor = vendor;
  }

  /** The head that it speaks of from now on. */
  turnTo(head: ChainHead): void {
    if (head.latest.hash !== this.#head?.latest.hash) this.#blocks.clear();
    if (this.#receipts.size > RECEIPTS_MAX) this.#receipts.clear();
    this.#head = head;
  }

  /** Drops the cached receipt, so that the next view reads it again. */
  forget(txHash: string): void {
    this.#receipts.delete(txHash);
  }

  /**
   * A transfer that is none to us, of a token that we do not take, or of tokens that were ours already, is not there.
   */
  async viewOf(deposit: OpenDeposit, ours: Ours): Promise<VendorView> {
    const head = this.#head;
    assert(head !== null, 'a reader has a head');
    const { height, hash } = deposit.block;
    if (head.latest.height < height) return { kind: 'silent' };
    const header = await this.#block(height);
    if (header === null) return { kind: 'silent' };
    const receipt = await this.#receiptNow(deposit.txHash, header);
    if (receipt === null) {
      if (header.hash !== hash) return this.#absent(head);
      // The very block that is to hold it: where it is listed there and has no receipt, the vendor contradicts itself.
      const contents = await this.#vendor.contents(height);
      const isMissing = contents?.transactions.includes(deposit.txHash) === false;
      return isMissing ? this.#absent(head) : { kind: 'silent' };
    }
    const block = await this.#block(receipt.height);
    if (block === null || block.hash !== receipt.blockHash || receipt.height > head.latest.height) {
      return { kind: 'silent' };
    }
    const log = receipt.isSuccess ? receipt.logs[deposit.ordinal] : undefined;
    const transfer = log === undefined ? null : transferOf(log);
    if (transfer === null || !isDeposit(transfer, ours) || movesOurTokens(receipt, ours)) return this.#absent(head);
    return { kind: 'shown', block, transfer, head };
  }

  /**
   * Said only by a vendor that still shows the head by which it was known to be on this chain: what another node behind
   * its address does not have, perhaps one of another chain, is not gone for that.
   */
  async #absent({ latest }: ChainHead): Promise<VendorView> {
    const now = await this.#vendor.block(latest.height);
    return now?.hash === latest.hash ? { kind: 'absent' } : { kind: 'silent' };
  }

  /** The receipt; a receipt from a block that is not there any more is read again. */
  async #receiptNow(txHash: string, header: BlockRef): Promise<Receipt | null> {
    const known = await this.#receipt(txHash);
    if (known === null || known.blockHash === header.hash) return known;
    if ((await this.#block(known.height))?.hash === known.blockHash) return known;
    this.#receipts.delete(txHash);
    return this.#receipt(txHash);
  }

  #block(height: number): Promise<BlockRef | null> {
    return remembered(this.#blocks, height, () => this.#vendor.block(height));
  }

  #receipt(txHash: string): Promise<Receipt | null> {
    return remembered(this.#receipts, txHash, () => this.#vendor.receipt(txHash));
  }
}

/** Asks once for what is asked for at the same time, and keeps what there is. */
function remembered<Key, Value>(
  known: Map<Key, Promise<Value | null>>,
  key: Key,
  ask: () => Promise<Value | null>,
): Promise<Value | null> {
  const before = known.get(key);
  if (before !== undefined) return before;
  const forget = (): void => {
    if (known.get(key) === asked) known.delete(key);
  };
  const asked = ask();
  known.set(key, asked);
  asked.then((answer) => {
    if (answer === null) forget();
  }, forget);
  return asked;
}

function isDeposit({ token, to, units }: Transfer, ours: Ours): boolean {
  return units > 0n && ours.has(to) && ours.tokens.some(({ contract }) => contract === token);
}
