/** The right to run a stack from a data dir, also after its files were deleted. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild, type Child } from '../../twins/kit/child-process.ts';
import { recordOf, writeRecord, type ProcessRecord } from '../../twins/kit/process-record.ts';
import { StackLock } from '../../sandbox/stack-lock.ts';
import { Supervisor } from '../../sandbox/supervisor.ts';
import { until } from '../support/until.ts';

describe('the lock of a data dir', () => {
  let dataDir: string;
  let other: ChildProcess;
  let otherRecord: ProcessRecord;
  const locks: StackLock[] = [];

  beforeEach(async () => {
    dataDir = mkdtempSync(join(tmpdir(), 'holdfast-lock-'));
    mkdirSync(join(dataDir, 'run'));
    other = spawn(process.execPath, ['-e', 'setInterval(() => undefined, 1000)']);
    await once(other, 'spawn');
    otherRecord = recordOf(other.pid!)!;
  });
  afterEach(() => {
    for (const lock of locks.splice(0)) lock.release();
    other.kill('SIGKILL');
    rmSync(dataDir, { recursive: true });
  });

  const fileOf = (name: string): string => join(dataDir, 'run', `${name}.json`);
  function newLock(): StackLock {
    const lock = new StackLock(dataDir);
    locks.push(lock);
    return lock;
  }

  it('is refused while a part runs whose starter runs, though the lock was deleted', async () => {
    writeRecord(fileOf('api'), recordOf(process.pid)!, otherRecord);
    await assert.rejects(newLock().take(['api']), new RegExp(`already runs from .* \\(process ${other.pid}\\)`));
    assert.equal(existsSync(fileOf('supervisor')), false, 'the lock of the running stack was not taken for a moment');
    other.kill('SIGKILL');
    await once(other, 'exit');
    await newLock().take(['api']);
  });

  it('comes back when it is deleted', async () => {
    const lock = newLock();
    const seen: string[] = [];
    await lock.take([]);
    lock.watch({ restored: () => seen.push('restored'), lost: () => seen.push('lost') });
    rmSync(fileOf('supervisor'));
    assert.equal(await lock.isHeld(), true);
    assert.equal(existsSync(fileOf('supervisor')), true);
    assert.deepEqual(seen, ['restored']);
  });

  it('is lost to another process that has taken it, said once, and left to that one', async () => {
    const lock = newLock();
    const lost: number[] = [];
    await lock.take([]);
    lock.watch({ restored: () => assert.fail('it was not gone'), lost: ({ pid }) => lost.push(pid) });
    writeRecord(fileOf('supervisor'), otherRecord);
    await until('it is noticed without being asked', () => lost.length > 0);
    assert.equal(await lock.isHeld(), false);
    lock.release();
    assert.deepEqual(lost, [other.pid]);
    assert.equal(existsSync(fileOf('supervisor')), true);
  });

  it('lost, no part is started again that has ended', async () => {
    let starts = 0;
    let isOurs = true;
    const children: Child[] = [];
    const supervisor = new Supervisor({ restarted: () => undefined, say: () => undefined, stillOurs: () => isOurs });
    await supervisor.add({
      name: 'part',
      start: async () => {
        starts++;
        const child = await startChild({
          name: 'part',
          command: process.execPath,
          args: ['-e', 'setInterval(() => undefined, 1000)'],
          env: {},
          logFile: join(dataDir, 'part.log'),
          recordFile: fileOf('part'),
        });
        children.push(child);
        return child;
      },
      stopSignal: 'SIGTERM',
      stopSeconds: 5,
      hurrySignal: 'SIGKILL',
    });
    children[0]!.signal('SIGKILL');
    await until('it is started again', () => starts === 2);
    isOurs = false;
    children[1]!.signal('SIGKILL');
    await children[1]!.exited;
    // Returns only when the watching has ended, which a start under way would not let it.
    await supervisor.stop();
    assert.equal(starts, 2);
  });
});
