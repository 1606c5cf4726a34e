/** Discord: the bot's token, and whether the bot is in its guild. */
import type { DiscordSettings } from '../../providers/discord/settings.ts';
import { fault, ok, warning, wordsOf, type Check } from '../check.ts';
import { ask } from '../http.ts';

const DEVELOPERS = 'Discord developer portal, your application, Bot';

export function discordCheck({ bot, apiUrl }: DiscordSettings): Check[] {
  if (bot === null) return [];
  const { host } = new URL(apiUrl);
  const silentCure = `see whether this machine reaches ${host}`;
  return [
    {
      name: 'discord',
      run: async (signal) => {
        try {
          const headers = { authorization: `Bot ${bot.token}` };
          const { status } = await ask(`${apiUrl}/v10/guilds/${bot.guildId}`, { signal, headers });
          if (status === 401)
            return [fault('Discord refuses DISCORD_BOT_TOKEN', `reset the token and set the new one (${DEVELOPERS})`)];
          if (status === 403 || status === 404) {
            const words = `the bot is not in the guild ${bot.guildId} of DISCORD_GUILD_ID: no boost is seen`;
            return [fault(words, 'invite the bot to that guild, or correct DISCORD_GUILD_ID')];
          }
          if (status !== 200)
            return [warning(`Discord answers with ${status} for now`, 'run the doctor again in some minutes')];
          return [ok(`the bot is in guild ${bot.guildId}`)];
        } catch (error) {
          return [fault(`Discord does not answer at ${host} (${wordsOf(error)})`, silentCure)];
        }
      },
      silentCure,
    },
  ];
}
