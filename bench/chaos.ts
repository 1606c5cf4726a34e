/**
 * `npm run chaos`: customers call at a steady rate while gateway, worker, Temporal and PostgreSQL are killed with
 * SIGKILL at seeded moments and started again; then Temporal is held for a while under load. Afterwards everything must
 * agree: what the upstream twin served, the log, the ledger, the counters, and what the clients were told. Exits 1 on
 * any difference.
 *
 * With scaled durations (default) holds without an owner end in seconds; `--full` uses the product's own durations,
 * 10,000 requests and five minutes without Temporal.
 */
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { setTimeout as delay } from 'node:timers/promises';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadCatalogue, type CatalogueModel } from '../db/requests/catalogue.ts';
import { formatUsd, usd } from '../domain/money.ts';
import { TWIN_KEY_VARIABLE } from '../sandbox/demo.ts';
import { Clients, planCalls, type CallResult, type ModelShare } from './chaos/clients.ts';
import { collectEvidence } from './chaos/evidence.ts';
import { runHostile } from './chaos/hostile.ts';
import { carryOut, KILLED_PARTS, planKills, type Kill } from './chaos/kills.ts';
import { holdTemporal, type Outage } from './chaos/outage.ts';
import { prove, REASONS, type Proof } from './chaos/proof.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { numberOption } from './options.ts';
import { seededRandom } from './random.ts';
import { describeMachine, figure, table, writeResult } from './report.ts';
import { describeDurability, Rig } from './rig.ts';
import { quantile } from './statistics.ts';

interface ChaosOptions {
  readonly requests: number;
  readonly ratePerSecond: number;
  readonly kills: number;
  readonly outageSeconds: number;
  readonly outageRatePerSecond: number;
  readonly seed: number;
  readonly full: boolean;
  /** Null for the run with kills. */
  readonly hostileSeconds: number | null;
  readonly keep: boolean;
}

const USAGE = `npm run chaos [-- options]

  --full               the product's own durations, 10,000 requests, Temporal held for 5 minutes
  --requests N         calls while parts are killed, half of them streamed (default 2000)
  --rate N             calls per second (default 30)
  --kills N            kill -9 in all, shared by api, worker, temporal and postgres (default one per 125 requests, at least 8)
  --outage-seconds N   how long Temporal is held afterwards (default 10)
  --seed N             of calls and kills (default: from the clock; printed)
  --hostile            instead: ten accounts without money do their worst beside a paying one
  --hostile-seconds N  how long each of their kinds goes on (default 60)
  --keep               keeps the stack's data dir
`;

/** The product's durations at about a tenth, so that a hold without an owner ends in seconds and not in a minute. */
const SCALED_DURATIONS = {
  REQUEST_GRACE_SECONDS: '6',
  DRAIN_SECONDS: '6',
  FINISH_PATIENCE_SECONDS: '0.5',
  HOLD_TIMEOUT_SECONDS: '1',
  HEARTBEAT_SECONDS: '0.5',
  GATEWAY_GONE_SECONDS: '3',
  SWEEP_INTERVAL_SECONDS: '1.5',
  SWEEP_FINISHED_AGE_SECONDS: '3',
  EVIDENCE_SECONDS: '20',
  SETTLE_SLOT_SECONDS: '3',
} as const;

/** A few accounts stand for all customers: what one of them may use of `:free` models must not end the run. */
const FREE_QUOTA = {
  FREE_REQUESTS_PER_MINUTE: '1000000',
  FREE_TOKENS_PER_DAY: '1000000000000',
  FREE_OPEN_REQUESTS: '512',
};

/** How long the run may take to come to rest, and how long nothing may then move: two sweeps. */
const REST = {
  scaled: { timeoutSeconds: 180, stillSeconds: 4 },
  full: { timeoutSeconds: 1200, stillSeconds: 35 },
} as const;

/** Breaks in the middle of every answer, and never tells usage: what a living gateway must cope with on its own. */
const BREAKING_MODEL = 'chaos/breaking';
/** Answers well and never tells usage. */
const SILENT_MODEL = 'chaos/silent';

const MODEL_SHARES: readonly ModelShare[] = [
  { id: 'holdfast/small', share: 50, choices: true },
  { id: 'holdfast/large', share: 15 },
  { id: 'holdfast/reasoner', share: 10, reasoning: true },
  { id: 'holdfast/per-call', share: 8 },
  { id: 'holdfast/small:free', share: 10 },
  { id: BREAKING_MODEL, share: 4 },
  { id: SILENT_MODEL, share: 3 },
];

