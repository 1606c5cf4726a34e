/**
 * Plays a script on an HTTP response: waits for each beat, books its tokens, writes its text. Everything that is due
 * goes out in one write. When the client leaves, production stops, at once or after a while, and the attempt ends
 * `aborted`; an ending is booked before the last byte is handed to the socket, so a client that has read the whole
 * answer finds the record complete.
 */
import type { ServerResponse } from 'node:http';
import type { Writable } from 'node:stream';

import type { Beat, Ending, Script } from './beats.ts';
import { encoderOf, type Encoding } from './encoding.ts';
import { type Heartbeat, HeartbeatTimer } from './heartbeat.ts';
import type { Attempt } from './requests.ts';

/** Texts that are due at the same time are joined up to this size, then the client's pace counts. */
const MAX_JOINED_CHARACTERS = 65_536;

export interface Head {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** A stream is always sent in chunks; anything else gets a content length when it is sent in one go. */
  readonly isStream: boolean;
  readonly encoding: Encoding;
  /** 1xx statuses that come first. */
  readonly informational: readonly number[];
  readonly heartbeat: Heartbeat | null;
  /** How long production goes on after the client has left; null: to the end. */
  readonly noticesLeavingMs: number | null;
}

export function play(response: ServerResponse, head: Head, script: Script, attempt: Attempt): void {
  const startedAt = performance.now();
  const encoder = encoderOf(head.encoding, response);
  const out: Writable = encoder ?? response;
  let timer: NodeJS.Timeout | undefined;
  let waiting: Beat | undefined;
  let isWaitingForClient = false;
  let hasLeft = false;
  let sentAtMs = 0;
  let isHanging = false;
  let isOver = false;

  const open = (): void => {
    if (!response.headersSent) response.writeHead(head.status, head.headers);
  };
  const send = (content: string | Uint8Array): boolean => {
    if (hasLeft) return true;
    open();
    const isClientInTime = out.write(content);
    sentAtMs = performance.now() - startedAt;
    encoder?.flush();
    heartbeat.sent();
    return isClientInTime;
  };
  const heartbeat = new HeartbeatTimer(head.heartbeat, send);

  const run = (): void => {
    isWaitingForClient = false;
    // Undefined: nothing to send; empty: the headers alone.
    let due: string | undefined;
    while (!isOver) {
      const beat = waiting ?? script.next().value;
      if (beat === undefined) throw new Error('invariant broken: a script ran out without an ending');
      const dueMs = beat.apartMs === undefined ? beat.atMs : Math.max(beat.atMs, sentAtMs + beat.apartMs);
      const waitMs = dueMs - (performance.now() - startedAt);
      if (waitMs > 0) {
        waiting = beat;
        flush(due);
        timer = setTimeout(run, Math.ceil(waitMs));
        if (hasLeft) timer.unref();
        return;
      }
      waiting = undefined;
      if (beat.production !== undefined) attempt.produced(beat.production);
      if (beat.bytes !== undefined) {
        flush(due);
        due = undefined;
        if (beat.ending === undefined) send(beat.bytes);
      } else if (beat.text !== undefined) {
        due = (due ?? '') + beat.text;
      }
      if (beat.ending !== undefined) {
        finish(beat.bytes ?? due, beat.ending);
        return;
      }
      if (due !== undefined && due.length >= MAX_JOINED_CHARACTERS) {
        const isClientBehind = !send(due);
        due = undefined;
        if (isClientBehind) {
          isWaitingForClient = true;
          out.once('drain', run);
          return;
        }
      }
    }
  };

  const flush = (due: string | Uint8Array | undefined): void => {
    if (due === undefined || hasLeft) return;
    if (due.length > 0) send(due);
    else if (!response.headersSent) {
      open();
      response.flushHeaders();
    }
  };

  const finish = (due: string | Uint8Array | undefined, ending: Ending): void => {
    switch (ending.how) {
      case 'end':
        isOver = true;
        heartbeat.stop();
        attempt.end(ending.status);
        if (hasLeft) return;
        if (!response.headersSent && !head.isStream && encoder === null) {
          const length = String(Buffer.byteLength(due ?? ''));
          response.writeHead(head.status, { ...head.headers, 'content-length': length });
        }
        open();
        out.end(due);
        return;
      case 'destroy':
      case 'reset':
        isOver = true;
        heartbeat.stop();
        attempt.end('failed');
        flush(due);
        // An orderly end comes after what was written is out: the client must see the chunks, then the break.
        if (ending.how === 'reset') response.socket?.resetAndDestroy();
        else response.socket?.destroySoon();
        return;
      case 'hang':
        isHanging = true;
        flush(due);
        if (ending.isDone) attempt.end('completed');
        return;
    }
  };

  const abort = (): void => {
    isOver = true;
    clearTimeout(timer);
    attempt.end('aborted');
  };

  response.once('close', () => {
    hasLeft = true;
    heartbeat.stop();
    const ms = head.noticesLeavingMs;
    if (isOver) return;
    if (ms === 0 || isHanging) return abort();
    // Output without a client keeps no process alive.
    timer?.unref();
    if (ms !== null) setTimeout(abort, ms).unref();
    if (isWaitingForClient) run();
  });
  for (const status of head.informational) informAbout(response, status);
  run();
}

/** Sends a 1xx response. Node has words for three of them; the others are written as they are. */
function informAbout(response: ServerResponse, status: number): void {
  if (status === 100) response.writeContinue();
  else if (status === 102) response.writeProcessing();
  else if (status === 103) response.writeEarlyHints({ link: '</style.css>; rel=preload' });
  else response.socket?.write(`HTTP/1.1 ${status} Informational\r\n\r\n`);
}
