/** Answers that do not come from a model: HTTP errors, refused fields, silence and broken connections, as one plan. */
import type { Ask } from './answer-plan.ts';
import type { Dialect } from './dialect.ts';
import { ERROR_SHAPES } from './error-shapes.ts';
import { type Faults, faultOf } from './faults.ts';
import { isInAnswer, silenceMs } from './plan.ts';
import type { Steering } from './steering.ts';
import { refusedField } from './strictness.ts';

/** `produced`: tokens of each choice that a model wrote before, unseen; null when none took part. */
export type RefusalPlan =
  | { readonly how: 'destroy' | 'reset' | 'hang'; readonly atMs: number; readonly produced: number | null }
  | {
      readonly how: 'respond';
      readonly atMs: number;
      readonly produced: number | null;
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly body: Buffer;
    };

/** The refusal that the knobs and faults ask for; null when a model answers. */
export function planRefusal(steering: Steering, ask: Ask, faults: Faults, dialect: Dialect): RefusalPlan | null {
  const atMs = steering.latency_ms + silenceMs(faults);
  const { strict } = steering;
  const refused = strict === null ? null : refusedField(ask.body, strict);
  if (strict !== null && refused !== null) {
    const message = `Unrecognized request argument supplied: ${refused}`;
    const body = dialect.errorBody({ status: strict.status, message, code: null, param: refused }, strict.shape);
    const headers = { 'content-type': ERROR_SHAPES[strict.shape].contentType ?? 'application/json' };
    return { how: 'respond', atMs, produced: null, status: strict.status, headers, body: Buffer.from(body) };
  }
  if (faults.length === 0) return null;
  const refusal = faultOf(faults, 'refuse');
  if (refusal !== undefined) {
    return { how: refusal.how === 'reset' ? 'reset' : 'destroy', atMs, produced: refusal.produced ?? null };
  }
  for (const fault of faults) {
    if (fault.type !== 'hang' || isInAnswer(fault) || fault.ms !== undefined) continue;
    return { how: 'hang', atMs, produced: fault.produced ?? null };
  }
  return planStatus(atMs, faults, dialect) ?? planPage(atMs, faults);
}

function planStatus(atMs: number, faults: Faults, dialect: Dialect): RefusalPlan | null {
  const fault = faultOf(faults, 'status');
  if (fault === undefined) return null;
  const { status, shape, message = `The twin was told to answer ${status}.`, code = null, param = null } = fault;
  const shaped = (): string => dialect.errorBody({ status, message, code, param }, shape);
  const text =
    fault.body === undefined ? shaped() : typeof fault.body === 'string' ? fault.body : JSON.stringify(fault.body);
  const body = fault.body_base64 === undefined ? Buffer.from(text) : Buffer.from(fault.body_base64, 'base64');
  const padding = Math.max(0, (fault.padding ?? 0) - body.length);
  return {
    how: 'respond',
    atMs,
    produced: fault.produced ?? null,
    status,
    headers: {
      'content-type':
        fault.content_type ?? (shape === undefined ? undefined : ERROR_SHAPES[shape].contentType) ?? 'application/json',
      ...(fault.retry_after !== undefined && { 'retry-after': String(fault.retry_after) }),
      ...fault.headers,
    },
    body: padding === 0 ? body : Buffer.concat([Buffer.alloc(padding, ' '), body]),
  };
}

function planPage(atMs: number, faults: Faults): RefusalPlan | null {
  const page = faultOf(faults, 'html');
  if (page === undefined) return null;
  return {
    how: 'respond',
    atMs,
    produced: null,
    status: 200,
    headers: { 'content-type': 'text/html; charset=utf-8' },
    body: Buffer.from(page.body ?? '<!doctype html><title>Welcome</title><h1>It works!</h1>\n'),
  };
}
