/** Ending what a describe block has started, latest first, also when its `before` failed half-way. */

/** Call it inside a `describe`, and hand its result what must be ended after the last test. */
export function endAfterTests(): (end: () => Promise<unknown>) => void {
  const ends: (() => Promise<unknown>)[] = [];
  after(async () => {
    for (const end of ends.toReversed()) await end();
  });
  return (end) => {
    ends.push(end);
  };
}
