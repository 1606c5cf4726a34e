/**
 * The documents as signposts: every path of the repository that README.md, CHANGELOG.md or docs/*.md names is there,
 * every link leads somewhere, and every `file: function` of docs/lives.md is defined in that file. A document that
 * sends its reader to a file that was moved is worse than none.
 */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../../..');
const DOCUMENTS = ['README.md', 'CHANGELOG.md', ...globSync('docs/*.md', { cwd: ROOT }).sort()];

const textOf = (document: string): string => readFileSync(join(ROOT, document), 'utf8');

/** Folders that Git ignores: what is in them is nobody's promise. */
const IGNORED = ['.holdfast', 'node_modules', '.env'];
const FILE_NAME = /\.(?:ts|js|mjs|sql|md|json|yml|sol|png)$/;
/** Files that a running program makes: named, and not part of the repository. */
const MADE_BY_PROGRAMS = ['stack.json', 'twin/chain/operator-wallet.json', 'bench/results/'];

const fileNames = new Set(
  globSync('**/*', { cwd: ROOT, exclude: (name) => IGNORED.includes(basename(name)) }).map((path) => basename(path)),
);
/** How a path begins: with a folder of the repository, or of test/, below which docs/scenarios.md names tests. */
const firstFolders = new Set(globSync(['*/', 'test/*/'], { cwd: ROOT }).map((path) => basename(path)));

/** Text in backticks, without fenced blocks: those show input and output of programs. */
function codeSpans(text: string): string[] {
  const prose = text.replaceAll(/^ *```[\s\S]*?^ *```/gm, '');
  return [...prose.matchAll(/`([^`\n]+)`/g)].map(([, span]) => span!);
}

/**
 * The path that a code span names: `db/shared/batch-queue.ts`, `db/shared/batch-queue.ts: submit`, `domain/`, the test
 * `db/shared/batch-queue`; null when it names none.
 */
function pathIn(span: string): string | null {
  const path = span.split(': ', 1)[0]!;
  if (!/^\.?\w[\w./*-]*$/.test(path) || path.startsWith('/')) return null;
  const first = path.split('/', 1)[0]!;
  if (IGNORED.includes(first)) return null;
  const isPath = path.includes('/') && firstFolders.has(first);
  return isPath || FILE_NAME.test(path) ? path : null;
}

function isThere(path: string): boolean {
  if (path.includes('*')) return globSync(path, { cwd: ROOT }).length > 0;
  if (MADE_BY_PROGRAMS.includes(path)) return true;
  if ([path, `${path}.ts`, `test/${path}`, `test/${path}.test.ts`].some((file) => existsSync(join(ROOT, file))))
    return true;
  // A file that is named without its folder.
  return !path.includes('/') && fileNames.has(path);
}

/** The anchors of a document's headings, as GitHub makes them. */
function anchorsOf(document: string): Set<string> {
  const headings = [...textOf(document).matchAll(/^#{1,6} (.+)$/gm)].map(([, heading]) => heading!);
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

describe('paths that documents name', () => {
  for (const document of DOCUMENTS) {
    it(`every path that ${document} names exists`, () => {
      const named = codeSpans(textOf(document)).flatMap((span) => pathIn(span) ?? []);
      assert.deepEqual(
        named.filter((path) => !isThere(path)),
        [],
      );
    });

    it(`every link of ${document} leads to a file and a heading that exist`, () => {
      const targets = [...textOf(document).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
      const broken = targets.filter((target) => {
        if (/^https?:/.test(target)) return false;
        const [path = '', anchor] = target.split('#', 2);
        const file = path === '' ? document : join(dirname(document), path);
        if (!existsSync(join(ROOT, file))) return true;
        return anchor !== undefined && !anchorsOf(file).has(anchor);
      });
      assert.deepEqual(broken, []);
    });
  }

  it('the check itself finds a path and a function that do not exist', () => {
    assert.equal(pathIn('db/no-such-file.ts: run'), 'db/no-such-file.ts');
    assert.equal(isThere('db/no-such-file.ts'), false);
    assert.equal(isThere('no-such-file.ts'), false);
    assert.equal(pathIn('top-up/<id>'), null);
    assert.equal(isDefined('db/shared/batch-queue.ts', 'noSuchFunction'), false);
    // A call is no definition.
    assert.equal(isDefined('workflows/requests/meter-requests.ts', 'startFollowUps'), false);
  });
});

/** Whether a file defines a function, method, class, constant, or a function, trigger or view of SQL. */
function isDefined(file: string, name: string): boolean {
  const text = textOf(file);
  const [member, owner] = name.split('.').reverse() as [string, string?];
  if (owner !== undefined && !new RegExp(`^(?:export )?(?:abstract )?class ${owner}\\b`, 'm').test(text)) return false;
  const definitions = file.endsWith('.sql')
    ? [`^create (?:function|view|trigger) ${member}\\b`]
    : [
        `\\bfunction\\*? ${member}\\b`,
        `^(?:export )?(?:const|class) ${member}\\b`,
        // A method of a class or of an object: what opens a body, or an arrow function as a property.
        `^ +(?:async |static |get )*#?${member}(?:<[^>]*>)?\\((?:[^;]*\\)(?:: [^;=]+)? \\{)?$`,
        `^ +${member}: (?:async )?\\(`,
      ];
  return definitions.some((definition) => new RegExp(definition, 'm').test(text));
}

describe('docs/lives.md', () => {
  const lives = textOf('docs/lives.md').split(/^## /m).slice(1);

  it('docs/lives.md has the five lives', () => {
    const names = lives.map((life) => life.split('\n', 1)[0]);
    assert.deepEqual(names, ['A request', 'A top-up by card', 'A deposit', 'A commission', 'A vote']);
  });

  for (const life of lives) {
    const [name = '', ...rest] = life.split('\n');
    const steps = rest
      .join('\n')
      .split(/^(?=\d+\. )/m)
      .slice(1);

    it(`${name}: each of its steps names functions, and each is defined in the file that is named`, () => {
      assert.ok(steps.length >= 11 && steps.length <= 15, `about twelve steps, not ${steps.length}`);
      const missing: string[] = [];
      for (const step of steps) {
        const places = [...step.matchAll(/`([\w./-]+\.(?:ts|sql)): ([\w.]+)`/g)];
        if (places.length === 0) missing.push(`no place in: ${step.trim()}`);
        for (const [place, file = '', functionName = ''] of places) {
          if (!existsSync(join(ROOT, file)) || !isDefined(file, functionName)) missing.push(place);
        }
      }
      assert.deepEqual(missing, []);
    });
  }
});
