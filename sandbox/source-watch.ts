/** Which parts of a stack have to start again because a source file of theirs has changed, for `npm run dev`. */
import { watch } from 'node:fs';
import { join } from 'node:path';

/** What each part is made of. */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  api: ['domain', 'contract', 'runtime', 'db', 'providers', 'api'],
  worker: ['domain', 'contract', 'runtime', 'db', 'providers', 'activities', 'workflows', 'doctor', 'worker'],
};
/** An editor writes a file in several steps, and a change of branch touches many files. */
const QUIET_MS = 300;

/**
 * Calls `changed` once for each part after its sources have been quiet for a moment. Returns how to end the watching.
 */
export function watchSources(root: string, changed: (part: string) => void): () => void {
  const timers = new Map<string, NodeJS.Timeout>();
  const touch = (folder: string): void => {
    for (const [part, folders] of Object.entries(SOURCES)) {
      if (!folders.includes(folder)) continue;
      clearTimeout(timers.get(part));
      timers.set(
        part,
        setTimeout(() => changed(part), QUIET_MS),
      );
    }
  };
  const watchers = [...new Set(Object.values(SOURCES).flat())].map((folder) =>
    watch(join(root, folder), { recursive: true }, (_, file) => {
      if (file === null || file.endsWith('.ts')) touch(folder);
    }),
  );
  return () => {
    for (const watcher of watchers) watcher.close();
    for (const timer of timers.values()) clearTimeout(timer);
  };
}
