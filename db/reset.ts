/**
 * `npm run db:reset -- <database>`: removes everything of ours from the database of `DATABASE_URL`, rows included, and migrates it again.
 * For development: its caller says the database's name as well, so that a forgotten variable removes nothing.
 */
import pg from 'pg';
import { migrate } from './migrate.ts';

const url = process.env['DATABASE_URL'] ?? '';
const name = url === '' ? '' : decodeURIComponent(new URL(url).pathname.slice(1));
if (name === '' || process.argv[2] !== name) {
  console.error(
    name === ''
      ? 'DATABASE_URL is not set: it names the database to reset, as a login that may create roles and tables. The database of a sandbox ' +
          'is reset by npm run sandbox:reset.'
      : `This removes every row of the database ${name}. If that is meant: npm run db:reset -- ${name}`,
  );
  process.exit(1);
}

const client = new pg.Client({ connectionString: url });
await client.connect();
try {
  await client.query('begin; drop schema if exists holdfast cascade; drop table if exists public.migration; commit');
} finally {
  await client.end();
}
await migrate(url, (line) => console.error(line));
console.log(`${name} is empty and up to date`);
