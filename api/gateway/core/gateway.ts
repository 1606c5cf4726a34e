/**
 * The gateway of one process: its queues, caches and limits put together, its readiness, and its end. The handlers in
 * this folder get it as their context; only api/main.ts builds it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Client } from '@temporalio/client';
import { Refusal, type ErrorCode } from '../../../domain/errors.ts';
import { formatId, type RequestUuid } from '../../../domain/ids.ts';
import type { FinishOutcome } from '../../../domain/requests/request.ts';
import type { Environment } from '../../../runtime/environment.ts';
import type { ClientAddress } from '../../http/client-address.ts';
import type { FailedAttempts } from '../../http/failed-attempts.ts';
import type { GatewaySettings } from '../../config.ts';
import type { Admission, Call } from './admission.ts';
import { BodyIntake } from './bodies/body-intake.ts';
import { Catalogue } from './catalogue.ts';
import type { Dialect, DialectRequest, DialectSet } from './dialect.ts';
import { Finishes } from './endings/finishes.ts';
import { ModelFindings } from './endings/model-findings.ts';
import { RefusalLog } from './endings/refusal-log.ts';
import { SettleQueue } from './endings/settle-lane.ts';
import { unservedRecord } from './endings/unserved-record.ts';
import { Heartbeat } from './heartbeat.ts';
import { Holds } from './holds/holds.ts';
import type { InferenceEndpoint } from './http/paths.ts';
import { ChangeListener } from './keys/change-listener.ts';
import { ConcurrencyLimit } from './keys/concurrency.ts';
import { KeyDirectory } from './keys/keys.ts';
import { createGatewayMetrics, type GatewayMetrics } from './metrics.ts';
import { createTokenCounter, type TokenCounter } from './tokens/token-count.ts';
import { UpstreamReport } from './upstreams/upstream-report.ts';
import { UpstreamCaller, type AbortReason } from './upstreams/upstream.ts';

export interface GatewayOptions {
  readonly pool: pg.Pool;
  readonly databaseUrl: string;
  readonly temporal: Client;
  readonly taskQueue: string;
  /** The APIs that its clients speak. */
  readonly dialects: DialectSet;
  readonly settings: GatewaySettings;
  readonly clientAddress: ClientAddress;
  readonly environment: Environment;
  readonly failures: FailedAttempts;
  /** Told when a management token was created, or may have been. */
  readonly onTokenCreated: () => void;
  readonly logger: Logger;
  readonly registry: Registry;
}

/** How long the settlements of the last requests may take at shutdown; what is left is the sweep's. */
const LAST_SETTLEMENTS_SECONDS = 5;
/** How long recording the last ends may take at shutdown once the streams are cut. */
const LAST_FINISHES_SECONDS = 10;
/** How long saying goodbye to the database may take: a connection that hangs would never end on its own. */
const SIGN_OFF_SECONDS = 3;

export class Gateway {
  readonly pool: pg.Pool;
  readonly settings: GatewaySettings;
  readonly clientAddress: ClientAddress;
  readonly logger: Logger;
  readonly keys: KeyDirectory;
  readonly catalogue: Catalogue;
  readonly holds: Holds;
  readonly finishes: Finishes;
  readonly concurrency: ConcurrencyLimit;
  readonly bodies: BodyIntake;
  readonly tokens: TokenCounter;
  readonly upstreams: UpstreamCaller;
  readonly upstreamReport: UpstreamReport;
  readonly findings: ModelFindings;
  readonly metrics: GatewayMetrics;
  readonly #dialects: ReadonlyMap<InferenceEndpoint, Dialect>;
  readonly #settleQueue: SettleQueue;
  readonly #heartbeat: Heartbeat;
  readonly #refusalLog: RefusalLog;
  readonly #listener: ChangeListener;
  readonly #open = new Set<(reason: AbortReason) => void>();
  #active = 0;
  #draining = false;

