/**
 * Hears of changed keys, accounts and prices through PostgreSQL's LISTEN, so that a revoked key stops at once, and of
 * new keys and tokens, so that they work at once. While the connection is down nothing is heard, therefore everything
 * cached is dropped when it is back.
 */
import pg from 'pg';
import type { Logger } from 'pino';
import { sessionOptions } from '../../../../db/shared/client.ts';
import type { Catalogue } from '../catalogue.ts';
import type { KeyDirectory } from './keys.ts';

const CHANNEL = 'holdfast_changed';
const RECONNECT_MS = 1000;

export interface ChangeListenerOptions {
  readonly url: string;
  readonly keys: KeyDirectory;
  readonly catalogue: Catalogue;
  /** Told when a management token was created, or may have been. */
  readonly onTokenCreated: () => void;
  readonly logger: Logger;
}

export class ChangeListener {
  readonly #options: ChangeListenerOptions;
  #client: pg.Client | null = null;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(options: ChangeListenerOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { url, keys, catalogue, onTokenCreated, logger } = this.#options;
    const client = new pg.Client({
      connectionString: url,
      options: sessionOptions('gateway', 0),
      keepAlive: true,
      connectionTimeoutMillis: 5000,
    });
    this.#client = client;
    client.on('notification', ({ payload }) => this.#changed(payload ?? ''));
    client.on('error', (error) => logger.warn({ error: String(error) }, 'change listener lost its connection'));
    client.on('end', () => this.#reconnect());
    try {
      await client.connect();
      await client.query(`listen ${CHANNEL}`);
      keys.forget();
      onTokenCreated();
      await catalogue.refresh();
    } catch (error) {
      logger.warn({ error: String(error) }, 'change listener could not connect');
      await client.end().catch(() => undefined);
      this.#reconnect();
    }
  }

  #changed(payload: string): void {
    const { keys, catalogue, onTokenCreated } = this.#options;
    const [kind, id = ''] = payload.split(':');
    if (kind === 'key') keys.forget({ keyId: id });
    else if (kind === 'key_created') keys.forgetUnknown();
    else if (kind === 'token_created') onTokenCreated();
    else if (kind === 'account') keys.forget({ accountId: id });
    else if (kind === 'catalogue') void catalogue.refresh();
  }

  #reconnect(): void {
    if (this.#stopped || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.start();
    }, RECONNECT_MS);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#client?.end().catch(() => undefined);
  }
}
