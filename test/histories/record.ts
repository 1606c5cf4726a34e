/**
 * Records the histories that test/workflows/replay.test.ts replays: every workflow type, one file per path through it.
 *
 *   npm run record:histories                     all of them
 *   npm run record:histories -- refundRequest    only those whose name contains an argument
 *
 * Run it when a workflow gets a new path, or changed its commands while no run of the old code can be left. Else the old
 * files are the point: code that cannot replay them would break the runs that are open when it is deployed, and needs
 * `patched()`.
 *
 * Histories are real: the dev server, the product's bundle, and the starters of production (settle lane, schedule,
 * management interface), with activities that answer by script so that each path is taken. What depends on the machine
 * or the moment (names of test namespaces, stack traces) is taken out.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { WorkflowHandle } from '@temporalio/client';
import { historyToJSON } from '@temporalio/common/lib/proto-utils.js';
import { startSharedServices } from '../support/shared-services.ts';
import { servicesEnvironment } from '../support/services.ts';
import { HISTORIES } from '../support/workflow-history.ts';
import { openWorkflowEnvironment, type WorkflowEnvironment } from '../support/workflow-environment.ts';
import { RECORDINGS } from '../support/workflow-recordings.ts';
import { provisionNamespaces } from '../../worker/provision.ts';
import { DEFAULT_NAMESPACES } from '../../contract/index.ts';

const filters = process.argv.slice(2);
const own = process.env['HOLDFAST_TEST_SERVICES'] === undefined ? await startSharedServices(console.log) : null;
if (own !== null) Object.assign(process.env, servicesEnvironment(own));
const environment = await openWorkflowEnvironment();
try {
  await provisionNamespaces(environment.connection, environment.namespaces);
  mkdirSync(HISTORIES, { recursive: true });
  for (const { name, record } of RECORDINGS) {
    if (filters.length > 0 && !filters.some((filter) => name.includes(filter))) continue;
    const handle = await record(environment);
    writeFileSync(join(HISTORIES, `${name}.json`), await textOf(handle, environment));
    console.log(`recorded ${name}`);
  }
} finally {
  await environment.close();
  await own?.stop();
}

async function textOf(handle: WorkflowHandle, { namespaces }: WorkflowEnvironment): Promise<string> {
  const text = historyToJSON(await handle.fetchHistory())
    .replaceAll(namespaces.requests, DEFAULT_NAMESPACES.requests)
    .replaceAll(namespaces.processes, DEFAULT_NAMESPACES.processes)
    .replaceAll(/"stackTrace": "(?:[^"\\]|\\.)*"/g, '"stackTrace": ""');
  return `${text}\n`;
}
