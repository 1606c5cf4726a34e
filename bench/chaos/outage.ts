/**
 * Temporal stopped under load: SIGSTOP holds the server as it is, which is worse than a death (nothing is refused,
 * everything hangs). Meanwhile customers go on, among them one with so little money that its calls only fit if finished
 * ones are settled without Temporal. Every call must succeed.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { usd, addUsd, picoUsd, type PicoUsd } from '../../domain/money.ts';
import type { Rig } from '../rig.ts';
import type { CallPlan, CallResult, Clients } from './clients.ts';

export interface OutageOptions {
  readonly seconds: number;
  readonly calls: readonly CallPlan[];
  readonly ratePerSecond: number;
}

export interface Outage {
  readonly seconds: number;
  readonly results: readonly CallResult[];
  /** Calls of the nearly empty account, one after the other, one a second. */
  readonly poorResults: readonly CallResult[];
  /** Until every finished request was settled after Temporal went on; null when that took too long. */
  readonly drainedAfterSeconds: number | null;
}

const DRAIN_TIMEOUT_SECONDS = 300;

const POOR_MODEL = 'holdfast/large';
const POOR_OUTPUT_TOKENS = 1000;
/** A call holds about one cent (1,000 output tokens at $10 per million, and its input)… */
const POOR_HOLD = usd('0.012');
/** …and costs less than this (5 output tokens and a short prompt). */
const POOR_COST_MAX = usd('0.0002');

export async function holdTemporal(rig: Rig, clients: Clients, options: OutageOptions): Promise<Outage> {
  const pid = rig.stack.pid('temporal');
  if (pid === null) throw new Error('Temporal does not run');
  const poorCalls = Math.max(2, Math.floor(options.seconds));
  const poor = await poorKey(rig, poorCalls);
  process.kill(pid, 'SIGSTOP');
  let results: CallResult[];
  let poorResults: CallResult[];
  const begin = performance.now();
  try {
    [results, poorResults] = await Promise.all([
      clients.sendAll(options.calls, options.ratePerSecond),
      callOneByOne(clients, poor, poorCalls),
    ]);
    await delay(Math.max(0, options.seconds * 1000 - (performance.now() - begin)));
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  const resumed = performance.now();
  const isDrained = await rig.untilFinishedAreSettled(DRAIN_TIMEOUT_SECONDS);
  return {
    seconds: (resumed - begin) / 1000,
    results,
    poorResults,
    drainedAfterSeconds: isDrained ? (performance.now() - resumed) / 1000 : null,
  };
}

/** Money for one hold and what all calls really cost: without settlements it is bound after the first few. */
async function poorKey(rig: Rig, calls: number): Promise<string> {
  const balance: PicoUsd = addUsd(POOR_HOLD, picoUsd(POOR_COST_MAX * BigInt(calls)));
  return (await rig.createKey(await rig.createAccount(balance))).secret;
}

async function callOneByOne(clients: Clients, secret: string, count: number): Promise<CallResult[]> {
  const results: CallResult[] = [];
  for (let n = 0; n < count; n += 1) {
    const body = JSON.stringify({
      model: POOR_MODEL,
      messages: [{ role: 'user', content: `call ${n} of an almost empty account` }],
      max_tokens: POOR_OUTPUT_TOKENS,
      metadata: { twin: JSON.stringify({ output_tokens: 5, latency_ms: 10 }) },
    });
    const next = delay(1000);
    results.push(await clients.send({ n, secret, model: POOR_MODEL, stream: false, leavesAfterMs: null, body }));
    await next;
  }
  return results;
}