const ACCOUNTS = 5;
const BALANCE = usd('1000');
/** Never reached; a key with a limit keeps window counters, which must agree as well. */
const KEY_LIMIT = usd('500');

const begin = performance.now();

function say(line: string): void {
  console.log(`[${((performance.now() - begin) / 1000).toFixed(1).padStart(7)} s] ${line}`);
}

/** True when nothing was lost, doubled or left open. */
async function main(options: ChaosOptions, interruption: Interruption): Promise<boolean> {
  say(`seed ${options.seed}: ${options.requests} requests at ${options.ratePerSecond}/s, ${options.kills} kills`);
  const rig = await Rig.open({
    name: 'chaos',
    env: { ...FREE_QUOTA, ...(options.full ? {} : SCALED_DURATIONS) },
    say,
    keep: options.keep,
    signal: interruption.signal,
  });
  const clients = new Clients(rig.gatewayUrl);
  try {
    say(describeDurability(rig.durability));
    return await interruption.orInterrupted(run(rig, clients, options));
  } finally {
    await clients.close();
    await rig.close();
  }
}

async function run(rig: Rig, clients: Clients, options: ChaosOptions): Promise<boolean> {
  await prepareModels(rig);
  const secrets = await prepareKeys(rig);
  const { results, kills } = await runWithKills(rig, clients, secrets, options);
  const outage = await runWithoutTemporal(rig, clients, secrets, options);
  const everyResult = [...results, ...outage.results, ...outage.poorResults];
  const proof = await untilAtRest(rig, everyResult, options.full ? REST.full : REST.scaled);
  return report(rig, { options, results, kills, outage, proof });
}

/** Two models whose upstream misbehaves, by rules of the twin that match the name it is asked for. */
async function prepareModels(rig: Rig): Promise<void> {
  const twin = {
    base_url: `${rig.twinUrl}/v1`,
    api_key_env: TWIN_KEY_VARIABLE,
    lookup: `${rig.twinUrl}/_twin/requests/{request_id}`,
  };
  const model = (id: string, upstreamModel: string): CatalogueModel => ({
    id,
    dialect: 'openai',
    context_length: 128_000,
    default_output_tokens: 4096,
    hidden_output: false,
    upstreams: [{ ...twin, model: upstreamModel }],
    prices: { input: '0.15', output: '0.6' },
  });
  await loadCatalogue(rig.management, [model(BREAKING_MODEL, 'breaking'), model(SILENT_MODEL, 'silent')]);
  const rule = (upstreamModel: string, fault: object): object => ({
    match: { model: upstreamModel },
    times: null,
    fault,
  });
  await rig.twin('POST', 'faults', rule('breaking', { type: 'eof', after_chunks: 3 }));
  await rig.twin('POST', 'faults', rule('silent', { type: 'no_usage' }));
}

/** Five accounts with two keys each, one of them with a daily limit. */
async function prepareKeys(rig: Rig): Promise<string[]> {
  const secrets: string[] = [];
  for (let n = 0; n < ACCOUNTS; n += 1) {
    const account = await rig.createAccount(BALANCE);
    secrets.push((await rig.createKey(account)).secret);
    secrets.push((await rig.createKey(account, { limit: KEY_LIMIT, limitReset: 'daily' })).secret);
  }
  return secrets;
}

async function runWithKills(
  rig: Rig,
  clients: Clients,
  secrets: readonly string[],
  options: ChaosOptions,
): Promise<{ results: CallResult[]; kills: Kill[] }> {
  const { requests, ratePerSecond, seed } = options;
  const calls = planCalls({ count: requests, secrets, models: MODEL_SHARES, random: seededRandom(seed) });
  const seconds = requests / ratePerSecond;
  const plan = planKills({ count: options.kills, seconds, random: seededRandom(seed + 1) });
  say(`sending for ${figure(seconds, 0)} s`);
  const [results, kills] = await Promise.all([clients.sendAll(calls, ratePerSecond), carryOut(rig.stack, plan, say)]);
  say('all calls have ended');
  return { results, kills };
}

