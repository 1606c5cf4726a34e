/**
 * Webhooks of Discord and of the vote directories, each to its own endpoint, signed in its sender's way and tried again
 * as often as that sender does.
 */
import type { TwinClock } from '../kit/clock.ts';
import { DeliveryQueue, type DeliveryFault, type DeliveryRow, type Letter } from '../kit/deliveries.ts';
import type { DiscordFaults } from './faults.ts';
import type { ChannelDelivery, DiscordStore } from './store.ts';

/** How one sender sends. */
export interface Channel {
  readonly name: string;
  /** Below the product's webhooks. */
  readonly path: string;
  /** Headers that prove the sender; forged ones are made with a wrong secret or key. */
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

export class Deliveries extends DeliveryQueue<ChannelDelivery> {
  readonly #store: DiscordStore;
  readonly #faults: DiscordFaults;
  readonly #channels: ReadonlyMap<string, Channel>;
  readonly #options: DeliveriesOptions;

  constructor(
    store: DiscordStore,
    clock: TwinClock,
    faults: DiscordFaults,
    channels: readonly Channel[],
    options: DeliveriesOptions,
  ) {
    super(store, clock);
    this.#store = store;
    this.#faults = faults;
    this.#channels = new Map(channels.map((channel) => [channel.name, channel]));
    this.#options = options;
  }

  get webhookUrl(): string | null {
    const { webhookUrl } = this.#store.settings;
    return webhookUrl === undefined ? this.#options.webhookUrl : webhookUrl;
  }

  /**
   * Plans the first attempt for now. While no endpoint is known, nothing is ever sent unless redelivery is asked for.
   */
  enqueue(channel: string, id: string, eventType: string, payload: unknown): DeliveryRow {
    const row = this.#store.deliveries.put({
      ...{ id, channel, event_type: eventType, body: JSON.stringify(payload) },
      ...{ state: 'pending', attempts: [], next_attempt_ms: null },
    });
    this.plan(row);
    return row;
  }

  /** Sends it (again) now, and resolves when it was answered; undefined when there is no such delivery. */
  async redeliver(id: string): Promise<DeliveryRow | undefined> {
    const row = this.#store.deliveries.get(id);
    if (row !== undefined) await this.attempt(row);
    return row;
  }

  /**
   * One signed call outside of the deliveries, as when Discord checks an endpoint. Resolves with the answer's status.
   */
  async probe(channelName: string, payload: unknown, fault: DeliveryFault): Promise<number | string> {
    const letter = this.#letter(channelName, JSON.stringify(payload));
    return letter === null ? 'no endpoint is known' : this.send(letter, fault);
  }

  protected override takeFault(row: ChannelDelivery): DeliveryFault {
    return this.#faults.takeForDelivery(row.channel);
  }

  protected override letterOf(row: ChannelDelivery): Letter | null {
    return this.#letter(row.channel, row.body);
  }

  protected override nextAttemptMs(
    row: ChannelDelivery,
    answers: readonly (number | string)[],
    nowMs: number,
  ): number | null {
    const { retriesOn, retriesSeconds } = this.#channel(row.channel);
    const isTriedAgain = answers.some(
      (answer) => typeof answer === 'string' || answer >= 500 || retriesOn === 'any_failure',
    );
    const waitSeconds = retriesSeconds[row.attempts.length - 1];
    return isTriedAgain && waitSeconds !== undefined ? nowMs + waitSeconds * this.#options.retrySecondMs : null;
  }

  #letter(channelName: string, text: string): Letter | null {
    if (this.webhookUrl === null) return null;
    const { path, headers, timeoutSeconds } = this.#channel(channelName);
    const body = Buffer.from(text);
    const sign = (timestamp: number, isForged: boolean): Readonly<Record<string, string>> =>
      headers(body, timestamp, isForged);
    return { url: `${this.webhookUrl}/${path}`, body, sign, timeoutMs: timeoutSeconds * 1000 };
  }

  #channel(name: string): Channel {
    const channel = this.#channels.get(name);
    if (channel === undefined) throw new Error(`There is no channel '${name}'.`);
    return channel;
  }
}
