/**
 * Bodies of webhooks, which anybody may send: they are read before their signature can be checked. So a call without a
 * signature is answered before its body is read, few bodies are read at once, and none for long. When all places are taken, the
 * one that has been read for longest makes room: a provider sends its event in one go, whoever holds places sends slowly.
 */
import express, { type Request, type RequestHandler, type Response } from 'express';
import type { ClientAddress } from '../../client-address.ts';
import { networkOf } from '../../connections.ts';
import type { FailedAttempts } from '../../failed-attempts.ts';

/** With the largest body of a megabyte this is the memory that strangers can take. */
const AT_ONCE_MAX = 64;
const PER_SITE_MAX = 32;
/** A body that takes this long is given up. */
const TIMEOUT_MS = 10_000;

interface Reading {
  readonly site: string;
  readonly giveUp: () => void;
}

export interface WebhookBodiesOptions {
  readonly addressOf: ClientAddress;
  readonly failures: FailedAttempts;
}

export class WebhookBodies {
  readonly #options: WebhookBodiesOptions;
  /** Oldest first. */
  readonly #readings = new Set<Reading>();

  constructor(options: WebhookBodiesOptions) {
    this.#options = options;
  }

  /** Reads the raw body of a call that has one of these headers; answers any other by `refuse`. */
  read({
    limitBytes,
    signatureHeaders,
    refuse,
  }: {
    limitBytes: number;
    signatureHeaders: readonly string[];
    refuse: (response: Response) => void;
  }): RequestHandler {
    const raw = express.raw({ limit: limitBytes, type: () => true });
    return (request, response, next) => {
      if (!signatureHeaders.some((name) => request.headers[name] !== undefined)) {
        response.setHeader('connection', 'close');
        this.noteForged(request);
        refuse(response);
        return;
      }
      const site = networkOf(this.#options.addressOf(request));
      const reading: Reading = { site, giveUp: () => request.destroy() };
      this.#makeRoom(site);
      this.#readings.add(reading);
      const timer = setTimeout(reading.giveUp, TIMEOUT_MS);
      const done = (): void => {
        clearTimeout(timer);
        this.#readings.delete(reading);
      };
      request.once('end', done).once('close', done);
      raw(request, response, next);
    };
  }

  /** Counts a call that nobody who may has signed. */
  noteForged(request: Request): void {
    const { failures, addressOf } = this.#options;
    failures.noteForeign({ kind: 'webhook_signature', prefix: request.path, address: addressOf(request) });
  }

  #makeRoom(site: string): void {
    const ofSite = [...this.#readings].filter((reading) => reading.site === site);
    if (ofSite.length < PER_SITE_MAX && this.#readings.size < AT_ONCE_MAX) return;
    const oldest = ofSite.length >= PER_SITE_MAX ? ofSite[0]! : this.#readings.values().next().value!;
    this.#readings.delete(oldest);
    oldest.giveUp();
  }
}
