/**
 * A Temporal server whose clock skips whatever nobody has to wait for: the Java test server, fetched once by Maven into
 * the user's cache folder. It needs a JVM; where there is none, tests that need it say so and are skipped.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { Connection } from '@temporalio/client';
import { InternalConnectionOptionsSymbol } from '@temporalio/client/lib/connection.js';
import { msToTs, tsToMs } from '@temporalio/common/lib/time.js';
import { cacheFolder } from '../../sandbox/temporal-locator.ts';
import { freePort } from '../../twins/kit/ports.ts';
import { until } from './until.ts';

const VERSION = '1.38.0';
const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>holdfast</groupId><artifactId>time-skipping</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies><dependency>
    <groupId>io.temporal</groupId><artifactId>temporal-test-server</artifactId><version>${VERSION}</version>
  </dependency></dependencies>
</project>
`;
const FETCH_TIMEOUT_MS = 180_000;
const START_TIMEOUT_MS = 60_000;

export interface TimeSkippingServer {
  readonly address: string;
  readonly connection: Connection;
  /** The server's clock. */
  now(): Promise<number>;
  /** Lets the server's clock run to that moment, at once; what becomes due on the way happens. */
  skipTo(ms: number): Promise<void>;
  close(): Promise<void>;
}

/** Starts a server of its own, or says why that is not possible here. */
export async function startTimeSkippingServer(): Promise<TimeSkippingServer | { readonly missing: string }> {
  if (spawnSync('java', ['-version']).status !== 0) return { missing: 'there is no JVM' };
  const jars = fetchJars();
  if (jars === null) return { missing: `Maven could not fetch io.temporal:temporal-test-server:${VERSION}` };
  const port = await freePort();
  const args = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx512m', '-cp', `${jars}/*`];
  const java = spawn('java', [...args, 'io.temporal.testserver.TestServer', String(port)], { stdio: 'ignore' });
  const address = `127.0.0.1:${port}`;
  const options = { address, connectTimeout: 2000, [InternalConnectionOptionsSymbol]: { supportsTestService: true } };
  try {
    const connection = await until(
      'the time-skipping server',
      () => Connection.connect(options).catch(() => null),
      START_TIMEOUT_MS,
    );
    const service = connection.testService;
    if (service === undefined) throw new Error('the client knows no test service');
    const now = async (): Promise<number> => tsToMs((await service.getCurrentTime({})).time);
    return {
      address,
      connection,
      now,
      async skipTo(ms) {
        const restMs = ms - (await now());
        if (restMs > 0) await service.unlockTimeSkippingWithSleep({ duration: msToTs(restMs) });
      },
      async close() {
        await connection.close();
        java.kill('SIGKILL');
        await once(java, 'exit');
      },
    };
  } catch (error) {
    java.kill('SIGKILL');
    throw error;
  }
}

/** The folder of the server's jars, which appears whole; null where they cannot be had. */
function fetchJars(): string | null {
  const folder = join(cacheFolder(), `temporal-test-server-${VERSION}`);
  if (existsSync(folder)) return folder;
  mkdirSync(dirname(folder), { recursive: true });
  const draft = mkdtempSync(`${folder}-`);
  try {
    writeFileSync(join(draft, 'pom.xml'), POM);
    const goal = [
      '-q',
      '-B',
      'dependency:copy-dependencies',
      '-DincludeScope=runtime',
      `-DoutputDirectory=${draft}/jars`,
    ];
    const fetched = spawnSync('mvn', goal, { cwd: draft, timeout: FETCH_TIMEOUT_MS });
    if (fetched.status !== 0) return existsSync(folder) ? folder : null;
    if (!existsSync(folder)) renameSync(join(draft, 'jars'), folder);
    return folder;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}
