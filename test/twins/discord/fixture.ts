/**
 * Common parts of the Discord twin's tests: Discord's own client library, people to look at with it, and how to tell
 * its refusals apart. Whatever the twin does differently from Discord would let a wrong reward pass every other test.
 */
import { API } from '@discordjs/core';
import { DiscordAPIError, REST, type RESTOptions } from '@discordjs/rest';

import type { DiscordTwin } from '../../../twins/discord/twin.ts';
import type { TwinControl } from '../../support/twin-control.ts';

const DISCORD_EPOCH_MS = 1_420_070_400_000n;

export interface Person {
  readonly id: string;
}

/** The library unmodified; only its repetition of failed calls is off unless asked for, so that a failure shows. */
export function clientOf(
  { apiUrl }: Pick<DiscordTwin, 'apiUrl'>,
  token: string,
  options: Partial<RESTOptions> = {},
): API {
  return new API(new REST({ api: apiUrl, retries: 0, timeout: 5_000, ...options }).setToken(token));
}

/** The view of the product's bot. */
export function botOf(twin: DiscordTwin, options: Partial<RESTOptions> = {}): API {
  return clientOf(twin, twin.application.botToken, options);
}

/** Somebody new who has joined the server. */
export function member(control: TwinControl, username: string): Promise<Person> {
  return control.steer('users', { username, join: true });
}

/** When an account was made, which its id tells. */
export function createdMsOf({ id }: Person): number {
  return Number((BigInt(id) >> 22n) + DISCORD_EPOCH_MS);
}

/** For `assert.rejects`: an answer with this status and this code, Discord's own or OAuth's. */
export function refusedWith(status: number, code: number | string) {
  return (error: unknown): boolean =>
    error instanceof DiscordAPIError && error.status === status && error.code === code;
}
