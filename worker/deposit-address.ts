/**
 * `npm run -s deposit-address -- <top_…>`: where the money of a crypto order goes, by the order's id alone. For orders
 * that a restored backup has lost: customers, logs and Temporal still have their ids. Prints the address and its path
 * below the extended public key of `CRYPTO_XPUB`; the owner of the private key derives the same path from it.
 */
import { addressAt, depositPath, depositWallet } from '../providers/chain/wallet.ts';
import { parseId } from '../domain/ids.ts';

const [id = ''] = process.argv.slice(2);
const topUpId = parseId('topUp', id);
const xpub = process.env['CRYPTO_XPUB'];
if (topUpId === null || xpub === undefined || xpub === '') {
  process.stderr.write('usage: CRYPTO_XPUB=xpub… npm run -s deposit-address -- <id of a top-up, top_…>\n');
  process.exit(2);
}
const wallet = depositWallet(xpub);
const path = depositPath(topUpId, 0);
process.stdout.write(`${addressAt(wallet, path)} ${path}\n`);
