/**
 * `npm test`: types, lint, formatting, imports, unused code and every mocha test, against services that it starts once
 * (PostgreSQL, a Temporal dev server; free ports, temporary folder), and only where a selected file needs them. The
 * very last line is `N passed, N failed[, N skipped]`, where each of the checks counts as one; the exit code is 0 only
 * when nothing failed. Most tests wait for processes of their own, so two groups of files or checks run at a time, each
 * group in a mocha of its own whose report is printed when it ends.
 *
 *   npm test -- test/unit/domain          only files whose path contains an argument, without the checks
 *   npm test -- replay --grep 'poison'    the same, and only tests whose name matches
 *   node test/run.ts --services           starts the services, prints HOLDFAST_TEST_SERVICES, runs until Ctrl-C;
 *                                         with that variable set, this program and plain mocha use those services
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startSharedServices, type SharedServices } from './support/shared-services.ts';
import { needsServices } from './support/needs-services.ts';
import { servicesEnvironment, testServices } from './support/services.ts';

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** What failed, a line each. */
  readonly failures: readonly string[];
}

const ROOT = resolve(import.meta.dirname, '..');
const ONE_PASSED: Counts = { passed: 1, failed: 0, skipped: 0, failures: [] };
/** Checks and groups at a time; each group has its own databases, namespaces and ports. */
const JOBS_AT_ONCE = 2;
/** Files that take minutes, mostly waiting: they go first, so that none of them is left over at the end. */
const LONG_FILES = ['test/payments/crypto-storm.test.ts'];
/**
 * Folders whose files, those in folders below included, are quick enough to share one mocha; the innermost counts.
 * Every other file is a group of its own.
 */
const QUICK_FOLDERS = [
  'test/activities',
  'test/api/http',
  'test/api/routes',
  'test/api/routes/account',
  'test/api/routes/staff',
  'test/bench',
  'test/db',
  'test/docs',
  'test/providers',
  'test/twins/chain',
  'test/twins/creem',
  'test/twins/discord',
  'test/twins/stripe',
  'test/twins/upstream',
  'test/unit',
  'test/worker',
];
/** A mocha that has reported but does not exit has left a server, pool or timer open: a bug of a test or of ours. */
const EXIT_SECONDS = 20;

const CHECKS = [
  { name: 'types', program: 'typescript/bin/tsc', args: ['--noEmit'] },
  { name: 'lint', program: 'eslint/bin/eslint.js', args: ['.', '--max-warnings', '0'] },
  { name: 'formatting', program: 'prettier/bin/prettier.cjs', args: ['--check', '--log-level', 'warn', '.'] },
  {
    name: 'imports',
    program: 'dependency-cruiser/bin/dependency-cruiser.mjs',
    args: ['--config', 'import-rules.ts', '--output-type', 'err-long', '.'],
  },
  { name: 'unused', program: 'knip/bin/knip.js', args: ['--no-progress'] },
  { name: 'spelling', program: 'cspell/bin.mjs', args: ['lint', '--no-progress', '--no-summary', '.'] },
] as const;

const { values: flags, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: { grep: { type: 'string' }, services: { type: 'boolean', default: false } },
});

/** What an interruption has to end. */
const open: { readonly children: Set<ChildProcess>; services: SharedServices | null } = {
  children: new Set(),
  services: null,
};
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void interrupted());
}

if (flags.services) {
  open.services = await startSharedServices(say);
  const variables = Object.entries(servicesEnvironment(open.services));
  for (const [name, value] of variables) console.log(`export ${name}='${value}'`);
} else {
  const total = add(await runAll());
  await open.services?.stop();
  // Reports of groups are thousands of lines; who reads only the end must see what to look for.
  if (total.failures.length > 0) console.log(`\nfailed:\n${total.failures.map((line) => `  ${line}`).join('\n')}`);
  console.log(
    `\n${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`,
  );
  process.exit(total.failed === 0 ? 0 : 1);
}

async function runAll(): Promise<Counts[]> {
  const files = globSync('test/**/*.test.ts', { cwd: ROOT })
    .sort()
    .filter((file) => filters.length === 0 || filters.some((filter) => file.includes(filter)));
  if (files.length === 0) {
    return [oneFailed(`no test file matches ${filters.join(' ')}`)];
  }
  const groups = groupsOf(files);
  try {
    const env = files.some(needsServices) ? await servicesForMocha() : {};
    // One group is reported as it runs, several one after the other as they end.
    const isQuiet = groups.length > 1;
    const checks = filters.length === 0 ? CHECKS.map((check) => () => runCheck(check)) : [];
    return await runJobs([...checks, ...groups.map((group) => () => runMocha(group, { env, isQuiet }))]);
  } catch (error) {
    return [oneFailed(error instanceof Error ? error.message : String(error))];
  }
}

/** Runs all of them, some at a time, in this order. */
async function runJobs(jobs: readonly (() => Promise<Counts>)[]): Promise<Counts[]> {
  const counts: Counts[] = [];
  const left = [...jobs];
  const takeTurns = async (): Promise<void> => {
    for (let job = left.shift(); job !== undefined; job = left.shift()) counts.push(await job());
  };
  await Promise.all(Array.from({ length: JOBS_AT_ONCE }, takeTurns));
  return counts;
}

