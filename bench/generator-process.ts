/**
 * The process that sends the load. As light as a client in this language can be: one keep-alive pool per origin, bodies
 * made once, answers counted and thrown away unparsed. Ends when its parent disconnects.
 */
import { Pool, type Dispatcher } from 'undici';
import type { GeneratorMessage, Job, JobResult, Target } from './generator.ts';
import { seededRandom, type Random } from './random.ts';

/** A content delta that is not empty: the twin's tokens begin with a space, its opening chunk has none. */
const FIRST_CONTENT = '"content":" ';
const STREAM_END = '[DONE]';

const pools = new Map<string, Pool>();

process.on('message', (message) => {
  void runJob(message as Job).then(
    (result) => answer({ kind: 'result', result }),
    (error: unknown) => answer({ kind: 'failed', message: String(error) }),
  );
});
process.on('disconnect', () => process.exit(0));
// Ctrl-C goes to the whole foreground group: the bench itself decides when its generator ends.
process.on('SIGINT', () => undefined);

function answer(message: GeneratorMessage): void {
  process.send?.(message);
}

async function runJob({ target, load, seed }: Job): Promise<JobResult> {
  const recorder = new Recorder();
  const send = sender(target, seededRandom(seed ^ 0x5bd1e995));
  const cpuBefore = process.cpuUsage();
  const startedAt = Date.now();
  const begin = performance.now();
  if (load.kind === 'closed') await runClosed(load, send, recorder);
  else await runOpen(load, seededRandom(seed), send, recorder);
  const elapsedSeconds = (performance.now() - begin) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  return {
    ...recorder.result(),
    startedAt,
    endedAt: Date.now(),
    elapsedSeconds,
    cpuMs: (cpu.user + cpu.system) / 1000,
  };
}

/** One request under way: where its times go. */
interface Flight {
  /** `performance.now()` that its latency counts from. */
  readonly since: number;
  firstTokenAt: number;
  endedAt: number;
  error: string | null;
}

class Recorder {
  readonly #flights: Flight[] = [];
  readonly #late: number[] = [];

  begin(since: number): Flight {
    const flight = { since, firstTokenAt: NaN, endedAt: NaN, error: null };
    this.#flights.push(flight);
    return flight;
  }

  late(ms: number): void {
    this.#late.push(ms);
  }

  result(): Pick<JobResult, 'latencyMs' | 'firstTokenMs' | 'lateMs' | 'errors' | 'sent'> {
    const good = this.#flights.filter(({ error }) => error === null);
    const streamed = good.filter(({ firstTokenAt }) => !Number.isNaN(firstTokenAt));
    const errors: Record<string, number> = {};
    for (const { error } of this.#flights) if (error !== null) errors[error] = (errors[error] ?? 0) + 1;
    return {
      latencyMs: Float64Array.from(good, ({ endedAt, since }) => endedAt - since),
      firstTokenMs: Float64Array.from(streamed, ({ firstTokenAt, since }) => firstTokenAt - since),
      lateMs: Float64Array.from(this.#late),
      errors,
      sent: this.#flights.length,
    };
  }
}

async function runClosed(load: { clients: number; seconds: number }, send: Send, recorder: Recorder): Promise<void> {
  const deadline = performance.now() + load.seconds * 1000;
  const client = (): Promise<void> =>
    new Promise((resolve) => {
      const next = (): void => {
        const now = performance.now();
        if (now >= deadline) resolve();
        else send(recorder.begin(now), next);
      };
      next();
    });
  await Promise.all(Array.from({ length: load.clients }, client));
}

function runOpen(
  load: { ratePerSecond: number; seconds: number },
  random: Random,
  send: Send,
  recorder: Recorder,
): Promise<void> {
  const meanGapMs = 1000 / load.ratePerSecond;
  const begin = performance.now();
  const deadline = begin + load.seconds * 1000;
  return new Promise((resolve) => {
    let open = 0;
    let arrival = begin + random.exponential(meanGapMs);
    const ended = (): void => {
      open -= 1;
      if (open === 0 && arrival >= deadline) resolve();
    };
    const sendDue = (): void => {
      for (let now = performance.now(); arrival <= now && arrival < deadline; now = performance.now()) {
        recorder.late(now - arrival);
        open += 1;
        send(recorder.begin(arrival), ended);
        arrival += random.exponential(meanGapMs);
      }
      if (arrival < deadline) setTimeout(sendDue, Math.max(0, arrival - performance.now()));
      else if (open === 0) resolve();
    };
    sendDue();
  });
}

type Send = (flight: Flight, done: () => void) => void;

function sender(target: Target, random: Random): Send {
  const pool = poolOf(target.origin);
  const body = Buffer.from(target.body);
  const calls: Dispatcher.DispatchOptions[] = target.tokens.map((token) => ({
    method: 'POST',
    path: target.path,
    headers: ['authorization', `Bearer ${token}`, 'content-type', 'application/json'],
    body,
  }));
  return (flight, done) => {
    let status = 0;
    let sawEnd = !target.stream;
    const end = (error: string | null): void => {
      flight.endedAt = performance.now();
      flight.error = error;
      done();
    };
    pool.dispatch(random.pick(calls), {
      onRequestStart: () => undefined,
      onResponseStart: (_controller, statusCode) => {
        status = statusCode;
      },
      onResponseData: (_controller, chunk) => {
        if (!target.stream) return;
        if (Number.isNaN(flight.firstTokenAt) && chunk.includes(FIRST_CONTENT)) flight.firstTokenAt = performance.now();
        if (chunk.includes(STREAM_END)) sawEnd = true;
      },
      onResponseEnd: () => end(status !== 200 ? `status ${status}` : sawEnd ? null : 'stream without end'),
      onResponseError: (_controller, error) => end((error as NodeJS.ErrnoException).code ?? error.message),
    });
  };
}

function poolOf(origin: string): Pool {
  const known = pools.get(origin);
  if (known !== undefined) return known;
  // As many connections as there are requests under way, none of them closed while the bench runs.
  const pool = new Pool(origin, { connections: null, pipelining: 1, keepAliveTimeout: 60_000 });
  pools.set(origin, pool);
  return pool;
}
