/**
 * The chain twin as a process. Environment: TWIN_PORT (0: a free one), TWIN_HOST, TWIN_CHAINS (comma-separated `<chain
 * id>:<seconds per block>`; without seconds blocks come only when asked for), TWIN_SLOTS_IN_AN_EPOCH, TWIN_DATA_FOLDER
 * (the chains and the operator's wallet). Prints one JSON line with the port when it listens; SIGTERM stops it.
 */
import { optionsFromEnvironment } from './config.ts';
import { startChainTwin } from './twin.ts';
import { makeOperatorWallet } from './wallet.ts';

try {
  const options = optionsFromEnvironment(process.env);
  if (typeof options.stateFolder === 'string') makeOperatorWallet(options.stateFolder);
  const twin = await startChainTwin(options);
  process.stdout.write(`${JSON.stringify({ listening: twin.port })}\n`);
  let closing = false;
  const close = async (): Promise<void> => {
    closing = true;
    await twin.close();
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void close());
  // The starter of this process restarts it, with the chains as they were last saved.
  void twin.failed.then(async (reason) => {
    if (closing) return;
    process.stderr.write(`chain twin: ${reason}\n`);
    process.exitCode = 1;
    await close();
  });
} catch (error) {
  process.stderr.write(`chain twin: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
