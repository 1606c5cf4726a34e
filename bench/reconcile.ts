/**
 * `npm run bench:reconcile`: one run of reconciliation over a day of many top-ups by card: how long it takes, how often
 * it has to ask the provider, and the memory of the process that does it. The Stripe twin is a process of its own; the
 * activities and PostgreSQL are the worker's, called page by page as the workflow does. Temporal's share of each page
 * is not in it.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { pino } from 'pino';
import { MockActivityEnvironment } from '@temporalio/testing';
import { uuidv7 } from 'uuidv7';
import type Stripe from 'stripe';
import { createStripeStatement } from '../providers/statements.ts';
import { createStripeRail } from '../providers/stripe/rail.ts';
import {
  createReconciliationActivities,
  type ReconciliationActivities,
} from '../activities/payments/reconciliation.ts';
import { createPool } from '../db/shared/client.ts';
import { migrate } from '../db/migrate.ts';
import { formatId, uuidOf } from '../domain/ids.ts';
import { ZERO_USD } from '../domain/money.ts';
import { STRIPE_TOP_UP_KEY } from '../providers/stripe/events.ts';
import { createStripe } from '../providers/stripe/settings.ts';
import { answersOk, startChild, waitUntilReady, type Child } from '../twins/kit/child-process.ts';
import { freePort } from '../twins/kit/ports.ts';
import { ensureDatabase, startPostgres } from '../sandbox/postgres.ts';
import { startStripeTwin } from '../twins/stripe/twin.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { numberOption } from './options.ts';
import { describeMachine, figure, table, writeResult } from './report.ts';

type PageComparison = Awaited<ReturnType<ReconciliationActivities['comparePage']>>;

const USAGE = `npm run bench:reconcile [-- options]

  --orders N       paid and credited orders (default 10000)
  --refunded N     of them, refunded in part, half of those without the ledger knowing (default 100)
`;

const MEGABYTE = 1024 * 1024;
const RSS_EVERY_MS = 100;
const PERIOD_SECONDS = 86_400;

interface ReconcileOptions {
  readonly orders: number;
  readonly refunded: number;
}

interface Figures {
  readonly seconds: number;
  readonly pages: number;
  readonly listed: number;
  readonly compared: number;
  readonly asked: number;
  readonly gaps: number;
  readonly providerCalls: number;
  /** Memory of this process before the run, and its maximum during it. */
  readonly rssBeforeMegabytes: number;
  readonly rssMaxMegabytes: number;
}

/** An order of the bench: what both sides know it by. */
interface Seeded {
  readonly topUp: string;
  readonly session: string;
  readonly intent: string;
  readonly refund: string | null;
  /** False for a refund that the ledger does not know of. */
  readonly isBooked: boolean;
}

