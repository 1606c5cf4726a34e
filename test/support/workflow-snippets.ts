/**
 * Source files outside the project that can import it and its packages, for seeing what compiler and bundler say to
 * them.
 */
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../..');

export interface SnippetFolder {
  /** Writes a file and returns its path. Imports that begin with `#/` are of the project. */
  write(name: string, code: string): string;
  remove(): void;
}

export function makeSnippetFolder(): SnippetFolder {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-snippets-'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), '{"type":"module"}');
  return {
    write(name, code) {
      const path = join(folder, name);
      writeFileSync(path, code.replaceAll("'#/", `'${ROOT}/`));
      return path;
    },
    remove: () => rmSync(folder, { recursive: true }),
  };
}
