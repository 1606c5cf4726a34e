/**
 * `prestart` and `pretest`: makes `node_modules` agree with `package-lock.json`, so that `npm start` and `npm test` work in
 * a fresh clone and after each pull. Plain JavaScript for any Node from 18 on, because it is the only file that runs
 * before the pinned Node (npm package `node`) is there; npm runs all other scripts with that one.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const bin = join(root, 'node_modules', '.bin');

/** `packages` of a lock file by path; null when there is none or it cannot be read. */
function packagesOf(file) {
  try {
    return JSON.parse(readFileSync(join(root, file), 'utf8')).packages;
  } catch {
    return null;
  }
}

/**
 * Why an install is needed; null when it is not. npm leaves in `node_modules` a list of what it installed there, as its
 * last act, so an interrupted install has none and a pulled lock file shows as a difference.
 */
function reason() {
  const wanted = packagesOf('package-lock.json');
  const installed = packagesOf('node_modules/.package-lock.json');
  if (wanted === null) throw new Error('package-lock.json is missing: this is not a whole clone');
  if (installed === null) return 'nothing is installed yet';
  for (const [path, { version, optional }] of Object.entries(wanted)) {
    if (path === '' || (installed[path] === undefined && optional === true)) continue;
    if (installed[path]?.version !== version) return `${path.replace(/^.*node_modules\//, '')} changed`;
  }
  return null;
}

/** The pinned Node's own word for its version; null when it does not run. */
function pinnedNode() {
  const node = spawnSync(join(bin, 'node'), ['--version'], { encoding: 'utf8' });
  return node.status === 0 ? node.stdout.trim() : null;
}

const why = reason();
if (why !== null) {
  const begin = Date.now();
  console.log(`[install] npm ci: ${why} (takes about a minute when npm's cache is empty) …`);
  // Not the pinned Node for npm itself: `npm ci` removes node_modules, the running program included.
  const path = (process.env.PATH ?? '').split(delimiter).filter((entry) => entry !== bin);
  const npm = spawnSync('npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, PATH: path.join(delimiter) },
  });
  if (npm.status !== 0) {
    console.error(
      `[install] npm ci failed${npm.error === undefined ? '' : `: ${npm.error.message}`}; see its output above`,
    );
    process.exit(1);
  }
  console.log(`[install] done in ${Math.round((Date.now() - begin) / 1000)} s`);
}

const expected = `v${packagesOf('package-lock.json')?.['node_modules/node']?.version}`;
const found = pinnedNode();
if (found !== expected) {
  console.error(
    `[install] Node ${expected} should be in node_modules/.bin, but there is ${found ?? 'none that runs'}. It is put there ` +
      'by an install script: if ignore-scripts is set, run "npm ci --ignore-scripts=false" once.',
  );
  process.exit(1);
}
