/** The load generator against a small server whose behaviour is known: what it reports is what happened. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Generator, type Load, type Target } from '../../bench/generator.ts';
import { quantile } from '../../bench/statistics.ts';

describe('load generator', () => {
  let generator: Generator;
  const servers: Server[] = [];

  before(async () => {
    generator = await Generator.start();
  });

  after(async () => {
    await generator.stop();
    for (const server of servers) {
      server.closeAllConnections();
      server.close();
    }
  });

  async function serve(listener: RequestListener, stream = false): Promise<Target> {
    const server = createServer((request, response) => {
      request.resume();
      request.once('end', () => listener(request, response));
    });
    servers.push(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    return { origin: `http://127.0.0.1:${port}`, path: '/', tokens: ['a', 'b'], body: '{}', stream };
  }

  it('sends Poisson arrivals at the rate that was asked for, the same ones for the same seed', async () => {
    const target = await serve((_request, response) => response.end('ok'));
    const load: Load = { kind: 'open', ratePerSecond: 200, seconds: 1 };
    const first = await generator.run({ target, load, seed: 1 });
    const again = await generator.run({ target, load, seed: 1 });
    assert.deepEqual(first.errors, {});
    assert.equal(first.sent, again.sent);
    // Four standard deviations of a Poisson count of 200.
    assert.ok(Math.abs(first.sent - 200) < 57, `${first.sent} arrivals`);
  });

  it('counts the wait behind a server that stalls, because latency begins at the scheduled arrival', async () => {
    // Answers one at a time, 20 ms each: 100 arrivals a second can never be served, so the queue grows and so must
    // latency.
    let queue = Promise.resolve();
    const target = await serve((_request, response) => {
      queue = queue.then(() => new Promise((resolve) => setTimeout(resolve, 20))).then(() => void response.end('ok'));
    });
    const { latencyMs, sent } = await generator.run({
      target,
      load: { kind: 'open', ratePerSecond: 100, seconds: 1 },
      seed: 2,
    });
    assert.equal(latencyMs.length, sent);
    const last = quantile(latencyMs.subarray(-10), 0.5);
    // The last arrival waits for about half of all answers, far longer than the 20 ms of its own.
    assert.ok(last > (sent * 20) / 4, `the last requests took ${last} ms`);
  });

  it('keeps exactly as many requests under way as there are clients', async () => {
    let open = 0;
    let most = 0;
    const target = await serve((_request, response) => {
      open += 1;
      most = Math.max(most, open);
      setTimeout(() => {
        open -= 1;
        response.end('ok');
      }, 5);
    });
    const { sent, latencyMs } = await generator.run({
      target,
      load: { kind: 'closed', clients: 3, seconds: 0.5 },
      seed: 3,
    });
    assert.equal(most, 3);
    assert.equal(latencyMs.length, sent);
    assert.ok(
      quantile(latencyMs, 0) > 3,
      "no answer can be earlier than its server sent it, but for the timer's own rounding",
    );
  });

  it('counts failures by what they were and leaves them out of the latencies', async () => {
    let n = 0;
    const target = await serve((request, response) => {
      n += 1;
      if (n % 3 === 0) request.socket.destroy();
      else response.writeHead(n % 3 === 1 ? 503 : 200).end('ok');
    });
    const { sent, errors, latencyMs } = await generator.run({
      target,
      load: { kind: 'closed', clients: 1, seconds: 0.3 },
      seed: 4,
    });
    const { 'status 503': refused = 0, ...broken } = errors;
    assert.ok(refused > 0);
    assert.ok(Object.values(broken).reduce((sum, count) => sum + count, 0) > 0, JSON.stringify(errors));
    const failed = Object.values(errors).reduce((sum, count) => sum + count, 0);
    assert.equal(latencyMs.length, sent - failed);
  });

  it('notes the first content of a stream, not its opening chunk, and misses an end that never came', async () => {
    let n = 0;
    const target = await serve((_request, response) => {
      n += 1;
      const isWhole = n % 2 === 1;
      response.write('data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n');
      setTimeout(() => {
        response.write('data: {"choices":[{"delta":{"content":" river"}}]}\n\n');
        setTimeout(() => response.end(isWhole ? 'data: [DONE]\n\n' : ''), 30);
      }, 30);
    }, true);
    const { firstTokenMs, latencyMs, errors, sent } = await generator.run({
      target,
      load: { kind: 'closed', clients: 1, seconds: 0.5 },
      seed: 5,
    });
    assert.equal(errors['stream without end'], Math.floor(sent / 2));
    assert.ok(quantile(firstTokenMs, 0) > 27, 'the empty opening chunk is no token');
    assert.ok(quantile(latencyMs, 0) > 56);
    assert.ok(quantile(firstTokenMs, 1) < quantile(latencyMs, 1));
  });
});
