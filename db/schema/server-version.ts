/**
 * Which PostgreSQL this code needs, and the question whether a server is one. Asked before anything else is: an older
 * server fails at the first statement that it does not know, with words that say nothing of its age.
 */
import pg from 'pg';

/** Ids are made by `uuidv7()`, which came with this one. */
export const POSTGRES_MAJOR_MIN = 18;

const CONNECT_TIMEOUT_MS = 5000;

/** The server is older than this code needs. No waiting helps. */
export class PostgresTooOld extends Error {}

export interface ServerVersion {
  /** As the server writes it: `18.1`, `16.4 (Debian 16.4-1)`. */
  readonly version: string;
  readonly major: number;
}

/** The version of a connected server. Needs no role and no schema of ours. */
export async function serverVersion(client: Pick<pg.Client, 'query'>): Promise<ServerVersion> {
  const { rows } = await client.query<{ version: string; number: string }>(
    "select current_setting('server_version') as version, current_setting('server_version_num') as number",
  );
  const { version, number } = rows[0]!;
  return { version, major: Math.floor(Number(number) / 10_000) };
}

/** The message about a server that is too old; null for any other. `variable` names the source of its address. */
export function tooOld({ version, major }: ServerVersion, url: string, variable: string): string | null {
  if (major >= POSTGRES_MAJOR_MIN) return null;
  const { hostname, port } = new URL(url);
  const place = hostname === '' ? '' : ` at ${hostname}${port === '' ? '' : `:${port}`}`;
  return `PostgreSQL ${POSTGRES_MAJOR_MIN} or newer is needed, and ${variable} leads to ${version}${place}`;
}

/**
 * Throws `PostgresTooOld` when a server that can be reached is too old. An unreachable server is no finding here:
 * processes start while it is away.
 */
export async function requirePostgres(addresses: Readonly<Record<string, string>>): Promise<void> {
  const faults = await askEach(addresses, async (client, variable, url) =>
    tooOld(await serverVersion(client), url, variable),
  );
  for (const fault of faults) if (fault !== null) throw new PostgresTooOld(fault);
}

/**
 * Asks each database once, whichever variables lead to it, and returns the answers. What does not answer, or breaks
 * off, gives none. `addresses` are URLs by the variable that names each.
 */
export async function askEach<Answer>(
  addresses: Readonly<Record<string, string>>,
  ask: (client: pg.Client, variable: string, url: string) => Promise<Answer>,
): Promise<Answer[]> {
  const byUrl = new Map(Object.entries(addresses).map(([variable, url]) => [url, variable]));
  const answers = await Promise.all(
    [...byUrl].map(async ([url, variable]) => {
      const client = new pg.Client({
        connectionString: url,
        connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
        query_timeout: CONNECT_TIMEOUT_MS,
      });
      client.on('error', () => undefined);
      try {
        await client.connect();
        return [await ask(client, variable, url)];
      } catch {
        return [];
      } finally {
        await client.end().catch(() => undefined);
      }
    }),
  );
  return answers.flatMap((answer) => answer);
}
