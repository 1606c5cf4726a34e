/** The application's Ed25519 key pair, with which Discord signs webhook events. The same seed gives the same pair. */
import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign } from 'node:crypto';

export interface SigningKey {
  readonly privateKey: KeyObject;
  /** 32 bytes in hex, as the developer portal shows it. */
  readonly publicKey: string;
}

/** The DER of an Ed25519 private key up to the 32 bytes that differ (RFC 8410). */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const PUBLIC_KEY_BYTES = 32;

export function signingKeyOf(seed: string): SigningKey {
  const secret = createHash('sha256').update(seed).digest();
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_HEAD, secret]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  return { privateKey, publicKey: spki.subarray(-PUBLIC_KEY_BYTES).toString('hex') };
}

/** The two headers of a webhook event: the signature is over timestamp and body. */
export function eventHeaders(key: SigningKey, timestamp: string, body: Buffer): Record<string, string> {
  const signature = sign(null, Buffer.concat([Buffer.from(timestamp), body]), key.privateKey);
  return { 'x-signature-ed25519': signature.toString('hex'), 'x-signature-timestamp': timestamp };
}
