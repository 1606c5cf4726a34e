/**
 * Helper process of the Temporal locator: `node temporal-download.ts <folder>` lets the SDK download its dev server
 * into the folder. The SDK offers that only together with a start, so a server runs for a moment and is stopped.
 */
import { readdirSync } from 'node:fs';
import { TestWorkflowEnvironment } from '@temporalio/testing';

const folder = process.argv[2];
if (folder === undefined) throw new Error('usage: node temporal-download.ts <folder>');
try {
  const environment = await TestWorkflowEnvironment.createLocal({
    server: { executable: { type: 'cached-download', downloadDir: folder, ttl: '30 days' } },
  });
  await environment.teardown();
} catch (error) {
  // A loaded machine may miss the SDK's five seconds for the start; what was asked for is the file.
  if (readdirSync(folder).length === 0) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  }
}
