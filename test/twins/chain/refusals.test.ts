/**
 * How a vendor of the chain twin refuses, in every form that rented nodes have for it: a limit that the twin knew only
 * in one of them would let a reader pass every other test that stops for good at the next vendor's.
 */
import assert from 'node:assert/strict';
import type { ChainHandle, Refusal } from '../../../twins/chain/twin.ts';
import {
  BASE,
  fresh,
  post,
  rpc,
  startChain,
  TRANSFER,
  vendorUrl,
  type ChainFixture,
  type RpcAnswer,
} from './fixture.ts';

describe('chain twin: refusals', () => {
  let fixture: ChainFixture;
  let chain: ChainHandle;
  let alphaUrl: string;
  let betaUrl: string;

  before(async () => {
    fixture = await startChain();
    ({ chain } = fixture);
    alphaUrl = vendorUrl(fixture.twin, 'alpha');
    betaUrl = vendorUrl(fixture.twin, 'beta');
  });
  after(() => fixture.close());
  afterEach(() => fixture.clearFaults());

  const refusing = (...refusals: Refusal[]): void => chain.fault('alpha', { refusals });
  const hex = (height: number): string => `0x${height.toString(16)}`;
  const logsOf = (blocks: number, topics: unknown[] = [TRANSFER]): unknown => ({
    ...{ jsonrpc: '2.0', id: 7, method: 'eth_getLogs' },
    params: [{ fromBlock: hex(chain.head - blocks + 1), toBlock: hex(chain.head), topics }],
  });
  const ask = async (body: unknown): Promise<{ status: number; type: string | null; text: string }> => {
    const response = await fetch(alphaUrl, { method: 'POST', body: JSON.stringify(body) });
    return { status: response.status, type: response.headers.get('content-type'), text: await response.text() };
  };

  it('a range over the limit gets the status and the error, with its own blocks in it; less is answered', async () => {
    const error = {
      code: -32602,
      message: 'this block range should work: [{from}, {fits}]',
      data: { to: '{to_number}' },
    };
    refusing({ overBlocks: 4, status: 400, error });
    const { status, text } = await ask(logsOf(5));
    const from = chain.head - 4;
    assert.equal(status, 400);
    assert.deepEqual(JSON.parse(text), {
      ...{ jsonrpc: '2.0', id: 7 },
      error: {
        ...{ code: -32602, message: `this block range should work: [${hex(from)}, ${hex(from + 3)}]` },
        data: { to: String(chain.head) },
      },
    });
    assert.equal((await ask(logsOf(4))).status, 200);
    assert.equal((await rpc(alphaUrl, 'eth_blockNumber')).error, undefined, 'other methods are answered');
    assert.ok(
      Array.isArray((await post<RpcAnswer>(betaUrl, logsOf(5))).body.result),
      'and so is everything by the other',
    );
  });

  it('a refusal can be plain text, a page, nothing, null, half an answer or far too much of one', async () => {
    const shown = async (refusal: Refusal) => {
      refusing(refusal);
      return ask(logsOf(2));
    };
    const text = 'query returned more than 10000 results';
    assert.deepEqual(await shown({ text }), { status: 200, type: 'text/plain', text });
    const page = '<html><body>502 Bad Gateway</body></html>';
    assert.deepEqual(await shown({ status: 502, text: page }), { status: 502, type: 'text/html', text: page });
    assert.deepEqual(await shown({ text: '' }), { status: 200, type: 'text/plain', text: '' });
    assert.deepEqual(await shown({ status: 504 }), { status: 504, type: 'text/plain', text: '' });
    assert.equal((await shown({ nullResult: true })).text, '{"jsonrpc":"2.0","id":7,"result":null}');
    const half = await shown({ truncated: true });
    assert.match(half.text, /^\{"jsonrpc"/);
    assert.throws(() => JSON.parse(half.text) as unknown, SyntaxError);
    const padded = await shown({ padBytes: 1_000_000 });
    assert.ok(padded.text.length > 1_000_000 && Array.isArray((JSON.parse(padded.text) as RpcAnswer).result));
    refusing({ reset: true });
    await assert.rejects(ask(logsOf(2)), TypeError);
  });

  it('429 can say when to come back', async () => {
    refusing({ status: 429, retryAfterSeconds: 3, error: { code: -32005, message: 'rate limited' } });
    const response = await fetch(alphaUrl, { method: 'POST', body: JSON.stringify(logsOf(1)) });
    assert.deepEqual([response.status, response.headers.get('retry-after')], [429, '3']);
    await response.body?.cancel();
  });

  it('tags, methods and long lists of topics are refused each for itself', async () => {
    const error = { code: -32602, message: 'no' };
    refusing(
      { method: 'eth_getBlockByNumber', tag: 'finalized', status: 400 },
      { method: 'eth_getBlockByNumber', tag: 'safe', nullResult: true },
      { overTopics: 2, error },
    );
    const block = (tag: string) => ({ jsonrpc: '2.0', id: 7, method: 'eth_getBlockByNumber', params: [tag, false] });
    assert.equal((await ask(block('finalized'))).status, 400);
    assert.equal((JSON.parse((await ask(block('safe'))).text) as RpcAnswer).result, null);
    assert.ok((JSON.parse((await ask(block('latest'))).text) as RpcAnswer).result);
    const to = (count: number) => [
      TRANSFER,
      null,
      Array.from({ length: count }, (_, n) => `0x${String(n).padStart(64, '0')}`),
    ];
    assert.equal((JSON.parse((await ask(logsOf(1, to(3)))).text) as RpcAnswer).error?.message, 'no');
    assert.deepEqual((JSON.parse((await ask(logsOf(1, to(2)))).text) as RpcAnswer).result, []);
  });

  it('lagLogsBlocks: headers and receipts are fresh, logs are not, and nothing says so', async () => {
    const to = fresh();
    const { txHash, blockNumber } = await chain.transfer({ token: 'USDC', to, amount: '1' });
    await chain.mine(2);
    const topics = [TRANSFER, null, `0x${to.slice(2).toLowerCase().padStart(64, '0')}`];
    const found = async () => ((await post<RpcAnswer>(alphaUrl, logsOf(10, topics))).body.result as unknown[]).length;
    const inItsBlock = async () => {
      const { hash } = (await fixture.beta.getBlock(blockNumber!))!;
      return ((await rpc(alphaUrl, 'eth_getLogs', [{ blockHash: hash, topics }])).result as unknown[]).length;
    };
    chain.fault('alpha', { lagLogsBlocks: 3 });
    assert.deepEqual([await found(), await inItsBlock()], [0, 0]);
    assert.equal(await fixture.alpha.getBlockNumber(), chain.head);
    assert.equal((await fixture.alpha.getTransactionReceipt(txHash))?.logs.length, 1);
    await chain.mine();
    assert.deepEqual([await found(), await inItsBlock()], [1, 1]);
  });

  it('cutLogs: the first logs, as if there were no more; maxBatch: a batch that is too long is refused as a whole', async () => {
    const to = fresh();
    for (let n = 0; n < 3; n++) await chain.transfer({ token: 'USDC', to, amount: '1' });
    const topics = [TRANSFER, null, `0x${to.slice(2).toLowerCase().padStart(64, '0')}`];
    chain.fault('alpha', { cutLogs: 2, maxBatch: 1 });
    assert.equal(((await post<RpcAnswer>(alphaUrl, logsOf(3, topics))).body.result as unknown[]).length, 2);
    const call = { jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] };
    assert.equal((await post<RpcAnswer>(alphaUrl, [call, call])).body.error?.code, -32600);
    assert.equal((await post<RpcAnswer[]>(alphaUrl, [call])).body[0]?.result, '0x2105');
  });

  it('blurBlooms: the filters of its headers promise everything', async () => {
    const bloomOf = async () =>
      ((await rpc(alphaUrl, 'eth_getBlockByNumber', ['latest', false])).result as { logsBloom: string }).logsBloom;
    assert.doesNotMatch(await bloomOf(), /^0xf+$/);
    chain.fault('alpha', { blurBlooms: true });
    assert.match(await bloomOf(), /^0xf{512}$/);
  });

  it('a delay alone makes an answer late, and right', async () => {
    refusing({ overBlocks: 1, delayMs: 100 });
    const begin = performance.now();
    assert.ok(Array.isArray((JSON.parse((await ask(logsOf(2))).text) as RpcAnswer).result));
    assert.ok(performance.now() - begin >= 99);
  });

  const refused: [rule: unknown, field: string][] = [
    [{ status: 199 }, 'status'],
    [{ status: 600 }, 'status'],
    [{ method: 'getLogs' }, 'method'],
    [{ tag: 'pending' }, 'tag'],
    [{ error: { code: 'x', message: 'no' } }, 'code'],
    [{ error: { code: -1, message: 'no', words: '' } }, 'words'],
    [{ over_blocks: -1 }, 'over_blocks'],
    [{ text: 5 }, 'text'],
    [{ truncated: true, hang: true }, 'refusals'],
    [{ overBlocks: 1 }, 'overBlocks'],
    ['no', 'refusals'],
  ];
  for (const [rule, field] of refused) {
    it(`a rule like ${JSON.stringify(rule)} is a 422 that names ${field}`, async () => {
      const body = { chain_id: BASE, vendor: 'alpha', fault: { refusals: [rule] } };
      const { status, body: answer } = await post<{ error?: { field: string } }>(`${fixture.twin.url}/faults`, body);
      assert.deepEqual([status, answer.error?.field], [422, field]);
    });
  }

  it('a rule is taken and shown in snake_case', async () => {
    const fault = {
      ...{ lag_logs_blocks: 3, cut_logs: 9, max_batch: 2, answers_for: BASE, status: 503, blur_blooms: true },
      refusals: [
        { over_blocks: 5, over_topics: 9, tag: 'safe', retry_after_seconds: 1, delay_ms: 2, null_result: true },
      ],
    };
    const { body } = await post<unknown>(`${fixture.twin.url}/faults`, { chain_id: BASE, vendor: 'alpha', fault });
    assert.deepEqual(body, { vendor: 'alpha', fault });
  });
});
