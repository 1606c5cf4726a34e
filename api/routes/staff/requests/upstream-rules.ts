/**
 * A model's upstreams against the rules of the configuration: what may not be called is refused when it is written, by
 * its field.
 */
import type { UpstreamRules } from '../../../../providers/upstreams/settings.ts';
import { isFreeModel } from '../../../../domain/requests/request.ts';
import type { UpstreamAddress } from '../../../../domain/requests/upstream-address.ts';
import { invalidField } from '../../../http/errors.ts';

/** Refuses the first upstream that may not be called. */
export function requireUpstreams(rules: UpstreamRules, upstreams: readonly UpstreamAddress[]): void {
  for (const [index, upstream] of upstreams.entries()) {
    const fault = rules.faultOf(upstream);
    if (fault !== null) throw invalidField(`upstreams[${index}].${fault.field}`, fault.message);
  }
}

/**
 * Whether a change sends prompts somewhere else with a provider's key at stake: an address that was not there before.
 * Taking the last key away counts, or the address could be changed in a second step, when none is at stake any more.
 */
export function movesPrompts(before: readonly UpstreamAddress[], after: readonly UpstreamAddress[]): boolean {
  const known = new Set(before.flatMap(placesOf));
  const isMoved = after.flatMap(placesOf).some((place) => !known.has(place));
  return hasKey(before) ? isMoved || !hasKey(after) : isMoved && hasKey(after);
}

function placesOf({ base_url: base, lookup }: UpstreamAddress): string[] {
  return [base, ...(lookup === null ? [] : [lookup])].map((place) => new URL(place).href);
}

/** Whether requests of a model cost their customers nothing while a provider is paid for them with a key. */
export function givesAway(id: string, upstreams: readonly UpstreamAddress[]): boolean {
  return isFreeModel(id) && hasKey(upstreams);
}

function hasKey(upstreams: readonly UpstreamAddress[]): boolean {
  return upstreams.some(({ api_key_env: key }) => key !== null);
}
