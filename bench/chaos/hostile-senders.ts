/**
 * Ten accounts without money that do their worst, one kind at a time: a process of its own, because they are somebody
 * else's machines. Told by messages which kind to begin and when to stop; sends only to the gateway it is given, on
 * this machine.
 */
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import type { HostileKind, HostileOrder, HostileReport } from './hostile-kinds.ts';

const NUMBERS = Buffer.from(
  `{"model":"holdfast/small","seed":1234567890123456789,"messages":[{"role":"user","content":"x"}],"x":[1${',1'.repeat(5 * 1024 * 1024)}]}`,
);
const LONG_NUMBERS = Buffer.from(
  `{"model":"holdfast/small","messages":[{"role":"user","content":"x"}],"x":[1${',12345678901234567890'.repeat(100_000)}]}`,
);
const FREE = Buffer.from(
  JSON.stringify({
    model: 'holdfast/small:free',
    n: 128,
    max_tokens: 4096,
    messages: [{ role: 'user', content: 'x' }],
  }),
);

/** Sent by each account at a time. */
const AT_ONCE = 4;
/** Idle sockets of each account. */
const SOCKETS = 28;
const PAUSE_MS = 10;

class Attack {
  readonly #order: HostileOrder;
  readonly #statuses: Record<string, number> = {};
  #sent = 0;
  #isOver = false;
  readonly #done: Promise<unknown>;

  constructor(order: HostileOrder & { readonly kind: HostileKind }) {
    this.#order = order;
    this.#done = Promise.all(order.secrets.flatMap((secret) => this.#workers(order.kind, secret)));
  }

  async stop(): Promise<HostileReport> {
    this.#isOver = true;
    await this.#done;
    return { sent: this.#sent, statuses: this.#statuses };
  }

  #workers(kind: HostileKind, secret: string): Promise<void>[] {
    const many = (count: number, work: () => Promise<void>): Promise<void>[] =>
      Array.from({ length: count }, () => this.#repeat(work));
    switch (kind) {
      case 'bodies':
        return many(AT_ONCE, () => this.#post(secret, NUMBERS));
      case 'long numbers':
        return many(AT_ONCE, () => this.#post(secret, LONG_NUMBERS));
      case 'sockets':
        return many(SOCKETS, () => this.#idle(secret));
      case 'slow bodies':
        return many(SOCKETS, () => this.#drip(secret));
      case 'tokens':
        return [
          ...many(AT_ONCE, () => this.#get('/v1/models', `sk-hf-${randomHex()}`)),
          ...many(AT_ONCE, () => this.#get('/api/account', `hf-${randomHex()}`)),
        ];
      case 'look-ups':
        return many(AT_ONCE, async () => {
          await this.#get('/api/v1/credits', secret);
          await this.#get('/api/v1/key', secret);
          await this.#get(`/api/v1/generation?id=req_${randomHex().slice(0, 32)}`, secret);
        });
      case 'free models':
        return many(AT_ONCE, () => this.#post(secret, FREE));
    }
  }

  async #repeat(work: () => Promise<void>): Promise<void> {
    while (!this.#isOver) {
      this.#sent += 1;
      await work().catch(() => this.#count('broken'));
      await delay(PAUSE_MS);
    }
  }

  #count(status: string): void {
    this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
  }

  async #post(secret: string, body: Buffer): Promise<void> {
    const response = await fetch(`${this.#order.gatewayUrl}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
      body: new Uint8Array(body),
      signal: AbortSignal.timeout(60_000),
    });
    await response.arrayBuffer();
    this.#count(String(response.status));
  }

  async #get(path: string, secret: string): Promise<void> {
    const response = await fetch(this.#order.gatewayUrl + path, {
      headers: { authorization: `Bearer ${secret}` },
      signal: AbortSignal.timeout(60_000),
    });
    await response.arrayBuffer();
    this.#count(String(response.status));
  }

  /** Announces a body and sends none of it. */
  #idle(secret: string): Promise<void> {
    return this.#socket(secret, 10 * 1024 * 1024, null);
  }

  /** Sends its body so slowly that it never ends. */
  #drip(secret: string): Promise<void> {
    return this.#socket(secret, 10 * 1024 * 1024, ' ');
  }

  #socket(secret: string, length: number, drip: string | null): Promise<void> {
    const { hostname, port } = new URL(this.#order.gatewayUrl);
    return new Promise((resolve) => {
      const socket = connect({ host: hostname, port: Number(port) });
      const timer = setInterval(() => {
        if (this.#isOver) socket.destroy();
        else if (drip !== null) socket.write(drip);
      }, 200);
      socket.on('error', () => undefined);
      socket.once('data', (bytes) => {
        this.#count(bytes.toString('latin1').slice(9, 12));
        socket.destroy();
      });
      socket.once('close', () => {
        clearInterval(timer);
        resolve();
      });
      socket.write(
        `POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer ${secret}\r\n` +
          `content-type: application/json\r\ncontent-length: ${length}\r\n\r\n`,
      );
    });
  }
}

function randomHex(): string {
  return Array.from({ length: 48 }, () => Math.floor(Math.random() * 16).toString(16)).join('');
}

let running: Attack | null = null;
process.on('message', (order: HostileOrder) => {
  if (order.kind !== null) {
    running = new Attack({ ...order, kind: order.kind });
    return;
  }
  const ending = running;
  running = null;
  void ending?.stop().then((report) => process.send?.(report));
});
process.on('disconnect', () => process.exit(0));