function groupsOf(files: readonly string[]): string[][] {
  const groups = new Map<string, string[]>();
  const innermost = [...QUICK_FOLDERS].sort((one, other) => other.length - one.length);
  for (const file of files) {
    const name = innermost.find((folder) => file.startsWith(`${folder}/`)) ?? file;
    groups.set(name, [...(groups.get(name) ?? []), file]);
  }
  return [...groups.values()].sort((one, other) => Number(isLong(other)) - Number(isLong(one)));
}

function isLong([file]: readonly string[]): boolean {
  return LONG_FILES.includes(file ?? '');
}

/** Services that already run, when the environment names some, else our own. */
async function servicesForMocha(): Promise<Record<string, string>> {
  if (process.env['HOLDFAST_TEST_SERVICES'] !== undefined) return servicesEnvironment(testServices());
  const begin = performance.now();
  open.services = await startSharedServices(say);
  say(`PostgreSQL and Temporal are up (${secondsSince(begin)})`);
  return servicesEnvironment(open.services);
}

async function runCheck({ name, program, args }: (typeof CHECKS)[number]): Promise<Counts> {
  const begin = performance.now();
  const code = await runNode([join(ROOT, 'node_modules', program), ...args], {});
  say(`${name}: ${code === 0 ? 'ok' : 'FAILED'} (${secondsSince(begin)})`);
  return code === 0 ? ONE_PASSED : oneFailed(name);
}

async function runMocha(
  files: readonly string[],
  { env, isQuiet }: { env: Record<string, string>; isQuiet: boolean },
): Promise<Counts> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-counts-'));
  const countsFile = join(folder, 'counts.json');
  const grep = flags.grep === undefined ? [] : ['--grep', flags.grep];
  const args = [
    join(ROOT, 'node_modules/mocha/bin/mocha.js'),
    ...['--reporter', join(ROOT, 'test/support/reporter.ts'), '--forbid-only', ...grep, ...files],
  ];
  let hung = false;
  let mocha: ChildProcess | null = null;
  const watch = setInterval(() => {
    if (!existsSync(countsFile)) return;
    clearInterval(watch);
    setTimeout(() => {
      hung = mocha !== null;
      mocha?.kill('SIGKILL');
    }, EXIT_SECONDS * 1000).unref();
  }, 500);
  try {
    const running = { ...env, HOLDFAST_TEST_COUNTS: countsFile };
    const code = await runNode(args, running, { isQuiet, started: (child) => (mocha = child) });
    mocha = null;
    const counts = existsSync(countsFile) ? (JSON.parse(readFileSync(countsFile, 'utf8')) as Counts) : null;
    if (counts === null) {
      return oneFailed(`${files.join(' ')}: mocha ended without a result (code ${code})`);
    }
    const wrong = wrongEnd(counts, { code, hung });
    return wrong === null ? counts : add([counts, oneFailed(`${files.join(' ')}: ${wrong}`)]);
  } finally {
    clearInterval(watch);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** What is wrong with a mocha that reported, apart from its tests; null when nothing is. */
function wrongEnd(counts: Counts, { code, hung }: { code: number; hung: boolean }): string | null {
  if (hung) return `mocha did not exit within ${EXIT_SECONDS} s of its last test: something was left open`;
  if (counts.passed + counts.failed + counts.skipped === 0) return 'no test was run';
  return code !== 0 && counts.failed === 0 ? `mocha ended with code ${code} after its last test` : null;
}

/** Runs a script on the Node that runs this one; children of tests find that Node on PATH as well. */
function runNode(
  args: readonly string[],
  env: Record<string, string>,
  { isQuiet = false, started = () => undefined }: { isQuiet?: boolean; started?: (child: ChildProcess) => void } = {},
): Promise<number> {
  return new Promise((resolveCode, reject) => {
    const path = [join(ROOT, 'node_modules/.bin'), process.env['PATH'] ?? ''].join(delimiter);
    const child = spawn(process.execPath, args, {
      cwd: ROOT,
      stdio: isQuiet ? ['ignore', 'pipe', 'pipe'] : 'inherit',
      env: { ...process.env, PATH: path, ...env },
    });
    const report: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => report.push(chunk));
    open.children.add(child);
    started(child);
    child.once('error', reject);
    child.once('close', (code) => {
      open.children.delete(child);
      process.stdout.write(Buffer.concat(report));
      resolveCode(code ?? 1);
    });
  });
}

async function interrupted(): Promise<void> {
  for (const child of open.children) child.kill('SIGTERM');
  await open.services?.stop();
  process.exit(130);
}

function add(counts: readonly Counts[]): Counts {
  return counts.reduce(
    (sum, one) => ({
      passed: sum.passed + one.passed,
      failed: sum.failed + one.failed,
      skipped: sum.skipped + one.skipped,
      failures: [...sum.failures, ...one.failures],
    }),
    { passed: 0, failed: 0, skipped: 0, failures: [] },
  );
}

function oneFailed(what: string): Counts {
  return { passed: 0, failed: 1, skipped: 0, failures: [what] };
}

function say(message: string): void {
  console.log(`[test] ${message}`);
}

function secondsSince(begin: number): string {
  return `${((performance.now() - begin) / 1000).toFixed(1)} s`;
}
