/**
 * Whether a provider's events arrive. No provider tells a signing secret or what its deliveries were answered, so a
 * wrong secret shows only by its effect: the endpoint is right, and what was sent to it is not here.
 */
import { fault, listed, ok, warning, type Finding } from '../check.ts';

export interface UndeliveredEvent {
  readonly id: string;
  readonly type: string;
  readonly at: Date;
}

/**
 * Which of the events have come here, and when the last one of the provider did (null: none ever); null while the
 * database cannot be asked.
 */
export type Arrivals = (
  eventIds: readonly string[],
) => Promise<{ readonly known: ReadonlySet<string>; readonly lastAt: Date | null } | null>;

/** A delivery may be under way for so long. */
const UNDER_WAY_MS = 10_000;

/** `undelivered`: what the provider says it could not deliver, newest first. */
export async function arrivalFinding(
  undelivered: readonly UndeliveredEvent[],
  arrivals: Arrivals,
  provider: { readonly title: string; readonly secretVariable: string; readonly where: string },
): Promise<Finding> {
  const { title, secretVariable, where } = provider;
  const arrived = await arrivals(undelivered.map(({ id }) => id));
  if (arrived === null) {
    return warning('cannot be told while the database cannot be asked', 'see the line of postgresql');
  }
  const { known, lastAt } = arrived;
  const newestFirst = undelivered.toSorted((a, b) => b.at.getTime() - a.at.getTime());
  const missing = newestFirst.filter(({ id, at }) => !known.has(id) && Date.now() - at.getTime() > UNDER_WAY_MS);
  const [newest] = missing;
  if (newest === undefined) {
    return ok(
      lastAt === null
        ? 'none has come yet: the first one will show whether the signing secret is right'
        : `they arrive, the last at ${lastAt.toISOString()}`,
    );
  }
  const types = [...new Set(missing.map(({ type }) => type))].slice(0, 3);
  const since = lastAt === null ? 'none has ever come' : `the last that came: ${lastAt.toISOString()}`;
  return fault(
    `${missing.length} events of the last days were sent by ${title} and not taken here (${listed(types)}, the latest at ` +
      `${newest.at.toISOString()}; ${since}): ${secretVariable} does not hold the endpoint's signing secret, or the api cannot ` +
      'be reached at the address of the webhook',
    `copy the signing secret (${where}) into ${secretVariable}, restart the api, then let ${title} send them again; ` +
      'payments are credited by polling meanwhile',
  );
}
