/** The import table of docs/architecture.md is the one that `npm run check` enforces. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MAY_IMPORT } from '../../../import-rules.ts';

const ROOT = join(import.meta.dirname, '../../..');

/** Rows of the document, in the words of the rules: `types of `activities/`` is `activities (types)`. */
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

describe('the import table', () => {
  it('docs/architecture.md shows the import table that is enforced', () => {
    assert.deepEqual(documented(), new Map(Object.entries(MAY_IMPORT)));
  });
});
