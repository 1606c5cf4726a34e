/** PostgreSQL: reachable, new enough, migrated, with the roles, and set so that what was answered survives a crash. */
import pg from 'pg';
import { CURE_TOO_NEW, migrationState, tooNew } from '../../db/schema/migration-state.ts';
import { POSTGRES_MAJOR_MIN, serverVersion, tooOld } from '../../db/schema/server-version.ts';
import { fault, listed, ok, warning, wordsOf, type Check, type Finding } from '../check.ts';
import type { DatabaseAddress } from '../settings.ts';
import { clockFinding } from './clock.ts';

const CONNECT_TIMEOUT_MS = 5000;
const INSUFFICIENT_PRIVILEGE = '42501';
/** Connections that one api and one worker may hold at once, with a reserve for a person. */
const CONNECTIONS_MIN = 60;

/** One check per server that a role is at. */
export function postgresChecks(databases: readonly DatabaseAddress[]): Check[] {
  const urls = [...new Set(databases.map(({ url }) => url))];
  return urls.map((url) => {
    const here = databases.filter((database) => database.url === url);
    const variable = listed([...new Set(here.map((database) => database.variable))]);
    return {
      name: urls.length === 1 ? 'postgresql' : `postgresql ${here.map(({ role }) => role).join(' ')}`,
      run: () => checkServer(here, url, variable),
      silentCure: `see whether the server of ${variable} is busy or blocked: pg_stat_activity`,
    };
  });
}

async function checkServer(here: readonly DatabaseAddress[], url: string, variable: string): Promise<Finding[]> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_TIMEOUT_MS });
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    return [unreachable(error, url, variable)];
  }
  try {
    const version = await serverVersion(client);
    const old = tooOld(version, url, variable);
    if (old !== null) {
      const cure = `upgrade that server with pg_upgrade, or let ${variable} lead to one of version ${POSTGRES_MAJOR_MIN}`;
      return [fault(old, cure)];
    }
    const found = [
      ...(await migrationFindings(client, variable)),
      ...(await roleFindings(client, here, variable)),
      ...(await settingFindings(client, here, variable)),
    ];
    const summary = ok(`${version.version} at ${placeOf(url)}, roles ${listed(here.map(({ role }) => role))}`);
    return found.some(({ state }) => state === 'fault') ? found : [summary, ...found];
  } finally {
    await client.end();
  }
}

function unreachable(error: unknown, url: string, variable: string): Finding {
  const { code } = error as { code?: string };
  const place = placeOf(url);
  switch (code) {
    case '28P01':
    case '28000':
      return fault(`the login of ${variable} is refused at ${place}`, `correct user and password in ${variable}`);
    case '3D000':
      return fault(
        `the database of ${variable} does not exist at ${place}`,
        `create it, then run npm run db:migrate, or correct ${variable}`,
      );
    case '53300':
      return fault(`${place} has no connection left`, 'raise max_connections, or end what holds them');
    default:
      return fault(
        `${variable} leads to ${place}, where no PostgreSQL answers (${wordsOf(error)})`,
        `start the server, or correct ${variable}; see whether a firewall is in between`,
      );
  }
}

async function migrationFindings(client: pg.Client, variable: string): Promise<Finding[]> {
  let state: Awaited<ReturnType<typeof migrationState>>;
  try {
    state = await migrationState(client);
  } catch (error) {
    // A login of its own for one role need not see what only the migration's own does.
    if ((error as { code?: string }).code === INSUFFICIENT_PRIVILEGE) return [];
    throw error;
  }
  if (state === null) return [fault('the database has no schema of Holdfast', 'run npm run db:migrate')];
  const { missing, unknown } = state;
  const newer = tooNew(state, variable);
  return [
    ...(missing.length > 0
      ? [fault(`migrations have not been applied: ${listed(missing)}`, 'run npm run db:migrate')]
      : []),
    ...(newer !== null ? [fault(newer, CURE_TOO_NEW)] : []),
    ...(newer === null && unknown.length > 0
      ? [warning(`the database is newer than this code: ${unknown[0]!.name}`, 'run the release that migrated it')]
      : []),
  ];
}

async function roleFindings(client: pg.Client, here: readonly DatabaseAddress[], variable: string): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const { role } of here) {
    const name = `holdfast_${role}`;
    try {
      await client.query(`set role ${name}`);
      await client.query('reset role');
    } catch (error) {
      const isMissing = (error as { code?: string }).code === '22023' || /does not exist/.test(wordsOf(error));
      findings.push(
        isMissing
          ? fault(`there is no role ${name}`, 'run npm run db:migrate')
          : fault(`the login of ${variable} may not act as ${name}`, `grant ${name} to that login`),
      );
    }
  }
  return findings;
}

async function settingFindings(
  client: pg.Client,
  here: readonly DatabaseAddress[],
  variable: string,
): Promise<Finding[]> {
  const { rows } = await client.query<{ name: string; setting: string }>(
    `select name, setting from pg_settings where name in
      ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'data_checksums', 'max_connections',
       'superuser_reserved_connections', 'default_transaction_read_only', 'server_encoding')
     union all select 'in_recovery', pg_is_in_recovery()::text
     union all select 'epoch', extract(epoch from clock_timestamp())::text`,
  );
  const settings = new Map(rows.map(({ name, setting }) => [name, setting]));
  const findings: Finding[] = [];
  for (const name of ['fsync', 'full_page_writes', 'synchronous_commit']) {
    if (settings.get(name) !== 'off') continue;
    const words = `${name} is off: a crash loses money that was already answered for`;
    findings.push(fault(words, `alter system set ${name} = on; select pg_reload_conf()`));
  }
  const writes = here.some(({ role }) => role !== 'reporter');
  if (writes && (settings.get('in_recovery') === 'true' || settings.get('default_transaction_read_only') === 'on')) {
    findings.push(fault(`the server is read-only (a replica?)`, `let ${variable} lead to the primary`));
  }
  if (settings.get('server_encoding') !== 'UTF8') {
    findings.push(
      fault(`the database's encoding is ${settings.get('server_encoding')}`, "create it with encoding 'UTF8'"),
    );
  }
  if (settings.get('autovacuum') === 'off') {
    findings.push(
      warning(
        'autovacuum is off: hot accounts become slow',
        'alter system set autovacuum = on; select pg_reload_conf()',
      ),
    );
  }
  if (settings.get('data_checksums') === 'off') {
    findings.push(
      warning('data checksums are off: a failing disk is not noticed', 'stop the server, run pg_checksums --enable'),
    );
  }
  const connections = Number(settings.get('max_connections')) - Number(settings.get('superuser_reserved_connections'));
  if (connections < CONNECTIONS_MIN) {
    const words = `max_connections leaves ${connections} connections; one api and one worker may use ${CONNECTIONS_MIN}`;
    findings.push(warning(words, 'raise max_connections to 200 and restart the server'));
  }
  const clock = clockFinding(Math.round(Date.now() / 1000 - Number(settings.get('epoch'))), 'PostgreSQL');
  if (clock.state !== 'ok') findings.push(clock);
  return findings;
}

function placeOf(url: string): string {
  const { hostname, port, pathname, searchParams } = new URL(url);
  const host = searchParams.get('host') ?? (hostname === '' ? 'this machine' : hostname);
  return `${host}${port === '' ? '' : `:${port}`}${pathname}`;
}
