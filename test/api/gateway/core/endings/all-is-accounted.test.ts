/**
 * Whatever is asked, however it is answered, reported or broken off: what the customer pays and what the platform books
 * come to what the upstream really produced, at list price; above it only where an estimate says so. Nothing delivered
 * is free.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Fault } from '../../../../../twins/upstream/twin.ts';
import { USAGE_SHAPES } from '../../../../../twins/upstream/usage/shapes.ts';
import {
  createCustomer,
  dollars,
  MESSAGES,
  newestRequest,
  platformCosts,
  settledRow,
  untilNothingHeld,
  violations,
  STACK_START_MS,
} from '../../../../support/gateway-client.ts';
import { addModels, modelOf } from '../../../../support/gateway-upstream.ts';
import { startTestStack, type TestStack } from '../../../../support/stack.ts';
import { until } from '../../../../support/until.ts';

const INPUT = dollars('0.000001');
const CACHED = dollars('0.0000005');
const OUTPUT = dollars('0.000002');

/** Shapes from which a careful reader can tell everything that has a price here. */
const SHAPES = (Object.keys(USAGE_SHAPES) as (keyof typeof USAGE_SHAPES)[]).filter((name) => {
  const { tells } = USAGE_SHAPES[name];
  return tells.includes('input') && tells.includes('output');
});

/**
 * `seen`: shows all it produces, and can be asked afterwards. `hidden`: thinks unseen. `mute`: cannot be asked
 * afterwards.
 */
const KINDS = ['seen', 'hidden', 'mute'] as const;
type Kind = (typeof KINDS)[number];
/** Cases at a time, each with models of its own, so that a fault hits the case it is meant for. */
const WORKERS = 6;

interface Case {
  readonly stream: boolean;
  readonly kind: Kind;
  readonly choices: number;
  readonly maxTokens: number | null;
  readonly outputTokens: number;
  readonly reasoningTokens: number;
  readonly shape: (typeof SHAPES)[number];
  readonly fault: Fault | null;
  /** The client leaves after so many milliseconds. */
  readonly leavesAfterMs: number | null;
  /** Money of the customer: enough, or so little that a stream ends at it. */
  readonly balance: string;
}

const place = fc.integer({ min: 0, max: 12 });
const fault: fc.Arbitrary<Fault | null> = fc.oneof(
  { weight: 4, arbitrary: fc.constant(null) },
  place.map((after_chunks) => ({ type: 'reset', after_chunks }) as const),
  place.map((after_chunks) => ({ type: 'eof', after_chunks }) as const),
  place.map((after_chunks) => ({ type: 'error_chunk', after_chunks }) as const),
  place.map((after_chunks) => ({ type: 'hang', after_chunks }) as const),
  place.map((after_chunks) => ({ type: 'garbage_sse', after_chunks }) as const),
  fc.constant({ type: 'no_usage' } as const),
  fc.constant({ type: 'refuse' } as const),
  fc.integer({ min: 1, max: 20 }).map((produced) => ({ type: 'refuse', produced }) as const),
  fc.constant({ type: 'status', status: 500 } as const),
  fc.constant({ type: 'html' } as const),
);

const someCase: fc.Arbitrary<Case> = fc.record({
  stream: fc.boolean(),
  kind: fc.constantFrom(...KINDS),
  choices: fc.constantFrom(1, 1, 2),
  maxTokens: fc.option(fc.integer({ min: 5, max: 400 })),
  outputTokens: fc.integer({ min: 1, max: 120 }),
  reasoningTokens: fc.integer({ min: 0, max: 40 }),
  shape: fc.constantFrom(...SHAPES),
  fault,
  leavesAfterMs: fc.option(fc.integer({ min: 1, max: 150 }), { freq: 4 }),
  balance: fc.constantFrom('1', '1', '0.002'),
});

