/**
 * Sends webhooks, Discord's and the vote directories', each to its own endpoint, signed in its sender's way and tried
 * again as often as that sender does. Every attempt is recorded; what was pending when the process ended is sent again.
 */
import type { DeliveryFault, DiscordFaults } from './faults.ts';
import type { DiscordStore } from './store.ts';
import type { TwinClock } from '../kit/clock.ts';

/** Also what `GET /_twin/deliveries` shows. */
export interface DeliveryRow {
  readonly id: string;
  readonly channel: string;
  readonly event_type: string;
  /** The bytes that are signed, the same in every attempt. */
  readonly body: string;
  state: 'pending' | 'delivered' | 'dropped' | 'given_up';
  readonly attempts: DeliveryAttempt[];
  /** Of the twin's clock; null when nothing more will happen by itself. */
  next_attempt_ms: number | null;
}

export interface DeliveryAttempt {
  readonly at_ms: number;
  readonly url: string | null;
  /** Of each copy sent: the HTTP status, or why the sender saw none. */
  readonly answers: readonly (number | string)[];
  readonly fault: DeliveryFault;
}

/** How one sender sends. */
export interface Channel {
  readonly name: string;
  /** Below the product's webhooks. */
  readonly path: string;
  /** Those that prove the sender; forged ones are made with a wrong secret or key. */
  readonly headers: (body: Buffer, timestamp: number, isForged: boolean) => Readonly<Record<string, string>>;
  /** The waits before each further attempt. */
  readonly retriesSeconds: readonly number[];
  /** Whether it tries again after an answer outside 2xx: every such answer, or only 5xx. A time-out always counts. */
  readonly retriesOn: 'any_failure' | 'server_error';
  readonly timeoutSeconds: number;
}

export interface DeliveriesOptions {
  /** Where the product takes webhooks, without a trailing slash; null sends nothing. */
  readonly webhookUrl: string | null;
  /** How long a second of the retry waits is here: on one machine an endpoint is back soon. */
  readonly retrySecondMs: number;
}

export class Deliveries {
  readonly #store: DiscordStore;
  readonly #clock: TwinClock;
  readonly #faults: DiscordFaults;
  readonly #channels: ReadonlyMap<string, Channel>;
  readonly #options: DeliveriesOptions;
  readonly #closing = new AbortController();

  constructor(
    store: DiscordStore,
    clock: TwinClock,
    faults: DiscordFaults,
    channels: readonly Channel[],
    options: DeliveriesOptions,
  ) {
    this.#store = store;
    this.#clock = clock;
    this.#faults = faults;
    this.#channels = new Map(channels.map((channel) => [channel.name, channel]));
    this.#options = options;
  }

  get webhookUrl(): string | null {
    const { webhookUrl } = this.#store.settings;
    return webhookUrl === undefined ? this.#options.webhookUrl : webhookUrl;
  }

