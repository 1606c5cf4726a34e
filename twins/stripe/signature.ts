/** The `Stripe-Signature` header: `t=…` and one `v1=…` (HMAC-SHA256 of `t.body`) for every secret in use. */
import { createHmac } from 'node:crypto';

export function signatureHeader(body: Buffer, timestamp: number, secrets: readonly string[]): string {
  const parts = secrets.map((secret) => {
    const signature = createHmac('sha256', secret).update(`${timestamp}.`).update(body).digest('hex');
    return `v1=${signature}`;
  });
  return [`t=${timestamp}`, ...parts].join(',');
}
