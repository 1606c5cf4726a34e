/** A provider's own sign of life while nothing is to be sent: comment lines in streams, blanks before whole answers. */
import { BadInput, readMilliseconds } from '../input.ts';
import { readFields, readText } from './fields.ts';
import type { Script } from './script.ts';

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

/** Fills the waits of a script, also an endless one. The first sign of life sends the headers. */
export function* withHeartbeat(script: Script, { every_ms: everyMs, text }: Heartbeat): Script {
  let lastMs = 0;
  for (const beat of script) {
    while (lastMs + everyMs < beat.atMs) {
      lastMs += everyMs;
      yield { atMs: lastMs, text, isRaw: true };
    }
    // Text alone resets the wait: a token that is produced unseen is silence to the client.
    if (beat.text !== undefined || beat.bytes !== undefined) lastMs = beat.atMs;
    if (beat.ending?.how !== 'hang') {
      yield beat;
      continue;
    }
    yield { ...beat, ending: undefined };
    for (let atMs = Math.max(lastMs, beat.atMs) + everyMs; ; atMs += everyMs) yield { atMs, text, isRaw: true };
  }
}
