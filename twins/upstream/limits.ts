/** Bounds on what a knob may ask for: beyond them a test would fill memory, not prove anything. */

/** A million tokens per choice. */
export const MAX_OUTPUT_TOKENS = 1_000_000;

/** Text that is inserted or repeated. */
export const MAX_INSERTED_CHARACTERS = 64 * 1024 * 1024;
