/** Deriving the addresses that customers pay to. No private key is ever on this machine. */
import { HDNodeVoidWallet, HDNodeWallet } from 'ethers';

/** A wallet that derives addresses and holds no private key. Throws for anything else. */
export function depositWallet(xpub: string): HDNodeVoidWallet {
  const wallet = HDNodeWallet.fromExtendedKey(xpub);
  if (!(wallet instanceof HDNodeVoidWallet)) throw new Error('the extended key is private');
  return wallet;
}
