/**
 * Ctrl-C for programs that start servers: the parts of a stack outlive the process that started them (they lead their
 * own sessions), so an interrupted run must still stop and remove what it made.
 */

export class Interrupted extends Error {
  constructor() {
    super('interrupted');
    this.name = 'Interrupted';
  }
}

/**
 * Runs a program's `main` and sets the exit code: 1 when it fails or returns false, 130 when it was interrupted. `main`
 * gets a signal to pass on to what it starts, and a way to wait that ends when the person interrupts.
 */
export async function runProgram(main: (interruption: Interruption) => Promise<boolean | void>): Promise<void> {
  const interruption = new Interruption();
  try {
    if ((await main(interruption)) === false) process.exitCode = 1;
  } catch (error) {
    // The interrupted work may still wait for something in the background.
    if (interruption.signal.aborted) process.exit(130);
    console.error(error instanceof Error ? (error.stack ?? error.message) : error);
    process.exitCode = 1;
  } finally {
    interruption.end();
  }
}

export class Interruption {
  readonly #controller = new AbortController();
  readonly #interrupt = (): void => this.#controller.abort(new Interrupted());

  constructor() {
    process.on('SIGINT', this.#interrupt);
    process.on('SIGTERM', this.#interrupt);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The result of `work`, or Interrupted as soon as somebody asks for the end; `work` is then left to itself. */
  async orInterrupted<T>(work: Promise<T>): Promise<T> {
    const interrupted = Promise.withResolvers<never>();
    const reject = (): void => interrupted.reject(new Interrupted());
    if (this.signal.aborted) reject();
    this.signal.addEventListener('abort', reject, { once: true });
    try {
      return await Promise.race([work, interrupted.promise]);
    } finally {
      this.signal.removeEventListener('abort', reject);
    }
  }

  end(): void {
    process.off('SIGINT', this.#interrupt);
    process.off('SIGTERM', this.#interrupt);
  }
}
