/** Reproductions of review findings at the ledger. */
import assert from 'node:assert/strict';
import { createServer, connect } from 'node:net';
import { Agent, request as httpRequest } from 'node:http';
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { createOrphanActivities } from '../../activities/orphans.ts';
import { noteClientLeft, placeHold, settleRequests, extendHold } from '../../db/requests.ts';
import { loadCatalogue } from '../../db/catalogue.ts';
import { formatId } from '../../domain/ids.ts';
import { usd } from '../../domain/money.ts';
import { beginNextWindow, createCustomer, createKey, createLedgerDatabase, holdOf, type LedgerDatabase } from '../support/ledger-database.ts';
import { createCustomer as createPayer, post } from '../support/gateway-client.ts';
import { startTestStack } from '../support/stack.ts';

describe('review: ledger', function () {
  this.timeout(60_000);
  let db: LedgerDatabase;
  before(async () => { db = await createLedgerDatabase('review'); });
  after(() => db.database.drop());

  it('G evidence beyond what the model can do does not empty the account', async () => {
    await loadCatalogue(db.management, [{ id: 'r/m', dialect: 'openai', context_length: 1000, default_output_tokens: 100, upstreams: [], prices: { input: '1', output: '2' } }]);
    const accountId = await createCustomer(db, '100');
    const keyId = await createKey(db, accountId);
    const hold = holdOf({ accountId, keyId }, '0.003', { modelId: 'r/m' });
    await placeHold(db.gateway, hold);
    await noteClientLeft(db.gateway, hold.requestId, { inputTokens: 10, outputTokens: 10 });
    const activities = createOrphanActivities({ pool: db.worker, logger: pino({ level: 'silent' }), environment: {} });
    console.log('   ', await activities.finishOrphan({ requestId: formatId('request', hold.requestId), usage: { prompt_tokens: 1_000_000_000, completion_tokens: 1 } }));
    await settleRequests(db.worker, [hold.requestId], 'w');
    const { rows } = await db.admin.query('select balance, (select cost from request where id = $2), (select list_cost from request where id = $2) from account where id = $1', [accountId, hold.requestId]);
    console.log('   ', rows[0]);
    assert.ok(Number(rows[0].balance) > 99);
  });

  it('J a stream of the window before cannot spend beyond the limit of its key', async () => {
    const accountId = await createCustomer(db, '1000');
    const keyId = await createKey(db, accountId, { limit: usd('1'), limitReset: 'daily' });
    const old = holdOf({ accountId, keyId }, '0.5');
    await placeHold(db.gateway, old);
    await beginNextWindow(db.admin, keyId, 86_400_000);
    await placeHold(db.gateway, holdOf({ accountId, keyId }, '0.1'));
    console.log('    limit 1, hold now', await extendHold(db.gateway, old.requestId, usd('900')).catch((e: unknown) => String(e)));
  });
});

describe('review: flood', function () {
  this.timeout(90_000);
  it('H calls with unknown keys cannot keep the gateway from its heartbeat', async () => {
    const sockets = new Set<import('node:net').Socket>();
    const stack = await startTestStack({
      name: 'review-flood', worker: false,
      env: { HOLD_TIMEOUT_SECONDS: '3', HEARTBEAT_SECONDS: '2' },
      databaseUrl: async (url) => {
        const target = new URL(url);
        // A database that is 40 ms away.
        const server = createServer((client) => {
          const upstream = connect(Number(target.port), target.hostname);
          sockets.add(client); sockets.add(upstream);
          client.on('data', (d) => upstream.write(d));
          upstream.on('data', (d) => setTimeout(() => client.writable && client.write(d), 40));
          for (const [a, b] of [[client, upstream], [upstream, client]] as const) { a.on('close', () => b.destroy()); a.on('error', () => b.destroy()); }
        });
        await new Promise<void>((r) => server.listen(0, '127.0.0.1', r));
        target.port = String((server.address() as import('node:net').AddressInfo).port);
        sockets.add(server as never);
        return target.href;
      },
    });
    try {
      const payer = await createPayer(stack, '1');
      const body = { model: 'test/small', messages: [{ role: 'user', content: 'Hi' }] };
      await delay(2000); await (await post(stack, payer.secret, body)).text(); const before = performance.now();
      console.log(stack.api.log.filter((l) => l['level'] !== 'info').slice(0, 3));
      console.log('    calm', (await post(stack, payer.secret, body)).status, Math.round(performance.now() - before), 'ms');
      const agent = new Agent({ keepAlive: true, maxSockets: 2500 });
      let running = true; let answers = 0;
      const worker = async () => {
        while (running) await new Promise<void>((resolve) => {
          const call = httpRequest(`${stack.baseUrl}/v1/models`, { agent, headers: { authorization: `Bearer sk-hf-${randomBytes(24).toString('hex')}` } }, (response) => { answers++; response.resume(); response.on('end', resolve); response.on('error', () => resolve()); });
          call.on('error', () => setTimeout(resolve, 100)); call.end();
        });
      };
      const flood = Array.from({ length: 2000 }, worker);
      await delay(4000);
      const results: string[] = [];
      for (let i = 0; i < 4; i++) { const t = performance.now(); const r = await post(stack, payer.secret, body); results.push(`${r.status} after ${Math.round(performance.now() - t)} ms`); await r.text(); }
      await delay(6000);
      const { rows } = await stack.admin.query('select extract(epoch from clock_timestamp() - heartbeat_at) as silent from gateway_instance');
      console.log('    gateway silent for s', rows);
      running = false; agent.destroy(); await Promise.race([Promise.allSettled(flood), delay(4000)]);
      const counts = new Map<string, number>();
      for (const l of stack.api.log) if (l['level'] !== 'info') counts.set(String(l['msg']), (counts.get(String(l['msg'])) ?? 0) + 1);
      console.log('    under flood', results, 'unknown-key answers', answers, Object.fromEntries(counts));
    } finally { for (const s of sockets) 'destroy' in s && s.destroy(); await stack.stop(); }
  });
});
