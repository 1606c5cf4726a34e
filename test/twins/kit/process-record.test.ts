/** A start never ends somebody else's process: a record names one process, never just a number. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { endLeftover } from '../../../twins/kit/child-process.ts';
import {
  acquireLock,
  isRunning,
  recordOf,
  writeRecord,
  type ProcessRecord,
} from '../../../twins/kit/process-record.ts';

describe('process record', () => {
  let folder: string;
  let file: string;
  let child: ChildProcess;
  let record: ProcessRecord;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-record-'));
    file = join(folder, 'part.json');
    child = spawn(
      process.execPath,
      ['-e', "process.on('SIGTERM', () => {}); process.stdout.write('up'); setInterval(() => {}, 1000)"],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    assert.ok(child.stdout && child.pid);
    await once(child.stdout, 'data');
    const made = recordOf(child.pid);
    assert.ok(made);
    record = made;
  });

  afterEach(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  it('ends the recorded process, by force when it does not listen', async () => {
    writeRecord(file, record);
    assert.equal(await endLeftover(file, { graceSeconds: 0.1 }), true);
    assert.equal(isRunning(record), false);
    assert.equal(existsSync(file), false);
  });

  it('never touches a process that has been given the pid of a recorded one since', async () => {
    writeRecord(file, { ...record, identity: 'an earlier process with this pid' });
    assert.equal(await endLeftover(file, { graceSeconds: 0.1 }), false);
    assert.equal(isRunning(record), true);
    assert.equal(existsSync(file), false, 'the stale record is gone');
  });

  it('has one owner of a lock: the first taker, and none once its process is gone', async () => {
    const lock = join(folder, 'lock.json');
    writeRecord(lock, record);
    assert.deepEqual(await acquireLock(lock), record);
    child.kill('SIGKILL');
    await once(child, 'exit');
    const owners = await Promise.all([acquireLock(lock), acquireLock(lock), acquireLock(lock)]);
    assert.equal(owners.filter((owner) => owner === null).length, 1, 'of several takers at once one wins');
  });
});
