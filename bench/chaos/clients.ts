/**
 * The customers of a chaos run: seeded calls at a steady rate, half of them streamed, some of which leave early. An
 * error is an error: nothing is sent twice. The answer that each client saw is stored, because a bill must agree with
 * it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Agent, request as httpRequest, type Dispatcher } from 'undici';
import type { Random } from '../random.ts';

export interface CallPlan {
  readonly n: number;
  readonly secret: string;
  readonly model: string;
  readonly stream: boolean;
  /** The client goes away this long after it has sent its request, if the answer is not complete by then. */
  readonly leavesAfterMs: number | null;
  readonly body: string;
}

export type CallEnd =
  /** The whole answer arrived. */
  | 'completed'
  /** An error status, or an error inside a stream. */
  | 'refused'
  /** The connection broke, or a stream ended without its end. */
  | 'broken'
  /** The client left by its own plan. */
  | 'left'
  /** Nobody listened: the gateway was down. */
  | 'unreachable';

export interface CallResult {
  readonly plan: CallPlan;
  readonly end: CallEnd;
  /** `x-request-id` of the answer; null when no head of an answer arrived. */
  readonly requestId: string | null;
  readonly status: number | null;
  /** Code of the error, or what broke. */
  readonly error: string | null;
  /** As shown to the client, where it was. */
  readonly shown: ShownBill | null;
}

export interface ShownBill {
  readonly promptTokens: number;
  readonly completionTokens: number;
  /** Decimal USD as printed, in the header or as a JSON number; null when only the usage was shown. */
  readonly costUsd: string | null;
  readonly estimated: boolean;
}

/** The models of a run, the share of calls each gets, and whether it writes hidden reasoning. */
export interface ModelShare {
  readonly id: string;
  readonly share: number;
  readonly reasoning?: boolean;
  /** More than one answer per call now and then. */
  readonly choices?: boolean;
}

const LEAVING_SHARE = 0.12;
const LONG_SHARE = 0.05;
const WORDS = 'please tell me about the river stone light window silver paper market winter bridge story forest'.split(
  ' ',
);
/** Far longer than any answer: a call that hangs is a failure of the run, not something to wait for. */
const SILENCE_MS = 120_000;

/** The calls of a run, decided before the first one is sent. */
export function planCalls(options: {
  readonly count: number;
  readonly secrets: readonly string[];
  readonly models: readonly ModelShare[];
  readonly random: Random;
}): CallPlan[] {
  const { count, secrets, models, random } = options;
  return Array.from({ length: count }, (_, n) => {
    const model = pickModel(models, random);
    const stream = n % 2 === 0;
    const steering = randomSteering(model, random);
    const body = {
      model: model.id,
      messages: [{ role: 'user', content: `${n} ${randomText(random)}` }],
      max_tokens: 400,
      metadata: { twin: JSON.stringify(steering) },
      ...(model.choices === true && random.chance(0.1) ? { n: 2 } : {}),
      ...(stream ? { stream: true, ...(random.chance(0.5) ? { stream_options: { include_usage: true } } : {}) } : {}),
    };
    return {
      n,
      secret: random.pick(secrets),
      model: model.id,
      stream,
      leavesAfterMs: random.chance(LEAVING_SHARE) ? random.integer(1, 2000) : null,
      body: JSON.stringify(body),
    };
  });
}

function pickModel(models: readonly ModelShare[], random: Random): ModelShare {
  const total = models.reduce((sum, { share }) => sum + share, 0);
  let at = random.next() * total;
  return models.find(({ share }) => (at -= share) < 0) ?? models[0]!;
}

/** The twin's knobs in `metadata.twin`: short answers, a few long ones for a kill to fall into, some cached input. */
function randomSteering(model: ModelShare, random: Random): Record<string, number> {
  const isLong = random.chance(LONG_SHARE);
  const outputTokens = isLong ? random.integer(100, 200) : random.integer(1, 60);
  return {
    latency_ms: random.integer(5, 200),
    chunk_interval_ms: isLong ? random.integer(20, 50) : random.integer(1, 40),
    output_tokens: outputTokens,
    cached_tokens: random.chance(0.3) ? random.integer(1, 20) : 0,
    reasoning_tokens: model.reasoning === true ? random.integer(0, outputTokens) : 0,
  };
}

