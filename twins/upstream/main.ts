/**
 * The upstream twin as a process. Environment: TWIN_PORT (0: a free one), TWIN_HOST, TWIN_LATENCY_MS,
 * TWIN_CHUNK_INTERVAL_MS, TWIN_OUTPUT_TOKENS, TWIN_API_KEY (default: any), TWIN_MODELS (comma-separated),
 * TWIN_DATA_FILE, TWIN_MAX_RECORDS. Prints one JSON line with the port when it listens; SIGTERM stops it.
 */
import { settingsFromEnvironment } from './config.ts';
import { startUpstreamTwin } from './twin.ts';

try {
  const { maxRecords, ...settings } = settingsFromEnvironment(process.env);
  const twin = await startUpstreamTwin({ ...settings, ...(maxRecords !== null && { maxRecords }) });
  process.stdout.write(`${JSON.stringify({ listening: twin.port })}\n`);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void twin.close());
} catch (error) {
  process.stderr.write(`upstream twin: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
