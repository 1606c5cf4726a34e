/**
 * The order in which a Temporal dev server is looked for, with stand-ins for what lies outside: programs on PATH, the
 * SDK's download, Go. No network and no real build.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { recordOf, writeRecord } from '../../twins/kit/process-record.ts';
import { cacheFolder, locateTemporal, type LocatorOptions } from '../../sandbox/temporal-locator.ts';

describe('temporal locator', () => {
  let folder: string;
  let env: NodeJS.ProcessEnv;
  let cached: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'holdfast-locator-'));
    env = { PATH: join(folder, 'path'), XDG_CACHE_HOME: join(folder, 'cache'), HOME: folder };
    cached = join(cacheFolder(env), 'temporal');
  });

  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  function program(path: string, script: string): string {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `#!/bin/sh\n${script}\n`);
    chmodSync(path, 0o755);
    return path;
  }

  function temporal(path: string, server: string): string {
    return program(path, `echo "temporal version 1.5.1 (Server ${server}, UI 2.42.1)"`);
  }

  /** A `go` that "builds" a program with the given server version, and counts its runs. */
  function go(server: string): () => number {
    const runs = join(folder, 'go-runs');
    program(
      join(folder, 'path/go'),
      `echo run >> ${runs}
/bin/cat > "$GOBIN/temporal" <<'END'
#!/bin/sh
echo "temporal version 0.0.0-DEV (Server ${server}, UI 2.42.1)"
END
/bin/chmod 755 "$GOBIN/temporal"`,
    );
    return () => (existsSync(runs) ? readFileSync(runs, 'utf8').trim().split('\n').length : 0);
  }

  const noDownload: NonNullable<LocatorOptions['download']> = () => Promise.reject(new Error('host not reachable'));

  function locate(download = noDownload): ReturnType<typeof locateTemporal> {
    return locateTemporal({ env, download });
  }

  it('takes the program on PATH before the cached one', async () => {
    const onPath = temporal(join(folder, 'path/temporal'), '1.31.2');
    temporal(cached, '1.29.1');
    assert.deepEqual(await locate(), { path: onPath, way: 'path', serverVersion: '1.31.2' });
  });

  it('passes over a program on PATH that is too old or another one of that name', async () => {
    for (const script of ['echo "temporal version 1.0.0 (Server 1.25.0, UI 2.30.0)"', 'echo "a calendar"', 'exit 1']) {
      program(join(folder, 'path/temporal'), script);
      temporal(cached, '1.29.1');
      assert.equal((await locate()).way, 'cache', script);
    }
  });

  it('downloads when nothing is there, and keeps the result for the next start', async () => {
    const first = await locate(async (target) => {
      temporal(join(target, 'temporal-sdk-typescript-1.24.0'), '1.31.2');
    });
    assert.deepEqual(first, { path: cached, way: 'download', serverVersion: '1.31.2' });
    assert.deepEqual(await locate(), { path: cached, way: 'cache', serverVersion: '1.31.2' });
  });

  it('builds with Go when the download fails, once', async () => {
    const runs = go('1.29.1');
    assert.deepEqual(await locate(), { path: cached, way: 'build', serverVersion: '1.29.1' });
    assert.equal((await locate()).way, 'cache');
    assert.equal(runs(), 1);
    assert.deepEqual(readdirSync(dirname(cached)), ['temporal'], 'no drafts and no lock are left');
  });

  it('builds when what was downloaded does not run here', async () => {
    go('1.29.1');
    const found = await locate(async (target) => {
      program(join(target, 'temporal-sdk-typescript-1.24.0'), 'exit 126');
    });
    assert.equal(found.way, 'build');
  });

  it('lets one start build while the others wait for it', async () => {
    const runs = go('1.29.1');
    const ways = (await Promise.all([locate(), locate(), locate()])).map(({ way }) => way).sort();
    assert.deepEqual(ways, ['build', 'cache', 'cache']);
    assert.equal(runs(), 1);
  });

  it('takes over the lock of a builder that died', async () => {
    go('1.29.1');
    const self = recordOf(process.pid);
    assert.ok(self);
    writeRecord(join(dirname(cached), 'temporal.lock'), { pid: self.pid, identity: 'of an earlier process' });
    assert.equal((await locate()).way, 'build');
  });

  it('says in one message all four ways to get a server and why each failed', async () => {
    temporal(join(folder, 'path/temporal'), '1.25.0');
    program(join(folder, 'path/go'), 'echo "go: no module proxy" >&2; exit 1');
    await assert.rejects(locate(), (error: Error) => {
      for (const way of ['TEMPORAL_ADDRESS', 'on PATH', 'temporal.download', 'go install github.com/temporalio/cli']) {
        assert.ok(error.message.includes(way), way);
      }
      for (const reason of ['is older than server', 'host not reachable', 'no module proxy']) {
        assert.ok(error.message.includes(reason), reason);
      }
      return true;
    });
    rmSync(join(folder, 'path/go'));
    await assert.rejects(locate(), /there is no Go on PATH/);
  });
});
