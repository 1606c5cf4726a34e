/**
 * What the workflow bundle is made of. A package in it is loaded for each cached workflow: zod alone tripled the
 * worker's CPU and memory. An outside world in it (database, HTTP, clock of Node) would break determinism.
 */
import assert from 'node:assert/strict';
import { relative } from 'node:path';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundle } from '@temporalio/worker';
import { contentsOf } from '../support/workflow-bundle.ts';
import { productBundle } from '../support/workflow-environment.ts';
import { makeSnippetFolder, ROOT, type SnippetFolder } from '../support/workflow-snippets.ts';

/** The SDK's workflow side and what it needs itself. */
const ALLOWED_PACKAGES = ['@temporalio/common', '@temporalio/workflow', 'long', 'ms', 'nexus-rpc'];

const SNIPPET = (imports: string, body: string): string => `${imports}
export async function snippet(): Promise<unknown> {
  return ${body};
}
`;

describe('the workflow bundle', () => {
  let folder: SnippetFolder;
  before(() => {
    folder = makeSnippetFolder();
  });
  after(() => folder.remove());

  function bundleOf(name: string, code: string): Promise<WorkflowBundle> {
    return bundleWorkflowCode({ workflowsPath: folder.write(name, code), logger: new SilentLogger() });
  }

  it('has no package but the SDK’s: no zod, pg, stripe, ethers, undici, pino', async () => {
    const { packages } = contentsOf(await productBundle());
    assert.deepEqual(packages, ALLOWED_PACKAGES);
  });

  it('has no file of the project but workflows, their contract and domain', async () => {
    const files = contentsOf(await productBundle()).files.map((file) => relative(ROOT, file));
    assert.ok(files.includes('workflows/requests/meter-requests.ts'));
    assert.deepEqual(
      files.filter((file) => !/^(workflows|contract|domain)\//.test(file)),
      [],
    );
  });

  it('would show a package that a workflow imports', async () => {
    const code = SNIPPET("import { z } from 'zod';", "z.string().parse('text')");
    assert.ok(contentsOf(await bundleOf('zod.ts', code)).packages.includes('zod'));
  });

  it('would show a file that a workflow imports from elsewhere', async () => {
    const code = SNIPPET("import { HISTORIES_OF } from './elsewhere.ts';", 'HISTORIES_OF');
    const elsewhere = folder.write('elsewhere.ts', "export const HISTORIES_OF = 'elsewhere';\n");
    assert.ok(contentsOf(await bundleOf('elsewhere-user.ts', code)).files.includes(elsewhere));
  });

  for (const { what, code } of [
    {
      what: 'node:crypto',
      code: SNIPPET("import { randomUUID } from 'node:crypto';", 'randomUUID()'),
    },
    {
      what: 'an activity, and with it the database',
      code: SNIPPET(
        "import { createSettlementActivities } from '#/activities/requests/settlement.ts';",
        'createSettlementActivities.length',
      ),
    },
    {
      what: 'an activity by `import()`, which lint does not look at',
      code: SNIPPET('', "(await import('#/activities/requests/settlement.ts')).createSettlementActivities.length"),
    },
    {
      what: 'the worker’s side of the SDK',
      code: SNIPPET("import { Worker } from '@temporalio/worker';", 'Worker.length'),
    },
  ]) {
    it(`is not made when a workflow imports ${what}`, async () => {
      await assert.rejects(bundleOf(`forbidden-${what.replaceAll(/\W+/g, '-')}.ts`, code));
    });
  }
});

/** The bundler logs at length why it gives up, which is what these tests want. */
class SilentLogger extends DefaultLogger {
  constructor() {
    super('ERROR', () => undefined);
  }
}
