/**
 * All that the twin remembers beside its open gateway sessions: rows in tables. With a data file, every changed row is
 * appended to it as one line before anybody is told of the change; the last line of a row wins, and the file is rewritten
 * at the start.
 */
import { appendFileSync, closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { APIMessage } from 'discord-api-types/v10';

import type { DeliveryRow } from './deliveries.ts';
import type { VoteRow } from '../directories/sites.ts';
import { Table } from '../stripe/store.ts';

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
  /** How many boosts run; no API tells this of a member. */
  boosts: number;
  /** Since when at least one boost has been running. */
  premium_since: string | null;
}

/** What a person allowed and the application has not fetched yet. */
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

type AnyRow = Readonly<{ id: string }>;

export class DiscordStore {
  readonly users = new Table<UserRow>();
  readonly members = new Table<MemberRow>();
  readonly messages = new Table<APIMessage>();
  readonly codes = new Table<CodeRow>();
  readonly tokens = new Table<TokenRow>();
  readonly votes = new Table<VoteRow>();
  readonly deliveries = new Table<DeliveryRow>();
  readonly #settings = new Table<SettingsRow>();
  readonly #tables: Readonly<Record<string, Table<AnyRow>>>;
  #file: number | null = null;

  constructor(dataFile: string | null) {
    const { users, members, messages, codes, tokens, votes, deliveries } = this;
    this.#tables = { users, members, messages, codes, tokens, votes, deliveries, settings: this.#settings };
    if (dataFile === null) return;
    if (existsSync(dataFile)) this.#read(readFileSync(dataFile, 'utf8'));
    const lines = Object.entries(this.#tables).flatMap(([name, table]) =>
      table.oldestFirst().map((row) => JSON.stringify([name, row.id, row]) + '\n'),
    );
    writeFileSync(`${dataFile}.new`, lines.join(''));
    renameSync(`${dataFile}.new`, dataFile);
    this.#file = openSync(dataFile, 'a');
  }

  get settings(): SettingsRow {
    return this.#settings.get('settings') ?? { id: 'settings', clockOffsetMs: 0 };
  }

  changeSettings(change: Partial<Omit<SettingsRow, 'id'>>): void {
    this.#settings.put({ ...this.settings, ...change });
  }

  flush(): void {
    let lines = '';
    for (const [name, table] of Object.entries(this.#tables)) {
      for (const id of table.takeChanged()) lines += JSON.stringify([name, id, table.get(id) ?? null]) + '\n';
    }
    if (this.#file !== null && lines !== '') appendFileSync(this.#file, lines);
  }

  close(): void {
    this.flush();
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  #read(text: string): void {
    // A process killed while it wrote leaves half a line behind, which nobody was told of.
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    for (const line of whole.split('\n')) {
      if (line === '') continue;
      const [name, id, row] = JSON.parse(line) as [string, string, AnyRow | null];
      const table = this.#tables[name];
      if (table === undefined) throw new Error(`The data file has rows of an unknown table '${name}'.`);
      if (row === null) table.delete(id);
      else table.put(row);
    }
    for (const table of Object.values(this.#tables)) table.takeChanged();
  }
}
