/**
 * The Discord twin as a process, the vote directories with it. Environment: TWIN_PORT (0: a free one), TWIN_HOST,
 * TWIN_WEBHOOK_URL, TWIN_REDIRECT_URIS (comma-separated), TWIN_SIGNING_SEED, TWIN_RETRY_SECOND_MS, TWIN_DATA_FILE, and
 * the product's DISCORD_… and VOTE_… ids and secrets. Prints one JSON line with the port when it listens; SIGTERM stops
 * it.
 */
import { optionsFromEnvironment } from './config.ts';
import { startDiscordTwin } from './twin.ts';

try {
  const twin = await startDiscordTwin(optionsFromEnvironment(process.env));
  process.stdout.write(`${JSON.stringify({ listening: twin.port })}\n`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void twin.close());
} catch (error) {
  process.stderr.write(`discord twin: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