async function main(options: ReconcileOptions, interruption: Interruption): Promise<boolean> {
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-bench-reconcile-'));
  const server = await startPostgres({
    dataDir,
    port: await freePort(),
    logFile: join(dataDir, 'postgres.log'),
    recordFile: join(dataDir, 'postgres.json'),
    sharedBuffers: '128MB',
    signal: interruption.signal,
  });
  const pool = createPool({ url: server.url('holdfast'), role: 'worker', max: 8 });
  let twin: Child | null = null;
  try {
    await ensureDatabase(server.url('postgres'), 'holdfast');
    await migrate(server.url('holdfast'));
    const seeded = Array.from({ length: options.orders }, (_, n) => seedOf(n, options));
    const dataFile = join(dataDir, 'twin.jsonl');
    await fillTwin(dataFile, seeded);
    await fillLedger(server.url('holdfast'), seeded);
    const port = await freePort();
    twin = await startTwin(dataDir, dataFile, port, interruption.signal);
    const figures = await interruption.orInterrupted(measure(pool, `http://127.0.0.1:${port}`));
    const unbooked = seeded.filter(({ refund, isBooked }) => refund !== null && !isBooked).length;
    report(options, figures);
    const isRight = figures.gaps === unbooked && figures.asked === unbooked;
    console.log(
      `\nfound ${figures.gaps} of ${unbooked} gaps, asked about ${figures.asked} orders: ${isRight ? 'right' : 'WRONG'}`,
    );
    return isRight;
  } finally {
    await twin?.stop({ graceSeconds: 5 });
    await pool.end();
    await server.stop();
    server.remove();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

function seedOf(n: number, { orders, refunded }: ReconcileOptions): Seeded {
  const every = refunded === 0 ? Infinity : Math.floor(orders / refunded);
  const isRefunded = n % every === 0 && n / every < refunded;
  return {
    topUp: uuidv7(),
    session: `cs_bench_${n}`,
    intent: `pi_bench_${n}`,
    refund: isRefunded ? `re_bench_${n}` : null,
    isBooked: (n / every) % 2 === 0,
  };
}

type Row = readonly [table: string, id: string, row: Record<string, unknown>];

/** One payment and its refund made as customers make them, and then copied: the objects are as the twin writes them. */
async function fillTwin(dataFile: string, seeded: readonly Seeded[]): Promise<void> {
  const sample = await startStripeTwin({ dataFile });
  try {
    const stripe = stripeAt(sample.url);
    const session = await stripe.checkout.sessions.create({
      mode: 'payment',
      line_items: [
        { quantity: 1, price_data: { currency: 'usd', unit_amount: 1000, product_data: { name: 'Credit' } } },
      ],
      success_url: 'http://127.0.0.1/',
    });
    const paid = await fetch(`${sample.url}/_twin/sessions/${session.id}/pay`, { method: 'POST', body: '{}' });
    if (!paid.ok) throw new Error(`the sample was not paid: ${await paid.text()}`);
    const { payment_intent: intent } = await stripe.checkout.sessions.retrieve(session.id);
    await stripe.refunds.create({ payment_intent: intent as string, amount: 500 });
  } finally {
    await sample.close();
  }
  const last = new Map<string, Row>();
  for (const line of readFileSync(dataFile, 'utf8').trim().split('\n')) {
    const row = JSON.parse(line) as Row;
    last.set(`${row[0]} ${row[1]}`, row);
  }
  const sampleOf = (name: string): Row[2] => [...last.values()].find(([kind]) => kind === name)![2];
  const [session, intent, charge, refund] = ['sessions', 'intents', 'charges', 'refunds'].map(sampleOf);
  const lines = seeded.flatMap((order): Row[] => {
    const metadata = { [STRIPE_TOP_UP_KEY]: formatId('topUp', uuidOf('topUp', order.topUp)) };
    const chargeId = `ch_${order.intent}`;
    const back = order.refund === null ? {} : { amount_refunded: 500 };
    const rows: Row[] = [
      [
        'sessions',
        order.session,
        {
          ...session,
          id: order.session,
          session: { ...(session!['session'] as object), id: order.session, payment_intent: order.intent, metadata },
        },
      ],
      ['intents', order.intent, { ...intent, id: order.intent, latest_charge: chargeId, metadata }],
      [
        'charges',
        chargeId,
        { ...charge, id: chargeId, payment_intent: order.intent, metadata, amount_refunded: 0, ...back },
      ],
    ];
    if (order.refund === null) return rows;
    const of = { id: order.refund, payment_intent: order.intent, charge: chargeId };
    return [...rows, ['refunds', order.refund, { ...refund, ...of }]];
  });
  writeFileSync(dataFile, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

/** By the ledger's own functions, so that what is compared is what they write. */
async function fillLedger(url: string, seeded: readonly Seeded[]): Promise<void> {
  const admin = new pg.Pool({ connectionString: url, max: 1, options: '-c search_path=holdfast' });
  try {
    const account = uuidv7();
    await admin.query(`insert into account (id, kind, name) values ($1, 'customer', 'Bench')`, [account]);
    await admin.query(
      `insert into top_up (id, account_id, state, method, provider, amount, fee, currency, live, provider_id, expires_at)
       select id, $1, 'waiting', 'card', 'stripe', 10, 0, 'usd', false, session, now() + interval '1 hour'
       from unnest($2::uuid[], $3::text[]) as t (id, session)`,
      [account, seeded.map(({ topUp }) => topUp), seeded.map(({ session }) => session)],
    );
    await admin.query(
      `select count(credit_payment(id, intent, 10, 10, true, 'provider')) from unnest($1::uuid[], $2::text[]) as t (id, intent)`,
      [seeded.map(({ topUp }) => topUp), seeded.map(({ intent }) => intent)],
    );
    const booked = seeded.filter(({ refund, isBooked }) => refund !== null && isBooked);
    await admin.query(
      `select count(reverse_payment(p.id, refund, 'refund', 'out', 5, 0))
       from unnest($1::text[], $2::text[]) as t (intent, refund) join payment p on p.payment_id = intent`,
      [booked.map(({ intent }) => intent), booked.map(({ refund }) => refund)],
    );
    await admin.query('analyze');
  } finally {
    await admin.end();
  }
}

async function startTwin(dataDir: string, dataFile: string, port: number, signal: AbortSignal): Promise<Child> {
  const twin = await startChild({
    name: 'stripe twin',
    command: process.execPath,
    args: [fileURLToPath(new URL('../twins/stripe/main.ts', import.meta.url))],
    env: { ...process.env, TWIN_PORT: String(port), TWIN_DATA_FILE: dataFile },
    logFile: join(dataDir, 'twin.log'),
    recordFile: join(dataDir, 'twin.json'),
  });
  await waitUntilReady(twin, answersOk(`http://127.0.0.1:${port}/_twin/faults`), { timeoutSeconds: 30, signal });
  return twin;
}

function stripeAt(apiUrl: string): Stripe {
  return createStripe({
    ...{ secretKey: 'sk_test_bench', webhookSecrets: [], apiUrl, live: false, fraudWarningFreezes: false },
    autoTopUp: { monthlyMax: ZERO_USD, slotSeconds: 3600 },
  });
}

async function measure(pool: pg.Pool, url: string): Promise<Figures> {
  const stripe = stripeAt(url);
  let providerCalls = 0;
  const on = stripe.on as (event: 'request', listener: () => void) => void;
  on('request', () => providerCalls++);
  const activities = createReconciliationActivities({
    pool,
    slowPool: pool,
    logger: pino({ level: 'silent' }),
    rails: [createStripeRail(stripe, 'http://127.0.0.1')],
    statements: [createStripeStatement(stripe)],
  });
  const rss = (): number => process.memoryUsage.rss() / MEGABYTE;
  const rssBeforeMegabytes = rss();
  let rssMaxMegabytes = rssBeforeMegabytes;
  const meter = setInterval(() => (rssMaxMegabytes = Math.max(rssMaxMegabytes, rss())), RSS_EVERY_MS);
  const begin = performance.now();
  try {
    const pages = await compareAll(activities);
    const total = (count: (page: PageComparison) => number): number =>
      pages.reduce((sum, page) => sum + count(page), 0);
    return {
      seconds: (performance.now() - begin) / 1000,
      pages: pages.length,
      listed: total(({ listed }) => listed),
      compared: total(({ compared }) => compared),
      asked: total(({ asked }) => asked),
      gaps: total(({ gaps }) => gaps),
      providerCalls,
      rssBeforeMegabytes,
      rssMaxMegabytes: Math.max(rssMaxMegabytes, rss()),
    };
  } finally {
    clearInterval(meter);
  }
}

async function compareAll(activities: ReconciliationActivities): Promise<PageComparison[]> {
  const now = Date.now();
  const run = {
    provider: 'stripe',
    run: new Date(now).toISOString(),
    since: new Date(now - PERIOD_SECONDS * 1000).toISOString(),
    until: new Date(now).toISOString(),
    fixLimitUsd: '100',
  };
  const pages: PageComparison[] = [];
  const next = (): PageComparison['next'] =>
    pages.length === 0 ? { part: 'waiting', after: null } : pages.at(-1)!.next;
  for (let cursor = next(); cursor !== null; cursor = next()) {
    const input = { ...run, page: pages.length, cursor };
    const environment = new MockActivityEnvironment();
    pages.push(
      await environment.run<[], PageComparison, () => Promise<PageComparison>>(() => activities.comparePage(input)),
    );
  }
  return pages;
}

function report(options: ReconcileOptions, figures: Figures): void {
  console.log(
    table(
      `${options.orders} paid orders at Stripe's twin, ${options.refunded} of them refunded in part`,
      ['s', 'orders/s', 'pages', 'asked about', 'provider calls', 'calls one by one', 'RSS before MB', 'RSS max MB'],
      [
        [
          figure(figures.seconds),
          figure(options.orders / figures.seconds, 0),
          String(figures.pages),
          String(figures.asked),
          String(figures.providerCalls),
          // A session, its refunds, its disputes and its warnings.
          String(4 * options.orders),
          figure(figures.rssBeforeMegabytes, 0),
          figure(figures.rssMaxMegabytes, 0),
        ],
      ],
    ),
  );
  const result = { finished_at: new Date().toISOString(), machine: describeMachine(), options, ...figures };
  console.log(`\n${writeResult('reconcile', result)}`);
}

await runProgram(async (interruption) => {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean', default: false },
      orders: { type: 'string' },
      refunded: { type: 'string' },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const options = {
    orders: numberOption('orders', values.orders, 10_000),
    refunded: numberOption('refunded', values.refunded, 100),
  };
  return main(options, interruption);
});