describe('gateway: all that is produced is paid or booked', () => {
  let stack: TestStack;

  before(async function () {
    this.timeout(STACK_START_MS);
    stack = await startTestStack({
      name: 'gateway-accounted',
      env: { SETTLE_FLOOR_SECONDS: '0.02', DRAIN_SECONDS: '0.5', END_GRACE_SECONDS: '0.3' },
    });
    const prices = { input: '1', cached_input: '0.5', output: '2' };
    const baseUrl = `${stack.twin.url}/v1`;
    const lookup = `${stack.twin.url}/_twin/requests/{request_id}`;
    const model = (kind: Kind, worker: number) => {
      const upstream = { base_url: baseUrl, api_key_env: 'TEST_UPSTREAM_KEY', model: nameOf(kind, worker) };
      return modelOf({
        id: nameOf(kind, worker),
        prices,
        baseUrl,
        request_timeout_seconds: 1.5,
        default_output_tokens: 200,
        hidden_output: kind === 'hidden',
        upstreams: [{ ...upstream, lookup: kind === 'mute' ? null : lookup }],
      });
    };
    const workers = Array.from({ length: WORKERS }, (_, worker) => worker);
    await addModels(
      stack,
      workers.flatMap((worker) => KINDS.map((kind) => model(kind, worker))),
    );
  });
  after(() => stack.stop());

  function nameOf(kind: Kind, worker: number): string {
    return `worker-${worker}/${kind}`;
  }

  /** Plays one random case and judges what it came to. */
  async function play(given: Case, worker: number): Promise<void> {
    const customer = await createCustomer(stack, given.balance);
    const model = nameOf(given.kind, worker);
    if (given.fault !== null) stack.twin.faults.add({ match: { model }, fault: given.fault });
    // Only a model that is known to think unseen does so.
    const reasoning = given.kind === 'hidden' ? Math.min(given.reasoningTokens, given.outputTokens) : 0;
    const steering = {
      output_tokens: given.outputTokens,
      reasoning_tokens: reasoning,
      chunk_interval_ms: 2,
      usage: { shape: given.shape },
    };
    const leave = new AbortController();
    const body = {
      model,
      messages: MESSAGES,
      n: given.choices,
      stream: given.stream,
      ...(given.maxTokens === null ? {} : { max_tokens: given.maxTokens }),
      metadata: { twin: JSON.stringify(steering), case: customer.account.id },
    };
    const timer = given.leavesAfterMs === null ? null : setTimeout(() => leave.abort(), given.leavesAfterMs);
    let delivered = 0;
    try {
      const response = await fetch(`${stack.baseUrl}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${customer.secret}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
        signal: leave.signal,
      });
      const text = await response.text();
      if (response.status === 200) delivered = (text.match(/"content":"[^"]/g) ?? []).length;
    } catch {
      // It left, or the gateway broke the stream off.
    } finally {
      if (timer !== null) clearTimeout(timer);
    }
    await untilNothingHeld(stack, customer.account);
    const requestId = await newestRequest(stack, customer.account);
    if (requestId === null) return; // It left before anything was held.
    const row = await settledRow(stack, requestId);
    if (row.outcome === 'refused') return;
    await until('the upstream to have ended', () => stack.twin.request(requestId)?.status !== 'running');
    const produced = stack.twin.request(requestId);
    const { prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0 } = produced ?? {};
    const worth =
      BigInt(prompt_tokens - cached_tokens) * INPUT +
      BigInt(cached_tokens) * CACHED +
      BigInt(completion_tokens) * OUTPUT;
    const booked = Object.values(await platformCosts(stack, requestId)).reduce((sum, cost) => sum + cost, 0n);
    const accounted = row.cost! + booked;
    const story = `${row.outcome} ${row.estimated ? 'estimated ' : ''}paid ${row.cost} booked ${booked} of ${worth}`;
    assert.ok(accounted >= worth, `less than was produced: ${story}`);
    if (delivered > 0) assert.ok(accounted > 0n, `delivered and free: ${story}`);
    const isExact = !row.estimated && booked === 0n && USAGE_SHAPES[given.shape].contradiction === undefined;
    if (isExact && row.outcome === 'completed') assert.equal(accounted, worth, story);
    assert.ok(row.cost! <= dollars(given.balance));
  }

  it('in random requests, answers, breaks, time-outs, departures, limits and shapes of usage', async function () {
    this.timeout(120_000);
    const seed = 20_261_130;
    const cases = fc.sample(someCase, { numRuns: 160, seed });
    const left = [...cases.entries()];
    const failures: string[] = [];
    const work = async (worker: number): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const [n, given] = next;
        try {
          await play(given, worker);
        } catch (error) {
          failures.push(`case ${n} of seed ${seed}: ${String(error)} ${JSON.stringify(given)}`);
        }
      }
    };
    await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));
    assert.deepEqual(failures, []);
    assert.deepEqual(await violations(stack), []);
  });
});
