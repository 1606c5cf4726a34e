/**
 * The compiler as a guard: mistakes that would cost money or break replays do not compile. Each snippet is one such
 * mistake, compiled against the project with the project's own options.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { makeSnippetFolder, ROOT, type SnippetFolder } from '../support/workflow-snippets.ts';

interface Mistake {
  /** Completes "does not compile:". */
  readonly what: string;
  readonly code: string;
  /** The compiler's number for what is wrong, without `TS`. */
  readonly error: number;
}

const NOT_ASSIGNABLE_ARGUMENT = 2345;
const NOT_ASSIGNABLE = 2322;

const MISTAKES: readonly Mistake[] = [
  {
    what: 'a plain bigint where an amount is asked',
    code: "import { formatUsd } from '#/domain/money.ts';\nexport const text = formatUsd(5n);\n",
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'the sum of two amounts, which is a plain bigint again, as an amount',
    code: "import { usd, type PicoUsd } from '#/domain/money.ts';\nexport const sum: PicoUsd = usd('1') + usd('2');\n",
    error: NOT_ASSIGNABLE,
  },
  {
    what: 'an amount times a JavaScript number',
    code: "import { usd } from '#/domain/money.ts';\nexport const share = usd('1') * 0.1;\n",
    error: 2365,
  },
  {
    what: 'a string where an id is asked',
    code: "import { formatId } from '#/domain/ids.ts';\nexport const id = formatId('request', '0198');\n",
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'a key’s id where an account’s is asked',
    code: `import { formatId, type KeyUuid } from '#/domain/ids.ts';
export const wire = (key: KeyUuid): string => formatId('account', key);
`,
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'a wire id where the database asks for its own form',
    code: `import { parseId, type RequestId, type RequestUuid } from '#/domain/ids.ts';
export const uuid = (id: RequestId): RequestUuid => parseId('request', id);
`,
    error: NOT_ASSIGNABLE,
  },
  {
    what: 'an error code without a row in the table',
    code: "import { Refusal } from '#/domain/errors.ts';\nexport const refusal = new Refusal('out_of_luck');\n",
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'an outcome that only a refusal may have, as the end of a request that was held',
    code: `import type { FinishRecord } from '#/db/requests/requests.ts';
export const end = (record: FinishRecord): FinishRecord => ({ ...record, outcome: 'refused' });
`,
    error: NOT_ASSIGNABLE,
  },
  {
    what: 'a request for which nothing is held yet, where one is served',
    code: `import type { ServerResponse } from 'node:http';
import type { Admission } from '#/api/gateway/core/admission.ts';
import type { Gateway } from '#/api/gateway/core/gateway.ts';
import { serve } from '#/api/gateway/core/serve.ts';
export const early = (gateway: Gateway, admission: Admission, response: ServerResponse) =>
  serve(gateway, admission, response);
`,
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'the version of a price that nobody pays',
    code: `import type { Admission } from '#/api/gateway/core/admission.ts';
export const version = ({ price }: Admission): number => price.version;
`,
    error: 2339,
  },
  {
    what: 'a state that a switch does not list',
    code: `import { assertNever } from '#/domain/assert.ts';
import type { RequestState } from '#/domain/requests/request.ts';
export function isOpen(state: RequestState): boolean {
  switch (state) {
    case 'held':
    case 'finished':
      return true;
    case 'released':
      return false;
    default:
      return assertNever(state, 'state');
  }
}
`,
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'an amount as a bigint in what a workflow tells, where payloads carry no bigint',
    code: `import { usd } from '#/domain/money.ts';
import type { RefundStatus } from '#/contract/index.ts';
export const told = (status: RefundStatus): RefundStatus => ({ ...status, amountUsd: usd('0.25') });
`,
    error: NOT_ASSIGNABLE,
  },
  {
    what: 'an activity called with another input than it takes',
    code: `import type { SettlementActivities } from '#/activities/requests/settlement.ts';
export const settle = (activities: SettlementActivities) => activities.settleRequests({ requestIds: ['req_1'] });
`,
    error: NOT_ASSIGNABLE_ARGUMENT,
  },
  {
    what: 'a list’s element used as if it were certain to be there',
    code: 'export const first = (texts: readonly string[]): string => texts[0].trim();\n',
    error: 2532,
  },
  {
    what: 'undefined where a field may only be left out',
    code: `import type { RefundInput } from '#/contract/index.ts';
export const input = (given: RefundInput): RefundInput => ({ ...given, runSeconds: undefined });
`,
    error: 2375,
  },
  {
    what: 'a type imported as a value, which would load its module at run time',
    code: `import { SettlementActivities } from '#/activities/requests/settlement.ts';
export type Settle = SettlementActivities['settleRequests'];
`,
    error: 1484,
  },
  {
    what: 'syntax that Node cannot erase',
    code: "export enum State {\n  held = 'held',\n}\n",
    error: 1294,
  },
];

