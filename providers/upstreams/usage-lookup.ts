/**
 * Asking an upstream afterwards what a request consumed, by the request id that was sent along. The gateway asks when
 * an answer was cut, `resolveOrphan` when a gateway has died; the answer is evidence, not truth.
 */
import { request as httpRequest, type Dispatcher } from 'undici';
import { mergeReportedUsage, rawUsageOf } from '../../domain/usage/reported-usage.ts';

export type Evidence =
  /** The upstream's own final usage, in its own dialect. */
  | { readonly kind: 'usage'; readonly usage: unknown }
  /** The upstream says that it did no work for the request. */
  | { readonly kind: 'nothing' }
  /** The upstream does not know the request: it never arrived there, or is not on record yet. */
  | { readonly kind: 'unknown' }
  /** No upstream of this model can be asked. */
  | { readonly kind: 'no-lookup' }
  /** The upstream can be asked and has no final answer yet. */
  | { readonly kind: 'pending'; readonly reason: string };

/** The answer can only be a few counts. */
const ANSWER_BYTES_MAX = 64 * 1024;

export interface UsageLookup {
  /** URL with `{request_id}`; null where the upstream has no look-up. */
  readonly url: string | null;
  /** The provider's key; null where it wants none. */
  readonly apiKey: string | null;
}

export interface LookupCall {
  readonly timeoutMs: number;
  /** Connects only to where the configuration lets upstreams be; see providers/upstreams/settings.ts. */
  readonly dispatcher: Dispatcher;
}

/** Asks once. Never throws: what cannot be read is `pending`. */
export async function lookUpUsage(
  { url, apiKey }: UsageLookup,
  requestId: string,
  { timeoutMs, dispatcher }: LookupCall,
): Promise<Evidence> {
  if (url === null) return { kind: 'no-lookup' };
  try {
    const response = await httpRequest(url.replace('{request_id}', encodeURIComponent(requestId)), {
      dispatcher,
      headers: apiKey === null ? {} : { authorization: `Bearer ${apiKey}` },
      signal: AbortSignal.timeout(Math.ceil(timeoutMs)),
    });
    if (response.statusCode !== 200) {
      await response.body.dump();
      if (response.statusCode === 404) return { kind: 'unknown' };
      return { kind: 'pending', reason: `look-up answered ${response.statusCode}` };
    }
    return readEvidence(JSON.parse(await readLimited(response.body)) as unknown);
  } catch (error) {
    return { kind: 'pending', reason: error instanceof Error ? error.message : 'look-up failed' };
  }
}

async function readLimited(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > ANSWER_BYTES_MAX) throw new Error('look-up answered more than 64 KiB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Any body in which the usage reader finds counts; `status` says whether they are final. */
function readEvidence(answer: unknown): Evidence {
  const { status } = (answer ?? {}) as { status?: unknown };
  if (status === 'running' || status === 'in_progress') return { kind: 'pending', reason: 'still running there' };
  const usage = rawUsageOf(mergeReportedUsage(null, answer));
  if (usage !== null) return { kind: 'usage', usage };
  return status === undefined ? { kind: 'pending', reason: 'no usage reported' } : { kind: 'nothing' };
}
