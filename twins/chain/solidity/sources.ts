/** The Solidity sources of this folder, and the hash that ties the compiled `artifacts.json` to them. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** File name → text, in order of the names. */
export function contractSources(): ReadonlyMap<string, string> {
  const files = readdirSync(import.meta.dirname).filter((file) => file.endsWith('.sol'));
  return new Map(files.sort().map((file) => [file, readFileSync(join(import.meta.dirname, file), 'utf8')]));
}

export function sourcesSha256(sources: ReadonlyMap<string, string>): string {
  return createHash('sha256')
    .update(JSON.stringify([...sources]))
    .digest('hex');
}
