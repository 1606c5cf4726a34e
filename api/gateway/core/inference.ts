/**
 * Asking a model, in whatever dialect: authenticate → check → hold → call → finish, in the order that docs/api.md
 * fixes. Every request that was held is finished exactly once on every path, also when its client leaves, its upstream
 * breaks or the process is told to stop.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Refusal } from '../../../domain/errors.ts';
import type { Call } from './admission.ts';
import { admit } from './admit.ts';
import type { ReceivedBody } from './bodies/body-intake.ts';
import type { Gateway } from './gateway.ts';
import { takeHold } from './holds/take-hold.ts';
import { checkCaller } from './keys/keys.ts';
import { endUnserved, serve } from './serve.ts';

/** Serves one request. Throws the Refusal to send when nothing has been held; afterwards it answers itself. */
export async function serveInference(
  gateway: Gateway,
  incoming: IncomingMessage,
  response: ServerResponse,
  call: Call,
): Promise<void> {
  const { caller, dialect } = call;
  let body: ReceivedBody | null = null;
  try {
    checkCaller(caller, gateway.clientAddress(incoming), new Date());
    body = await gateway.bodies.receive(incoming, response, { caller, dialect });
    const admission = admit(gateway, { ...call, request: body.request });
    gateway.concurrency.enter(caller);
    try {
      const held = await takeHold(gateway, admission);
      if (response.destroyed) await endUnserved(gateway, held);
      else await serve(gateway, held, response);
    } finally {
      gateway.concurrency.leave(caller);
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    // What was refused before it was read has cost next to nothing.
    if (body !== null) gateway.bodies.noteRefusal(caller, error.code);
    gateway.logRefusal(call, body?.request ?? null, error.code);
    throw error;
  } finally {
    body?.release();
  }
}
