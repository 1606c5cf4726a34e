/** Reproductions of review findings at the gateway. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { request as httpRequest } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { createCustomer, findRow, platformCosts, post, readStream, requestIdOf, untilNothingHeld, newestRequest } from '../support/gateway-client.ts';
import { addModels, chunk, DONE, event, modelOf, openStream, startScriptedUpstream, usage, writePaced, completion, sendCompletion, type ScriptedUpstream } from '../support/gateway-upstream.ts';
import { startTestStack, until, type TestStack } from '../support/stack.ts';

const json = (x: unknown) => JSON.stringify(x, (_, v: unknown) => (typeof v === 'bigint' ? Number(v) / 1e12 : v));

describe('review: gateway', function () {
  this.timeout(120_000);
  let stack: TestStack;
  let upstream: ScriptedUpstream;
  before(async () => {
    stack = await startTestStack({ name: 'review' });
    upstream = await startScriptedUpstream();
    await addModels(stack, [
      modelOf({ id: 'r/small', prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl }),
      modelOf({ id: 'r/brief', prices: { input: '1', output: '2' }, baseUrl: upstream.baseUrl, request_timeout_seconds: 3 }),
    ]);
  });
  after(async () => { await upstream?.close(); await stack?.stop(); });

  const endless = (piece: string, pauseMs = 1, n = 100_000) => upstream.script(async (response) => {
    openStream(response);
    for (let i = 0; i < n; i++) { if (!(await writePaced(response, chunk({ content: piece })))) return; if (pauseMs >= 0) await delay(pauseMs); }
    response.end(DONE);
  });

  it('A special token in the prompt: a stream cut at the money is charged', async () => {
    const customer = await createCustomer(stack, '0.0008');
    endless(' word');
    const response = await post(stack, customer.secret, { model: 'r/small', stream: true, messages: [{ role: 'user', content: 'Hi <|endoftext|>' }] });
    const text = await response.text().catch((e: unknown) => `ABORTED ${String(e)}`);
    console.log('   client saw chars', text.length, text.slice(-120));
    await delay(1500);
    const row = await findRow(stack, requestIdOf(response));
    console.log('   row', json(row));
    console.log('   log', stack.api.log.filter((l) => l['level'] !== 30).slice(-1).map((l) => String(l['error']).slice(0, 160)));
    assert.equal(row?.outcome, 'cut_by_limit');
  });

  it('B special token in the answer of a stream at the end of its money does not end the process', async () => {
    const customer = await createCustomer(stack, '0.0009');
    upstream.script(async (response) => {
      openStream(response);
      await writePaced(response, chunk({ content: '<|endoftext|>' }));
      for (let i = 0; i < 4000; i++) { if (!(await writePaced(response, chunk({ content: ' w' })))) return; await delay(i % 20 === 0 ? 5 : 0); }
      response.end(DONE);
    });
    const pid = stack.api.pid;
    const response = await post(stack, customer.secret, { model: 'r/small', stream: true, messages: [{ role: 'user', content: 'Hi' }] });
    await response.text().catch((e: unknown) => console.log('   client:', String(e)));
    const dead = await Promise.race([stack.api.exited.then((code) => ({ code })), delay(1500).then(() => null)]);
    console.log('   api', pid, dead === null ? 'lives' : `DIED ${json(dead)}`, stack.api.log.slice(-14).map((l) => String(l['msg'] ?? '')).join('|').slice(0, 700));
    if (dead !== null) await stack.startApi();
    assert.equal(dead, null);
  });

  it('C slow reader: what was delivered before the time-out is paid', async () => {
    const customer = await createCustomer(stack, '10');
    const piece = ' word'.repeat(2000);
    endless(piece, -1, 3000);
    const body = JSON.stringify({ model: 'r/brief', stream: true, max_tokens: 100_000, messages: [{ role: 'user', content: 'Hi' }] });
    const got = await new Promise<{ id: string; bytes: number }>((resolve, reject) => {
      const call = httpRequest(`${stack.baseUrl}/v1/chat/completions`, { method: 'POST', headers: { authorization: `Bearer ${customer.secret}`, 'content-type': 'application/json' } }, (response) => {
        let bytes = 0;
        const id = String(response.headers['x-request-id']);
        response.pause();
        const start = performance.now();
        // Sleeps for most of the model's time, then reads steadily (never finishing) until it is cut.
        setTimeout(() => {
          response.resume();
          response.on('data', (part: Buffer) => { bytes += part.length; });
          response.on('end', () => resolve({ id, bytes })); response.on('error', () => resolve({ id, bytes })); response.on('close', () => resolve({ id, bytes }));
        }, 2400);
        void start;
      });
      call.on('error', reject);
      call.end(body);
    });
    await untilNothingHeld(stack, customer.account);
    console.log('   got', got, json(await findRow(stack, got.id)));
    const row = await findRow(stack, got.id);
    assert.equal(row?.outcome, 'client_disconnected');
  });

  it('D a body may be sent for as long as one likes; priced by the moment of arrival', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => sendCompletion(response, completion('Hello')));
    const { port } = new URL(stack.baseUrl);
    const body = JSON.stringify({ model: 'r/small', messages: [{ role: 'user', content: 'Hi' }] });
    const socket = connect(Number(port), '127.0.0.1');
    socket.write(`POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${customer.secret}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body.slice(0, 10)}`);
    await delay(4000);
    socket.write(body.slice(10));
    const [text] = await Promise.all([new Promise<string>((r) => socket.once('data', (d) => r(d.toString().slice(0, 80))))]);
    socket.destroy();
    const id = await newestRequest(stack, customer.account);
    const { rows } = await stack.admin.query<{ ms: string }>(`select extract(epoch from created_at) * 1000 - ('x' || lpad(left(replace(id::text,'-',''),12), 16, '0'))::bit(64)::bigint as ms from request where id = $1`, [id!.slice(4)]);
    console.log('   ', text.split('\r\n')[0], 'hold taken', rows[0]?.ms, 'ms after the moment it is priced at');
  });

  it('E hidden reasoning: 256 tokens of money buy a whole context of reasoning', async () => {
    const customer = await createCustomer(stack, '0.0008');
    upstream.script(async (response, call) => {
      console.log('   upstream was asked for max', call.body['max_completion_tokens'], call.body['max_tokens']);
      openStream(response);
      await writePaced(response, chunk({ content: 'The answer is 42.' }, 'stop'));
      await writePaced(response, event({ choices: [], usage: usage(90_000, { completion_tokens_details: { reasoning_tokens: 89_990 } }) }));
      response.end(DONE);
    });
    const stream = await readStream(await post(stack, customer.secret, { model: 'r/small', stream: true, messages: [{ role: 'user', content: 'Hi' }] }));
    const row = await until('finished', async () => { const r = await findRow(stack, stream.requestId); return r?.state === 'charged' ? r : null; });
    console.log('   list', Number(row.listCost) / 1e12, 'charged', Number(row.cost) / 1e12, json(await platformCosts(stack, stream.requestId)));
  });

  it('I a fault of a deployment while a request ends does not lose its bill', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script(async (response) => { await delay(300); sendCompletion(response, completion('Hello')); });
    const pending = post(stack, customer.secret, { model: 'r/small', messages: [{ role: 'user', content: 'Hi' }] });
    await delay(150);
    await stack.admin.query('revoke execute on function finish_requests from holdfast_gateway');
    const response = await pending;
    console.log('   client', response.status, (await response.text()).slice(0, 120));
    await stack.admin.query('grant execute on function finish_requests to holdfast_gateway');
    await delay(1500);
    const row = await findRow(stack, requestIdOf(response));
    console.log('   row', row?.state, row?.outcome, stack.api.log.filter((l) => Number(l['level']) >= 40).slice(-3).map((l) => String(l['msg'])));
    assert.equal(row?.outcome, 'completed');
  });

  it('F zero usage with content', async () => {
    const customer = await createCustomer(stack, '1');
    upstream.script((response) => sendCompletion(response, completion('Hello '.repeat(1000), { usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 } })));
    const response = await post(stack, customer.secret, { model: 'r/small', messages: [{ role: 'user', content: 'Hi' }] });
    await response.text();
    console.log('   ', json(await findRow(stack, requestIdOf(response))));
  });
});
