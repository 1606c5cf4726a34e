/**
 * Unused code as a guard: with the project's own settings, knip reports an export, a file and a package that nobody
 * uses. A small project is written to a temporary folder and read with them.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');

/** What knip says of these files, beside one program that uses `api/used.ts`; empty when nothing is wrong. */
function reported(
  files: Readonly<Record<string, string>>,
  dependencies: Readonly<Record<string, string>> = {},
): string {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-unused-'));
  try {
    const all = {
      'api/main.ts': "import { used } from './used.ts';\nconsole.log(used);\n",
      'api/used.ts': 'export const used = 1;\n',
      'package.json': JSON.stringify({ name: 'small', type: 'module', dependencies }),
      ...files,
    };
    for (const [path, text] of Object.entries(all)) {
      mkdirSync(join(folder, dirname(path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    cpSync(join(ROOT, 'knip.json'), join(folder, 'knip.json'));
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [join(ROOT, 'node_modules/knip/bin/knip.js'), '--no-progress', '--no-config-hints', '--directory', folder],
      { encoding: 'utf8' },
    );
    assert.ok(status === 0 || status === 1, stderr);
    return status === 0 ? '' : stdout;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('unused code', function () {
  this.timeout(30_000);

  it('a project without any is passed', () => {
    assert.equal(reported({}), '');
  });

  it('an export that no file imports is reported', () => {
    const said = reported({ 'api/used.ts': 'export const used = 1;\nexport const nobodys = 2;\n' });
    assert.match(said, /Unused exports[\s\S]*nobodys/);
  });

  it('a type that no file imports is reported', () => {
    const said = reported({ 'api/used.ts': 'export const used = 1;\nexport type Nobodys = 2;\n' });
    assert.match(said, /Unused exported types[\s\S]*Nobodys/);
  });

  it('a file that no program reaches is reported', () => {
    assert.match(reported({ 'db/lonely.ts': 'export const lonely = 1;\n' }), /Unused files[\s\S]*db\/lonely\.ts/);
  });

  it('a package that no file imports is reported', () => {
    assert.match(reported({}, { 'left-pad': '1.3.0' }), /Unused dependencies[\s\S]*left-pad/);
  });

  it('a package that is imported and not listed is reported', () => {
    const said = reported({ 'api/used.ts': "import pad from 'left-pad';\nexport const used = pad;\n" });
    assert.match(said, /Unlisted dependencies[\s\S]*left-pad/);
  });
});
