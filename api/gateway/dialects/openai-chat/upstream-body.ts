/**
 * The body that goes to the upstream: the client's own bytes with a few members replaced, added or left out. Everything
 * else is as it was sent: long numbers, order, blanks, and fields that come twice.
 *
 * What the hold depends on is unambiguous in it, also for a server that takes the first of two fields: a field that is
 * read goes on once, as it was understood here, and no limit is above the one that is held for.
 */
import type { Model, Upstream } from '../../../../db/requests/catalogue.ts';
import { askedOutputTokens } from '../../core/holds/reach.ts';
import type { ChatRequest } from './request.ts';

const CLIENT_LIMITS = ['max_completion_tokens', 'max_tokens'] as const;
type ClientLimit = (typeof CLIENT_LIMITS)[number];

/** New values by field, as JSON; null leaves the field out. A field that the body does not have is added. */
type Changes = Map<string, string | null>;

/**
 * The body for one upstream: its own name of the model, usage asked for as it understands it, and a limit where the
 * hold depends on one. `outputCap` is the most output tokens per answer that there is money for; null where that is no
 * limit.
 */
export function upstreamBody(
  request: ChatRequest,
  { model, upstream, outputCap }: { model: Model; upstream: Upstream; outputCap: number | null },
): Buffer {
  const changes: Changes = new Map([['model', JSON.stringify(upstream.model)]]);
  if (request.stream) askForUsage(request, upstream, changes);
  limitOutput(request, model, upstream, { outputCap, changes });
  return withChanges(request, changes);
}

function askForUsage(request: ChatRequest, upstream: Upstream, changes: Changes): void {
  if (upstream.usage_request === 'none') {
    changes.set('stream_options', null);
    return;
  }
  const bytes = bytesOf(request);
  const kept = (request.streamOptions ?? []).map(({ start, end }) => bytes.toString('utf8', start, end));
  changes.set('stream_options', `{${[...kept, '"include_usage":true'].join(',')}}`);
}

function limitOutput(
  request: ChatRequest,
  model: Model,
  { limit_field }: Upstream,
  { outputCap, changes }: { outputCap: number | null; changes: Changes },
): void {
  const asked = askedOutputTokens(request, model);
  const most = outputCap === null ? asked : Math.min(asked, outputCap);
  const { limits } = request;
  const given = CLIENT_LIMITS.filter((field) => limits[field] !== null);
  // A stream that is seen ends by the meter; nothing is sent that the client did not send, unless the money ends
  // before.
  const isNeeded = !request.stream || model.hiddenOutput || most < asked;
  if (limit_field === undefined) {
    for (const field of given) if (limits[field]! > most) changes.set(field, String(most));
    if (given.length === 0 && isNeeded) changes.set('max_completion_tokens', String(most));
    return;
  }
  for (const field of CLIENT_LIMITS) changes.set(field, null);
  if (limit_field === 'none') return;
  const own = limits[limit_field as ClientLimit] ?? null;
  const wanted = own ?? limits[given[0] ?? 'max_tokens'];
  if (wanted !== null || isNeeded) changes.set(limit_field, String(Math.min(wanted ?? most, most)));
}

function bytesOf({ raw }: ChatRequest): Buffer {
  return Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
}

/** The body with these changes. Bytes between two members belong to the second, so that either can be left out. */
function withChanges(request: ChatRequest, changes: Changes): Buffer {
  const bytes = bytesOf(request);
  const added = new Map(changes);
  const pieces: Buffer[] = [];
  let isFirst = true;
  /** Where the bytes begin that have not been written yet, of those that go on. */
  let from = 0;
  let previousEnd = request.members[0]?.start ?? 0;
  for (const { field, start, valueStart, end, isSuperseded } of request.members) {
    const change = field === null ? undefined : changes.get(field);
    if (isSuperseded || change === null) {
      pieces.push(bytes.subarray(from, previousEnd));
      from = end;
    } else {
      // The first member that goes on has no comma before it.
      if (isFirst && from > 0) from = start;
      if (change !== undefined) {
        pieces.push(bytes.subarray(from, valueStart), Buffer.from(change));
        from = end;
        added.delete(field!);
      }
      isFirst = false;
    }
    previousEnd = end;
  }
  pieces.push(bytes.subarray(from, previousEnd));
  for (const [field, change] of added) {
    if (change !== null) pieces.push(Buffer.from(`,${JSON.stringify(field)}:${change}`));
  }
  pieces.push(bytes.subarray(previousEnd));
  return Buffer.concat(pieces);
}
