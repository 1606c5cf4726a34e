/** A provider's own sign of life while nothing is to be sent: comment lines in streams, blanks before whole answers. */
import { BadInput, readMilliseconds } from '../kit/input.ts';
import { readFields, readText } from './fields.ts';

export interface Heartbeat {
  readonly every_ms: number;
  /** Sent as it is. */
  readonly text: string;
}

export function readHeartbeat(value: unknown, field: string): Heartbeat {
  const { every_ms, text } = readFields<Heartbeat>(value, field, { every_ms: readMilliseconds, text: readText });
  if (every_ms === undefined || every_ms === 0 || text === undefined) {
    throw new BadInput(`'${field}' needs 'every_ms' above 0 and 'text'.`, field);
  }
  return { every_ms, text };
}

/** Sends a sign of life whenever nothing else was sent for the time; the first one sends the headers. */
export class HeartbeatTimer {
  readonly #heartbeat: Heartbeat | null;
  readonly #send: (text: string) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(heartbeat: Heartbeat | null, send: (text: string) => void) {
    this.#heartbeat = heartbeat;
    this.#send = send;
    this.sent();
  }

  /** Something was sent: the wait starts again. */
  sent(): void {
    this.stop();
    const heartbeat = this.#heartbeat;
    if (heartbeat === null) return;
    this.#timer = setTimeout(() => this.#send(heartbeat.text), heartbeat.every_ms);
  }

  stop(): void {
    clearTimeout(this.#timer);
  }
}
