/**
 * `npm run bench:webhooks`: how fast the api accepts a payment provider's events, on a stack of its own with Stripe's
 * twin. Events are signed as Stripe signs them and arrive as a Poisson process, whatever the answers do; each is about
 * an open top-up, so behind every 2xx a workflow is told and asks the provider. Checks that every event was stored
 * before its 2xx. Prints a table and a verdict per target, writes everything as JSON, and exits 0 whatever the figures
 * are.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Pool } from 'undici';
import { createAccessToken } from '../db/accounts/access-tokens.ts';
import { usd } from '../domain/money.ts';
import { storedSecret } from '../sandbox/provider-twins.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { cpuBetween, readCpu, OWN_PARTS } from './meters.ts';
import { numberOption } from './options.ts';
import { describeMachine, figure, table, writeResult } from './report.ts';
import { describeDurability, Rig } from './rig.ts';
import { summarize, type Summary } from './statistics.ts';
import { sendEvents, type Sent } from './webhook-load.ts';

interface WebhookOptions {
  readonly ratePerSecond: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  /** Open top-ups that the events are about. */
  readonly orders: number;
  readonly seed: number;
  readonly keep: boolean;
}

const USAGE = `npm run bench:webhooks [-- options]

  --quick        50 events/s for 3 seconds: shows that the bench works, not how fast we are
  --rate N       events per second (default 200)
  --seconds N    length of the measurement (default 20)
  --orders N     open top-ups that the events are about (default 200)
  --seed N       of arrivals and orders (default 1)
  --keep         keeps the stack's data dir
`;

function parseOptions(args: readonly string[]): WebhookOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      rate: { type: 'string' },
      seconds: { type: 'string' },
      orders: { type: 'string' },
      seed: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  return {
    ratePerSecond: numberOption('rate', values.rate, values.quick ? 50 : 200),
    seconds: numberOption('seconds', values.seconds, values.quick ? 3 : 20),
    warmUpSeconds: values.quick ? 1 : 5,
    orders: numberOption('orders', values.orders, values.quick ? 10 : 200),
    seed: numberOption('seed', values.seed, 1),
    keep: values.keep,
  };
}

const P99_MS_MAX = 50;
const ORDERS_AT_ONCE = 4;
/** How long the events may take to be handled after the last one came. */
const HANDLED_SECONDS_MAX = 180;
/** `received_at` has microseconds and our clock reads in fractions of a millisecond; both are this machine's. */
const CLOCK_GRAIN_MS = 1;

const begin = performance.now();

