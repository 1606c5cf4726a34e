/**
 * A model provider's failure in one request, as staff read it on the request's row, in logs and in metrics. Customers
 * never see it: what they are told is a refusal. Holds no key and no text of the customer's (the gateway cuts
 * quotations out of `message` before it is put here).
 */

/** Each kind with what it means; operators filter and alarm by the names. */
export const UPSTREAM_KINDS = {
  not_configured: 'the configuration lets nothing be sent there, or has no usable key for it: nothing was sent',
  unreachable: 'no connection could be made: nothing was sent',
  broken: 'the connection ended before the answer did',
  timeout: 'the answer did not end in time',
  credentials: 'the provider refused our key or what it may do (401, 403)',
  billing: 'our account at the provider has no money or no quota left (402, or a code that says so)',
  rate_limited: 'the provider has too many requests of ours (429)',
  moderation: 'the provider refused the content',
  rejected: 'the provider refused the request for another reason that lies in it',
  unknown_model: "the provider does not know the model's name of the catalogue",
  wrong_path: 'nothing that speaks this interface is at the base URL (3xx, 404, 405)',
  failed: 'the provider failed (5xx), or sent an error inside an answer',
  unreadable: 'the answer is not what its interface promises',
  empty: 'the answer had no content',
  fallback: 'a plain answer, but of another upstream than the first of the model',
} as const;

export type UpstreamKind = keyof typeof UPSTREAM_KINDS;

export const UPSTREAM_KIND_NAMES = Object.keys(UPSTREAM_KINDS) as UpstreamKind[];

/** A problem as the provider's answer shows it, whichever upstream it came from. */
export interface UpstreamProblem {
  readonly kind: UpstreamKind;
  /** HTTP status of the answer; null where none came. */
  readonly status: number | null;
  /** The provider's own code or type; null when it sent none. */
  readonly code: string | null;
  /** The provider's own words, at most 200 characters; or ours where the provider had none. */
  readonly message: string | null;
}

/** A problem with the upstream that had it. */
export interface UpstreamEvidence extends UpstreamProblem {
  /** The upstream's place among those of the model, from 1, and its host: `2:api.example.com`. */
  readonly name: string;
}
