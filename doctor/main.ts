/**
 * `npm run doctor`: looks at a set-up from where it runs, with the environment of api and worker: one line for each
 * thing that was looked at, with what to do about it. Reads and asks only. Exit code 0: nothing is broken; 1: something
 * is; 2: called wrongly.
 *
 *   npm run doctor                    with the variables of this shell; in a folder of the sandbox, with the sandbox's
 *   npm run doctor -- --json          the same for machines: {"state", "lines": [{"check", "state", "message", "cure"?}]}
 *   npm run doctor -- --only stripe   only the checks whose name contains the word
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parseApiConfig } from '../api/config.ts';
import { ConfigError, type Environment } from '../runtime/environment.ts';
import { DEFAULT_NAMESPACES } from '../contract/index.ts';
import { parseWorkerConfig, type WorkerConfig } from '../worker/config.ts';
import type { ApiConfig } from '../api/config.ts';
import { fault, ok, runChecks, type Check, type Line } from './check.ts';
import { checksOf, type OpenChecks } from './checks.ts';
import { postgresChecks } from './checks/postgres.ts';
import { temporalCheck } from './checks/temporal.ts';
import { jsonOf, textOf, withoutSecrets, worstOf } from './report.ts';
import { databaseAddresses, secretsOf } from './settings.ts';

const TIMEOUT_SECONDS = 15;
const ROLES = ['gateway', 'worker', 'management', 'reporter'] as const;

const { json, only } = options();
const environment = environmentHere();
const lines = withoutSecrets(await look(environment), secretsOf(environment));
console.log(json ? jsonOf(lines) : textOf(lines));
process.exitCode = worstOf(lines) === 'fault' ? 1 : 0;

function options(): { json: boolean; only: string | undefined } {
  try {
    const { values } = parseArgs({ options: { json: { type: 'boolean', default: false }, only: { type: 'string' } } });
    return { json: values.json, only: values.only };
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  }
}

/** This process's own; where it names no database, that of the sandbox which runs from this folder. */
function environmentHere(): Environment {
  if ((process.env['DATABASE_URL'] ?? '') !== '') return process.env;
  const file = join(process.env['HOLDFAST_DATA_DIR'] ?? '.holdfast', 'environment.json');
  try {
    const sandbox = JSON.parse(readFileSync(file, 'utf8')) as Environment;
    if (!json) console.log(`environment: the sandbox's, ${file}\n`);
    return { ...process.env, ...sandbox };
  } catch {
    return process.env;
  }
}

async function look(env: Environment): Promise<Line[]> {
  const api = parsed('api', () => parseApiConfig(env));
  const worker = parsed('worker', () => parseWorkerConfig(env));
  const opened = open(env, api.config, worker.config);
  const wanted = [...configurationChecks(api.faults, worker.faults), ...opened.checks].filter(
    ({ name }) => only === undefined || name.includes(only),
  );
  try {
    return await runChecks(wanted, TIMEOUT_SECONDS);
  } finally {
    await opened.close();
  }
}

/** With half a configuration, checks that need only an address still run. */
function open(env: Environment, api: ApiConfig | null, worker: WorkerConfig | null): OpenChecks {
  const databases = databaseAddresses(env, ROLES);
  if (api === null || worker === null) {
    const { TEMPORAL_ADDRESS: temporalAddress = '' } = env;
    const namespaces = {
      requests: env['TEMPORAL_NAMESPACE_REQUESTS'] ?? DEFAULT_NAMESPACES.requests,
      processes: env['TEMPORAL_NAMESPACE'] ?? DEFAULT_NAMESPACES.processes,
    };
    const temporal = temporalAddress === '' ? [] : [temporalCheck({ temporalAddress, namespaces, chains: [] })];
    return { checks: [...postgresChecks(databases), ...temporal], close: () => Promise.resolve() };
  }
  const { temporalAddress, namespaces, payments, rewards } = worker;
  return checksOf({ databases, temporalAddress, namespaces, payments, rewards, upstreams: api.upstreams });
}

interface Parsed<Config> {
  readonly config: Config | null;
  readonly faults: readonly string[];
}

function parsed<Config>(process: string, parse: () => Config): Parsed<Config> {
  try {
    return { config: parse(), faults: [] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const [, ...faults] = error.message.split('\n').map((line) => line.trim());
    return { config: null, faults: faults.length > 0 ? faults : [`${process}: ${error.message}`] };
  }
}

/** A variable that both processes read is named once. */
function configurationChecks(ofApi: readonly string[], ofWorker: readonly string[]): Check[] {
  const faults = [...new Set([...ofApi, ...ofWorker])];
  const found =
    faults.length === 0
      ? [ok('api and worker can start with this environment')]
      : faults.map((words) => fault(words, 'correct the variable; docs/operations.md says what it means'));
  return [{ name: 'configuration', run: () => Promise.resolve(found), silentCure: '' }];
}
