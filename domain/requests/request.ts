/**
 * The life of a metered request: `held → finished → charged | released`, and what each outcome means for money.
 * One row in SQL carries it (`db/migrations/0004_requests.sql`), the same row is the customer's log line.
 */

export const REQUEST_STATES = ['held', 'finished', 'charged', 'released'] as const;
export type RequestState = (typeof REQUEST_STATES)[number];

interface OutcomeRow {
  /** Whether the customer pays. An unbilled outcome always ends `released` with cost 0. */
  readonly billed: boolean;
  readonly meaning: string;
}

export const OUTCOMES = {
  completed: { billed: true, meaning: 'the upstream ended its answer, also when the client had left by then' },
  client_disconnected: { billed: true, meaning: 'the client left and the answer was cut; what was produced is paid' },
  cut_by_limit: { billed: true, meaning: 'key or account could not extend the hold; what was delivered is paid' },
  cut_by_time: {
    billed: true,
    meaning: 'the time of the request ended while the answer was flowing; what was delivered is paid',
  },
  upstream_error: { billed: false, meaning: 'the upstream refused, broke or answered nonsense' },
  upstream_timeout: { billed: false, meaning: 'the upstream did not end in time' },
  empty_completion: { billed: false, meaning: 'the upstream ended without any content' },
  orphaned: { billed: false, meaning: 'cut by our own fault: gateway gone, hold unknown, or shutdown' },
  refused: { billed: false, meaning: 'refused before the upstream was called' },
} as const satisfies Record<string, OutcomeRow>;

export type Outcome = keyof typeof OUTCOMES;

/** The ends that a gateway can report for a held request. */
export type FinishOutcome = Exclude<Outcome, 'refused'>;

export function isBilled(outcome: Outcome): boolean {
  return OUTCOMES[outcome].billed;
}

/** Models whose id ends so never touch the balance: the product's promise, decided by the name alone. */
export const FREE_SUFFIX = ':free';

export function isFreeModel(modelId: string): boolean {
  return modelId.endsWith(FREE_SUFFIX);
}
