/**
 * Words that this repository does not use, with the better word: private words for which the field has a term, and
 * phrases that a reader has to decode. Each file of the product, the documents and the tests is read, comments and
 * texts alike.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../../..');
const FILES = [
  '{activities,api,bench,contract,db,docs,doctor,domain,providers,runtime,sandbox,test,twins,worker,workflows}/**/*.{ts,mjs,md,sql}',
  '*.{md,js,mjs}',
];

/**
 * A phrase as a regular expression without its flags, matched in any case unless it begins with a capital; and the
 * better word.
 */
const FORBIDDEN: readonly (readonly [phrase: string, better: string])[] = [
  ['abstain(s|ed)?', 'is silent'],
  ['all the same', 'still, nevertheless'],
  ['anew', 'again'],
  ['by (it|him|them)sel(f|ves)', 'automatically, on its own'],
  ['credits? by hand', 'manual credit'],
  ['desks?', 'the name of the service'],
  ['for ever', 'permanently, without end'],
  ['hand credits?', 'manual credit'],
  ['he|him|his|himself', 'it for software, they for a person'],
  ['heed(s|ed|ing|less)?', 'record, apply, follow'],
  ['kept cards?', 'saved card'],
  ['lanes?', 'queue'],
  ['money by hand', 'manual money movement'],
  ['(provider.?s.?|its|their|our|the) books', 'statement of a provider, ledger'],
  ['One (that|who|which)', 'the noun that it stands for'],
  ['patiently', 'with retries'],
  ['reckon(s|ed|ing)?', 'count, compute'],
  ['tell(s|ing)? of', 'report, show, announce'],
  ['told of', 'reported to, shown'],
  ['who(so)?ever', 'the noun: the caller, the operator, the sender'],
  ['witness(es)?', 'vendor view, source'],
];

/** Files that are read only after their rewriting; the list only ever gets shorter. */
const NOT_READ_YET = ['test/histories/'];

/** Lines that may hold a forbidden phrase: a path or a text that must not change. */
const ALLOWED = [
  // The consent that customers give: its words belong to their version.
  /I allow Holdfast to charge my saved card by itself/,
  // File names of decisions and of the gateway's settle queue.
  /settle-lane\.ts/,
  // A text that recorded histories hold.
  /Boosts and votes that no event told of/,
  // The details of a workflow.
  /credit by hand of 7/,
];

interface Finding {
  readonly line: number;
  readonly found: string;
  readonly better: string;
}

/** The forbidden phrases of a text, also those that a line break divides. */
function findingsIn(text: string): Finding[] {
  // Line breaks with the marks of a comment become blanks of the same length, so that a place in one is a place in the
  // other.
  const joined = text.replaceAll(/\n[ \t]*(?:\*|\/\/|--)?[ \t]*/g, (gap) => ' '.repeat(gap.length));
  const lines = text.split('\n');
  return FORBIDDEN.flatMap(([phrase, better]) => {
    const words = phrase.replaceAll(' ', ' +');
    const flags = /^[A-Z]/.test(phrase) ? 'g' : 'gi';
    const matches = [...joined.matchAll(new RegExp(`(?<![\\w$.#/-])(?:${words})(?![\\w$/-])`, flags))];
    return matches.map(({ index, 0: match }) => {
      const line = text.slice(0, index).split('\n').length;
      return { line, found: match.replaceAll(/ +/g, ' '), better };
    });
  }).filter(({ line }) => !ALLOWED.some((allowed) => allowed.test(lines[line - 1]!)));
}

describe('terms', () => {
  it('the check finds a forbidden phrase, also across the lines of a comment, and names the better word', () => {
    const text = '/**\n * A key is revoked for\n * ever.\n */\nconst anew = 1; // counted Anew\n';
    assert.deepEqual(findingsIn(text), [
      { line: 5, found: 'anew', better: 'again' },
      { line: 5, found: 'Anew', better: 'again' },
      { line: 2, found: 'for ever', better: 'permanently, without end' },
    ]);
  });

  it('the check finds no phrase inside a longer word', () => {
    assert.deepEqual(findingsIn('The planes, the desktop and the eyewitness; kept cardinality.'), []);
  });

  it('no text uses a forbidden phrase', () => {
    const files = globSync(FILES, { cwd: ROOT })
      .filter((file) => !NOT_READ_YET.some((path) => file.startsWith(path)))
      .filter((file) => !file.endsWith('docs/terms.test.ts'))
      .sort();
    const found = files.flatMap((file) =>
      findingsIn(readFileSync(join(ROOT, file), 'utf8')).map(
        ({ line, found: phrase, better }) => `${file}:${line}: "${phrase}", better: ${better}`,
      ),
    );
    assert.deepEqual(found, []);
  });
});
