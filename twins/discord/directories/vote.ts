export const SITE_NAMES = ['topgg', 'topgg-v0', 'discordbotlist', 'discordplace', 'guildsme'] as const;
export type SiteName = (typeof SITE_NAMES)[number];

/** A vote that somebody cast at a directory. */
export interface VoteRow {
  readonly id: string;
  readonly site: SiteName;
  readonly discord_user_id: string;
  /** When the person voted, which is not when the webhook arrives. */
  readonly at: string;
  readonly weight: number;
  readonly is_test: boolean;
  /** The listing that was voted for; null: ours. */
  readonly project_id: string | null;
}
