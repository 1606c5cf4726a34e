/**
 * The requests that the bench sends: one short chat completion, whole or streamed, by 200 accounts with a key each or
 * all by one. The direct target is the twin's own route with the same body, only under the upstream's model name.
 */
import { usd } from '../domain/money.ts';
import type { Target } from './generator.ts';
import type { Rig } from './rig.ts';

export type Distribution = 'uniform' | 'hot';

/** Money for hours of any load the bench makes. */
const BALANCE = usd('1000');
const MODEL = { gateway: 'holdfast/small', upstream: 'small' } as const;
const PATH = '/v1/chat/completions';
const PROMPT = 'Write one sentence about a river that comes back to its source, for people who have never seen one.';
/** Whole answers and streams alike: a short answer, so that the fixed cost of a request is what is measured. */
export const OUTPUT_TOKENS = 16;

export class Workload {
  readonly #rig: Rig;
  readonly #tokens: Readonly<Record<Distribution, readonly string[]>>;

  private constructor(rig: Rig, tokens: Readonly<Record<Distribution, readonly string[]>>) {
    this.#rig = rig;
    this.#tokens = tokens;
  }

  /** Makes the accounts, their money and their keys. */
  static async prepare(rig: Rig, accounts: number): Promise<Workload> {
    const fundedKey = async (): Promise<string> => (await rig.createKey(await rig.createAccount(BALANCE))).secret;
    const uniform: string[] = [];
    for (let n = 0; n < accounts; n += 1) uniform.push(await fundedKey());
    return new Workload(rig, { uniform, hot: [await fundedKey()] });
  }

  direct(stream: boolean): Target {
    return { origin: this.#rig.twinUrl, path: PATH, tokens: ['direct'], body: bodyFor(MODEL.upstream, stream), stream };
  }

  gateway(distribution: Distribution, stream: boolean): Target {
    return {
      origin: this.#rig.gatewayUrl,
      path: PATH,
      tokens: this.#tokens[distribution],
      body: bodyFor(MODEL.gateway, stream),
      stream,
    };
  }

  /** How the upstream behaves from now on: time to its first byte, and between two tokens of a stream. */
  async steer(steering: { latencyMs: number; tokenIntervalMs: number }): Promise<void> {
    await this.#rig.twin('POST', 'config', {
      latency_ms: steering.latencyMs,
      chunk_interval_ms: steering.tokenIntervalMs,
      output_tokens: OUTPUT_TOKENS,
    });
  }
}

function bodyFor(model: string, stream: boolean): string {
  return JSON.stringify({
    model,
    messages: [{ role: 'user', content: PROMPT }],
    max_tokens: 256,
    // Both sides ask for usage: the gateway always does, and a direct call without it would be answered with less.
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
}