function say(line: string): void {
  console.log(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(7)} s] ${line}`);
}

/** Orders by the interface, as customers make them; each has its checkout at the twin and its workflow. */
async function makeOrders(rig: Rig, count: number): Promise<string[]> {
  const accountId = await rig.createAccount(usd('1'));
  const { secret } = await createAccessToken(rig.management, { role: 'account', accountId, name: 'bench' });
  const orders: string[] = [];
  const one = async (): Promise<void> => {
    const response = await fetch(`${rig.gatewayUrl}/api/top-ups`, {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
      body: JSON.stringify({ method: 'card', amount_usd: '10' }),
    });
    const text = await response.text();
    if (response.status !== 201) throw new Error(`an order was answered with ${response.status}: ${text}`);
    orders.push((JSON.parse(text) as { id: string }).id);
  };
  const maker = async (share: number): Promise<void> => {
    for (let n = 0; n < share; n++) await one();
  };
  const share = Math.ceil(count / ORDERS_AT_ONCE);
  await Promise.all(Array.from({ length: ORDERS_AT_ONCE }, () => maker(share)));
  return orders;
}

interface Stored {
  readonly rows: number;
  /** Acknowledged events that have no row, or whose row is younger than their 2xx. */
  readonly notBeforeAnswer: readonly string[];
  /** From storing to handling, of those that were handled in time. */
  readonly handledAfterMs: Summary;
  readonly unhandled: number;
}

/** Holds every answer against its row, and waits for what follows from the events. */
async function compareWithRows(rig: Rig, { deliveries }: Sent): Promise<Stored> {
  const ids = deliveries.map(({ eventId }) => eventId);
  const rowsNow = async () => {
    const { rows } = await rig.audit.query<{ event_id: string; received: number; handled: number | null }>(
      `select event_id, extract(epoch from received_at)::float8 * 1000 as received,
        extract(epoch from handled_at)::float8 * 1000 as handled
      from provider_event where provider = 'stripe' and event_id = any ($1)`,
      [ids],
    );
    return rows;
  };
  const deadline = performance.now() + HANDLED_SECONDS_MAX * 1000;
  let rows = await rowsNow();
  while (rows.some(({ handled }) => handled === null) && performance.now() < deadline) {
    await delay(1000);
    rows = await rowsNow();
  }
  const receivedAt = new Map(rows.map(({ event_id: id, received }) => [id, received]));
  const late = deliveries.filter(
    ({ eventId, error, answeredAt }) =>
      error === null && !((receivedAt.get(eventId) ?? Infinity) <= answeredAt + CLOCK_GRAIN_MS),
  );
  const handled = rows.flatMap(({ received, handled: at }) => (at === null ? [] : [at - received]));
  return {
    rows: rows.length,
    notBeforeAnswer: late.map(({ eventId }) => eventId),
    handledAfterMs: summarize(handled),
    unhandled: rows.length - handled.length,
  };
}

function errorsOf({ deliveries }: Sent): Record<string, number> {
  const errors: Record<string, number> = {};
  for (const { error } of deliveries) if (error !== null) errors[error] = (errors[error] ?? 0) + 1;
  return errors;
}

async function main(options: WebhookOptions, interruption: Interruption): Promise<void> {
  const machine = describeMachine();
  // Never a real provider, whatever this shell's environment says.
  const env = { STRIPE_SECRET_KEY: '', STRIPE_WEBHOOK_SECRETS: '', CREEM_API_KEY: '', TOP_UP_OPEN_MAX: '1000' };
  const rig = await Rig.open({ name: 'bench-webhooks', say, keep: options.keep, signal: interruption.signal, env });
  const pool = new Pool(rig.gatewayUrl, { connections: null, pipelining: 1, keepAliveTimeout: 60_000 });
  try {
    say(describeDurability(rig.durability));
    say(`ordering ${options.orders} top-ups`);
    const orders = await interruption.orInterrupted(makeOrders(rig, options.orders));
    const secret = `whsec_${storedSecret(join(rig.dataDir, 'twin', 'stripe-webhook-secret'))}`;
    const target = { pool, secret, orders };
    const { ratePerSecond, seed } = options;
    say(`warming up for ${options.warmUpSeconds} s`);
    const warmUp = { name: 'warm', ratePerSecond, seconds: options.warmUpSeconds, seed: seed + 1 };
    await interruption.orInterrupted(sendEvents(target, warmUp));
    say(`${ratePerSecond} events/s for ${options.seconds} s`);
    const cpuBefore = readCpu(rig.stack);
    const load = { name: 'bench', ratePerSecond, seconds: options.seconds, seed };
    const sent = await interruption.orInterrupted(sendEvents(target, load));
    const cpu = cpuBetween(cpuBefore, readCpu(rig.stack));
    say('waiting until the events are handled');
    const stored = await interruption.orInterrupted(compareWithRows(rig, sent));
    const violations = await rig.audit.query<{ rule: string }>('select * from violations');
    report({ sent, stored, cpu, options, machine, durability: rig.durability, violations: violations.rows });
  } finally {
    await pool.destroy();
    await rig.close();
  }
}

interface Report {
  readonly sent: Sent;
  readonly stored: Stored;
  readonly cpu: ReturnType<typeof cpuBetween>;
  readonly options: WebhookOptions;
  readonly machine: Record<string, string | number>;
  readonly durability: Rig['durability'];
  readonly violations: readonly unknown[];
}

function report({ sent, stored, cpu, options, machine, durability, violations }: Report): void {
  const latency = summarize(sent.deliveries.filter(({ error }) => error === null).map(({ latencyMs }) => latencyMs));
  const late = summarize(sent.deliveries.map(({ lateMs }) => lateMs));
  const errors = errorsOf(sent);
  const count = sent.deliveries.length;
  const failed = Object.values(errors).reduce((sum, each) => sum + each, 0);
  const verdicts = [
    { target: `p99 at most ${P99_MS_MAX} ms`, measured: `${figure(latency.p99)} ms`, met: latency.p99 <= P99_MS_MAX },
    { target: 'no errors', measured: failed === 0 ? '0' : JSON.stringify(errors), met: failed === 0 },
    {
      target: 'each stored before its 2xx',
      measured: `${stored.rows} rows of ${count} events, ${stored.notBeforeAnswer.length} not before the answer`,
      met: stored.rows === count && stored.notBeforeAnswer.length === 0,
    },
    { target: 'all handled', measured: `${stored.unhandled} unhandled`, met: stored.unhandled === 0 },
    { target: 'no violations', measured: String(violations.length), met: violations.length === 0 },
  ];
  const columns = ['events/s', 'events', 'p50', 'p90', 'p99', 'max', 'errors', 'late p99', 'handled after p50', 'p99'];
  console.log(
    table('Events accepted, Poisson, latencies from the scheduled arrival to the end of the 2xx (ms)', columns, [
      [
        String(options.ratePerSecond),
        String(count),
        ...[latency.p50, latency.p90, latency.p99, latency.max].map((value) => figure(value)),
        String(failed),
        figure(late.p99),
        figure(stored.handledAfterMs.p50, 0),
        figure(stored.handledAfterMs.p99, 0),
      ],
    ]),
  );
  const perEvent = OWN_PARTS.map((part) => figure(cpu[part] === null ? null : cpu[part] / count, 2));
  console.log(table('CPU ms per event', [...OWN_PARTS], [perEvent]));
  console.log(
    table(
      'Targets',
      ['target', 'measured', ''],
      verdicts.map(({ target, measured, met }) => [target, measured, met ? 'met' : 'missed']),
    ),
  );
  const file = writeResult('webhooks', {
    finished_at: new Date().toISOString(),
    machine,
    durability,
    options,
    latency_ms: latency,
    late_ms: late,
    seconds: sent.seconds,
    errors,
    stored,
    cpu_ms: cpu,
    verdicts,
    violations,
  });
  console.log(`\n${file}`);
}

await runProgram(async (interruption) => {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') console.log(USAGE);
  else await main(options, interruption);
});
