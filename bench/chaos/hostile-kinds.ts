/** Kinds of attacks of hostile accounts, and the messages between the run and their process. */

export const HOSTILE_KINDS = {
  bodies: 'bodies of 10 MB full of numbers',
  'long numbers': 'bodies of 2 MB full of numbers beyond 2^53',
  sockets: 'sockets that announce 10 MB and send nothing',
  'slow bodies': 'bodies that come a byte at a time',
  tokens: 'wrong API keys and wrong management tokens',
  'look-ups': 'credits, keys and requests looked up without end',
  'free models': 'free models with as many and as long answers as can be asked for',
} as const;
export type HostileKind = keyof typeof HOSTILE_KINDS;

/** The parent's message: target, account and kind of attack; null ends the present attack. */
export interface HostileOrder {
  readonly gatewayUrl: string;
  /** Keys of accounts without money. */
  readonly secrets: readonly string[];
  readonly kind: HostileKind | null;
}

/** The report to the parent when a kind has ended. */
export interface HostileReport {
  readonly sent: number;
  readonly statuses: Readonly<Record<string, number>>;
}