const RIGHT = `import type { SettlementActivities, SettleOutput } from '#/activities/requests/settlement.ts';
import { assertNever } from '#/domain/assert.ts';
import { Refusal } from '#/domain/errors.ts';
import { formatId, parseId, type RequestUuid } from '#/domain/ids.ts';
import { addUsd, formatUsd, usd } from '#/domain/money.ts';
import type { RequestState } from '#/domain/requests/request.ts';

export const total = formatUsd(addUsd(usd('1'), usd('2')));
export const refusal = new Refusal('model_not_found');
export const wire = (id: RequestUuid): string => formatId('request', id);
export const parsed: RequestUuid | null = parseId('request', 'req_1');
export const settle = (activities: SettlementActivities): Promise<SettleOutput> =>
  activities.settleRequests({ requestIds: ['req_1'], workflowId: 'meter/req_1' });
export function isOpen(state: RequestState): boolean {
  switch (state) {
    case 'held':
    case 'finished':
      return true;
    case 'charged':
    case 'released':
      return false;
    default:
      return assertNever(state, 'state');
  }
}
`;

describe('the compiler', function () {
  // The first snippet waits for the types of all.
  this.timeout(60_000);
  let folder: SnippetFolder;
  let errorsOf: (path: string) => number[];
  const paths = new Map<string, string>();

  before(() => {
    folder = makeSnippetFolder();
    for (const [index, { what, code }] of MISTAKES.entries())
      paths.set(what, folder.write(`mistake-${index}.ts`, code));
    paths.set('right', folder.write('right.ts', RIGHT));
    paths.set('row', folder.write('errors.ts', errorTableWithoutOneStatus()));
    errorsOf = compile([...paths.values()]);
  });
  after(() => folder.remove());

  it('has nothing to say about code that does it right', () => {
    assert.deepEqual(errorsOf(paths.get('right')!), []);
  });

  for (const { what, error } of MISTAKES) {
    it(`refuses ${what}`, () => {
      assert.deepEqual(errorsOf(paths.get(what)!), [error]);
    });
  }

  it('refuses a row of the error table that does not say everything', () => {
    const propertyMissing = 2741;
    assert.ok(errorsOf(paths.get('row')!).includes(propertyMissing));
  });
});

/** The project's error table with the status of one code taken out. */
function errorTableWithoutOneStatus(): string {
  const table = readFileSync(join(ROOT, 'domain/errors.ts'), 'utf8');
  const broken = table.replace(/(\n {2}key_revoked: \{ )status: \d+, /, '$1');
  assert.notEqual(broken, table);
  return broken;
}

/** Compiles files with the project's options; returns the compiler's complaints by file. */
function compile(paths: readonly string[]): (path: string) => number[] {
  const configPath = join(ROOT, 'tsconfig.json');
  const { config } = ts.readConfigFile(configPath, (path) => ts.sys.readFile(path)) as { config: unknown };
  const { options } = ts.parseJsonConfigFileContent(
    config,
    { ...ts.sys, readDirectory: () => [] },
    ROOT,
    {},
    configPath,
  );
  const program = ts.createProgram(paths, options);
  return (path) => {
    const file = program.getSourceFile(path);
    assert.ok(file !== undefined, `${path} was compiled`);
    return ts.getPreEmitDiagnostics(program, file).map(({ code }) => code);
  };
}
