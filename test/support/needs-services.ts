/**
 * Which test files need PostgreSQL or Temporal: those that come to test/support/services.ts by what they import. Files
 * that do not are told apart by it, so that they run without waiting for a service.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');
const SERVICES = 'test/support/services.ts';
/** Imports and re-exports of files of the project; types leave nothing behind at run time. */
const IMPORTS = /^(?:import|export)\b(?! type\b)[^;'"]*?'(\.[^']+\.ts)'/gm;

const answers = new Map<string, boolean>([[SERVICES, true]]);

/** Whether a file, named from the repository's root, needs the services. */
export function needsServices(file: string): boolean {
  const known = answers.get(file);
  if (known !== undefined) return known;
  // A circle of imports leads no further than its own files.
  answers.set(file, false);
  const text = readFileSync(join(ROOT, file), 'utf8');
  const imported = [...text.matchAll(IMPORTS)].map(([, path = '']) => join(dirname(file), path));
  const answer = imported.some(needsServices);
  answers.set(file, answer);
  return answer;
}
