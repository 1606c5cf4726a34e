/** All that the Discord twin remembers beside its open gateway sessions. */
import type { APIMessage } from 'discord-api-types/v10';

import type { DeliveryRow } from '../kit/deliveries.ts';
import { Table, TableFile } from '../kit/tables.ts';
import type { VoteRow } from './directories/vote.ts';

/** A delivery by one sender: Discord itself, or a directory. */
export interface ChannelDelivery extends DeliveryRow {
  readonly channel: string;
  /** The bytes that are signed, the same in every attempt. */
  readonly body: string;
}

export interface UserRow {
  readonly id: string;
  readonly username: string;
  readonly email: string | null;
  readonly is_verified: boolean;
  readonly is_bot: boolean;
}

/** A user in the guild. */
export interface MemberRow {
  /** The user's. */
  readonly id: string;
  readonly joined_at: string;
  roles: readonly string[];
  /** The number of running boosts; no API shows it for a member. */
  boosts: number;
  /** Since when at least one boost has been running. */
  premium_since: string | null;
}

/** A grant that the application has not fetched yet. */
export interface CodeRow {
  readonly id: string;
  readonly user_id: string;
  readonly redirect_uri: string;
  readonly scopes: readonly string[];
  /** The S256 challenge, where the application sent one. */
  readonly challenge: string | null;
  readonly expires_ms: number;
}

export interface TokenRow {
  /** The access token. */
  readonly id: string;
  readonly refresh_token: string;
  readonly user_id: string;
  readonly scopes: readonly string[];
  readonly expires_ms: number;
}

interface SettingsRow {
  readonly id: string;
  clockOffsetMs: number;
  /** Undefined until the control API has changed what the process was started with. */
  webhookUrl?: string | null;
}

export class DiscordStore {
  readonly users = new Table<UserRow>();
  readonly members = new Table<MemberRow>();
  readonly messages = new Table<APIMessage>();
  readonly codes = new Table<CodeRow>();
  readonly tokens = new Table<TokenRow>();
  readonly votes = new Table<VoteRow>();
  readonly deliveries = new Table<ChannelDelivery>();
  readonly #settings = new Table<SettingsRow>();
  readonly #file: TableFile;

  constructor(dataFile: string | null) {
    const { users, members, messages, codes, tokens, votes, deliveries } = this;
    const tables = { users, members, messages, codes, tokens, votes, deliveries, settings: this.#settings };
    this.#file = new TableFile(tables, dataFile);
  }

  get settings(): SettingsRow {
    return this.#settings.get('settings') ?? { id: 'settings', clockOffsetMs: 0 };
  }

  changeSettings(change: Partial<Omit<SettingsRow, 'id'>>): void {
    this.#settings.put({ ...this.settings, ...change });
  }

  /** Writes the changes; called before any client learns of them. */
  flush(): void {
    this.#file.flush();
  }

  close(): void {
    this.#file.close();
  }
}
