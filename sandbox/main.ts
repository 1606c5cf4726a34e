/**
 * `npm start`: one stack from `HOLDFAST_DATA_DIR` (default `.holdfast/`), its progress and what a person needs to use
 * it on the screen. Ctrl-C stops it in order and waits for open streams; a second one hurries. `npm run dev`
 * (`--watch`): the same, and api and worker start again when a source file of theirs changes.
 */
import { relative, resolve } from 'node:path';
import type { Finding } from './doctor.ts';
import type { StackFile } from './stack-file.ts';
import { startStack, type Stack } from './stack.ts';

/** npm passes a Ctrl-C on to us that the terminal has sent us already: two so close together are one. */
const SAME_INTERRUPT_MS = 1000;

const begin = performance.now();
const dataDir = resolve(process.env['HOLDFAST_DATA_DIR'] ?? '.holdfast');
const starting = new AbortController();
let stack: Stack | null = null;
let interruptedAt: number | null = null;

// A screen that has gone away (closed terminal, `| head`) must not take the stack with it.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void interrupt());

try {
  say(`Holdfast sandbox, data in ${shown(dataDir)}`);
  stack = await startStack({
    dataDir,
    say,
    signal: starting.signal,
    isChecked: true,
    isWatched: process.argv.includes('--watch'),
    displaced: () => process.exit(1),
  });
  console.log(welcome(stack.describe(), stack.findings ?? []));
} catch (error) {
  console.error(
    starting.signal.aborted ? 'stopped before it was ready' : error instanceof Error ? error.message : error,
  );
  process.exit(starting.signal.aborted ? 130 : 1);
}

async function interrupt(): Promise<void> {
  const now = performance.now();
  if (interruptedAt !== null) {
    if (now - interruptedAt > SAME_INTERRUPT_MS) stack?.hurry();
    return;
  }
  interruptedAt = now;
  if (stack === null) {
    starting.abort(new Error('interrupted'));
    return;
  }
  console.log();
  say('stopping: open streams may end first (Ctrl-C again to hurry)');
  await stack.stop();
  say('stopped; the data is kept');
  process.exit(0);
}

/** Never "ready" over something that is broken: what is wrong comes first, with what to do about it. */
function headline(findings: readonly Finding[]): string[] {
  const lines = findings.map(({ state, check, message, cure }) => `  ${state}: ${check}: ${message}. Cure: ${cure}`);
  if (findings.some(({ state }) => state === 'fault')) {
    return ['Holdfast runs, but not all of it works:', '', ...lines, '', '  Look again with: npm run doctor'];
  }
  return ['Holdfast is ready.', ...(lines.length > 0 ? ['', ...lines] : [])];
}

function welcome(
  { base_url, console_url, temporal_ui_url, twins, demo }: StackFile,
  findings: readonly Finding[],
): string {
  const places: [string, string | null][] = [
    ['base URL', `${base_url}/v1`],
    ['console', console_url],
    ['Temporal UI', temporal_ui_url],
    ['test dollars', twins.chain_control_url],
    [
      'Discord',
      twins.discord_url === null
        ? null
        : `${twins.discord_url}/_twin and ${twins.discord_url}/directories (link, boost, vote)`,
    ],
    ['demo key', demo.api_key],
    ['details', `${shown(dataDir)}/stack.json, ${shown(dataDir)}/logs/`],
  ];
  return [
    '',
    ...headline(findings),
    '',
    ...places.filter(([, value]) => value !== null).map(([name, value]) => `  ${name.padEnd(12)} ${value}`),
    '',
    `  curl ${base_url}/v1/chat/completions \\`,
    `    -H 'authorization: Bearer ${demo.api_key}' \\`,
    "    -H 'content-type: application/json' \\",
    `    -d '{"model": "${demo.model}", "messages": [{"role": "user", "content": "Hello"}]}'`,
    '',
    'Ctrl-C stops everything in order; the next start goes on with the same data and key.',
  ].join('\n');
}

/** As a person in the working directory would write it. */
function shown(path: string): string {
  const short = relative(process.cwd(), path);
  return short === '' || short.startsWith('..') ? path : short;
}

function say(line: string): void {
  const elapsed = ((performance.now() - begin) / 1000).toFixed(1);
  console.log(`[${elapsed.padStart(6)} s] ${line}`);
}
