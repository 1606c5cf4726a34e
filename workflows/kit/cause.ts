/** Why something failed. Temporal wraps the error of an activity in one of its own, whose message says nothing. */

/** The error that an activity threw; any other error is returned as it is. */
export function rootCause(error: unknown): unknown {
  return error instanceof Error && error.cause instanceof Error ? error.cause : error;
}

/** The message of that error, for operators. */
export function causeOf(error: unknown): string {
  const cause = rootCause(error);
  return cause instanceof Error ? cause.message : String(cause);
}
