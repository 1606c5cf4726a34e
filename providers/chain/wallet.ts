/**
 * Deriving the addresses that customers pay to. No private key is ever on this machine.
 *
 * An address comes from the id of its top-up alone, never from a counter. A counter goes back with a restored backup,
 * and then gives the addresses that customers have been shown to others; an id does not. Its hash makes two indexes of
 * 31 bits, so that even the addresses of orders that a restore has lost are not met again. The id always leads to the
 * key: `node worker/deposit-address.ts` prints the path below the wallet's extended public key.
 */
import { createHash } from 'node:crypto';
import { decodeBase58, getBytes, HDNodeVoidWallet, HDNodeWallet, hexlify, sha256, toBeHex } from 'ethers';
import type { Uuid } from '../../domain/ids.ts';

/** A wallet that derives addresses and holds no private key. Throws for anything else. */
export function depositWallet(xpub: string): HDNodeVoidWallet {
  requireCheckSum(xpub);
  const wallet = HDNodeWallet.fromExtendedKey(xpub);
  if (!(wallet instanceof HDNodeVoidWallet)) throw new Error('the extended key is private');
  return wallet;
}

const KEY_BYTES = 78;
const SUM_BYTES = 4;

/** ethers 6.17 takes an extended key of the right length whatever its check sum is. */
function requireCheckSum(xpub: string): void {
  const bytes = getBytes(toBeHex(decodeBase58(xpub), KEY_BYTES + SUM_BYTES));
  const sum = getBytes(sha256(sha256(bytes.subarray(0, KEY_BYTES)))).subarray(0, SUM_BYTES);
  if (hexlify(sum) !== hexlify(bytes.subarray(KEY_BYTES))) throw new Error('the extended key has a typing error');
}

/** Indexes above this are hardened, and need the private key. */
const INDEX_MASK = 0x7fff_ffff;

/**
 * The path of a top-up's address, `<index>/<index>`. `attempt` counts from 0: another one is needed only should two
 * top-ups ever meet, which one in four trillion million pairs does.
 */
export function depositPath(topUpId: Uuid<'topUp'>, attempt: number): string {
  const hash = createHash('sha256').update(`holdfast deposit address ${topUpId} ${attempt}`).digest();
  return `${hash.readUInt32BE(0) & INDEX_MASK}/${hash.readUInt32BE(4) & INDEX_MASK}`;
}

/** The address at a path, in lower case. */
export function addressAt(wallet: HDNodeVoidWallet, path: string): string {
  return wallet.derivePath(path).address.toLowerCase();
}
