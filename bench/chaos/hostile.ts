/**
 * `npm run chaos -- --hostile`: a customer who pays calls at a steady rate, first alone and then beside ten accounts
 * without money that do their worst. Good when the customer notices nothing: no failed call, no wrong outcome, and a
 * p99 within three times the quiet one of the same run. Ratios only: how fast a machine is does not decide.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { usd } from '../../domain/money.ts';
import type { Interruption } from '../interrupt.ts';
import { describeMachine, figure, table, writeResult } from '../report.ts';
import { Rig } from '../rig.ts';
import { quantile } from '../statistics.ts';
import { HOSTILE_KINDS, type HostileKind, type HostileOrder, type HostileReport } from './hostile-kinds.ts';

export interface HostileOptions {
  /** How long each kind goes on, and how long the customer is alone before. */
  readonly seconds: number;
  readonly keep: boolean;
}

const ACCOUNTS = 10;
const CALLS_PER_SECOND = 20;
/** The customer's p99 may be so many times the quiet one. */
const RATIO_MAX = 3;
/** CPU of the other processes: their work must not count as the gateway's. */
const SENDERS_NICE = 15;
const BODY = JSON.stringify({
  model: 'holdfast/small',
  messages: [{ role: 'user', content: 'Tell me about the river.' }],
  max_tokens: 50,
  metadata: { twin: JSON.stringify({ latency_ms: 20, output_tokens: 16 }) },
});

interface Phase {
  readonly name: string;
  readonly calls: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
  readonly report: HostileReport | null;
}

/** True when the customer noticed nothing and the ledger is sound. */
export async function runHostile(
  options: HostileOptions,
  say: (line: string) => void,
  interruption: Interruption,
): Promise<boolean> {
  const rig = await Rig.open({ name: 'hostile', say, keep: options.keep, signal: interruption.signal });
  try {
    return await interruption.orInterrupted(attack(rig, options, say));
  } finally {
    await rig.close();
  }
}

async function attack(rig: Rig, { seconds }: HostileOptions, say: (line: string) => void): Promise<boolean> {
  const payer = await rig.createKey(await rig.createAccount(usd('1000')));
  const secrets: string[] = [];
  for (let n = 0; n < ACCOUNTS; n += 1) {
    // A cent that is spent at once would do as well: what counts is that holds are refused.
    secrets.push((await rig.createKey(await rig.createAccount(usd('0.000001')))).secret);
  }
  const senders = fork(join(import.meta.dirname, 'hostile-senders.ts'), { stdio: 'inherit' });
  try {
    if (senders.pid !== undefined) setPriority(senders.pid, SENDERS_NICE);
    await callSteadily(rig, payer.secret, 5);
    say(`the customer alone for ${seconds} s`);
    const phases: Phase[] = [await phase(rig, payer.secret, 'alone', seconds, null)];
    for (const kind of Object.keys(HOSTILE_KINDS) as HostileKind[]) {
      say(`${HOSTILE_KINDS[kind]} for ${seconds} s`);
      const order: HostileOrder = { gatewayUrl: rig.gatewayUrl, secrets, kind };
      phases.push(await phase(rig, payer.secret, kind, seconds, { senders, order }));
    }
    await rig.untilSettled(120);
    return await report(rig, phases, payer.accountId);
  } finally {
    senders.disconnect();
    senders.kill('SIGKILL');
  }
}

async function phase(
  rig: Rig,
  secret: string,
  name: string,
  seconds: number,
  hostile: { senders: ChildProcess; order: HostileOrder } | null,
): Promise<Phase> {
  hostile?.senders.send(hostile.order);
  // The very beginning of the attack is part of it; calls of the customer before it are not.
  const { latencies, failed } = await callSteadily(rig, secret, seconds);
  let told: HostileReport | null = null;
  if (hostile !== null) {
    const answered = once(hostile.senders, 'message');
    hostile.senders.send({ ...hostile.order, kind: null });
    [told] = (await answered) as [HostileReport];
    await delay(1000);
  }
  return {
    name,
    calls: latencies.length + failed,
    failed,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
    report: told,
  };
}

/** Calls at a steady rate whatever becomes of the calls before. */
async function callSteadily(
  rig: Rig,
  secret: string,
  seconds: number,
): Promise<{ latencies: number[]; failed: number }> {
  const latencies: number[] = [];
  let failed = 0;
  const call = async (): Promise<void> => {
    const begin = performance.now();
    try {
      const response = await fetch(`${rig.gatewayUrl}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
        body: BODY,
        signal: AbortSignal.timeout(60_000),
      });
      await response.arrayBuffer();
      if (response.status === 200) latencies.push(performance.now() - begin);
      else failed += 1;
    } catch {
      failed += 1;
    }
  };
  const begin = performance.now();
  const calls: Promise<void>[] = [];
  for (let n = 0; n < seconds * CALLS_PER_SECOND; n += 1) {
    const due = begin + (n * 1000) / CALLS_PER_SECOND;
    await delay(Math.max(0, due - performance.now()));
    calls.push(call());
  }
  await Promise.all(calls);
  return { latencies, failed };
}

async function report(rig: Rig, phases: readonly Phase[], accountId: string): Promise<boolean> {
  const [quiet, ...hostile] = phases;
  const { rows: outcomes } = await rig.audit.query<{ outcome: string; count: number }>(
    'select outcome, count(*)::int as count from request where account_id = $1 group by 1',
    [accountId],
  );
  const wrong = outcomes.filter(({ outcome }) => outcome !== 'completed').reduce((sum, { count }) => sum + count, 0);
  const { rows: violations } = await rig.audit.query('select * from holdfast.violations');
  const failed = phases.reduce((sum, phase) => sum + phase.failed, 0);
  const worst = Math.max(...hostile.map(({ p99 }) => p99 / quiet!.p99));
  console.log(
    table(
      'A paying customer beside ten hostile accounts',
      ['kind', 'calls', 'failed', 'p50 ms', 'p99 ms', 'p99 to quiet', 'attempts', 'answered with'],
      phases.map(({ name, calls, failed, p50, p99, report: told }) => [
        name,
        String(calls),
        String(failed),
        figure(p50),
        figure(p99),
        figure(p99 / quiet!.p99),
        told === null ? '' : String(told.sent),
        told === null
          ? ''
          : Object.entries(told.statuses)
              .map(([status, count]) => `${status} × ${count}`)
              .join(', '),
      ]),
    ),
  );
  const good = failed === 0 && wrong === 0 && violations.length === 0 && worst <= RATIO_MAX;
  console.log(
    `\n${failed} failed calls, ${wrong} wrong outcomes, ${violations.length} violations, ` +
      `worst p99 ${figure(worst)} times the quiet one (at most ${RATIO_MAX}): ${good ? 'good' : 'NOT GOOD'}`,
  );
  console.log(
    `\n${writeResult('hostile', { finished_at: new Date().toISOString(), machine: describeMachine(), good, phases })}\n`,
  );
  return good;
}