async function runWithoutTemporal(
  rig: Rig,
  clients: Clients,
  secrets: readonly string[],
  { outageSeconds, outageRatePerSecond, seed }: ChaosOptions,
): Promise<Outage> {
  say(`Temporal is held for ${outageSeconds} s under ${outageRatePerSecond} requests/s`);
  const calls = planCalls({
    count: Math.round(outageSeconds * outageRatePerSecond),
    secrets,
    // Only calls that cannot fail on their own: every call has to succeed.
    models: MODEL_SHARES.filter(({ id }) => id !== BREAKING_MODEL),
    random: seededRandom(seed + 2),
  }).map((call) => ({ ...call, leavesAfterMs: null }));
  const outage = await holdTemporal(rig, clients, {
    seconds: outageSeconds,
    calls,
    ratePerSecond: outageRatePerSecond,
  });
  const settled = `everything finished was settled ${figure(outage.drainedAfterSeconds)} s later`;
  say(`Temporal went on after ${figure(outage.seconds)} s; ${settled}`);
  return outage;
}

/**
 * The proof once nothing moves any more: judged again and again until there is no difference, and then once more after
 * two sweeps, when the evidence must still be the same. After the time-out the differences of that moment stand.
 */
async function untilAtRest(
  rig: Rig,
  results: readonly CallResult[],
  { timeoutSeconds, stillSeconds }: { timeoutSeconds: number; stillSeconds: number },
): Promise<Proof> {
  say(`waiting until nothing moves any more (at most ${timeoutSeconds} s)`);
  const deadline = performance.now() + timeoutSeconds * 1000;
  for (;;) {
    const evidence = await collectEvidence(rig);
    const proof = prove(evidence, results);
    if (performance.now() > deadline) return proof;
    if (proof.differences.length > 0) {
      await delay(1000);
      continue;
    }
    await delay(stillSeconds * 1000);
    const later = await collectEvidence(rig);
    if (isDeepStrictEqual(later, evidence)) return proof;
  }
}

interface Run {
  readonly options: ChaosOptions;
  readonly results: readonly CallResult[];
  readonly kills: readonly Kill[];
  readonly outage: Outage;
  readonly proof: Proof;
}

function report(rig: Rig, { options, results, kills, outage, proof }: Run): boolean {
  const outageFailures = [...outage.results, ...outage.poorResults].filter(({ end }) => end !== 'completed');
  const errors = loggedErrors(rig);
  console.log(killTable(kills));
  console.log(clientTable(results, outage));
  console.log(classTable(proof));
  console.log(outcomeTable(proof));
  console.log(explainedTable(proof));
  if (errors.length > 0) {
    console.log(
      table(
        'Errors in the logs of api and worker',
        ['message', 'times'],
        errors.map(({ message, count }) => [message, String(count)]),
      ),
    );
  }
  for (const { plan, status, error, requestId } of outageFailures) {
    console.log(`call failed while Temporal was held: ${requestId ?? `call ${plan.n}`} status ${status} ${error}`);
  }
  if (proof.differences.length > 0) {
    const rows = proof.differences.map(({ rule, subject, found, expected }) => [rule, subject, found, expected]);
    console.log(table('DIFFERENCES', ['rule', 'subject', 'found', 'expected'], rows));
  }
  const good = proof.differences.length === 0 && outageFailures.length === 0 && outage.drainedAfterSeconds !== null;
  console.log(`\n${verdictLine(proof, outageFailures.length)}`);
  const file = writeResult('chaos', {
    finished_at: new Date().toISOString(),
    machine: describeMachine(),
    options,
    good,
    kills,
    outage: {
      seconds: outage.seconds,
      drained_after_seconds: outage.drainedAfterSeconds,
      failures: outageFailures.map(({ plan, requestId, status, error }) => ({
        call: plan.n,
        model: plan.model,
        request_id: requestId,
        status,
        error,
      })),
    },
    proof: {
      ...proof,
      charged: formatUsd(proof.charged),
      credited: formatUsd(proof.credited),
      platformCost: formatUsd(proof.platformCost),
    },
    client_ends: Object.fromEntries(
      Map.groupBy(results, endOf)
        .entries()
        .map(([end, of]) => [end, of.length]),
    ),
    logged_errors: errors,
  });
  console.log(`\n${file}\n`);
  return good;
}

function verdictLine(proof: Proof, outageFailures: number): string {
  const { differences, servedRequests, rowsByOutcome, charged, platformCost } = proof;
  const logRows = Object.values(rowsByOutcome).reduce((sum, count) => sum + count, 0);
  return [
    `${servedRequests} served, ${logRows} log rows, charged $${formatUsd(charged)}, platform cost $${formatUsd(platformCost)}:`,
    `${differences.length} differences, ${outageFailures} failed calls while Temporal was held`,
  ].join(' ');
}

