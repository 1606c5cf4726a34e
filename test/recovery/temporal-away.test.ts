/**
 * Temporal stands still under load. Nothing on a request's path needs it, so no client notices, not even one whose
 * money is nearly used up; what finished meanwhile is settled when it is back. On a Temporal server of its own.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../../twins/kit/ports.ts';
import { locateTemporal } from '../../sandbox/temporal-locator.ts';
import { startTemporal, type TemporalServer } from '../../sandbox/temporal-server.ts';
import { startTestStack, type TestAccount, type TestStack } from '../support/stack.ts';
import { endAfterTests } from './at-end.ts';
import { Chat, type ChatEnd } from './chat.ts';
import {
  allRows,
  assertLedgerSound,
  balanceAfter,
  balanceOf,
  rowsOf,
  untilAllSettled,
  untilSettled,
} from './evidence.ts';

const AWAY_SECONDS = 15;
const REQUESTS_PER_SECOND = 12;

describe('Temporal away under load', function () {
  this.timeout(120_000);
  const atEnd = endAfterTests();
  let temporal: TemporalServer;
  let stack: TestStack;

  before(async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-temporal-'));
    atEnd(async () => rmSync(dataDir, { recursive: true, force: true }));
    temporal = await startTemporal({
      program: (await locateTemporal()).path,
      dataDir,
      port: await freePort(),
      uiPort: null,
      logFile: join(dataDir, 'temporal.log'),
      recordFile: join(dataDir, 'temporal-process.json'),
      nice: 0,
    });
    atEnd(() => temporal.child.stop({ graceSeconds: 10 }));
    stack = await startTestStack({ name: 'temporal-away', temporalAddress: temporal.address });
    atEnd(() => stack.stop());
    // Whatever a test leaves behind, only a server that runs can be stopped.
    atEnd(async () => temporal.child.signal('SIGCONT'));
  });

  it('no call fails, a nearly empty account is not refused wrongly, and everything is settled when it is back', async () => {
    const [rich, poor] = [await stack.createAccount('5'), await stack.createAccount('0.02')];
    const [richKey, poorKey] = [await stack.createKey(rich), await stack.createKey(poor)];
    const ask = (secret: string, options: { model?: string; stream?: boolean }): Promise<ChatEnd> =>
      new Chat({ baseUrl: stack.baseUrl, secret }, options).ended;
    const first = await ask(richKey.secret, {});
    await untilSettled(stack, first.requestId);

    temporal.child.signal('SIGSTOP');
    const calls: Promise<ChatEnd>[] = [];
    const beganAt = performance.now();
    for (let n = 0; n < AWAY_SECONDS * REQUESTS_PER_SECOND; n++) {
      calls.push(ask(richKey.secret, { stream: n % 2 === 0 }));
      // One at a time: its money covers one hold of $0.0125, which only a settlement gives back.
      if (n % 6 === 0) calls.push(poorInTurn(() => ask(poorKey.secret, { model: 'test/large', stream: false })));
      await delay(Math.max(0, beganAt + ((n + 1) * 1000) / REQUESTS_PER_SECOND - performance.now()));
    }
    const ends = await Promise.all(calls);
    assert.deepEqual(
      ends.filter(({ status, isWhole }) => status !== 200 || !isWhole),
      [],
    );
    const [waiting, poorRows] = [await allRows(stack), await rowsOf(stack, poor)];
    assert.ok(
      waiting.every((row) => row.state === 'finished' || row.account_id === poor.uuid || row.id === waiting[0]?.id),
    );
    assert.ok(
      poorRows.filter(({ state, workflow_id }) => state === 'charged' && workflow_id === null).length > 0,
      'settled by the gateway',
    );
    const before = await balancesOf(rich, poor);
    assert.deepEqual(before, [
      balanceAfter('5', ...waiting.filter((row) => row.account_id === rich.uuid).map((row) => row.cost)),
      balanceAfter('0.02', ...poorRows.map((row) => row.cost)),
    ]);

    temporal.child.signal('SIGCONT');
    const settled = await untilAllSettled(stack);
    assert.equal(settled.length, ends.length + 1);
    assert.deepEqual([...new Set(settled.map(({ state, outcome }) => `${state} ${outcome}`))], ['charged completed']);
    assert.deepEqual(await balancesOf(rich, poor), before, 'settling late changes no cent');
    await assertLedgerSound(stack);
  });

  let turn: Promise<unknown> = Promise.resolve();
  function poorInTurn<T>(call: () => Promise<T>): Promise<T> {
    const result = turn.then(call);
    turn = result.catch(() => undefined);
    return result;
  }

  function balancesOf(...accounts: TestAccount[]): Promise<string[]> {
    return Promise.all(accounts.map(async (account) => (await balanceOf(stack, account)).balance));
  }
});
