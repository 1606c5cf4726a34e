/**
 * The chain twin as it is steered from outside, by programs (JSON, snake_case) and by a person's browser (the faucet
 * page).
 */
import assert from 'node:assert/strict';
import { id, type JsonRpcProvider } from 'ethers';
import type { ChainHandle, ChainTwin } from '../../../twins/chain/twin.ts';
import { ALICE, BASE, fresh, logsTo, post, startChain, type ChainFixture } from './fixture.ts';

type ControlAnswer = Record<string, unknown> & { error?: { message: string; field: string | null } };

describe('chain twin: control', () => {
  let fixture: ChainFixture;
  let twin: ChainTwin;
  let chain: ChainHandle;
  let alpha: JsonRpcProvider;
  let beta: JsonRpcProvider;

  before(async () => {
    fixture = await startChain();
    ({ twin, chain, alpha, beta } = fixture);
  });
  after(() => fixture.close());
  afterEach(() => fixture.clearFaults());

  describe('API', () => {
    const control = (path: string, body: unknown): Promise<{ status: number; body: ControlAnswer }> =>
      post<ControlAnswer>(`${twin.url}/${path}`, body);

    it('does what the handle does', async () => {
      const to = fresh();
      const sent = await control('transfer', { chain_id: BASE, token: 'USDC', to, amount: '25' });
      assert.deepEqual([sent.status, sent.body['succeeded']], [200, true]);
      const { head } = (await control('mine', { chain_id: BASE, blocks: 2 })).body;
      assert.equal(head, Number(sent.body['block_number']) + 2);
      const reinclude = [{ tx_hash: sent.body['tx_hash'], offset: 1 }];
      assert.deepEqual((await control('reorg', { chain_id: BASE, depth: 3, reinclude })).body, { head });
      assert.equal((await logsTo(alpha, to))[0]?.blockNumber, Number(sent.body['block_number']) + 1);
      const replace = [{ tx_hash: sent.body['tx_hash'], to: fresh(), offset: 0 }];
      assert.equal((await control('reorg', { chain_id: BASE, depth: 2, replace })).status, 200);
      assert.deepEqual(await logsTo(alpha, to), []);
      assert.equal((await control('feeds', { chain_id: BASE, token: 'USDT', answer: '1.001' })).status, 200);
      assert.equal((await control('transfer-fee', { chain_id: BASE, basis_points: 0 })).status, 200);
      for (const on of [true, false]) {
        assert.equal((await control('pause', { chain_id: BASE, token: 'USDT', on })).status, 200);
        assert.equal((await control('blacklist', { chain_id: BASE, token: 'USDC', address: to, on })).status, 200);
      }
      assert.equal((await control('fake-transfer', { chain_id: BASE, to, amount: '1' })).body['succeeded'], true);
      const paid = { address: to, amount: '2' };
      assert.equal((await control('relay', { chain_id: BASE, token: 'USDC', to: [paid] })).body['succeeded'], true);
      const onwards = { chain_id: BASE, token: 'USDC', from: to, to: fresh(), amount: '2' };
      assert.equal((await control('transfer', onwards)).body['succeeded'], true);
    });

    it('takes every fault in snake_case, shows it, and takes it away', async () => {
      const fault = {
        ...{ lag_blocks: 1, freeze_at: 5, empty_logs: true, drop_logs: [id('x')], max_range: 10, status: 429 },
        ...{ invent_log: { to: ALICE, amount: '1' }, hang: true, duplicate_logs: true, shuffle_logs: true },
        ...{ null_receipts: true, chain_id: 1, max_logs: 2, delay_ms: 1 },
      };
      assert.deepEqual((await control('faults', { chain_id: BASE, vendor: 'beta', fault })).body, {
        vendor: 'beta',
        fault,
      });
      const state = async (): Promise<unknown> => {
        const response = await fetch(`${twin.url}/state`);
        const { chains } = (await response.json()) as {
          chains: { chain_id: number; head: number; vendors: unknown }[];
        };
        assert.deepEqual([chains[0]?.chain_id, chains[0]?.head], [BASE, chain.head]);
        return chains[0]?.vendors;
      };
      const [alphaUrl, betaUrl] = twin.rpcUrls[String(BASE)] ?? [];
      assert.deepEqual(await state(), [
        { vendor: 'alpha', rpc_url: alphaUrl, fault: null },
        { vendor: 'beta', rpc_url: betaUrl, fault },
      ]);
      await control('faults', { chain_id: BASE, vendor: 'beta', fault: null });
      assert.equal(await beta.getBlockNumber(), chain.head);
    });

    const sent = { chain_id: BASE, token: 'USDC', to: ALICE, amount: '1' };
    const refused: [path: string, body: unknown, field: string][] = [
      ['transfer', { ...sent, chain_id: 10 }, 'chain_id'],
      ['transfer', { ...sent, chain_id: '8453' }, 'chain_id'],
      ['transfer', { ...sent, token: 'DAI' }, 'token'],
      ['transfer', { ...sent, token: '0x12' }, 'token'],
      ['transfer', { ...sent, to: '0x12' }, 'to'],
      ['transfer', { ...sent, to: ALICE.replace('A11c', 'a11C') }, 'to'],
      ['transfer', { ...sent, amount: 1 }, 'amount'],
      ['transfer', { ...sent, amount: '-1' }, 'amount'],
      ['transfer', { ...sent, amount: '1e3' }, 'amount'],
      ['transfer', { ...sent, amount: '0.1234567' }, 'amount'],
      ['transfer', { ...sent, ammount: '1' }, 'ammount'],
      ['transfer', { ...sent, from: 'me' }, 'from'],
      ['relay', { chain_id: BASE, token: 'USDC', to: [] }, 'to'],
      ['relay', { chain_id: BASE, token: 'DAI', to: [{ address: ALICE, amount: '1' }] }, 'token'],
      ['relay', { chain_id: BASE, token: 'USDC', to: [{ address: ALICE, amount: '1', note: '' }] }, 'note'],
      ['mine', { chain_id: BASE, blocks: 0 }, 'blocks'],
      ['reorg', { chain_id: BASE }, 'depth'],
      ['reorg', { chain_id: BASE, depth: 1, reinclude: [{ tx_hash: '0x1', offset: 0 }] }, 'reinclude'],
      ['reorg', { chain_id: BASE, depth: 1, replace: 'all' }, 'replace'],
      ['feeds', { chain_id: BASE, token: 'ETH', answer: '1' }, 'token'],
      ['feeds', { chain_id: BASE, token: 'USDC', answer: '1.123456789' }, 'answer'],
      ['faults', { chain_id: BASE, vendor: 'gamma', fault: null }, 'vendor'],
      ['faults', { chain_id: BASE, vendor: 'alpha' }, 'fault'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { lagBlocks: 1 } }, 'lagBlocks'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { status: 200 } }, 'status'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { drop_logs: ['0x1'] } }, 'drop_logs'],
      ['faults', { chain_id: BASE, vendor: 'alpha', fault: { answers_for: 10 } }, 'answers_for'],
      ['transfer-fee', { chain_id: BASE, basis_points: 10_001 }, 'basis_points'],
      ['blacklist', { chain_id: BASE, token: 'USDC', address: 'me', on: true }, 'address'],
      ['pause', { chain_id: BASE, token: 'USDC' }, 'on'],
      ['fake-transfer', { chain_id: BASE, to: ALICE, amount: '' }, 'amount'],
    ];
    for (const [path, body, field] of refused) {
      it(`POST /${path} with ${JSON.stringify(body)} is a 422 that names ${field}`, async () => {
        const { head } = chain;
        const { status, body: answer } = await control(path, body);
        assert.deepEqual([status, answer.error?.field], [422, field]);
        assert.equal(chain.head, head);
      });
    }

    it('a body that is no JSON is a 400', async () => {
      assert.equal((await control('mine', '{')).status, 400);
    });
  });

  describe('faucet page', () => {
    it('is filled in by its link, and shows what a link says as text', async () => {
      const query = new URLSearchParams({ chain_id: String(BASE), token: 'USDT', to: `"><b>${ALICE}`, amount: '12.5' });
      const response = await fetch(`${twin.url}/?${query.toString()}`);
      const html = await response.text();
      assert.match(html, /<option value="8453" selected>Base/);
      assert.match(html, /<option value="USDT" selected>/);
      assert.match(html, /value="12\.5"/);
      assert(html.includes(`value="&quot;&gt;&lt;b&gt;${ALICE}"`));
      assert.match(response.headers.get('content-security-policy') ?? '', /default-src 'none'/);
      assert.equal(/(?:src|href)=/.test(html), false, 'no outside resources');
    });

    const submit = async (fields: Record<string, string>): Promise<{ status: number; html: string }> => {
      const response = await fetch(`${twin.url}/`, { method: 'POST', body: new URLSearchParams(fields) });
      return { status: response.status, html: await response.text() };
    };

    it('sends, says where it went, and mines', async () => {
      const to = fresh();
      const sent = await submit({ chain_id: String(BASE), token: 'USDC', to: ` ${to} `, amount: '25', action: 'send' });
      const [log] = await logsTo(alpha, to);
      assert.equal(BigInt(log?.data ?? 0), 25_000_000n);
      assert.equal(sent.status, 200);
      assert.match(
        sent.html,
        new RegExp(`role="status">25 USDC sent .*${log?.transactionHash} in block ${log?.blockNumber}`),
      );
      const { head } = chain;
      assert.match((await submit({ action: 'mine' })).html, new RegExp(`The last one is ${head + 25}`));
    });

    it('says what is wrong, and keeps what was typed', async () => {
      const { status, html } = await submit({ chain_id: String(BASE), token: 'USDC', to: '0x12', amount: '25' });
      assert.equal(status, 422);
      assert.match(html, /role="alert">&?.*must be an address/);
      assert.match(html, /name="to" value="0x12"[^>]* aria-invalid="true"/);
    });
  });
});
