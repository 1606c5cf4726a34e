/** One HTTP call of a check: its status, its JSON and its clock. */

export interface HttpAnswer {
  readonly status: number;
  readonly text: string;
  /** Parsed; null where the body is no JSON. */
  readonly body: unknown;
  /**
   * By how many seconds this machine's clock is ahead of the server's, as its `Date` header tells; null where it has
   * none.
   */
  readonly aheadSeconds: number | null;
}

/** Throws when there is no answer. Redirects are not followed: a key must not go anywhere else. */
export async function ask(
  url: string,
  init: { readonly signal: AbortSignal; readonly method?: string; readonly headers?: Readonly<Record<string, string>> },
): Promise<HttpAnswer> {
  const askedAt = Date.now();
  const response = await fetch(url, { redirect: 'manual', ...init });
  const ownMs = (askedAt + Date.now()) / 2;
  const text = await response.text();
  const dateMs = Date.parse(response.headers.get('date') ?? '');
  let body: unknown = null;
  try {
    body = JSON.parse(text);
  } catch {
    // A caller that needs the body finds that there is none.
  }
  // The header has whole seconds: half of one is the mean of what it leaves out.
  const aheadSeconds = Number.isNaN(dateMs) ? null : Math.round((ownMs - dateMs - 500) / 1000);
  return { status: response.status, text, body, aheadSeconds };
}
