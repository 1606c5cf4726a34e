/**
 * Calling the model provider. One keep-alive pool for all upstreams; the request id goes along as `x-request-id`, so
 * that every party's evidence has the same key. Tries the next upstream only while nothing has been sent: a call that
 * may have reached a provider is never repeated, because it may have been billed there.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { request as httpRequest, type Agent, type Dispatcher } from 'undici';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, type RequestUuid } from '../../../../domain/ids.ts';
import type { UpstreamEvidence, UpstreamKind } from '../../../../domain/requests/upstream-evidence.ts';
import type { Model, Upstream } from '../../../../db/requests/catalogue.ts';
import type { Environment } from '../../../../runtime/environment.ts';
import { upstreamRules, type UpstreamFault, type UpstreamRules } from '../../../../providers/upstreams/settings.ts';
import { lookUpUsage, type Evidence } from '../../../../providers/upstreams/usage-lookup.ts';
import type { UpstreamMessage } from '../dialect.ts';
import { createConnections, wasNotSent } from './upstream-connections.ts';
import { failureOfConnection, plainProblem, type UpstreamFailure } from './upstream-failure.ts';

/** An upstream notices that it was cut within some milliseconds. */
const LOOKUP_FIRST_PAUSE_MS = 50;

/** Why we ended a call ourselves. */
export type AbortReason = 'timeout' | 'client_left' | 'cut_by_limit' | 'shutdown';

/** The upstream that a call went to. */
export interface CalledUpstream {
  /** Its place among the model's, from 1, and its host. */
  readonly name: string;
  readonly isFirst: boolean;
  /** What nobody may be shown; null when it wants none. */
  readonly key: string | null;
  /** Where it can be asked afterwards what a request consumed; null when it cannot. */
  readonly lookup: string | null;
}

/** Problems after which the next upstream may be tried. */
const NOTHING_SENT: ReadonlySet<UpstreamKind> = new Set(['unreachable', 'not_configured']);

/** No upstream answered. */
export class NoUpstreamAnswer extends Error {
  /** The last one that was tried. */
  readonly upstream: CalledUpstream;
  readonly failure: UpstreamFailure;

  /** True when the call may have reached a provider, which may have worked on it. */
  get mayHaveArrived(): boolean {
    return !NOTHING_SENT.has(this.failure.problem.kind);
  }

  constructor(upstream: CalledUpstream, failure: UpstreamFailure, cause?: unknown) {
    super(`no upstream answered: ${failure.problem.kind}`, { cause });
    this.name = 'NoUpstreamAnswer';
    this.upstream = upstream;
    this.failure = failure;
  }
}

interface UpstreamCall {
  readonly requestId: RequestUuid;
  readonly message: (upstream: Upstream) => UpstreamMessage;
  readonly signal: AbortSignal;
  /** Called for each upstream that was passed over for the next. */
  readonly onPassedOver: (evidence: UpstreamEvidence) => void;
}

export class UpstreamCaller {
  readonly #rules: UpstreamRules;
  readonly #connections: Agent;

  constructor(environment: Environment) {
    this.#rules = upstreamRules(environment);
    this.#connections = createConnections(this.#rules.lookup);
  }

  /** Posts to the first upstream that can be reached. Throws NoUpstreamAnswer, or what `call.message` throws. */
  async post(
    model: Model,
    call: UpstreamCall,
  ): Promise<{ response: Dispatcher.ResponseData; upstream: CalledUpstream }> {
    let last: NoUpstreamAnswer | null = null;
    for (const [index, upstream] of model.upstreams.entries()) {
      if (last !== null) call.onPassedOver({ name: last.upstream.name, ...last.failure.problem });
      const attempt = await this.#try(upstream, index, call);
      if (!(attempt instanceof NoUpstreamAnswer)) return attempt;
      last = attempt;
      if (attempt.mayHaveArrived) break;
    }
    throw last ?? new Error(`invariant broken: the model ${model.id} has no upstream`);
  }

  async #try(
    upstream: Upstream,
    index: number,
    { requestId, message, signal }: UpstreamCall,
  ): Promise<{ response: Dispatcher.ResponseData; upstream: CalledUpstream } | NoUpstreamAnswer> {
    const fault = this.#rules.faultOf(upstream);
    const key = fault === null ? this.#rules.keyOf(upstream) : null;
    const called = { name: upstreamName(upstream, index), isFirst: index === 0, key, lookup: upstream.lookup };
    if (fault !== null) return new NoUpstreamAnswer(called, notConfigured(fault));
    const { path, body } = message(upstream);
    try {
      const response = await httpRequest(upstream.base_url + path, {
        method: 'POST',
        dispatcher: this.#connections,
        headers: {
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          'x-request-id': formatId('request', requestId),
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        },
        body,
        signal,
      });
      return { response, upstream: called };
    } catch (error) {
      const kind = wasNotSent(error) ? 'unreachable' : 'broken';
      return new NoUpstreamAnswer(called, failureOfConnection(error, { signal, kind, status: null }), error);
    }
  }

  /** Asks the upstream of a call what the request consumed, until it says or the time is over. Never throws. */
  async lookUp({ lookup, key }: CalledUpstream, requestId: RequestUuid, timeoutMs: number): Promise<Evidence> {
    const deadline = performance.now() + timeoutMs;
    for (let pause = LOOKUP_FIRST_PAUSE_MS; ; pause *= 2) {
      const left = Math.max(1, deadline - performance.now());
      const evidence = await lookUpUsage({ url: lookup, apiKey: key }, formatId('request', requestId), {
        timeoutMs: left,
        dispatcher: this.#connections,
      });
      const isFinal = evidence.kind !== 'pending' && evidence.kind !== 'unknown';
      if (isFinal || performance.now() + pause >= deadline) return evidence;
      await delay(pause);
    }
  }

  /** What the configuration lacks for upstreams, of each model that has such an upstream. */
  faultsOf(models: readonly Model[]): { model: string; faults: string[]; isUnserved: boolean }[] {
    return models.flatMap(({ id, upstreams }) => {
      const faults = upstreams.flatMap((upstream) => {
        const fault = this.#rules.faultOf(upstream);
        return fault === null ? [] : [textOf(fault)];
      });
      return faults.length === 0 ? [] : [{ model: id, faults, isUnserved: faults.length === upstreams.length }];
    });
  }

  async close(): Promise<void> {
    await this.#connections.destroy();
  }
}

function notConfigured(fault: UpstreamFault): UpstreamFailure {
  return { refusal: new Refusal('upstream_failed'), problem: plainProblem('not_configured', null, textOf(fault)) };
}

function textOf({ field, message }: UpstreamFault): string {
  return `${field} ${message}`;
}

/** How rows, logs and metrics name an upstream: never with what else its address may hold. */
function upstreamName(upstream: Upstream, index: number): string {
  return `${index + 1}:${URL.parse(upstream.base_url)?.host ?? 'unreadable address'}`;
}
