/**
 * The Creem twin as a process. Environment: TWIN_PORT (0: a free one), TWIN_HOST, TWIN_WEBHOOK_URL,
 * TWIN_WEBHOOK_SECRETS (comma-separated), TWIN_PUBLIC_URL, TWIN_DATA_FILE, TWIN_PRODUCT_ID, TWIN_TAX_PPM.
 * Prints one JSON line with the port when it listens; SIGTERM stops it.
 */
import { optionsFromEnvironment } from './config.ts';
import { startCreemTwin } from './twin.ts';

try {
  const twin = await startCreemTwin(optionsFromEnvironment(process.env));
  process.stdout.write(`${JSON.stringify({ listening: twin.port })}\n`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void twin.close());
} catch (error) {
  process.stderr.write(`creem twin: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
