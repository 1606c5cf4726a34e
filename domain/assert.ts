/**
 * The two ways to state a broken invariant. A failed assertion is a bug: it fails the request or
 * activity it happens in, or parks the workflow task until a fix is deployed, and is never caught to continue.
 */

/** Throws when `condition` is false. The message names the invariant, not the symptom. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`invariant broken: ${message}`);
}

/** Ends an exhaustive `switch`: a new member of the union does not compile until it is handled. */
export function assertNever(value: never, what: string): never {
  throw new Error(`invariant broken: unexpected ${what} ${JSON.stringify(value)}`);
}
