/**
 * Takes a request in: reads its body within the limits of memory, rate and time, undoes its compression and parses it,
 * off the event loop where that takes long. All of it happens before anything is known about the caller's money, so
 * every bound here is one for strangers.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { Refusal, type ErrorCode } from '../../../../domain/errors.ts';
import type { GatewaySettings } from '../../../config.ts';
import type { Dialect, DialectRequest } from '../dialect.ts';
import type { Caller } from '../keys/keys.ts';
import { Arrivals, TOO_MUCH } from './arrivals.ts';
import { BodyBudget, SMALL_BODY_BYTES, type BodyCharge } from './body-budget.ts';
import { ACCEPTED_CODINGS, codingsOf, type Coding } from './body-codings.ts';
import { refusalOf } from './body-job.ts';
import { BodyThreads } from './body-threads.ts';
import { announcedBytes, ClientGone, readBody } from './body.ts';
import { IntakeRate, type Sender } from './intake-rate.ts';

/** Bodies above this are parsed in a thread: about a millisecond of the event loop. */
const PARSED_HERE_BYTES_MAX = 256 * 1024;

/**
 * A body that would begin with a longer wait than this is refused: the client knows better what to do with the time.
 */
const WAIT_BEFORE_MS_MAX = 2000;
/** A body under way waits this long for one piece at most. */
const WAIT_WITHIN_MS_MAX = 30_000;

/**
 * What handling a piece costs beside its bytes, in bytes: a body in chunks of one byte costs its account a hundredfold.
 */
const COST_PER_PIECE = 256;

export interface ReceivedBody {
  readonly request: DialectRequest;
  /** Gives its memory back. To be called once nothing of the request is needed any more. */
  release(): void;
}

/** One body on its way. */
interface Reception {
  readonly incoming: IncomingMessage;
  readonly response: ServerResponse;
  readonly sender: Sender;
  readonly dialect: Dialect;
  readonly codings: readonly Coding[];
  readonly charge: BodyCharge;
}

export interface BodyIntakeOptions {
  readonly settings: GatewaySettings;
  /** The program of the threads that parse large bodies. */
  readonly threadProgram: URL;
  readonly logger: Logger;
  /** Called for each body that is refused before its request is looked at. */
  readonly onRefused: (code: ErrorCode) => void;
}

export class BodyIntake {
  readonly #limitBytes: number;
  readonly #budget: BodyBudget;
  readonly #rate: IntakeRate;
  readonly #arrivals: Arrivals;
  readonly #threads: BodyThreads;
  readonly #onRefused: (code: ErrorCode) => void;

  constructor(options: BodyIntakeOptions) {
    const { settings, logger, threadProgram } = options;
    this.#limitBytes = settings.bodyLimitBytes;
    this.#budget = new BodyBudget(settings.bodyMemory);
    this.#rate = new IntakeRate(settings.bodyRate);
    this.#arrivals = new Arrivals(settings.bodyArrivals);
    this.#threads = new BodyThreads({ size: settings.bodyThreads, program: threadProgram, logger });
    this.#onRefused = options.onRefused;
  }

  /** For metrics. */
  get heldBytes(): { small: number; large: number } {
    return this.#budget.heldBytes;
  }

  get slow(): number {
    return this.#arrivals.slow;
  }

  get waiting(): number {
    return this.#threads.waiting;
  }

  /**
   * The caller's request, as `dialect` reads it. Throws the Refusal to answer, or ClientGone; then nothing of the body
   * is held any more.
   */
  async receive(
    incoming: IncomingMessage,
    response: ServerResponse,
    { caller, dialect }: { caller: Caller; dialect: Dialect },
  ): Promise<ReceivedBody> {
    const charge = this.#budget.open(caller.accountId);
    try {
      const codings = codingsOf(incoming.headers['content-encoding']);
      const reception = { incoming, response, sender: caller, dialect, codings, charge };
      const request = await this.#parse(await this.#read(reception), reception);
      charge.setEvict(null);
      return { request, release: () => charge.release() };
    } catch (error) {
      charge.release();
      if (error instanceof Refusal) this.#refused(error.code, response);
      throw error;
    }
  }

  /**
   * To be called for every refusal: an account that has no money, or that sends what is too large for anybody, gets a smaller rate for
   * large bodies.
   */
  noteRefusal({ accountId, keyId }: Caller, code: ErrorCode): void {
    if (code === 'insufficient_user_quota' || code === 'body_too_large')
      this.#rate.noteRefused(accountId, performance.now());
    if (code === 'key_limit_exceeded') this.#rate.noteRefused(keyId, performance.now());
  }

  async stop(): Promise<void> {
    this.#arrivals.stop();
    await this.#threads.stop();
  }

  #read({ incoming, response, sender, codings, charge }: Reception): Promise<Buffer> {
    // What a compressed body becomes is not known before.
    const isLarge = codings.length > 0 || announcedBytes(incoming) > SMALL_BODY_BYTES;
    refuseLongWait(this.#rate.take(sender, 0, isLarge, performance.now()), WAIT_BEFORE_MS_MAX);
    // A client that asks first, and would be refused, has not sent anything yet.
    if (announcedBytes(incoming) <= this.#limitBytes && incoming.headers.expect !== undefined) response.writeContinue();
    return readBody(incoming, {
      accountId: sender.accountId,
      limitBytes: this.#limitBytes,
      arrivals: this.#arrivals,
      onReading: (refuse) => charge.setEvict(refuse),
      onBytes: (bytes, total) => {
        charge.resize(total);
        const cost = bytes + COST_PER_PIECE;
        const waitMs = this.#rate.take(sender, cost, isLarge || total > SMALL_BODY_BYTES, performance.now());
        refuseLongWait(waitMs, WAIT_WITHIN_MS_MAX);
        return waitMs;
      },
    });
  }

  async #parse(raw: Buffer, { response, sender, dialect, codings, charge }: Reception): Promise<DialectRequest> {
    const arrivedBytes = raw.length;
    if (codings.length === 0 && arrivedBytes <= PARSED_HERE_BYTES_MAX) return dialect.parse(raw);
    const job = { dialect: dialect.name, raw, codings, limitBytes: this.#limitBytes };
    const parsing = this.#threads.parse(sender.accountId, job);
    charge.setEvict((refusal) => parsing.abandon(refusal));
    const leave = (): void => parsing.abandon(new ClientGone());
    response.once('close', leave);
    const result = await parsing.result.finally(() => response.off('close', leave));
    // What was compressed is work as well. The bytes are here already, so it is the next body that waits for them.
    this.#rate.take(sender, Math.max(0, result.decodedBytes - arrivedBytes), true, performance.now());
    switch (result.kind) {
      case 'parsed':
        charge.resize(result.decodedBytes);
        return result.request;
      case 'refused':
        throw refusalOf(result.refusal);
      case 'failed':
        throw new Error(`a body could not be parsed: ${result.error}`);
    }
  }

  #refused(code: ErrorCode, response: ServerResponse): void {
    this.#onRefused(code);
    if (code === 'unsupported_content_encoding') response.setHeader('accept-encoding', ACCEPTED_CODINGS);
    // The rest of a body that came too slowly is not waited for.
    if (code === 'body_timeout') response.setHeader('connection', 'close');
  }
}

function refuseLongWait(waitMs: number, mostMs: number): void {
  if (waitMs <= mostMs) return;
  throw new Refusal('rate_limit_exceeded', { message: TOO_MUCH, retryAfterSeconds: Math.ceil(waitMs / 1000) });
}
