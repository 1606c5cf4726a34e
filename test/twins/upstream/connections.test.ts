/**
 * Connections of the upstream twin between requests, as servers and load balancers in front of models do.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent } from 'node:http';
import { connect, type Socket } from 'node:net';

import { startUpstreamTwin, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { API_KEY, newId, QUESTION, rawReads, record } from './fixture.ts';

describe('upstream twin keeps connections as told', () => {
  let twin: UpstreamTwin;
  let agent: Agent;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  beforeEach(() => {
    agent = new Agent({ keepAlive: true, maxSockets: 1 });
  });
  afterEach(() => {
    agent.destroy();
    twin.reset();
  });
  after(() => twin.close());

  it('tells how long it keeps them, truly or not, or not at all', async () => {
    assert.equal((await rawReads(twin, QUESTION, agent)).headers['keep-alive'], 'timeout=120');
    twin.configure({ connections: { hint_seconds: 5 } });
    assert.equal((await rawReads(twin, QUESTION, agent)).headers['keep-alive'], 'timeout=5');
    twin.configure({ connections: { hint_seconds: null } });
    const { headers } = await rawReads(twin, QUESTION, agent);
    assert.equal(headers['keep-alive'], undefined);
    assert.equal(headers.connection, 'keep-alive');
  });

  /** An open connection on which one request was answered, with what it ends by. */
  async function usedConnection(): Promise<{ socket: Socket; ended: Promise<string> }> {
    const socket = connect({ port: twin.port, host: '127.0.0.1', allowHalfOpen: true });
    const ended = new Promise<string>((resolve) => {
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'));
      socket.once('end', () => resolve('end'));
    });
    let text = '';
    const answered = new Promise<void>((resolve) => {
      socket.on('data', (part: Buffer) => {
        text += part.toString();
        if (text.includes('}]') && text.includes('"usage"')) resolve();
      });
    });
    socket.write(requestText());
    await answered;
    return { socket, ended };
  }

  function requestText(): string {
    const body = JSON.stringify(QUESTION);
    return `POST /v1/chat/completions HTTP/1.1\r\nhost: twin\r\nauthorization: Bearer ${API_KEY}\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
  }

  it('closes an idle one after its time, by an orderly end or a reset', async () => {
    twin.configure({ connections: { keep_alive_ms: 20, ends: 'fin' } });
    const orderly = await usedConnection();
    assert.equal(await orderly.ended, 'end');
    orderly.socket.destroy();
    twin.configure({ connections: { keep_alive_ms: 20, ends: 'reset' } });
    const reset = await usedConnection();
    assert.equal(await reset.ended, 'ECONNRESET');
  });

  it('half-closes one and answers nothing that still comes on it', async () => {
    twin.configure({ connections: { keep_alive_ms: 10, ends: 'half' } });
    const { socket, ended } = await usedConnection();
    assert.equal(await ended, 'end');
    const before = twin.requests().totals.attempts;
    socket.end(requestText());
    await once(socket, 'close');
    assert.equal(twin.requests().totals.attempts, before);
  });

  for (const reused of ['reset', 'fin'] as const) {
    it(`drops a further request on a used one (${reused}) before anything is read or produced`, async () => {
      await rawReads(twin, QUESTION, agent);
      twin.configure({ connections: { reused } });
      const id = newId();
      await assert.rejects(rawReads(twin, QUESTION, agent, id), /ECONNRESET|socket hang up/);
      assert.equal(twin.request(id), undefined);
      await rawReads(twin, QUESTION, agent, id);
      assert.equal(record(twin, id).attempts, 1, 'a new connection is served');
    });
  }

  it('refuses a large body before it has come', async () => {
    twin.configure({ connections: { body_bytes_max: 100_000 } });
    const socket = connect({ port: twin.port, host: '127.0.0.1' });
    let text = '';
    socket.on('data', (part: Buffer) => (text += part.toString()));
    socket.on('error', () => undefined);
    socket.write('POST /v1/chat/completions HTTP/1.1\r\nhost: twin\r\ncontent-length: 5000000\r\n\r\n');
    socket.write('x'.repeat(200_000));
    await once(socket, 'close');
    assert.match(text, /^HTTP\/1\.1 413 /);
    assert.equal(twin.requests().totals.attempts, 0);
  });

  it('serves control calls on any connection', async () => {
    twin.configure({ connections: { reused: 'reset', requests_max: 1 } });
    await rawReads(twin, QUESTION, agent);
    for (let call = 0; call < 3; call += 1) {
      const response = await fetch(`${twin.url}/_twin/config`);
      assert.equal(response.status, 200);
      await response.text();
    }
  });

  it('closes one after so many requests, and says so or not', async () => {
    for (const says_close of [true, false]) {
      twin.configure({ connections: { requests_max: 2, says_close } });
      const first = await rawReads(twin, QUESTION, agent);
      const second = await rawReads(twin, QUESTION, agent);
      assert.equal(second.localPort, first.localPort);
      assert.equal(second.headers.connection, says_close ? 'close' : 'keep-alive');
      agent.destroy();
      const third = await rawReads(twin, QUESTION, agent);
      assert.notEqual(third.localPort, first.localPort);
      agent.destroy();
    }
  });
});
