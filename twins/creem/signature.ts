/** Both forms in which Creem signs an event: its own header, and those of Standard Webhooks. */
import { createHmac } from 'node:crypto';

export const SIGNATURE_FORMS = ['legacy', 'standard', 'both'] as const;
export type SignatureForm = (typeof SIGNATURE_FORMS)[number];

export interface Signed {
  readonly body: Buffer;
  readonly messageId: string;
  /** Unix seconds. */
  readonly timestamp: number;
  /** The current one first; the older form has room for one signature alone. */
  readonly secrets: readonly string[];
}

export function signatureHeaders(form: SignatureForm, signed: Signed): Record<string, string> {
  return {
    ...(form !== 'standard' && legacyHeader(signed)),
    ...(form !== 'legacy' && standardHeaders(signed)),
  };
}

function legacyHeader({ body, secrets: [secret = ''] }: Signed): Record<string, string> {
  return { 'creem-signature': createHmac('sha256', secret).update(body).digest('hex') };
}

/** The key is the secret without its prefix, in base64; the signature covers id and time as well. */
function standardHeaders({ body, messageId, timestamp, secrets }: Signed): Record<string, string> {
  const signatures = secrets.map((secret) => {
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    const signature = createHmac('sha256', key).update(`${messageId}.${timestamp}.`).update(body).digest('base64');
    return `v1,${signature}`;
  });
  return {
    'webhook-id': messageId,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': signatures.join(' '),
  };
}
