/**
 * The import rules as a guard: each of them fires. A small tree of files is written to a temporary folder and cruised
 * with the project's own rules.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cruise, type ICruiseResult } from 'dependency-cruiser';
import rules, { MAY_IMPORT } from '../../import-rules.ts';

type Files = Readonly<Record<string, string>>;

const FOLDERS = Object.keys(MAY_IMPORT);

function importing(path: string): string {
  return `import { value } from '${path}';\nexport const used = value;\n`;
}

function importingType(path: string): string {
  return `import type { Value } from '${path}';\nexport type Used = Value;\n`;
}

/** Names of the rules that these files break. */
async function broken(files: Files): Promise<string[]> {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-imports-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(folder, dirname(path)), { recursive: true });
      writeFileSync(join(folder, path), text);
    }
    const roots = [...new Set(Object.keys(files).map((path) => path.split('/', 1)[0]!))];
    const { output } = await cruise(roots, {
      tsPreCompilationDeps: true,
      doNotFollow: { path: 'node_modules' },
      baseDir: folder,
      validate: true,
      ruleSet: { forbidden: rules.forbidden ?? [] },
    });
    const { violations } = (output as ICruiseResult).summary;
    return [...new Set(violations.map(({ rule }) => rule.name))].sort();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('the import table', () => {
  for (const folder of FOLDERS) {
    const allowed = MAY_IMPORT[folder] ?? [];
    for (const other of [...FOLDERS, 'test']) {
      if (other === folder) continue;
      const mayImport = allowed.includes(other);
      it(`${folder}/ ${mayImport ? 'may' : 'must not'} import ${other}/`, async () => {
        const rulesBroken = await broken({
          [`${folder}/a.ts`]: importing(`../${other}/b.ts`),
          [`${other}/b.ts`]: 'export const value = 1;\n',
        });
        // Where types are allowed, a rule of its own says so.
        const isTyped = allowed.includes(`${other} (types)`);
        const rule = isTyped ? `${folder}-imports-only-types-of-${other}` : `imports-of-${folder}`;
        assert.equal(rulesBroken.includes(rule), !mayImport, rulesBroken.join(', '));
      });
    }
  }

  it('workflows/ may import types of activities/', async () => {
    const files = {
      'workflows/a.ts': importingType('../activities/b.ts'),
      'activities/b.ts': 'export type Value = 1;\n',
    };
    assert.deepEqual(await broken(files), []);
  });

  it('doctor/main.ts may import the configuration of the api, and nothing else of it', async () => {
    const value = 'export const value = 1;\n';
    const config = { 'doctor/main.ts': importing('../api/config.ts'), 'api/config.ts': value };
    assert.deepEqual(await broken(config), []);
    const other = { 'doctor/main.ts': importing('../api/other.ts'), 'api/other.ts': value };
    assert.deepEqual(await broken(other), ['imports-of-doctor-main']);
  });
});

describe('rules for packages', () => {
  const PACKAGES: readonly [file: string, specifier: string, rule: string | null][] = [
    ['domain/a.ts', 'pg', 'domain-imports-no-package'],
    ['domain/a.ts', 'node:crypto', 'domain-imports-no-package'],
    ['workflows/index.ts', 'pg', 'workflows-import-no-package'],
    ['workflows/index.ts', 'node:crypto', 'workflows-import-no-package'],
    ['workflows/index.ts', '@temporalio/client', 'workflows-import-no-package'],
    ['workflows/index.ts', '@temporalio/workflow', null],
    ['contract/index.ts', '@temporalio/client', 'workflows-import-no-package'],
    ['contract/index.ts', '@temporalio/common', null],
    ['db/migrate.ts', 'zod', 'zod-belongs-to-the-edges'],
    ['api/main.ts', 'zod', null],
    ['api/main.ts', 'ethers', 'api-loads-no-client-of-a-provider'],
    ['api/main.ts', 'creem', 'api-loads-no-client-of-a-provider'],
  ];
  for (const [file, specifier, rule] of PACKAGES) {
    it(`${file} ${rule === null ? 'may' : 'must not'} import ${specifier}`, async () => {
      const packages = specifier.startsWith('node:')
        ? {}
        : {
            [`node_modules/${specifier}/package.json`]: JSON.stringify({ name: specifier, main: 'index.js' }),
            [`node_modules/${specifier}/index.js`]: 'exports.value = 1;\n',
          };
      const found = await broken({ [file]: importing(specifier), ...packages });
      assert.deepEqual(found, rule === null ? [] : [rule]);
    });
  }

  it('the api must not reach the client of a provider through another file either', async () => {
    const found = await broken({
      'api/main.ts': importing('../providers/chain/wallet.ts'),
      'providers/chain/wallet.ts': importing('ethers'),
      'node_modules/ethers/package.json': JSON.stringify({ name: 'ethers', main: 'index.js' }),
      'node_modules/ethers/index.js': 'exports.value = 1;\n',
    });
    assert.deepEqual(found, ['api-loads-no-client-of-a-provider']);
  });
});

describe('the shape of the tree', () => {
  it('a circle is reported, also one of types alone', async () => {
    const files = { 'db/a.ts': importingType('./b.ts'), 'db/b.ts': importingType('./a.ts') };
    assert.deepEqual(await broken(files), ['no-circle']);
  });

  it('a file that imports nothing and that nothing imports is reported', async () => {
    assert.deepEqual(await broken({ 'db/alone.ts': 'export const value = 1;\n' }), ['no-orphan']);
  });

  it('a program that is started by name is no orphan', async () => {
    assert.deepEqual(await broken({ 'worker/main.ts': 'console.log(1);\n' }), []);
  });
});
