// The import table of docs/architecture.md, and five rules that protect money, as lint:
// a folder may import only what its row allows, so a boundary breaks the build, not a review.
import prettier from 'eslint-config-prettier';
import tseslint from 'typescript-eslint';

const FOLDERS = [
  'domain',
  'db',
  'workflows',
  'activities',
  'api',
  'worker',
  'runtime',
  'doctor',
  'console',
  'sandbox',
  'bench',
  'test',
];

/**
 * Programs of a folder that stand above it: the doctor reads the whole configuration of api and worker, and the worker runs its checks.
 */
const PROGRAMS = { 'doctor/main.ts': ['api/config', 'worker/config'] };

/** What each folder may import from the project besides itself. `test` may import everything. */
const MAY_IMPORT = {
  domain: [],
  runtime: ['domain'],
  db: ['domain'],
  workflows: ['domain', 'activities (types)'],
  activities: ['db', 'domain', 'runtime', 'workflows/contract'],
  api: ['db', 'domain', 'runtime', 'workflows/contract'],
  worker: ['activities', 'workflows', 'db', 'domain', 'runtime', 'doctor'],
  doctor: ['activities', 'db', 'domain', 'runtime', 'workflows/contract'],
  console: [],
  sandbox: ['db', 'domain', 'runtime', 'workflows/contract'],
  bench: ['activities', 'db', 'sandbox', 'domain', 'runtime'],
};

function forbidden(folder, more = []) {
  const allowed = [...MAY_IMPORT[folder], ...more];
  const patterns = [];
  for (const other of FOLDERS) {
    if (other === folder || allowed.includes(other)) continue;
    const file = allowed.find((name) => name.startsWith(`${other}/`))?.slice(other.length + 1);
    if (file !== undefined) {
      patterns.push({
        regex: `^(\\.\\./)+${other}/(?!${file}\\.ts$)`,
        message: `${folder}/ may import only ${other}/${file}.ts from ${other}/.`,
      });
    } else if (allowed.includes(`${other} (types)`)) {
      patterns.push({
        regex: `^(\\.\\./)+${other}/`,
        allowTypeImports: true,
        message: `${folder}/ may only \`import type\` from ${other}/: a value import drags IO into the workflow bundle.`,
      });
    } else {
      patterns.push({ regex: `^(\\.\\./)+${other}/`, message: `${folder}/ must not import ${other}/ (import table).` });
    }
  }
  if (folder === 'domain') {
    patterns.push({
      regex: '^[^.]',
      message: 'domain/ imports no package and no Node built-in: it also runs inside the workflow sandbox.',
    });
  }
  if (folder === 'workflows') {
    patterns.push({
      regex: '^(?!\\.|@temporalio/(workflow|common)$)',
      message:
        'workflows/ import only @temporalio/workflow and @temporalio/common: anything else costs CPU and determinism.',
    });
  }
  if (!['api', 'worker', 'runtime', 'sandbox'].includes(folder)) {
    patterns.push({
      regex: '^zod',
      message: 'zod belongs to the edges: requests in api/, and reading the environment.',
    });
  }
  return patterns;
}

export default tseslint.config(
  { ignores: ['node_modules/', '.holdfast/', '.holdfast-*/', 'console/dist/', '*.js', '**/*.mjs'] },
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { project: './tsconfig.json' } },
    rules: {
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      // `import { type X }` leaves an import of the module behind, which would carry activities into the workflow bundle.
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      'no-console': 'off',
    },
  },
  ...Object.keys(MAY_IMPORT).map((folder) => ({
    files: [`${folder}/**/*.ts`],
    rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns: forbidden(folder) }] },
  })),
  ...Object.entries(PROGRAMS).map(([program, more]) => ({
    files: [program],
    rules: {
      '@typescript-eslint/no-restricted-imports': ['error', { patterns: forbidden(program.split('/')[0], more) }],
    },
  })),
  {
    // mocha's describe/it callbacks and supertest-like chains are not floating money.
    files: ['test/**/*.ts'],
    rules: { '@typescript-eslint/no-unused-expressions': 'off' },
  },
  prettier,
);
