/**
 * The linter as a guard: the rules that protect money and determinism really fire. Each snippet is
 * linted under the name of a file that does not exist, with the project's own configuration.
 */
import assert from 'node:assert/strict';
import { dirname, join, resolve } from 'node:path';
import { ESLint } from 'eslint';
import ts from 'typescript';

const ROOT = resolve(import.meta.dirname, '../..');

interface Snippet {
  /** Folder in which the snippet stands, or the file itself. */
  readonly at: string;
  readonly code: string;
  /** Said instead of the snippet's first line, where that does not show the point. */
  readonly what?: string;
  /** The rule that fires, without the plugin's name; null where none may. */
  readonly rule: string | null;
}

const SNIPPETS: readonly Snippet[] = [
  {
    at: 'workflows',
    code: "import { type SettlementActivities } from '../activities/requests/settlement.ts';\nexport type Used = SettlementActivities;\n",
    rule: 'no-import-type-side-effects',
  },
  {
    at: 'workflows',
    code: "import type { SettlementActivities } from '../activities/requests/settlement.ts';\nexport type Used = SettlementActivities;\n",
    rule: null,
  },
  {
    at: 'activities',
    what: 'a promise that nobody waits for',
    code: 'declare function settle(): Promise<void>;\nexport function forget(): void {\n  settle();\n}\n',
    rule: 'no-floating-promises',
  },
  {
    at: 'workflows',
    what: 'a timer that nobody waits for',
    code: "import { sleep } from '@temporalio/workflow';\nexport async function hurry(): Promise<void> {\n  sleep(1000);\n}\n",
    rule: 'no-floating-promises',
  },
  {
    at: 'db',
    what: 'a switch that misses a state',
    code: `import type { RequestState } from '../domain/requests/request.ts';
export function isOpen(state: RequestState): boolean {
  switch (state) {
    case 'held':
    case 'finished':
      return true;
    case 'released':
      return false;
  }
  return false;
}
`,
    rule: 'switch-exhaustiveness-check',
  },
  { at: 'domain', code: 'export const read = (value: any): unknown => value;\n', rule: 'no-explicit-any' },
  {
    at: 'db',
    what: 'a type imported as a value',
    code: "import { PicoUsd } from '../domain/money.ts';\nexport type Amount = PicoUsd;\n",
    rule: 'consistent-type-imports',
  },
];

describe('the linter', function () {
  // The first snippet waits for the types of all.
  this.timeout(60_000);
  const files = SNIPPETS.map(({ at }, index) =>
    join(ROOT, at.endsWith('.ts') ? at : join(at, `lint-snippet-${index}.ts`)),
  );
  let eslint: ESLint;

  before(() => {
    const programs = [programOf(new Map(SNIPPETS.map(({ code }, index) => [files[index]!, code])))];
    eslint = new ESLint({ cwd: ROOT, overrideConfig: [{ languageOptions: { parserOptions: { programs } } }] });
  });

  for (const [index, { at, code, rule, what = `\`${code.slice(0, code.indexOf('\n'))}\`` }] of SNIPPETS.entries()) {
    it(`${rule === null ? 'allows' : `reports ${rule} for`} ${what} in ${at}`, async () => {
      const [result] = await eslint.lintText(code, { filePath: files[index]! });
      const fired = new Set(result?.messages.map(({ ruleId }) => ruleId));
      assert.deepEqual([...fired], rule === null ? [] : [`@typescript-eslint/${rule}`]);
    });
  }
});

/** A program of the given files, as if they stood in the project. */
function programOf(texts: ReadonlyMap<string, string>): ts.Program {
  const configPath = join(ROOT, 'tsconfig.json');
  const { config } = ts.readConfigFile(configPath, (path) => ts.sys.readFile(path)) as { config: unknown };
  const { options } = ts.parseJsonConfigFileContent(
    config,
    { ...ts.sys, readDirectory: () => [] },
    ROOT,
    {},
    configPath,
  );
  const disk = ts.createCompilerHost(options, true);
  const folders = new Set([...texts.keys()].map((path) => dirname(path)));
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (path) => texts.has(path) || disk.fileExists(path),
    readFile: (path) => texts.get(path) ?? disk.readFile(path),
    directoryExists: (path) => folders.has(path) || ts.sys.directoryExists(path),
    getSourceFile: (path, version, ...rest) => {
      const text = texts.get(path);
      return text === undefined
        ? disk.getSourceFile(path, version, ...rest)
        : ts.createSourceFile(path, text, version, true, ts.ScriptKind.TS);
    },
  };
  return ts.createProgram([...texts.keys()], options, host);
}
