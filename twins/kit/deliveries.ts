/**
 * Sending webhooks as a provider does: at least once, in no promised order, again after each wait until an answer ends
 * it. Every attempt is recorded; what was pending when the process ended is sent again at the next start. How a
 * provider signs, how long it waits and when it gives up is the provider's, in a subclass.
 */
import type { TwinClock } from './clock.ts';
import type { Table } from './tables.ts';

/** Faults of the network, or of a forger, in a delivery. */
export interface DeliveryFault {
  /** Never sent, nor retried. */
  readonly drop?: boolean;
  /** Sends this many copies at the same time. */
  readonly duplicate?: number;
  readonly delay_ms?: number;
  /** Waits until the next one has been delivered (or the faults are cleared). */
  readonly reorder?: boolean;
  readonly wrong_secret?: boolean;
  /** The signature's timestamp, this far in the past … */
  readonly stale_seconds?: number;
  /** … or in the future. */
  readonly future_seconds?: number;
  /** One byte of the body changes after it was signed. */
  readonly altered_byte?: boolean;
  /** The endpoint gets it and answers, but the answer is lost: the sender sees a time-out. */
  readonly lose_answer?: boolean;
}

export interface DeliveryAttempt {
  readonly at_ms: number;
  readonly url: string | null;
  /** One per copy sent: the HTTP status, or the reason why the sender saw none. */
  readonly answers: readonly (number | string)[];
  readonly fault: DeliveryFault;
}

/** Also what `GET /_twin/deliveries` shows. */
export interface DeliveryRow {
  readonly id: string;
  readonly event_type: string;
  state: 'pending' | 'delivered' | 'dropped' | 'given_up';
  readonly attempts: DeliveryAttempt[];
  /** Time of the twin's clock; null when no further attempt is planned. */
  next_attempt_ms: number | null;
}

/** One copy of a delivery, as it goes out. */
export interface Letter {
  readonly url: string;
  /** The bytes that are signed. */
  readonly body: Buffer;
  /** The headers that prove the sender at this Unix time; a forged one is made with a wrong secret or key. */
  readonly sign: (timestamp: number, isForged: boolean) => Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

export interface DeliveryLog<Row extends DeliveryRow> {
  readonly deliveries: Table<Row>;
  /** Stores the changes before any client learns of them. */
  flush(): void;
}

export abstract class DeliveryQueue<Row extends DeliveryRow> {
  readonly #log: DeliveryLog<Row>;
  readonly #clock: TwinClock;
  readonly #closing = new AbortController();
  #held: (() => void)[] = [];

  constructor(log: DeliveryLog<Row>, clock: TwinClock) {
    this.#log = log;
    this.#clock = clock;
  }

  /** Takes up what was pending when the process ended. */
  resume(): void {
    for (const row of this.#log.deliveries.oldestFirst()) {
      if (row.state === 'pending') this.plan(row, row.next_attempt_ms ?? this.#clock.nowMs());
    }
  }

  /** Sends what a `reorder` fault holds back. */
  releaseHeld(): void {
    const released = this.#held;
    this.#held = [];
    for (const release of released) release();
  }

  close(): void {
    this.#closing.abort();
  }

  /** The fault that this attempt takes, used up by it. */
  protected abstract takeFault(row: Row): DeliveryFault;
  /** The request and its address; null while no endpoint is known. */
  protected abstract letterOf(row: Row): Letter | null;
  /** When a delivery without a success is tried again, in ms of the twin's clock; null gives it up. */
  protected abstract nextAttemptMs(row: Row, answers: readonly (number | string)[], nowMs: number): number | null;

  protected plan(row: Row, atMs = this.#clock.nowMs()): void {
    row.next_attempt_ms = atMs;
    this.#log.deliveries.put(row);
    this.#clock.at(atMs, () => {
      // A redelivery on request may have settled it, or planned another time.
      if (row.state === 'pending' && row.next_attempt_ms === atMs) void this.attempt(row);
    });
  }

  /** Sends it now, whatever was planned; resolves when it was answered. */
  protected async attempt(row: Row): Promise<void> {
    const fault = this.takeFault(row);
    const letter = this.letterOf(row);
    const atMs = this.#clock.nowMs();
    if (fault.drop === true || letter === null) {
      row.attempts.push({ at_ms: atMs, url: letter?.url ?? null, answers: [], fault });
      return this.#end(row, 'dropped');
    }
    if (fault.delay_ms !== undefined) await this.#until(atMs + fault.delay_ms);
    if (fault.reorder === true) await new Promise<void>((resolve) => this.#held.push(resolve));

    const copies = Array.from({ length: fault.duplicate ?? 1 }, () => this.send(letter, fault));
    const answers = await Promise.all(copies);
    if (this.#closing.signal.aborted) return;
    row.attempts.push({ at_ms: atMs, url: letter.url, answers, fault });
    this.#conclude(row, answers);
    if (fault.reorder !== true) this.releaseHeld();
  }

  /** Sends one copy; resolves with the answer's status, or why there was none. */
  protected async send({ url, body, sign, timeoutMs }: Letter, fault: DeliveryFault): Promise<number | string> {
    const timestamp = this.#clock.now() - (fault.stale_seconds ?? 0) + (fault.future_seconds ?? 0);
    const headers = sign(timestamp, fault.wrong_secret === true);
    try {
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: { 'content-type': 'application/json', ...headers },
        body: fault.altered_byte === true ? withOneByteAltered(body) : body,
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(timeoutMs)]),
      });
      await response.arrayBuffer();
      return fault.lose_answer === true ? 'the answer was lost' : response.status;
    } catch (error) {
      return error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : 'failed';
    }
  }

  #conclude(row: Row, answers: readonly (number | string)[]): void {
    const isAccepted = answers.some((answer) => typeof answer === 'number' && answer >= 200 && answer < 300);
    // An earlier success stands, whatever a redelivery on request comes to.
    if (isAccepted || row.state === 'delivered') return this.#end(row, 'delivered');
    const nextMs = this.nextAttemptMs(row, answers, this.#clock.nowMs());
    if (nextMs === null) return this.#end(row, 'given_up');
    this.plan(row, nextMs);
    this.#log.flush();
  }

  #end(row: Row, state: DeliveryRow['state']): void {
    row.state = state;
    row.next_attempt_ms = null;
    this.#log.deliveries.put(row);
    this.#log.flush();
  }

  #until(atMs: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.at(atMs, resolve));
  }
}

/** The last digit of the body changes, so that it stays valid JSON and only a signature over it tells. */
function withOneByteAltered(body: Buffer): Buffer {
  const altered = Buffer.from(body);
  const at = altered.findLastIndex((byte) => byte >= 0x30 && byte <= 0x39);
  altered[at] = altered[at] === 0x39 ? 0x38 : (altered[at] ?? 0) + 1;
  return altered;
}