function randomText(random: Random): string {
  return Array.from({ length: random.integer(3, 60) }, () => random.pick(WORDS)).join(' ');
}

export class Clients {
  readonly #url: string;
  readonly #agent = new Agent({ headersTimeout: SILENCE_MS, bodyTimeout: SILENCE_MS, connect: { timeout: 5000 } });

  constructor(gatewayUrl: string) {
    this.#url = `${gatewayUrl}/v1/chat/completions`;
  }

  /** Sends the calls at a steady rate, whatever becomes of them, and resolves when all have ended. */
  async sendAll(calls: readonly CallPlan[], ratePerSecond: number): Promise<CallResult[]> {
    const begin = performance.now();
    const ends = calls.map(async (plan, index) => {
      await delay(Math.max(0, begin + (index * 1000) / ratePerSecond - performance.now()));
      return this.send(plan);
    });
    return Promise.all(ends);
  }

  /** One call, one result; never throws for what server or network do. */
  async send(plan: CallPlan): Promise<CallResult> {
    const leave = new AbortController();
    const timer = plan.leavesAfterMs === null ? undefined : setTimeout(() => leave.abort(), plan.leavesAfterMs);
    let head: Pick<CallResult, 'requestId' | 'status'> = { requestId: null, status: null };
    const ended = (rest: Pick<CallResult, 'end'> & Partial<CallResult>): CallResult => ({
      plan,
      ...head,
      error: null,
      shown: null,
      ...rest,
    });
    try {
      const response = await httpRequest(this.#url, {
        method: 'POST',
        dispatcher: this.#agent,
        headers: { authorization: `Bearer ${plan.secret}`, 'content-type': 'application/json' },
        body: plan.body,
        signal: leave.signal,
      });
      head = { requestId: headerOf(response, 'x-request-id'), status: response.statusCode };
      const text = await response.body.text();
      if (response.statusCode !== 200) return ended({ end: 'refused', error: errorCode(text) });
      return ended(plan.stream ? readStream(text) : readWhole(text, headerOf(response, 'x-holdfast-cost-usd')));
    } catch (error) {
      if (leave.signal.aborted) return ended({ end: 'left' });
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      return ended({ end: code === 'ECONNREFUSED' ? 'unreachable' : 'broken', error: code });
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }
}

function headerOf(response: Dispatcher.ResponseData, name: string): string | null {
  const value = response.headers[name];
  return typeof value === 'string' ? value : null;
}

function errorCode(text: string): string {
  try {
    const { error } = JSON.parse(text) as { error?: { code?: string; message?: string } };
    return error?.code ?? error?.message ?? 'error without a code';
  } catch {
    return 'unreadable error';
  }
}

function readWhole(text: string, costUsd: string | null): Pick<CallResult, 'end' | 'shown'> {
  const { usage } = JSON.parse(text) as { usage: UsageJson };
  return { end: 'completed', shown: { ...billOf(text, usage), costUsd } };
}

interface UsageJson {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly estimated?: boolean;
}

/** The cost is read from the text: a JavaScript number would not hold it. */
function billOf(text: string, usage: UsageJson): ShownBill {
  return {
    promptTokens: usage.prompt_tokens,
    completionTokens: usage.completion_tokens,
    costUsd: /"cost":([0-9.]+)[,}]/.exec(text)?.[1] ?? null,
    estimated: usage.estimated === true,
  };
}

function readStream(text: string): Pick<CallResult, 'end' | 'error' | 'shown'> {
  let shown: ShownBill | null = null;
  for (const line of text.split('\n')) {
    if (!line.startsWith('data: {')) continue;
    const event = JSON.parse(line.slice('data: '.length)) as { usage?: UsageJson | null; error?: { code?: string } };
    if (event.error !== undefined) return { end: 'refused', error: event.error.code ?? 'error without a code', shown };
    if (event.usage !== undefined && event.usage !== null) shown = billOf(line, event.usage);
  }
  const isWhole = text.trimEnd().endsWith('data: [DONE]');
  return { end: isWhole ? 'completed' : 'broken', error: isWhole ? null : 'stream without end', shown };
}
