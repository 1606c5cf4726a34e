/**
 * Checks of the set-up, and how they run: all at once, each within its own time, none able to keep the others from
 * saying what they found. A check reads and asks; it changes nothing anywhere.
 */
export type State = 'ok' | 'warning' | 'fault';

/** The finding of a check. Without a secret: it is printed and logged. */
export interface Finding {
  readonly state: State;
  /** The finding, in words. */
  readonly message: string;
  /** The cure; only for a finding that is not ok. */
  readonly cure?: string;
}

export interface Check {
  /** The subject: `stripe webhook`. */
  readonly name: string;
  /** At least one finding. `signal` is aborted when the time is up. Throwing is a fault of its own. */
  readonly run: (signal: AbortSignal) => Promise<readonly Finding[]>;
  /** The cure when it does not answer in time. */
  readonly silentCure: string;
}

/** A line of the report. */
export interface Line extends Finding {
  readonly check: string;
}

export const ok = (message: string): Finding => ({ state: 'ok', message });
export const warning = (message: string, cure: string): Finding => ({ state: 'warning', message, cure });
export const fault = (message: string, cure: string): Finding => ({ state: 'fault', message, cure });

/** Runs all checks at the same time. Returns their findings in the order of the checks; never throws. */
export async function runChecks(checks: readonly Check[], timeoutSeconds: number): Promise<Line[]> {
  const found = await Promise.all(checks.map((check) => findingsOf(check, timeoutSeconds)));
  return found.flatMap((findings, n) => findings.map((finding) => ({ check: checks[n]!.name, ...finding })));
}

async function findingsOf({ run, silentCure }: Check, timeoutSeconds: number): Promise<readonly Finding[]> {
  const ending = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<readonly Finding[]>((resolve) => {
    timer = setTimeout(() => {
      ending.abort();
      resolve([fault(`no answer within ${timeoutSeconds} s`, silentCure)]);
    }, timeoutSeconds * 1000);
  });
  try {
    return await Promise.race([run(ending.signal), silence]);
  } catch (error) {
    return [fault(`cannot be checked: ${wordsOf(error)}`, silentCure)];
  } finally {
    clearTimeout(timer);
  }
}

/** The message of an error; for a failed connection its code, since some have no message. */
export function wordsOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  const inner = error.cause instanceof Error ? wordsOf(error.cause) : null;
  const own = error.message === '' ? (code ?? error.name) : error.message;
  return inner === null ? own : `${own} (${inner})`;
}

/** `a, b and c`. */
export function listed(items: readonly string[]): string {
  return items.length <= 1 ? (items[0] ?? '') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)!}`;
}
