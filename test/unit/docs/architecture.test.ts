/** The import table of docs/architecture.md is the one that lint enforces. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../../..');

/** Rows of `MAY_IMPORT`, as eslint.config.js has them. */
function enforced(): Map<string, string[]> {
  const text = readFileSync(join(ROOT, 'eslint.config.js'), 'utf8');
  const table = /^const MAY_IMPORT = \{\n([\s\S]*?)^\};/m.exec(text)?.[1] ?? '';
  const rows = [...table.matchAll(/^ {2}(\w+): \[(.*)\],$/gm)];
  return new Map(
    rows.map(([, folder, allowed]) => [folder!, [...allowed!.matchAll(/'([^']+)'/g)].map(([, name]) => name!)]),
  );
}

/** Rows of the document, in the words of lint: `types of `activities/`` is `activities (types)`. */
function documented(): Map<string, string[]> {
  const text = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
  const section = /^## Folders and imports\n([\s\S]*?)^What each folder is for/m.exec(text)?.[1] ?? '';
  const rows = [...section.matchAll(/^- `(\w+)\/`: (.*)$/gm)];
  return new Map(
    rows.map(([, folder, allowed]) => [
      folder!,
      [...allowed!.matchAll(/(types of )?`([\w/]+?)\/?`/g)].map(
        ([, types, name]) => name! + (types === undefined ? '' : ' (types)'),
      ),
    ]),
  );
}

describe('docs/architecture.md', () => {
  it('shows the import table that lint enforces', () => {
    assert.ok(enforced().size >= 11, 'the table is found in eslint.config.js');
    assert.deepEqual(documented(), enforced());
  });
});
