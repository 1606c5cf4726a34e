/**
 * Blocks that are to be read again, in SQL: asked for once while they wait, read piece by piece, and never too many.
 */
import assert from 'node:assert/strict';
import { uuidv7 } from 'uuidv7';
import {
  advanceBlockRescan,
  listBlockRescans,
  nextBlockRescan,
  requestBlockRescan,
  requestOrderRescans,
  type BlockRescan,
} from '../../../db/payments/block-rescans.ts';
import { assignDepositAddress } from '../../../db/payments/deposits.ts';
import { createTopUp } from '../../../db/payments/top-ups.ts';
import { uuidOf, type Uuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import { createCustomer, createLedgerDatabase, uuidAt, type LedgerDatabase } from '../../support/ledger-database.ts';

describe('rescans', () => {
  let ledger: LedgerDatabase;
  let chainId = 0;
  let places = 0;

  before(async () => {
    ledger = await createLedgerDatabase('block_rescans', 8);
  });
  after(() => ledger.database.drop());
  beforeEach(() => {
    chainId++;
  });

  const ask = (from: number, to: number, openMax = 3): Promise<BlockRescan | null> =>
    requestBlockRescan(ledger.management, {
      ...{ id: uuidOf('rescan', uuidv7()), chainId, range: { from, to }, openMax, by: 'Olga' },
    });
  const next = () => nextBlockRescan(ledger.worker, chainId);
  const all = async () => (await listBlockRescans(ledger.management, chainId, { after: null, limit: 100 })).rows;
  const addressOf = (topUpId: Uuid<'topUp'>): Promise<unknown> => {
    const address = `0x${String(++places).padStart(40, '0')}`;
    return assignDepositAddress(ledger.worker, { topUpId, path: `${places}/0`, wallet: '0x0', address });
  };
  async function newOrder(): Promise<Uuid<'topUp'>> {
    const order = await createTopUp(ledger.management, {
      ...{ id: uuidOf('topUp', uuidAt(Date.now())), accountId: await createCustomer(ledger, '0'), method: 'crypto' },
      ...{ provider: 'crypto', amount: usd('10'), fee: usd('0'), currency: 'usd', live: true, expiresInSeconds: 3600 },
    });
    return order.id;
  }

  it('the same range is one rescan while it waits, however many ask at once; afterwards it is another', async () => {
    const asked = await Promise.all(Array.from({ length: 8 }, () => ask(5, 9)));
    assert.equal(new Set(asked.map((rescan) => rescan?.id)).size, 1);
    const { id } = (await next())!;
    await advanceBlockRescan(ledger.worker, id, { range: { from: 5, to: 9 }, next: 10, found: 2, fault: null });
    assert.equal(await next(), null);
    assert.notEqual((await ask(5, 9))?.id, id);
    assert.deepEqual(
      (await all()).map(({ found, doneAt }) => [found, doneAt !== null]),
      [
        [0, false],
        [2, true],
      ],
    );
  });

  it('no more wait than may; of other chains and of orders none counts', async () => {
    const asked = await Promise.all(Array.from({ length: 9 }, (_, n) => ask(n, n)));
    assert.equal(asked.filter((rescan) => rescan !== null).length, 3);
    chainId++;
    await requestOrderRescans(ledger.worker, await newOrder(), [chainId], 'x');
    assert.notEqual(await ask(0, 1, 1), null);
  });

  it('a re-scan continues from its last block, and adds up its findings', async () => {
    await ask(10, 29);
    const range = { from: 10, to: 29 };
    const { id } = (await next())!;
    await advanceBlockRescan(ledger.worker, id, { range, next: 20, found: 1, fault: null });
    assert.deepEqual(await next(), { id, range, next: 20, order: null });
    await advanceBlockRescan(ledger.worker, id, { range, next: 20, found: 0, fault: 'no vendor has answered' });
    await advanceBlockRescan(ledger.worker, id, { range, next: 30, found: 1, fault: null });
    await advanceBlockRescan(ledger.worker, id, { range, next: 15, found: 5, fault: null });
    const [{ found, fault, doneAt, next: at }] = (await all()) as [BlockRescan];
    assert.deepEqual([found, fault, doneAt !== null, at], [2, null, true, 30], 'what is done stays done');
  });

  it('a re-scan without progress lets others pass, and orders pass ranges', async () => {
    const first = (await ask(0, 1))!;
    const second = (await ask(2, 3))!;
    assert.equal((await next())?.id, first.id);
    const stuck = { range: { from: 0, to: 1 }, next: 0, found: 0, fault: 'away' };
    await advanceBlockRescan(ledger.worker, first.id, stuck);
    assert.equal((await next())?.id, second.id);
    const order = await newOrder();
    await requestOrderRescans(ledger.worker, order, [chainId, chainId + 1000], 'x');
    assert.equal((await next())?.id, second.id, 'an order without an address has nothing to look for');
    await addressOf(order);
    await Promise.all([1, 2, 3].map(() => requestOrderRescans(ledger.worker, order, [chainId], 'x')));
    const now = (await next())!;
    assert.deepEqual([now.range, now.next, now.order!.until - now.order!.since], [null, null, 3600]);
    assert.equal((await all()).length, 3, 'at most one for an order');
  });
});