function killTable(kills: readonly Kill[]): string {
  return table(
    'kill -9',
    ['part', 'times', 'down for s, median', 'longest'],
    KILLED_PARTS.map((part) => {
      const downs = kills.filter((kill) => kill.part === part).map(({ downSeconds }) => downSeconds ?? NaN);
      return [part, String(downs.length), figure(quantile(downs, 0.5)), figure(quantile(downs, 1))];
    }),
  );
}

function endOf({ end, error }: CallResult): string {
  return error === null ? end : `${end}: ${error}`;
}

function clientTable(results: readonly CallResult[], outage: Outage): string {
  const groups = [
    ...Map.groupBy(results, (result) => `with kills, ${endOf(result)}`),
    ...Map.groupBy(outage.results, (result) => `Temporal held, ${endOf(result)}`),
    ...Map.groupBy(outage.poorResults, (result) => `Temporal held, nearly empty account, ${endOf(result)}`),
  ];
  const rows = groups.map(([end, of]) => {
    const streamed = of.filter(({ plan }) => plan.stream).length;
    return [end, String(of.length), String(streamed)];
  });
  return table('What the clients saw', ['end', 'calls', 'of them streams'], rows.sort());
}

function classTable({ classes }: Proof): string {
  return table(
    'What the upstream served, by how its usage is accounted for',
    ['class', 'requests'],
    Object.entries(classes).map(([name, count]) => [name, String(count)]),
  );
}

function outcomeTable({ rowsByOutcome }: Proof): string {
  const rows = Object.entries(rowsByOutcome).map(([outcome, count]) => [outcome, String(count)]);
  return table('The log by outcome', ['outcome', 'rows'], rows.sort());
}

/** Every reason with how often it was needed and one example; the whole list is in the JSON file. */
function explainedTable({ explained }: Proof): string {
  const rows = [...Map.groupBy(explained, ({ why }) => why)].map(([why, of]) => [
    REASONS[why],
    String(of.length),
    of[0]!.subject,
    of[0]!.details,
  ]);
  return table('Explained', ['why', 'requests', 'for example', ''], rows);
}

const LOG_LEVEL_ERROR = 50;

/**
 * Errors in the logs of api and worker, by message: not part of the proof, but the first thing to read after a failure.
 */
function loggedErrors(rig: Rig): { message: string; count: number }[] {
  const messages = ['api', 'worker'].flatMap((part) =>
    readFileSync(join(rig.dataDir, 'logs', `${part}.log`), 'utf8')
      .split('\n')
      .flatMap((line) => errorMessageOf(part, line)),
  );
  return [...Map.groupBy(messages, (message) => message)]
    .map(([message, of]) => ({ message, count: of.length }))
    .sort((left, right) => right.count - left.count);
}

function errorMessageOf(part: string, line: string): string[] {
  try {
    const { level, msg } = JSON.parse(line) as { level?: number; msg?: string };
    return level !== undefined && level >= LOG_LEVEL_ERROR ? [`${part}: ${msg ?? 'no message'}`] : [];
  } catch {
    // A line cut by a kill, or one that a library wrote.
    return [];
  }
}

function parseChaosOptions(args: readonly string[]): ChaosOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      requests: { type: 'string' },
      rate: { type: 'string' },
      kills: { type: 'string' },
      'outage-seconds': { type: 'string' },
      seed: { type: 'string' },
      hostile: { type: 'boolean', default: false },
      'hostile-seconds': { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  const requests = Math.round(numberOption('requests', values.requests, values.full ? 10_000 : 2000));
  return {
    requests,
    ratePerSecond: numberOption('rate', values.rate, 30),
    kills: Math.round(numberOption('kills', values.kills, Math.max(8, Math.round(requests / 125)))),
    outageSeconds: numberOption('outage-seconds', values['outage-seconds'], values.full ? 300 : 10),
    outageRatePerSecond: 20,
    seed: numberOption('seed', values.seed, Date.now() % 1_000_000),
    full: values.full,
    hostileSeconds: values.hostile ? numberOption('hostile-seconds', values['hostile-seconds'], 60) : null,
    keep: values.keep,
  };
}

await runProgram(async (interruption) => {
  const options = parseChaosOptions(process.argv.slice(2));
  if (options !== 'help') {
    const { hostileSeconds, keep } = options;
    if (hostileSeconds === null) return main(options, interruption);
    return runHostile({ seconds: hostileSeconds, keep }, say, interruption);
  }
  console.log(USAGE);
});
