/**
 * Connections to model providers: one keep-alive pool for all of them, and which failed calls have certainly not
 * reached one.
 */
import type { LookupFunction } from 'node:net';
import { Agent } from 'undici';

const CONNECT_TIMEOUT_MS = 5000;

/**
 * How long an idle connection is kept where the provider gives no hint. A provider that closes earlier than we do
 * answers the next call with a reset, and a call that may have arrived cannot be repeated: so this lies below what
 * servers use (gunicorn 2 s; Node, uvicorn and Apache 5 s). With a hint (`keep-alive: timeout=…`) the connection is
 * kept that long, less two seconds.
 */
const IDLE_MS = 1000;

/** `lookup` resolves names, and fails where one may not be called. */
export function createConnections(lookup: LookupFunction): Agent {
  return new Agent({
    connect: { timeout: CONNECT_TIMEOUT_MS, lookup },
    // Streams are bounded by the model's own time-out, which the caller enforces with its signal.
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: IDLE_MS,
    pipelining: 1,
  });
}

/** Connecting failed, so the provider has seen nothing. */
const NOT_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'EMFILE',
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_INVALID_ARG',
  'ERR_INVALID_URL',
  // The name leads where the configuration lets nothing be sent.
  'ERR_UPSTREAM_NOT_ALLOWED',
  // The provider's certificate was refused before the request was written.
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'ERR_TLS_CERT_ALTNAME_INVALID',
]);

/** A handshake that failed: the request is only written after it. */
const HANDSHAKE = /^(ERR_SSL_|ERR_TLS_|EPROTO$)/;

/** True when a call has failed before any of it can have reached the provider. */
export function wasNotSent(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  return NOT_SENT.has(code) || HANDSHAKE.test(code);
}