  constructor(options: GatewayOptions) {
    const { pool, settings, logger, dialects } = options;
    this.#dialects = new Map(dialects.all.map((dialect) => [dialect.endpoint, dialect]));
    this.pool = pool;
    this.settings = settings;
    this.clientAddress = options.clientAddress;
    this.logger = logger;
    this.metrics = createGatewayMetrics(options.registry, {
      openRequests: () => this.#active,
      settleQueue: () => this.#settleQueue.depth,
      bodies: () => this.bodies,
    });
    this.bodies = new BodyIntake({
      settings,
      threadProgram: dialects.bodyThread,
      logger,
      onRefused: (code) => this.metrics.bodiesRefused.inc({ code }),
    });
    this.tokens = createTokenCounter(dialects.tokenThread);
    this.#heartbeat = new Heartbeat({
      pool,
      databaseUrl: options.databaseUrl,
      logger,
      intervalSeconds: settings.heartbeatSeconds,
      stalledSeconds: settings.stalledSeconds,
    });
    this.keys = new KeyDirectory(pool, {
      ageSeconds: settings.keyCacheSeconds,
      timeoutSeconds: settings.holdTimeoutSeconds,
      failures: options.failures,
    });
    this.catalogue = new Catalogue({
      pool,
      logger,
      refreshSeconds: settings.catalogueRefreshSeconds,
      staleSeconds: settings.catalogueStaleSeconds,
      onLoaded: (models) => this.upstreamReport.notConfigured(this.upstreams.faultsOf(models)),
    });
    this.#listener = new ChangeListener({
      url: options.databaseUrl,
      keys: this.keys,
      catalogue: this.catalogue,
      onTokenCreated: options.onTokenCreated,
      logger,
    });
    this.#settleQueue = new SettleQueue({
      client: options.temporal,
      taskQueue: options.taskQueue,
      logger,
      floorSeconds: settings.settleFloorSeconds,
      slotSeconds: settings.settleSlotSeconds,
      onDropped: (count) => this.metrics.settleDropped.inc(count),
    });
    this.finishes = new Finishes({
      pool,
      logger,
      timeoutSeconds: settings.finishTimeoutSeconds,
      onFinished: (requestId) => this.#settleQueue.add(requestId),
      onAlarm: (alarm) => this.metrics.alarms.inc({ alarm }),
    });
    this.holds = new Holds({
      pool,
      logger,
      timeoutSeconds: settings.holdTimeoutSeconds,
      freeQuota: settings.freeQuota,
      onAbandoned: (requestId) => void this.#giveBack(requestId),
    });
    this.concurrency = new ConcurrencyLimit({ key: settings.keyConcurrency, account: settings.accountConcurrency });
    this.upstreams = new UpstreamCaller(options.environment);
    this.upstreamReport = new UpstreamReport(logger, this.metrics);
    this.findings = new ModelFindings({ pool, logger, metrics: this.metrics });
    this.#refusalLog = new RefusalLog({
      pool,
      logger,
      gatewayId: this.gatewayId,
      onSuppressed: () => this.metrics.refusalsNotLogged.inc(),
    });
  }

  /** New at each start: a restarted process never owns its predecessor's holds. */
  get gatewayId(): string {
    return this.#heartbeat.gatewayId;
  }

  /**
   * Starts heartbeat, caches and the listener. Serves at once; until the database has answered it turns requests away.
   */
  async start(): Promise<void> {
    this.#heartbeat.start();
    this.keys.start();
    this.catalogue.start();
    await this.catalogue.refresh();
    await this.#listener.start();
  }

  /** True once an orderly end has begun: nothing new is served any more. */
  get isStopping(): boolean {
    return this.#draining;
  }

  /** The dialect that is spoken at an endpoint. */
  dialectAt(endpoint: InferenceEndpoint): Dialect {
    const dialect = this.#dialects.get(endpoint);
    if (dialect === undefined) throw new Error(`invariant broken: no dialect is spoken at ${endpoint}`);
    return dialect;
  }

  /** Why no hold can be taken now; null when one can. */
  get notReady(): string | null {
    if (this.#draining) return 'the gateway is shutting down';
    if (!this.#heartbeat.isRegistered) return 'the gateway is not registered in the database yet';
    const timeoutMs = this.settings.finishTimeoutSeconds * 1000;
    if (this.finishes.stalledMs > timeoutMs) return 'the database does not store how requests ended';
    if (this.holds.stalledMs > this.settings.holdTimeoutSeconds * 1000) return 'the database does not answer holds';
    if (!this.catalogue.isFresh) return 'prices could not be refreshed for too long';
    return null;
  }

  /** Throws `ledger_unavailable` when a request cannot be accounted for. Prices matter to paid requests only. */
  requireLedger(paid: boolean): void {
    const reason = this.notReady;
    if (reason === null) return;
    if (!paid && !this.#draining && this.#heartbeat.isRegistered) return;
    throw new Refusal('ledger_unavailable');
  }

  /** Counts a request in from its arrival; returns how to count it out. */
  enter(): () => void {
    this.#active++;
    return () => {
      this.#active--;
    };
  }

  /** Registers an open request so that shutdown can end it; returns how to forget it. */
  track(abort: (reason: AbortReason) => void): () => void {
    this.#open.add(abort);
    return () => this.#open.delete(abort);
  }

  countOutcome(outcome: FinishOutcome, { request }: Admission): void {
    this.metrics.outcomes.inc({ outcome, stream: String(request.stream) });
  }

  /** Logs a refused call; `request` is null where its body was not read. */
  logRefusal({ uuid, caller, arrivedAt }: Call, request: DialectRequest | null, code: ErrorCode): void {
    this.#refusalLog.add({
      requestId: uuid,
      accountId: caller.accountId,
      keyId: caller.keyId,
      // Any text a client can send, of which PostgreSQL stores all but this character.
      modelId: (request?.model ?? '').replaceAll('\0', '').slice(0, 200),
      code,
      stream: request?.stream ?? false,
      latencyMs: performance.now() - arrivedAt,
    });
  }

  /** Ends a hold that was granted after its caller had been turned away. */
  async #giveBack(requestId: RequestUuid): Promise<void> {
    try {
      await this.finishes.finish(unservedRecord(requestId, 'orphaned', 0), true);
    } catch (error) {
      this.logger.error(
        { request_id: formatId('request', requestId), error: String(error) },
        'a hold was not given back',
      );
    }
  }

  /**
   * Ends in order: no new requests, open streams go on until they end or `seconds` are over, what is left is finished
   * as `orphaned`, everything recorded is handed to settlement, and the database learns that this gateway is gone.
   */
  async stop(seconds: number): Promise<void> {
    this.#draining = true;
    await this.#untilNoneActive(seconds);
    for (const abort of this.#open) abort('shutdown');
    await this.#untilNoneActive(LAST_FINISHES_SECONDS);
    // Without a database there is nothing to wait for: the sweep will find what could not be recorded.
    await within(LAST_FINISHES_SECONDS, this.holds.drained());
    await within(LAST_FINISHES_SECONDS, this.finishes.drained());
    await this.#settleQueue.stop(LAST_SETTLEMENTS_SECONDS);
    this.catalogue.stop();
    this.keys.stop();
    await this.bodies.stop();
    const signedOff = this.#heartbeat
      .stop()
      .catch((error: unknown) => this.logger.warn({ error: String(error) }, 'could not sign off'));
    const goodbyes = Promise.all([this.#refusalLog.flush(), this.findings.flush(), this.#listener.stop(), signedOff]);
    await within(
      SIGN_OFF_SECONDS,
      goodbyes.then(() => undefined),
    );
    await this.upstreams.close();
    await this.tokens.stop();
  }

  async #untilNoneActive(seconds: number): Promise<void> {
    const deadline = performance.now() + seconds * 1000;
    while (this.#active > 0 && performance.now() < deadline) await delay(20);
  }
}

/** Waits for `work` for at most `seconds`. */
async function within(seconds: number, work: Promise<void>): Promise<void> {
  const timeout = new AbortController();
  await Promise.race([work, delay(seconds * 1000, undefined, { signal: timeout.signal })]);
  timeout.abort();
}
