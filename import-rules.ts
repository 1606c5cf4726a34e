/**
 * Who may import whom, for `npm run check`: the import table of docs/architecture.md, no circle (types included), no
 * file that nothing reaches. Bottom floor first; no arrow runs back.
 */

import type { IConfiguration, IRegularForbiddenRuleType } from 'dependency-cruiser';

/** What each folder may import from the project besides itself. `test` may import everything. */
export const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  domain: [],
  contract: ['domain'],
  runtime: ['domain'],
  db: ['domain'],
  providers: ['domain', 'runtime', 'db'],
  activities: ['domain', 'contract', 'runtime', 'db', 'providers'],
  workflows: ['domain', 'contract', 'activities (types)'],
  doctor: ['domain', 'contract', 'runtime', 'db', 'providers'],
  worker: ['domain', 'contract', 'runtime', 'db', 'providers', 'activities', 'workflows', 'doctor'],
  api: ['domain', 'contract', 'runtime', 'db', 'providers'],
  console: [],
  twins: ['domain'],
  sandbox: ['domain', 'contract', 'runtime', 'db', 'twins'],
  bench: ['domain', 'contract', 'runtime', 'db', 'providers', 'activities', 'twins', 'sandbox'],
};

/** Programs of a folder that stand above it: the doctor reads the whole configuration of api and worker. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  'doctor/main.ts': ['api/config.ts', 'worker/config.ts'],
};

/** Files that are started or loaded by name, so that no import leads to them. */
const STARTED: string[] = [
  '^(api|worker|doctor|sandbox|bench)/main\\.ts$',
  '^twins/[a-z]+/main\\.ts$',
  '^(bench/[a-z-]+|bench/chaos/hostile-senders|db/migrate|db/create-operator|worker/deposit-address)\\.ts$',
  '^(workflows/index|sandbox/(install\\.mjs|temporal-download)|twins/chain/solidity/compile)',
  '-(worker|thread)\\.ts$',
  '\\.d\\.ts$',
];

const folders = Object.keys(MAY_IMPORT);

/** One rule a folder: what of the project's other folders it may not import. */
function tableRules(): IRegularForbiddenRuleType[] {
  return Object.entries(MAY_IMPORT).flatMap(([folder, names]): IRegularForbiddenRuleType[] => {
    const types = names.filter((name) => name.endsWith(' (types)')).map((name) => name.replace(' (types)', ''));
    const allowed = names.filter((name) => !name.endsWith(' (types)'));
    const forbidden = [...folders, 'test'].filter((other) => ![folder, ...allowed, ...types].includes(other));
    const programs = Object.entries(PROGRAMS).filter(([program]) => program.startsWith(`${folder}/`));
    return [
      {
        name: `imports-of-${folder}`,
        comment: `${folder}/ may import only: ${names.join(', ') || 'nothing'} (docs/architecture.md).`,
        severity: 'error' as const,
        from: { path: `^${folder}/`, pathNot: programs.map(([program]) => `^${program}$`) },
        to: { path: `^(${forbidden.join('|')})/` },
      },
      ...programs.map(([program, more]) => ({
        name: `imports-of-${program.replace('/', '-').replace('.ts', '')}`,
        comment: `${program} may import what its folder may, and ${more.join(', ')}.`,
        severity: 'error' as const,
        from: { path: `^${program}$` },
        to: { path: `^(${forbidden.join('|')})/`, pathNot: more.map((file) => `^${file}$`) },
      })),
      ...types.map((other) => ({
        name: `${folder}-imports-only-types-of-${other}`,
        comment: `A value import of ${other}/ would drag IO into the workflow bundle.`,
        severity: 'error' as const,
        from: { path: `^${folder}/` },
        to: { path: `^${other}/`, dependencyTypesNot: ['type-only' as const] },
      })),
    ];
  });
}

const rules: IConfiguration = {
  forbidden: [
    ...tableRules(),
    {
      name: 'domain-imports-no-package',
      comment: 'domain/ also runs inside the workflow sandbox: no package, no Node built-in.',
      severity: 'error' as const,
      from: { path: '^domain/' },
      to: { pathNot: '^domain/' },
    },
    {
      name: 'workflows-import-no-package',
      comment:
        'Workflows and their contract import only @temporalio/workflow and @temporalio/common: anything else costs CPU and determinism.',
      severity: 'error' as const,
      from: { path: '^(workflows|contract)/' },
      to: { pathNot: ['^(workflows|contract|domain|activities)/', '(^|/)@temporalio/(workflow|common)(/|$)'] },
    },
    {
      name: 'zod-belongs-to-the-edges',
      comment: 'zod reads requests and the environment; what is inside has types.',
      severity: 'error' as const,
      from: { path: '^(domain|contract|db|activities|workflows|doctor|twins|bench)/' },
      to: { path: '(^|/)zod(/|$)' },
    },
    {
      name: 'api-loads-no-client-of-a-provider',
      comment:
        "The api needs settings and verification of the providers; ethers, the wallet and Creem's SDK are 35 MB of every process.",
      severity: 'error' as const,
      from: { path: '^api/main\\.ts$' },
      to: {
        path: '(^|/)node_modules/(ethers|creem|@discordjs/ws)/',
        // Verification of signatures, 2 kB.
        pathNot: 'node_modules/creem/.*webhooks',
        reachable: true,
      },
    },
    {
      name: 'no-circle',
      comment: 'A circle cannot be understood, tested or moved in parts. Imports of types count.',
      severity: 'error' as const,
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-orphan',
      comment: 'Nothing imports this file and it imports nothing: delete it, or name it among STARTED.',
      severity: 'error' as const,
      from: { orphan: true, path: `^(${folders.join('|')})/`, pathNot: STARTED },
      to: {},
    },
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^\\.holdfast' },
  },
};

export default rules;
