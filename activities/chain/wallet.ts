/** Deriving the addresses that customers pay to. No private key is ever on this machine. */
import { decodeBase58, getBytes, HDNodeVoidWallet, HDNodeWallet, hexlify, sha256, toBeHex } from 'ethers';

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
