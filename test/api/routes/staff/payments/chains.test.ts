/** Staff have blocks of a chain read again: bounded, on record, and once however often they ask. */
import assert from 'node:assert/strict';
import { recordScan } from '../../../../../db/payments/chain-cursors.ts';
import { parseCryptoSettings } from '../../../../../providers/chain/settings.ts';
import { XPUB } from '../../../../support/crypto-stack.ts';
import { refusal, rowsOf, startManagement, type Management } from '../../management.ts';

const BASE = 8453;
const PATH = `/admin/chains/${BASE}/rescan`;

describe('/admin/chains', () => {
  let management: Management;

  before(async () => {
    const env = { CRYPTO_XPUB: XPUB, CHAIN_8453_RPC_URLS: 'https://a.test,https://b.test' };
    management = await startManagement('routes_chains', { crypto: parseCryptoSettings(env)! });
    const latest = { height: 5_000_000, hash: `0x${'1'.repeat(64)}`, time: 1000 };
    const head = { latest, safe: null, finalized: null };
    await recordScan(management.worker, {
      ...{ chainId: BASE, vendor: 'a.test', expected: null, fork: null, cursor: latest, head, findings: [] },
    });
  });
  after(() => management.stop());
  beforeEach(() => management.admin.query('delete from block_rescan'));

  const ask = (body: unknown, options: { token?: string; headers?: Record<string, string> } = {}) =>
    management.call('POST', PATH, { body, ...options });
  const actions = async (): Promise<object[]> => {
    const { rows } = await management.admin.query<{ details: object }>(
      `select details from operator_action where action = 'chain.rescan' order by id`,
    );
    return rows.map(({ details }) => details);
  };

  it('a range is accepted, listed and on record with who asked', async () => {
    const { status, body } = await ask({ from_block: 10, to_block: 20 });
    assert.equal(status, 202);
    const { id, requested_at, ...rescan } = body;
    assert.match(String(id), /^rsc_[0-9a-f]{32}$/);
    assert.ok(Date.parse(String(requested_at)) > 0);
    assert.deepEqual(rescan, {
      ...{
        chain_id: BASE,
        state: 'waiting',
        from_block: 10,
        to_block: 20,
        next_block: null,
        found: 0,
        top_up_id: null,
      },
      ...{ requested_by: rescan['requested_by'], done_at: null, fault: null },
    });
    assert.match(String(rescan['requested_by']), /^the operator \(tok_/);
    const list = await management.call('GET', `/admin/chains/${BASE}/rescans`, { token: management.tokens.support });
    assert.deepEqual(
      rowsOf(list.body).map((row) => row['id']),
      [id],
    );
    assert.deepEqual((await actions()).at(-1), { from_block: 10, to_block: 20, rescan: id });
  });

  it('a range requested twice is one, with a key or without; another body under a key is refused', async () => {
    const first = await ask({ from_block: 1, to_block: 2 });
    assert.equal((await ask({ from_block: 1, to_block: 2 })).body['id'], first.body['id']);
    const headers = { 'idempotency-key': 'again' };
    const keyed = await ask({ from_block: 3, to_block: 4 }, { headers });
    const before = (await actions()).length;
    const repeat = await ask({ from_block: 3, to_block: 4 }, { headers });
    assert.deepEqual([repeat.status, repeat.body['id']], [202, keyed.body['id']]);
    assert.equal((await actions()).length, before, 'and one record');
    assert.equal(refusal(await ask({ from_block: 3, to_block: 5 }, { headers })).status, 422);
  });

  it('ten ranges wait, the eleventh is told to come back', async () => {
    const asked = await Promise.all(Array.from({ length: 11 }, (_, n) => ask({ from_block: n, to_block: n })));
    assert.deepEqual(asked.map(({ status }) => status).sort(), [...Array<number>(10).fill(202), 429]);
    const refused = asked.find(({ status }) => status === 429)!;
    assert.equal(refused.headers.get('retry-after'), '60');
  });

  for (const [body, param] of [
    [{ from_block: 5, to_block: 4 }, 'to_block'],
    [{ from_block: 0, to_block: 1_000_000 }, 'to_block'],
    [{ from_block: 5_000_001, to_block: 5_000_002 }, 'from_block'],
    [{ from_block: -1, to_block: 4 }, 'from_block'],
    [{ from_block: 1.5, to_block: 4 }, 'from_block'],
    [{ from_block: '1', to_block: 4 }, 'from_block'],
    [{ from_block: 1, to_block: 2 ** 60 }, 'to_block'],
    [{ from_block: 1 }, 'to_block'],
  ] as const) {
    it(`${JSON.stringify(body)} is refused by name`, async () => {
      const { status, code, param: named } = refusal(await ask(body));
      assert.deepEqual([status, code, named], [422, 'invalid_field', param]);
    });
  }

  it('a chain that is not configured is not found, what is none is named, and only who answers for money may ask', async () => {
    for (const [path, status] of [
      ['/admin/chains/1/rescan', 404],
      ['/admin/chains/base/rescan', 422],
      ['/admin/chains/0/rescan', 422],
      ['/admin/chains/99999999999/rescan', 422],
    ] as const) {
      const answer = await management.call('POST', path, { body: { from_block: 1, to_block: 2 } });
      assert.equal(answer.status, status, path);
    }
    for (const role of ['support', 'auditor'] as const) {
      const { status } = await ask({ from_block: 1, to_block: 2 }, { token: management.tokens[role] });
      assert.equal(status, 403, role);
    }
    assert.equal((await ask({ from_block: 1, to_block: 2 }, { token: management.tokens.finance })).status, 202);
  });
});
