/**
 * Plays a script on an HTTP response: waits for each beat, books its tokens, writes its text. Everything that is
 * due goes out in one write. When the client leaves, production stops there and the attempt ends `aborted`;
 * an ending is booked before the last byte is handed to the socket, so a client that has read the whole answer
 * finds the record complete.
 */
import type { ServerResponse } from 'node:http';

import type { Attempt } from './requests.ts';
import type { Beat, Ending, Script } from './script.ts';

/** Texts that are due at the same time are joined up to this size, then the client's pace counts. */
const MAX_JOINED_CHARACTERS = 65_536;

export interface Head {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream is always sent in chunks; anything else gets a content length when it is sent in one go. */
  readonly isStream: boolean;
}

export function play(response: ServerResponse, head: Head, script: Script, attempt: Attempt): void {
  const startedAt = performance.now();
  let timer: NodeJS.Timeout | undefined;
  let waiting: Beat | undefined;

  const open = (): void => {
    if (!response.headersSent) response.writeHead(head.status, head.headers);
  };
  const send = (content: string | Uint8Array): boolean => {
    open();
    return response.write(content);
  };

  const run = (): void => {
    // Undefined: nothing to send; empty: the headers alone.
    let due: string | undefined;
    for (;;) {
      const beat = waiting ?? script.next().value;
      if (beat === undefined) throw new Error('invariant broken: a script ran out without an ending');
      const waitMs = beat.atMs - (performance.now() - startedAt);
      if (waitMs > 0) {
        waiting = beat;
        flush(due);
        timer = setTimeout(run, Math.ceil(waitMs));
        return;
      }
      waiting = undefined;
      if (beat.tokens !== undefined) attempt.produced(beat.tokens, beat.reasoningTokens);
      if (beat.bytes !== undefined) {
        flush(due);
        due = undefined;
        send(beat.bytes);
      } else if (beat.text !== undefined) {
        due = (due ?? '') + beat.text;
      }
      if (beat.ending !== undefined) {
        finish(due, beat.ending);
        return;
      }
      if (due !== undefined && due.length >= MAX_JOINED_CHARACTERS) {
        const isClientBehind = !send(due);
        due = undefined;
        if (isClientBehind) {
          response.once('drain', run);
          return;
        }
      }
    }
  };

  const flush = (due: string | undefined): void => {
    if (due === undefined) return;
    if (due !== '') send(due);
    else if (!response.headersSent) {
      open();
      response.flushHeaders();
    }
  };

  const finish = (due: string | undefined, ending: Ending): void => {
    switch (ending.how) {
      case 'end':
        attempt.end(ending.status);
        if (!response.headersSent && !head.isStream) {
          const length = String(Buffer.byteLength(due ?? ''));
          response.writeHead(head.status, { ...head.headers, 'content-length': length });
        }
        open();
        response.end(due);
        return;
      case 'destroy':
        attempt.end('failed');
        flush(due);
        // After what was written is out: the client must see the chunks, then the break.
        response.socket?.destroySoon();
        return;
      case 'hang':
        flush(due);
        return;
    }
  };

  response.once('close', () => {
    clearTimeout(timer);
    attempt.end('aborted');
  });
  run();
}
