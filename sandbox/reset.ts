/**
 * `npm run sandbox:reset`: a sandbox as new. Deletes what the stack of `HOLDFAST_DATA_DIR` (default `.holdfast/`) has stored
 * in PostgreSQL, Temporal and the provider twins; ports and secrets stay, so the next `npm start` prints the same
 * addresses and the same key. Refuses while the stack runs, and leaves a database of `DATABASE_URL` alone: it is not
 * the sandbox's.
 */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { StackLock } from './stack-lock.ts';
import { STACK_PARTS } from './stack.ts';
import { preparePostgresHome } from './postgres-home.ts';
import { ownerOfPostgres } from './postgres.ts';

/** What a start makes once and goes on with. */
const KEPT = ['ports.json', 'secrets.json', 'referral-cookie-key', 'logs', 'run'];

const dataDir = resolve(process.env['HOLDFAST_DATA_DIR'] ?? '.holdfast');
const shown = relative(process.cwd(), dataDir) || dataDir;
if (!existsSync(join(dataDir, 'secrets.json'))) {
  console.log(`${shown} holds no sandbox: nothing to reset.`);
  process.exit(0);
}
const lock = new StackLock(dataDir);
try {
  await lock.take(STACK_PARTS, () => ownerOfPostgres(dataDir));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.error('Stop it first (Ctrl-C where it runs); nothing was deleted.');
  process.exit(1);
}
const deleted = readdirSync(dataDir).filter((name) => !KEPT.includes(name));
// Where the stack runs as root, PostgreSQL may keep its data outside of the data dir.
rmSync(preparePostgresHome(dataDir).dir, { recursive: true, force: true });
for (const name of deleted) rmSync(join(dataDir, name), { recursive: true, force: true });
lock.release();
console.log(
  `Deleted from ${shown}: ${deleted.join(', ') || 'nothing'}. The next npm start begins from nothing, with the same key.`,
);
