const TIMEOUT_MS = 60_000;
const POLL_MS = 20;

/** Polls until `check` gives something (not undefined, null or false) and returns it; fails after the time-out. */
export async function until<T>(
  what: string,
  check: () => T | Promise<T>,
  timeoutMs = TIMEOUT_MS,
): Promise<Exclude<T, undefined | null | false>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const result = await check();
    if (result !== undefined && result !== null && result !== false)
      return result as Exclude<T, undefined | null | false>;
    if (performance.now() > deadline) throw new Error(`timed out after ${timeoutMs} ms waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