  /** Plans the first attempt for now. While no endpoint is known, nothing is ever sent unless redelivery is asked for. */
  send(channel: string, id: string, eventType: string, payload: unknown): DeliveryRow {
    const row = this.#store.deliveries.put({
      ...{ id, channel, event_type: eventType, body: JSON.stringify(payload) },
      ...{ state: 'pending', attempts: [], next_attempt_ms: null },
    });
    this.#plan(row, this.#clock.nowMs());
    return row;
  }

  resume(): void {
    for (const row of this.#store.deliveries.oldestFirst()) {
      if (row.state === 'pending') this.#plan(row, row.next_attempt_ms ?? this.#clock.nowMs());
    }
  }

  /** Sends it (again) now, and resolves when it was answered; undefined when there is no such delivery. */
  async redeliver(id: string): Promise<DeliveryRow | undefined> {
    const row = this.#store.deliveries.get(id);
    if (row !== undefined) await this.#attempt(row);
    return row;
  }

  /** One signed call outside of the deliveries, as when Discord checks an endpoint. Resolves with the answer's status. */
  async probe(channelName: string, payload: unknown, fault: DeliveryFault): Promise<number | string> {
    const url = this.#urlOf(channelName);
    if (url === null) return 'no endpoint is known';
    return this.#post(this.#channel(channelName), url, JSON.stringify(payload), fault);
  }

  close(): void {
    this.#closing.abort();
  }

  #channel(name: string): Channel {
    const channel = this.#channels.get(name);
    if (channel === undefined) throw new Error(`There is no channel '${name}'.`);
    return channel;
  }

  #urlOf(channelName: string): string | null {
    return this.webhookUrl === null ? null : `${this.webhookUrl}/${this.#channel(channelName).path}`;
  }

  #plan(row: DeliveryRow, atMs: number): void {
    row.next_attempt_ms = atMs;
    this.#store.deliveries.put(row);
    this.#clock.at(atMs, () => {
      // A redelivery on request may have settled it, or planned another time.
      if (row.state === 'pending' && row.next_attempt_ms === atMs) void this.#attempt(row);
    });
  }

  async #attempt(row: DeliveryRow): Promise<void> {
    const fault = this.#faults.takeForDelivery(row.channel);
    const url = this.#urlOf(row.channel);
    const atMs = this.#clock.nowMs();
    if (fault.drop === true || url === null) {
      row.attempts.push({ at_ms: atMs, url, answers: [], fault });
      return this.#end(row, 'dropped');
    }
    if (fault.delay_ms !== undefined) await this.#until(atMs + fault.delay_ms);

    const channel = this.#channel(row.channel);
    const copies = Array.from({ length: fault.duplicate ?? 1 }, () => this.#post(channel, url, row.body, fault));
    const answers = await Promise.all(copies);
    if (this.#closing.signal.aborted) return;
    row.attempts.push({ at_ms: atMs, url, answers, fault });
    const isDelivered = answers.some((answer) => typeof answer === 'number' && answer >= 200 && answer < 300);
    const isTriedAgain = answers.some(
      (answer) => typeof answer === 'string' || answer >= 500 || channel.retriesOn === 'any_failure',
    );
    const waitSeconds = channel.retriesSeconds[row.attempts.length - 1];
    // An earlier success stands, whatever a redelivery on request comes to.
    if (isDelivered || row.state === 'delivered') this.#end(row, 'delivered');
    else if (!isTriedAgain || waitSeconds === undefined) this.#end(row, 'given_up');
    else this.#plan(row, this.#clock.nowMs() + waitSeconds * this.#options.retrySecondMs);
    this.#store.flush();
  }

  #end(row: DeliveryRow, state: DeliveryRow['state']): void {
    row.state = state;
    row.next_attempt_ms = null;
    this.#store.deliveries.put(row);
    this.#store.flush();
  }

  async #post(channel: Channel, url: string, text: string, fault: DeliveryFault): Promise<number | string> {
    const body = Buffer.from(text);
    const timestamp = this.#clock.now() - (fault.stale_seconds ?? 0) + (fault.future_seconds ?? 0);
    const headers = channel.headers(body, timestamp, fault.wrong_secret === true);
    if (fault.altered_byte === true) alterOneByte(body);
    try {
      const response = await fetch(url, {
        method: 'POST',
        redirect: 'manual',
        headers: { 'content-type': 'application/json', ...headers },
        body,
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(channel.timeoutSeconds * 1000)]),
      });
      await response.arrayBuffer();
      return fault.lose_answer === true ? 'the answer was lost' : response.status;
    } catch (error) {
      return error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : 'failed';
    }
  }

  #until(atMs: number): Promise<void> {
    return new Promise((resolve) => void this.#clock.at(atMs, resolve));
  }
}

/** The last digit of the body, so that it stays valid JSON and only a signature over it tells. */
function alterOneByte(body: Buffer): void {
  const at = body.findLastIndex((byte) => byte >= 0x30 && byte <= 0x39);
  body[at] = body[at] === 0x39 ? 0x38 : (body[at] ?? 0) + 1;
}
