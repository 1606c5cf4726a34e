/**
 * Random months of votes and what they are worth, as plain arithmetic on milliseconds and cents. Shared by the test
 * through decision and SQL and by the one through workflows.
 */

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MODEL_START_MS = Date.UTC(2026, 4, 1);
const MONTH_MS = 30 * DAY_MS;
const GUILD = '1216402938470400002';
const VOTE_CENTS = 5;
const LINK_CENTS = 100;
const CLAIM_DAYS = 10;
const ACCOUNT_CAP_CENTS = 20;
const LATE_MS = 7 * DAY_MS;

export const MODEL_ENVIRONMENT: Readonly<Record<string, string>> = {
  DISCORD_GUILD_ID: GUILD,
  VOTE_TOPGG_SECRET: 'whs_model-secret',
  VOTE_TOPGG_PROJECT_ID: 'p1',
  VOTE_DISCORDBOTLIST_SECRET: 'model-secret',
  VOTE_DISCORDPLACE_SECRET: 'model-secret',
  VOTE_GUILDSME_SECRET: 'model-secret',
  REWARD_VOTE_USD: '0.05',
  REWARD_CLAIM_DAYS: String(CLAIM_DAYS),
  REWARD_VOTE_DAILY_USD: '1000000',
  REWARD_DISCORD_LINK_DAILY_USD: '1000000',
  REWARD_VOTE_ACCOUNT_DAILY_USD: String(ACCOUNT_CAP_CENTS / 100),
};

const SITES = ['topgg', 'discordbotlist', 'discordplace', 'guildsme'] as const;
type Site = (typeof SITES)[number];

export interface VoteEvent {
  readonly kind: 'vote';
  readonly site: Site;
  readonly eventId: string;
  /** When it arrives. */
  readonly atMs: number;
  /** When the person voted. */
  readonly votedMs: number;
  readonly what: 'vote' | 'test' | 'foreign';
  readonly body: unknown;
}

export interface LinkEvent {
  readonly kind: 'link';
  readonly atMs: number;
}

export interface ModelUser {
  readonly discordUserId: string;
  /** In the order of arrival. */
  readonly events: readonly (VoteEvent | LinkEvent)[];
}

/** Repeatable random numbers in [0, 1) (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The gaps that decide: just before and just at the end of every cooldown, with and without the forgiven hour. */
const EDGES_MS = [11, 12, 23, 24].flatMap((hours) => [hours * HOUR_MS - 1000, hours * HOUR_MS, hours * HOUR_MS + 1000]);

export function makeMonth(users: number, seed: number, pauseDays = 20, startMs = MODEL_START_MS): ModelUser[] {
  const random = randomOf(seed);
  return Array.from({ length: users }, (_, n) => {
    const discordUserId = String(700_000_000_000_000_000n + BigInt(n));
    const events: (VoteEvent | LinkEvent)[] = SITES.flatMap((site) =>
      votesOn(site, discordUserId, { random, pauseDays, startMs }),
    );
    if (random() < 0.85) events.push({ kind: 'link', atMs: startMs + Math.floor(random() * MONTH_MS) });
    return { discordUserId, events: events.toSorted((a, b) => a.atMs - b.atMs) };
  });
}

