/**
 * Bodies of webhooks, which anybody may send: they are read before their signature can be checked. So a call without a
 * signature is answered before its body is read, few bodies are read at once, and none for long. When all places are
 * taken, the one that has been read for longest makes room: a provider sends its event in one go, an attacker sends
 * slowly.
 */
import express, { type Request, type RequestHandler, type Response } from 'express';
import type { ClientAddress } from '../../http/client-address.ts';
import { networkOf } from '../../http/connections.ts';
import type { FailedAttempts } from '../../http/failed-attempts.ts';
import { isForged, type WebhookRefusal } from '../../../providers/webhook-refusals.ts';
import type { WebhookRefusals } from './refusals.ts';

/** With the largest body of a megabyte this is the memory that strangers can take. */
const AT_ONCE_MAX = 64;
const PER_SITE_MAX = 32;
/** A body that takes this long is given up. */
const TIMEOUT_MS = 10_000;

interface Reading {
  readonly site: string;
  readonly giveUp: (why: string) => void;
}

export interface WebhookEndpoint {
  /** The sender's name in counts and logs. */
  readonly provider: string;
  readonly limitBytes: number;
  /** A call without any of these is not signed at all. */
  readonly signatureHeaders: readonly string[];
  /** HTTP status for a call that is refused for its signature or time. */
  readonly refusedStatus: number;
}

export interface WebhookBodiesOptions {
  readonly addressOf: ClientAddress;
  readonly failures: FailedAttempts;
  readonly refusals: WebhookRefusals;
}

export class WebhookBodies {
  readonly #options: WebhookBodiesOptions;
  /** Oldest first. */
  readonly #readings = new Set<Reading>();

  constructor(options: WebhookBodiesOptions) {
    this.#options = options;
  }

  /** Reads the raw body of a call that is signed; refuses any other. Why a body cannot be read is counted as well. */
  read(endpoint: WebhookEndpoint): RequestHandler {
    const { provider, limitBytes, signatureHeaders } = endpoint;
    const { refusals, addressOf } = this.#options;
    const raw = express.raw({ limit: limitBytes, type: () => true });
    return (request, response, next) => {
      if (!signatureHeaders.some((name) => request.headers[name] !== undefined)) {
        response.setHeader('connection', 'close');
        this.refuse(endpoint, request, response, { reason: 'no_signature' });
        return;
      }
      const site = networkOf(addressOf(request));
      let isNoted = false;
      const note = (refusal: WebhookRefusal): void => {
        if (!isNoted) refusals.note(provider, refusal);
        isNoted = true;
      };
      const giveUp = (detail: string): void => {
        note({ reason: 'not_received', detail });
        request.destroy();
      };
      const reading: Reading = { site, giveUp };
      this.#makeRoom(site);
      this.#readings.add(reading);
      const timer = setTimeout(() => giveUp(`the body took longer than ${TIMEOUT_MS / 1000} s`), TIMEOUT_MS);
      const done = (): void => {
        clearTimeout(timer);
        this.#readings.delete(reading);
      };
      request.once('end', done).once('close', done);
      raw(request, response, (error?: unknown) => {
        if (error !== undefined) note(unreadBody(error));
        next(error);
      });
    };
  }

  /** Refuses a call with its reason: the sender's own pages show it to the person who set the endpoint up. */
  refuse(
    { provider, refusedStatus }: WebhookEndpoint,
    request: Request,
    response: Response,
    refusal: WebhookRefusal,
  ): void {
    this.#options.refusals.note(provider, refusal);
    if (isForged(refusal)) this.#noteForged(request);
    const { reason } = refusal;
    if (reason === 'unreadable') response.status(400).json({ error: 'the body is not an event', reason });
    else if (isForged(refusal)) response.status(refusedStatus).json({ error: 'the signature is not valid', reason });
    else response.status(refusedStatus).json({ error: 'the event was not accepted', reason });
  }

  /** Answers every call to an endpoint for which nothing is configured. */
  notConfigured(provider: string): RequestHandler {
    return (_request, response) => {
      this.#options.refusals.note(provider, { reason: 'not_configured' });
      response.status(404).json({ error: 'not configured', reason: 'not_configured' });
    };
  }

  /** Counts a call without a valid signature. */
  #noteForged(request: Request): void {
    const { failures, addressOf } = this.#options;
    failures.noteForeign({ kind: 'webhook_signature', prefix: request.path, address: addressOf(request) });
  }

  #makeRoom(site: string): void {
    const ofSite = [...this.#readings].filter((reading) => reading.site === site);
    if (ofSite.length < PER_SITE_MAX && this.#readings.size < AT_ONCE_MAX) return;
    const oldest = ofSite.length >= PER_SITE_MAX ? ofSite[0]! : this.#readings.values().next().value!;
    this.#readings.delete(oldest);
    oldest.giveUp('other deliveries needed its place');
  }
}

/** Why express could not read a body. */
function unreadBody(error: unknown): WebhookRefusal {
  const { type } = error as { readonly type?: unknown };
  if (type === 'entity.too.large') return { reason: 'too_large' };
  if (type === 'encoding.unsupported') return { reason: 'unreadable', detail: 'unknown content encoding' };
  return { reason: 'not_received', ...(typeof type === 'string' && { detail: type }) };
}
