/**
 * The operator's offline wallet, made once per folder. The product is only told its extended public key, as in
 * production; the phrase stays here, so that a person can sign for a deposit address and see that the money can be
 * moved.
 */
import { HDNodeWallet } from 'ethers';
import { join } from 'node:path';
import { readJsonFile, writeFileAtomic } from '../kit/files.ts';

/** Deposit addresses are this key's children. */
const ACCOUNT_PATH = "m/44'/60'/0'/0";

export function operatorWalletFile(folder: string): string {
  return join(folder, 'operator-wallet.json');
}

/** Leaves the wallet in the folder, unless it is there. */
export function makeOperatorWallet(folder: string): void {
  const file = operatorWalletFile(folder);
  if (readJsonFile(file) !== null) return;
  const { mnemonic } = HDNodeWallet.createRandom();
  if (mnemonic === null) throw new Error('a new wallet has no phrase');
  const xpub = HDNodeWallet.fromMnemonic(mnemonic, ACCOUNT_PATH).neuter().extendedKey;
  writeFileAtomic(file, `${JSON.stringify({ phrase: mnemonic.phrase, path: ACCOUNT_PATH, xpub }, null, 2)}\n`);
}
