/**
 * The examples of docs/ledger.md are run as they stand there, in their order, on a database of their own, and their
 * output is compared with the document's. Every kind of posting has an example, and every rule of `violations` is
 * named: the document cannot fall behind.
 *
 * The blocks are input of psql; of its own commands `\gset` and `\pset` are understood here, and `:'name'` as a quoted
 * variable.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { POSTING_SOURCES } from '../../db/accounts/postings.ts';
import { createLedgerDatabase, type LedgerDatabase } from '../support/ledger-database.ts';

const DOCUMENT = readFileSync(join(import.meta.dirname, '../../docs/ledger.md'), 'utf8');

interface Example {
  /** The heading above it. */
  readonly heading: string;
  readonly sql: string;
  /** What psql prints for its last statement; null for a block that only prepares. */
  readonly output: string | null;
}

function examplesOf(document: string): Example[] {
  const blocks = [...document.matchAll(/^#{2,3} (.+)$|^```sql\n([\s\S]*?)^```\n(?:\n```text\n([\s\S]*?)\n```$)?/gm)];
  let heading = '';
  return blocks.flatMap(([, found, sql, output]) => {
    if (found !== undefined) heading = found;
    return sql === undefined ? [] : [{ heading, sql, output: output ?? null }];
  });
}

/** Runs a block; returns what psql prints for its last statement in the format `unaligned`, without a footer. */
async function run(client: pg.PoolClient, sql: string, variables: Map<string, string>): Promise<string> {
  let printed = '';
  const statements = sql
    .split('\n')
    .filter((line) => !line.startsWith('\\pset '))
    .join('\n')
    .split(/(?<=;|\\gset)\n/)
    .filter((text) => text.trim() !== '');
  for (const text of statements) {
    const keeps = text.endsWith('\\gset');
    const statement = text
      .replace(/(?:;|\\gset)\n?$/, '')
      .replaceAll(/:'(\w+)'/g, (_, name: string) => pg.escapeLiteral(required(variables, name)));
    // As text, as psql gets it.
    const result = await client.query<(string | null)[]>({ text: statement, rowMode: 'array', types: AS_TEXT });
    const names = result.fields.map(({ name }) => name);
    if (keeps) {
      assert.equal(result.rows.length, 1, `one row for \\gset: ${text}`);
      names.forEach((name, index) => variables.set(name, result.rows[0]![index] ?? ''));
    } else {
      printed = [names, ...result.rows].map((row) => row.map((value) => value ?? '').join('|')).join('\n');
    }
  }
  return printed;
}

const AS_TEXT = { getTypeParser: () => (text: string) => text } as unknown as pg.CustomTypesConfig;

function required(variables: ReadonlyMap<string, string>, name: string): string {
  const value = variables.get(name);
  assert.ok(value !== undefined, `the variable ${name} was set before`);
  return value;
}

describe('docs/ledger.md', () => {
  const examples = examplesOf(DOCUMENT);
  const variables = new Map<string, string>();
  let ledger: LedgerDatabase;
  let client: pg.PoolClient;

  before(async () => {
    ledger = await createLedgerDatabase('ledger_examples');
    client = await ledger.admin.connect();
  });
  after(async () => {
    client.release();
    await ledger.database.drop();
  });

  examples.forEach(({ heading, sql, output }, index) => {
    it(`example ${index + 1}, ${heading}: prints what the document says`, async () => {
      const printed = await run(client, sql, variables);
      if (output !== null) assert.equal(printed, output);
    });
  });

  it('every kind of posting has a heading and an example that posts it', () => {
    const missing = Object.keys(POSTING_SOURCES).filter(
      (kind) => !examples.some(({ heading, output }) => heading === kind && output?.includes(`${kind}|`) === true),
    );
    assert.deepEqual(missing, []);
  });

  it('every system account is named', async () => {
    const { rows } = await ledger.admin.query<{ name: string }>("select name from account where kind = 'system'");
    const missing = rows.filter(({ name }) => !DOCUMENT.includes(`\`${name}\``));
    assert.deepEqual(missing, []);
  });

  it('names every rule of the view violations, and no other', async () => {
    const { rows } = await ledger.admin.query<{ sql: string }>("select pg_get_viewdef('violations') as sql");
    const rules = [...rows[0]!.sql.matchAll(/select '([a-z_]+)'::text/gi)].map(([, rule]) => rule!);
    const listed = DOCUMENT.slice(DOCUMENT.indexOf('Its rules, by what they protect'));
    const named = [...listed.matchAll(/`([a-z_]+)`/g)].map(([, rule]) => rule!);
    assert.ok(rules.length > 50, 'the rules are found in the view');
    assert.deepEqual(named.sort(), rules.sort());
  });
});
