/**
 * Every kind of posting that SQL makes has an entry in the table of sources: no line of the ledger stays unexplained.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { POSTING_SOURCES } from '../../../db/accounts/postings.ts';
import { createReporter, type Reporter } from '../../../db/shared/reporter.ts';
import { createLedgerDatabase, uuidAt, type LedgerDatabase } from '../../support/ledger-database.ts';

const FUNCTIONS = join(import.meta.dirname, '../../../db/functions');

/**
 * Kinds as they stand in SQL: the first argument of `post_transfer`, literal or by case, and rows inserted directly.
 */
const KIND_PATTERNS = [
  /post_transfer\(\s*'(\w+)'\s*,/g,
  /post_transfer\(\s*case [^']*'\w+' then '(\w+)'/g,
  /post_transfer\(\s*case [^']*'\w+' then '\w+' else '(\w+)'/g,
  /insert into posting[^;]*?select[^;]*?'(\w+)'/g,
];
/** Kinds that are put together: what they begin with. */
const PREFIX_PATTERN = /post_transfer\(\s*'(\w+)'\s*\|\|/g;

/** Each of these is found by one of the patterns, as long as they still match what is written. */
const KNOWN = [
  'charge',
  'adjustment',
  'request_refund',
  'top_up',
  'top_up_reversal',
  'top_up_reversal_undone',
  'voucher',
];

describe('sources of postings', () => {
  let ledger: LedgerDatabase;
  let reporter: Reporter;
  before(async () => {
    ledger = await createLedgerDatabase('postings');
    reporter = createReporter({ url: ledger.database.url, max: 1 });
  });
  after(async () => {
    await reporter.end({ timeout: 5 });
    await ledger.database.drop();
  });

  const sql = globSync('**/*.sql', { cwd: FUNCTIONS })
    .map((file) => readFileSync(join(FUNCTIONS, file), 'utf8'))
    .join('\n');
  const found = (pattern: RegExp): string[] => [...sql.matchAll(pattern)].map(([, kind]) => kind!);

  it('are known for every kind that SQL functions post', () => {
    const kinds = new Set(KIND_PATTERNS.flatMap(found));
    for (const kind of KNOWN) assert.ok(kinds.has(kind), `${kind} is found in SQL`);
    const unknown = [...kinds].filter((kind) => !(kind in POSTING_SOURCES));
    assert.deepEqual(unknown, []);
  });

  it('every family of kinds has a source', () => {
    const families = found(PREFIX_PATTERN);
    const unknown = families.filter((prefix) => !Object.keys(POSTING_SOURCES).some((kind) => kind.startsWith(prefix)));
    assert.deepEqual(unknown, []);
  });

  for (const [kind, { find, ids, page }] of Object.entries(POSTING_SOURCES)) {
    it(`${kind}: can be asked by who may only read, and has the columns that its ids and page name`, async () => {
      const rows = await find(reporter, uuidAt(Date.now()));
      assert.equal(rows.length, 0);
      // The library adds the columns of a result to its rows.
      const columns = (rows as unknown as { columns: { name: string }[] }).columns.map(({ name }) => name);
      const named = [...Object.keys(ids), ...[...(page ?? '').matchAll(/\{(\w+)\}/g)].map(([, column]) => column!)];
      const missing = named.filter((column) => !columns.includes(column));
      assert.deepEqual(missing, []);
    });
  }
});
