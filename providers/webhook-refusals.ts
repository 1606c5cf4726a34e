/**
 * Why a webhook is refused, as codes: for the sender's answer, the log, the metric and the operator who looks for the
 * cause. A code tells apart what a person mends in different places; what only a stranger can be is one code.
 */

/** The advice for each, in one line. `{provider}` stands for the sender. */
export const WEBHOOK_REFUSAL_CURES = {
  no_signature:
    'a call without a signature: a stranger, or a proxy that drops headers on the way to {provider}’s webhook',
  malformed_signature:
    'the signature headers have not the form of {provider}: another kind of webhook was set up, or a proxy changes headers',
  wrong_secret:
    'no configured secret fits: copy the signing secret of this very endpoint from {provider}, or stop what changes bodies on the way',
  clock: 'the clocks differ by more than five minutes: let the machine keep its time by NTP',
  other_mode:
    'an event of the other mode: set up the endpoint at {provider} in the mode of the key, and give it the secret of that endpoint',
  thin_event: 'thin events hold no object: set up the endpoint at {provider} for snapshot events',
  unreadable: 'signed by {provider}, but no event as it documents them: look at the API version of the endpoint',
  too_large: 'a body above the limit, which no event of {provider} reaches',
  not_received: 'the body did not arrive whole in time: look at the connection and at proxies before the api',
  not_configured:
    'nothing is configured for this endpoint: set its variables, correct its address at the provider, or remove it there',
} as const;

export type WebhookRefusalReason = keyof typeof WEBHOOK_REFUSAL_CURES;

/** Advice for a reason of a provider's; null for an unknown reason. */
export function webhookCureOf(provider: string, reason: string): string | null {
  const cure = Object.entries(WEBHOOK_REFUSAL_CURES).find(([known]) => known === reason)?.[1];
  return cure?.replaceAll('{provider}', provider) ?? null;
}

export interface WebhookRefusal {
  readonly reason: WebhookRefusalReason;
  /** The details in words, without anything of the body or of a secret. */
  readonly detail?: string;
}

/** Reasons that a sender without a secret can cause: such a call counts as a failed authentication. */
const FORGED: readonly WebhookRefusalReason[] = ['no_signature', 'malformed_signature', 'wrong_secret'];

export function isForged({ reason }: WebhookRefusal): boolean {
  return FORGED.includes(reason);
}

/** How far the time of a signature may lie from ours, in either direction. */
const TOLERANCE_SECONDS = 300;

/** The refusal of a genuine signature that was made too long ago, or too far ahead; null where the clocks agree. */
export function clockRefusal(signedSeconds: number, at: Date = new Date()): WebhookRefusal | null {
  const ahead = Math.round(signedSeconds - at.getTime() / 1000);
  if (Math.abs(ahead) <= TOLERANCE_SECONDS) return null;
  return { reason: 'clock', detail: `signed ${Math.abs(ahead)} s ${ahead > 0 ? 'ahead of' : 'before'} our time` };
}
