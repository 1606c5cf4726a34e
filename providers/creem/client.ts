/** Creem's SDK, or rather a client of it that leaves retries to Temporal. */
import { Creem } from 'creem';
import type { CreemSettings } from './settings.ts';

/** Long enough for a slow answer, short enough that Temporal's retry, not the SDK's, decides what happens next. */
const CREEM_TIMEOUT_MS = 15_000;

/** A client of Creem, or of what stands in for it. */
export function createCreem({ apiKey, apiUrl, live }: CreemSettings): Creem {
  return new Creem({
    apiKey,
    timeoutMs: CREEM_TIMEOUT_MS,
    retryConfig: { strategy: 'none' },
    ...(apiUrl === null ? { server: live ? 'prod' : 'test' } : { serverURL: apiUrl }),
  });
}
