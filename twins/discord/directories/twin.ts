/**
 * The vote directories: a person votes on one of the sites, and the site tells the product by its webhook. The page of
 * a site keeps to the site's own cooldown; the control API does not, because a test must be able to send what no site
 * should.
 */
import { isSnowflake } from '../ids.ts';
import type { DeliveryRow } from '../../kit/deliveries.ts';
import type { Deliveries } from '../deliveries.ts';
import { Impossible, type DiscordWorld } from '../world.ts';
import { nextVoteMs, type Site, type VoteField } from './sites.ts';
import { SITE_NAMES, type SiteName, type VoteRow } from './vote.ts';
import {
  BadInput,
  type JsonObject,
  optional,
  readBoolean,
  readChoice,
  readCount,
  readString,
} from '../../kit/input.ts';

export const VOTE_FIELDS = ['site', 'discord_user_id', 'weight', 'test', 'project_id', 'at'] as const;

const WEIGHT_MAX = 2;

export interface Vote extends VoteRow {
  readonly delivery: DeliveryRow;
}

export class Directories {
  readonly sites: readonly Site[];
  readonly #world: DiscordWorld;
  readonly #deliveries: Deliveries;

  constructor(world: DiscordWorld, deliveries: Deliveries, sites: readonly Site[]) {
    this.#world = world;
    this.#deliveries = deliveries;
    this.sites = sites;
  }

  site(name: SiteName): Site {
    return this.sites.find((site) => site.name === name)!;
  }

  /** Votes whatever the site would say to it, and sends the webhook. The voter need not be a user of the twin. */
  vote(
    site: Site,
    userId: string,
    change: Partial<Pick<VoteRow, 'at' | 'weight' | 'is_test' | 'project_id'>> = {},
  ): Vote {
    const at = change.at ?? new Date(this.#world.clock.nowMs()).toISOString();
    const vote: VoteRow = {
      ...{
        id: this.#world.newId(),
        site: site.name,
        discord_user_id: userId,
        weight: 1,
        is_test: false,
        project_id: null,
      },
      ...change,
      at,
    };
    this.#world.store.votes.put(vote);
    const username = this.#world.store.users.get(userId)?.username ?? 'somebody';
    const payload = site.payload(vote, { username });
    return { ...vote, delivery: this.#deliveries.enqueue(site.name, vote.id, site.eventType(vote), payload) };
  }

  /** As the site's own page lets a person vote: once in its cooldown. */
  voteAsPerson(site: Site, userId: string): Vote {
    const openMs = this.opensMs(site, userId);
    if (openMs > this.#world.clock.nowMs()) {
      throw new Impossible(409, `The next vote on ${site.title} is possible at ${new Date(openMs).toISOString()}.`);
    }
    return this.vote(site, this.#world.user(userId).id);
  }

  /** From when on the person can vote on the site; 0: never voted there. */
  opensMs(site: Site, userId: string): number {
    const times = this.#world.store.votes
      .oldestFirst()
      .filter((vote) => vote.site === site.name && vote.discord_user_id === userId && !vote.is_test)
      .map(({ at }) => nextVoteMs(site, Date.parse(at)));
    return Math.max(0, ...times);
  }

  /** `POST /_twin/votes`. */
  readVote(body: JsonObject): Vote {
    const site = this.site(readChoice(body['site'], 'site', SITE_NAMES));
    const userId = readString(body['discord_user_id'], 'discord_user_id');
    if (!isSnowflake(userId)) throw new BadInput("'discord_user_id' must be a snowflake.", 'discord_user_id');
    const noPlace = (['weight', 'test', 'project_id'] as const satisfies readonly VoteField[]).find(
      (field) => body[field] !== undefined && !site.carries.includes(field),
    );
    if (noPlace !== undefined) throw new BadInput(`Webhooks of ${site.title} have no place for '${noPlace}'.`, noPlace);
    return this.vote(site, userId, {
      weight: optional(body, 'weight', (value, field) => readCount(value, field, 1, WEIGHT_MAX)) ?? 1,
      is_test: optional(body, 'test', readBoolean) ?? false,
      project_id: optional(body, 'project_id', readString) ?? null,
      ...(body['at'] !== undefined && { at: readTime(body['at'], 'at') }),
    });
  }
}

/** RFC 3339, as `Date` prints it. */
export function readTime(value: unknown, field: string): string {
  const text = readString(value, field);
  if (Number.isNaN(Date.parse(text))) throw new BadInput(`'${field}' must be an RFC 3339 time.`, field);
  return new Date(text).toISOString();
}