function votesOn(
  site: Site,
  user: string,
  { random, pauseDays, startMs }: { random: () => number; pauseDays: number; startMs: number },
): VoteEvent[] {
  const votes: VoteEvent[] = [];
  let votedMs = startMs + Math.floor(random() * pauseDays * DAY_MS);
  for (let n = 0; votedMs < startMs + MONTH_MS; n++) {
    const roll = random();
    const what = roll < 0.03 ? 'test' : roll < 0.06 && site !== 'discordbotlist' ? 'foreign' : 'vote';
    // Only top.gg says when the vote was cast, so only its votes may arrive late without losing anything.
    const delayMs = site === 'topgg' && random() < 0.15 ? Math.floor(random() * 9 * DAY_MS) : 0;
    const real = what === 'test' && (site === 'discordbotlist' || site === 'guildsme') ? 'vote' : what;
    const eventId = site === 'topgg' && real !== 'test' ? `v${user}${n}` : `${user}/${votedMs}`;
    const atMs = votedMs + delayMs;
    votes.push({
      kind: 'vote',
      site,
      eventId,
      atMs,
      votedMs,
      what: real,
      body: bodyOf(site, user, real, votedMs, eventId, random),
    });
    if (site !== 'topgg' && random() < 0.1) {
      // The site tries again: another delivery without anything that says so.
      const againMs = votedMs + Math.floor(random() * 17 * 60_000) + 1;
      votes.push({ ...votes.at(-1)!, eventId: `${user}/${againMs}/again`, atMs: againMs, votedMs: againMs });
    }
    const gap = random();
    if (gap < 0.45) votedMs += EDGES_MS[Math.floor(random() * EDGES_MS.length)]!;
    else if (gap < 0.65) votedMs += Math.floor(random() * 30 * HOUR_MS) + 1000;
    else votedMs += Math.floor((0.5 + random()) * pauseDays * DAY_MS);
  }
  return votes;
}

function bodyOf(
  site: Site,
  user: string,
  what: VoteEvent['what'],
  votedMs: number,
  id: string,
  random: () => number,
): unknown {
  const isDouble = random() < 0.3;
  const guild = what === 'foreign' ? '99' : GUILD;
  switch (site) {
    case 'topgg': {
      const project = { id: what === 'foreign' ? 'p2' : 'p1', platform_id: GUILD };
      const data = { project, user: { platform_id: user } };
      if (what === 'test') return { type: 'webhook.test', data };
      const created_at = new Date(votedMs).toISOString();
      const expires_at = new Date(votedMs + 12 * HOUR_MS).toISOString();
      return { type: 'vote.create', data: { ...data, id, weight: isDouble ? 2 : 1, created_at, expires_at } };
    }
    case 'discordbotlist':
      return { id: user, username: 'u', avatar: null, admin: false };
    case 'discordplace':
      return { guild, user, test: what === 'test' };
    case 'guildsme':
      return { event: 'vote', guildId: guild, double: isDouble, user: { id: user } };
  }
}

/** The worth of a user's month: spans that do not touch, the day's cap, and claims that may lapse before the link. */
export function expectedCents({ events }: ModelUser): number {
  const taken = new Map<Site, [number, number][]>();
  const paidByDay = new Map<number, number>();
  let claims: number[] = [];
  let isLinked = false;
  let cents = 0;

  const pay = (earnedMs: number): void => {
    const day = Math.floor(earnedMs / DAY_MS);
    const before = paidByDay.get(day) ?? 0;
    if (before + VOTE_CENTS > ACCOUNT_CAP_CENTS) return;
    paidByDay.set(day, before + VOTE_CENTS);
    cents += VOTE_CENTS;
  };

  for (const event of events) {
    if (event.kind === 'link') {
      isLinked = true;
      cents += LINK_CENTS;
      for (const earnedMs of claims.toSorted((a, b) => a - b)) {
        if (earnedMs + CLAIM_DAYS * DAY_MS > event.atMs) pay(earnedMs);
      }
      claims = [];
      continue;
    }
    if (event.what !== 'vote') continue;
    const fromMs = event.site === 'topgg' ? event.votedMs : event.atMs;
    if (event.atMs - fromMs > LATE_MS) continue;
    const hours = { topgg: 12, discordbotlist: 11, discordplace: 23, guildsme: 11 }[event.site];
    const untilMs = fromMs + hours * HOUR_MS;
    const spans = taken.get(event.site) ?? [];
    if (spans.some(([from, until]) => fromMs < until && from < untilMs)) continue;
    taken.set(event.site, [...spans, [fromMs, untilMs]]);
    if (isLinked) pay(fromMs);
    else if (fromMs + CLAIM_DAYS * DAY_MS > event.atMs) claims.push(fromMs);
  }
  return cents;
}
