/** Deposits in SQL: what vendors show is kept once, cursor and findings move together, and a loss is counted once. */
import assert from 'node:assert/strict';
import {
  chainCheckpoints,
  chainCursors,
  keepFindings,
  recordScan,
  type Finding,
} from '../../../db/payments/chain-cursors.ts';
import {
  assignDepositAddress,
  chainsReadUntil,
  depositsOf,
  moveDeposit,
  noteDepositDispute,
  noteDepositReported,
  noteToken,
  openDeposits,
  recheckDeposits,
  watchedAddresses,
  type DepositAddress,
  type OpenDeposit,
} from '../../../db/payments/deposits.ts';
import { createTopUp } from '../../../db/payments/top-ups.ts';
import type { BlockRef, DepositState } from '../../../domain/payments/deposit.ts';
import { formatId, uuidOf, type Uuid } from '../../../domain/ids.ts';
import { usd } from '../../../domain/money.ts';
import {
  brokenRules,
  createCustomer,
  createLedgerDatabase,
  uuidAt,
  type LedgerDatabase,
} from '../../support/ledger-database.ts';

const TOKEN = `0x${'cc'.repeat(20)}`;
const SENDER = `0x${'5e'.repeat(20)}`;

describe('deposits', () => {
  let ledger: LedgerDatabase;
  let address: DepositAddress;
  /** Each test has a chain of its own. */
  let chainId = 100;
  let n = 0;
  let places = 0;

  before(async () => {
    ledger = await createLedgerDatabase('deposits', 8);
  });
  after(() => ledger.database.drop());
  beforeEach(async () => {
    chainId++;
    address = await newAddress();
  });
  afterEach('no rule is broken', async () => {
    assert.deepEqual(await brokenRules(ledger.admin), []);
  });

  async function newOrder(): Promise<Uuid<'topUp'>> {
    const order = await createTopUp(ledger.management, {
      id: uuidOf('topUp', uuidAt(Date.now())),
      accountId: await createCustomer(ledger, '0'),
      method: 'crypto',
      provider: 'crypto',
      amount: usd('10'),
      fee: usd('0'),
      currency: 'usd',
      live: true,
      expiresInSeconds: 3600,
    });
    return order.id;
  }

  const hex = (value: number, bytes: number): string => `0x${value.toString(16).padStart(bytes * 2, '0')}`;

  const assign = (topUpId: Uuid<'topUp'>, place: number): Promise<DepositAddress | null> =>
    assignDepositAddress(ledger.worker, {
      ...{ topUpId, path: `${place}/0`, wallet: '0x00000000', address: hex(place, 20) },
    });

  async function newAddress(topUpId?: Uuid<'topUp'>): Promise<DepositAddress> {
    return (await assign(topUpId ?? (await newOrder()), ++places))!;
  }

  const block = (height: number, fork = 0): BlockRef => ({
    height,
    hash: hex(height * 100 + fork, 32),
    time: 1000 + height,
  });

  const finding = (given: Partial<Finding> = {}): Finding => ({
    txHash: hex(++n, 32),
    ordinal: 0,
    transfer: { token: TOKEN, from: SENDER, to: address.address, units: 10_000_000n },
    symbol: 'USDC',
    amount: usd('10'),
    block: block(5),
    isOwn: false,
    ...given,
  });

  const scan = (given: Partial<Parameters<typeof recordScan>[1]> = {}): Promise<boolean> =>
    recordScan(ledger.worker, {
      chainId,
      vendor: 'alpha',
      expected: null,
      fork: null,
      cursor: block(5),
      head: { latest: block(6), safe: 4, finalized: 2 },
      findings: [],
      ...given,
    });

  const open = (): Promise<OpenDeposit[]> => openDeposits(ledger.worker, chainId);

  async function only(): Promise<OpenDeposit> {
    const [deposit, ...others] = await open();
    assert.ok(deposit !== undefined && others.length === 0, 'there is one');
    return deposit;
  }

  async function moveTo(state: DepositState, at: BlockRef = block(5)): Promise<boolean> {
    const deposit = await only();
    return moveDeposit(ledger.worker, deposit, { ...deposit, state, block: at });
  }

  const standing = async () => (await depositsOf(ledger.worker, address.topUpId))[0]!;

  it('a top-up has one address, for any number of requests; positions are dense', async () => {
    const topUpId = await newOrder();
    const given = await Promise.all(Array.from({ length: 8 }, () => newAddress(topUpId)));
    assert.equal(new Set(given.map((one) => one.address)).size, 1);
    const all = await watchedAddresses(ledger.worker, 0, 1000);
    assert.deepEqual(
      all.map(({ position }) => position),
      all.map((_, index) => index + 1),
    );
    assert.deepEqual(await watchedAddresses(ledger.worker, all.length - 1, 1000), [given[0]]);
  });

  it('an address of another top-up is given to nobody, and takes none from its own', async () => {
    const [first, second] = [await newOrder(), await newOrder()];
    const taken = ++places;
    assert.equal((await assign(first, taken))?.topUpId, first);
    assert.equal(await assign(second, taken), null);
    assert.equal((await assign(second, ++places))?.topUpId, second);
    assert.equal((await assign(first, ++places))?.address, hex(taken, 20), 'a repeat keeps the first one');
  });

  it('an address that becomes visible has no earlier position than those that were visible before', async () => {
    const known = new Set<number>();
    let position = 0;
    let isDone = false;
    const reading = (async () => {
      for (;;) {
        const wasDone = isDone;
        for (const found of await watchedAddresses(ledger.worker, position, 1000)) {
          known.add(found.position);
          position = found.position;
        }
        if (wasDone) return;
      }
    })();
    const orders = await Promise.all(Array.from({ length: 30 }, newOrder));
    await Promise.all(orders.map((topUpId) => newAddress(topUpId)));
    isDone = true;
    await reading;
    assert.equal(known.size, position, 'none was stepped over');
  });

  it('cursor and findings are stored together; a second writer from the same cursor is turned away', async () => {
    assert.equal(await scan({ findings: [finding()] }), true);
    const loser = finding();
    assert.equal(await scan({ findings: [loser] }), false, 'no cursor is expected, but there is one');
    assert.equal((await open()).length, 1);
    const expected = block(5).hash;
    const racing = await Promise.all(
      Array.from({ length: 6 }, () => scan({ expected, cursor: block(6), findings: [finding({ block: block(6) })] })),
    );
    assert.equal(racing.filter(Boolean).length, 1);
    assert.equal((await open()).length, 2);
    assert.deepEqual(await chainCursors(ledger.worker, chainId), [
      { vendor: 'alpha', block: block(6), head: 6, safe: 4, finalized: 2 },
    ]);
  });

  it('the same transfer from two vendors is one deposit', async () => {
    const found = finding();
    await scan({ findings: [found] });
    await scan({ vendor: 'beta', findings: [found, found] });
    assert.equal((await only()).state, 'seen');
  });

  it('checkpoints above a fork are removed and deposits above it are asked for again', async () => {
    await scan({ cursor: block(4), findings: [finding({ block: block(4) })] });
    await scan({ expected: block(4).hash, findings: [finding({ block: block(5) })] });
    await scan({ expected: block(5).hash, fork: 4, cursor: block(6, 1) });
    assert.deepEqual(
      (await open()).map(({ block: { height }, isRecheck }) => [height, isRecheck]),
      [
        [4, false],
        [5, true],
      ],
    );
    assert.deepEqual(await chainCheckpoints(ledger.worker, chainId, 'alpha'), [
      { height: 6, hash: block(6, 1).hash },
      { height: 4, hash: block(4).hash },
    ]);
  });

  it('checkpoints do not pile up below what is final', async () => {
    let expected: string | null = null;
    for (let height = 5; height < 150; height++) {
      const head = { latest: block(height), safe: null, finalized: height - 3 };
      assert.equal(await scan({ expected, cursor: block(height), head }), true);
      expected = block(height).hash;
    }
    const kept = await chainCheckpoints(ledger.worker, chainId, 'alpha');
    assert.equal(kept.length, 35);
    assert.equal(kept[0]!.height, 149);
  });

  it('a loss counts only after the deposit had counted, once each time, and only until it counts again', async () => {
    await scan({ findings: [finding()] });
    await moveTo('undone');
    assert.deepEqual([(await standing()).losses, (await standing()).counted], [0, false]);
    await moveTo('spendable');
    await moveTo('undone');
    assert.deepEqual([(await standing()).losses, (await standing()).counted], [1, false]);
    await moveTo('seen', block(7));
    assert.deepEqual([(await standing()).losses, (await standing()).counted], [1, false]);
    await moveTo('final', block(7));
    assert.deepEqual([(await standing()).losses, (await standing()).counted], [1, true]);
    await moveTo('undone');
    assert.equal((await standing()).losses, 2);
  });

  it('a deposit that moved to another block still counts, until it is gone', async () => {
    await scan({ findings: [finding()] });
    await moveTo('spendable');
    await moveTo('seen', block(8));
    assert.deepEqual([(await standing()).state, (await standing()).counted], ['seen', true]);
    await moveTo('undone');
    assert.equal((await standing()).losses, 1);
  });

  it('a verdict on a row that has changed since is not written', async () => {
    await scan({ findings: [finding()] });
    const judged = await only();
    assert.equal(await moveTo('spendable'), true);
    assert.equal(await moveDeposit(ledger.worker, judged, { ...judged, state: 'undone', block: block(5) }), false);
    assert.equal((await standing()).state, 'spendable');
  });

  it('the fields of a transfer can be corrected before it counts, never after', async () => {
    await scan({ findings: [finding()] });
    const deposit = await only();
    const right = { token: TOKEN, from: SENDER, to: address.address, units: 7_000_000n };
    const to = { symbol: 'USDC', transfer: right, amount: usd('7'), block: block(5) };
    await moveDeposit(ledger.worker, deposit, { ...to, state: 'spendable' });
    assert.equal((await standing()).amount, usd('7'));
    const later = await only();
    await moveDeposit(ledger.worker, later, { ...to, state: 'final', amount: usd('9') });
    assert.equal((await standing()).amount, usd('7'));
  });

  it('tokens that were ours before are no deposit, but a case: by what the reader saw, and by the sender alone', async () => {
    const sender = (await newAddress()).address;
    const own = finding({ isOwn: true });
    const fromUs = finding({ transfer: { token: TOKEN, from: sender, to: address.address, units: 30_000_000n } });
    const toItself = finding({ transfer: { ...fromUs.transfer, from: address.address } });
    const real = finding({ txHash: own.txHash, ordinal: 1 });
    assert.equal(await keepFindings(ledger.worker, chainId, [own, fromUs, toItself, real]), 1);
    assert.equal(await keepFindings(ledger.worker, chainId, [own, fromUs, toItself, real]), 0);
    assert.equal((await only()).ordinal, 1);
    const { rows } = await ledger.admin.query<{ subject: string; evidence: { top_up: string; from: string } }>(
      `select subject, evidence from review_case where kind = 'transfer_from_own_address' and subject like $1 order by subject`,
      [`${chainId}/%`],
    );
    const keys = [own, fromUs, toItself].map(({ txHash, ordinal }) => `${chainId}/${txHash}/${ordinal}`);
    assert.deepEqual(
      rows.map(({ subject }) => subject),
      keys.sort(),
    );
    assert.equal(rows[0]!.evidence.top_up, formatId('topUp', address.topUpId));
  });

  it('tokens that a bridge mints come from nobody, who is no mark of an account', async () => {
    const { transfer } = finding();
    await scan({ findings: [finding({ transfer: { ...transfer, from: hex(0, 20) } })] });
    await moveTo('final');
    const { rows } = await ledger.admin.query('select from account_mark where value = $1', [hex(0, 20)]);
    assert.deepEqual([(await standing()).counted, rows.length], [true, 0]);
  });

  it('a deposit marks its account with the paying address, once it counts', async () => {
    const marks = async (): Promise<unknown[]> => {
      const { rows } = await ledger.admin.query<{ value: string }>(
        `select m.value from account_mark m join top_up t on t.account_id = m.account_id join deposit_address a on a.top_up_id = t.id
          where m.kind = 'funding_address' and a.address = $1`,
        [address.address],
      );
      return rows;
    };
    await scan({ findings: [finding()] });
    assert.deepEqual(await marks(), []);
    await moveTo('spendable');
    await moveTo('final');
    assert.deepEqual(await marks(), [{ value: SENDER }]);
  });

  it('a final and reported deposit is left alone until its height is requested again, or a vendor shows it elsewhere', async () => {
    const found = finding();
    await scan({ findings: [found] });
    await moveTo('final');
    await noteDepositReported(ledger.worker, await only());
    assert.deepEqual(await open(), []);
    await recheckDeposits(ledger.worker, chainId, { from: 5, to: 5 });
    assert.equal((await only()).isRecheck, true);
    await moveTo('final');
    assert.deepEqual(await open(), []);
    assert.equal(await keepFindings(ledger.worker, chainId, [{ ...found, block: block(6) }]), 0);
    assert.equal((await only()).isRecheck, true);
  });

  it('a dispute has the time at which it began, until it is over', async () => {
    await scan({ findings: [finding()] });
    await noteDepositDispute(ledger.worker, (await only()).id, true);
    const since = (await standing()).disputedSince;
    assert.ok(since !== null);
    await noteDepositDispute(ledger.worker, (await only()).id, true);
    assert.deepEqual((await standing()).disputedSince, since);
    await moveTo('seen');
    assert.equal((await standing()).disputedSince, null);
  });

  it('deposits that waited for their token’s peg are told again when it is back', async () => {
    await scan({ findings: [finding()] });
    await noteToken(ledger.worker, chainId, TOKEN, 'peg_lost');
    await moveTo('final');
    await noteDepositReported(ledger.worker, await only());
    assert.equal((await standing()).tokenFault, 'peg_lost');
    await noteToken(ledger.worker, chainId, TOKEN, null);
    assert.equal((await only()).reported, null);
  });

  it('the head is the height that two vendors have reached', async () => {
    await scan({ findings: [finding()] });
    assert.equal((await standing()).head, null);
    await scan({ vendor: 'beta', head: { latest: block(9), safe: null, finalized: null } });
    assert.equal((await standing()).head, 6);
  });

  it('chains are read until the time of the vendor that is furthest behind', async () => {
    assert.equal(await chainsReadUntil(ledger.worker, [chainId]), null);
    await scan();
    await recordScan(ledger.worker, {
      chainId: chainId + 1000,
      vendor: 'alpha',
      expected: null,
      fork: null,
      cursor: block(2),
      head: { latest: block(2), safe: null, finalized: null },
      findings: [],
    });
    assert.deepEqual(await chainsReadUntil(ledger.worker, [chainId, chainId + 1000]), new Date(1002_000));
    assert.equal(await chainsReadUntil(ledger.worker, [chainId, chainId + 2000]), null);
  });
});
