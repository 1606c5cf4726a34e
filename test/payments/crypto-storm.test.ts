/**
 * Two hundred deposits on four chains under reorganizations that drop, replace and move their transactions, with a
 * worker that is killed and vendors as they are: all refuse ranges, each at another length and in ever another form,
 * two show their logs late, one ends early, one invents, and any of them answers for another chain for a while. Between
 * the deposits our own tokens move between our own addresses. In the end every account holds exactly what the chains
 * themselves say that strangers have paid it. The seed is printed; `STORM_SEED` runs the same storm again.
 */
import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { seededRandom } from '../../bench/random.ts';
import { formatUsd, picoUsd } from '../../domain/money.ts';
import type { ChainFault, ChainHandle, Refusal } from '../../twins/chain/twin.ts';
import { chainWorkflowId, rescanChainUpdate } from '../../contract/index.ts';
import { startCryptoStack, type CryptoStack } from '../support/crypto-stack.ts';
import { brokenRules } from '../support/ledger-database.ts';
import type { Customer } from '../support/people.ts';
import { until } from '../support/until.ts';
import { VENDOR_REFUSALS } from '../support/vendor-refusals.ts';

const CHAINS = [1, 8453, 42161, 137] as const;
const DEPOSITS = 200;
const ORDERS = 40;
/** `finalized` is 16 blocks below the head: no reorganization here reaches it. */
const SLOTS = 8;
const DEPTH_MAX = 12;
const CONFIRMATIONS = 4;
/** The constant activity of each of them. */
const HABITS = {
  alpha: { lagLogsBlocks: 3 },
  beta: { lagLogsBlocks: 1 },
  laggard: { lagBlocks: 5 },
} as const satisfies Record<string, ChainFault>;
/**
 * Their headers promise nothing in particular, as on busy chains: there only reading again finds what logs left out.
 */
const BUSY_CHAINS: readonly number[] = [42161, 137];
/** Of those that cost a time-out or several pauses one is enough now and then. */
const QUICK_REFUSALS = VENDOR_REFUSALS.filter(({ isSlow }) => isSlow !== true);
const TRANSFER_TOPIC = '0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef';

describe('a storm of deposits', function () {
  this.timeout(900_000);
  let crypto: CryptoStack;
  const seed = Number(process.env['STORM_SEED'] ?? randomInt(2 ** 31));
  const random = seededRandom(seed);
  const pick = <T>(items: readonly T[]): T => random.pick(items);
  const upTo = (most: number): number => random.integer(1, most);

  before(async () => {
    crypto = await startCryptoStack({
      name: 'crypto-storm',
      chains: CHAINS.map((chainId) => ({ chainId, slotsInAnEpoch: SLOTS })),
      vendors: [...Object.keys(HABITS), 'liar'],
      env: () => ({
        CHAIN_ROUND_SECONDS: '0.5',
        CHAIN_POLL_SECONDS: '5',
        CHAIN_RPC_TIMEOUT_SECONDS: '2',
        // So early that many a reorganization takes back what was credited.
        CHAIN_1_SMALL_BELOW_USD: '100',
        CHAIN_1_SMALL_WAITS_FOR: `${CONFIRMATIONS} blocks`,
        CHAIN_8453_SMALL_WAITS_FOR: `${CONFIRMATIONS} blocks`,
        CHAIN_42161_SMALL_WAITS_FOR: 'safe',
      }),
    });
    await Promise.all(CHAINS.map((chainId) => crypto.chain(chainId).mine(2 * SLOTS + 2)));
  });
  after(() => crypto.stop());

  it(`leaves every account with what the chains say (seed ${seed})`, async () => {
    const customers = await Promise.all(Array.from({ length: ORDERS }, () => crypto.people.customer()));
    const orders: { readonly customer: Customer; readonly address: string; readonly id: string }[] = [];
    for (let n = 0; n < ORDERS; n += 8) {
      const some = customers.slice(n, n + 8).map(async (customer) => {
        const { address, id } = await crypto.order(customer, pick(['10', '60', '120']));
        return { customer, address, id };
      });
      orders.push(...(await Promise.all(some)));
    }
    const refusal = (): Refusal => ({
      ...pick(random.chance(0.1) ? VENDOR_REFUSALS : QUICK_REFUSALS).form,
      overBlocks: pick([1, 3, 8, 25]),
    });
    /** Has a chain's vendors refuse in other forms, at other lengths; `foreign` answers for another chain. */
    const disturb = (chain: ChainHandle, foreign: string | null = null): void => {
      const blurBlooms = BUSY_CHAINS.includes(chain.chainId);
      for (const [vendor, habit] of Object.entries(HABITS)) {
        const answersFor = pick(CHAINS.filter((chainId) => chainId !== chain.chainId));
        const refusals = [refusal()];
        if (random.chance(0.3)) refusals.push({ method: 'eth_getBlockByNumber', tag: 'safe', status: 400 });
        chain.fault(vendor, { ...habit, blurBlooms, refusals, ...(vendor === foreign && { answersFor }) });
      }
    };
    const invented: { chainId: number; height: number }[] = [];
    for (const chainId of CHAINS) {
      const chain = crypto.chain(chainId);
      disturb(chain);
      invented.push({ chainId, height: chain.head });
      chain.fault('liar', { inventLog: { to: orders[0]!.address, amount: '777' }, refusals: [refusal()] });
    }

    /** Transactions of each chain that may be in its last blocks, with the height that they were last given. */
    const recent = new Map<number, { txHash: string; height: number }[]>(CHAINS.map((chainId) => [chainId, []]));
    let sent = 0;
    let reorgs = 0;
    let restarts = 0;
    let lies = 0;
    let ownMoves = 0;
    while (sent < DEPOSITS) {
      const chainId = pick(CHAINS);
      const chain = crypto.chain(chainId);
      const foreign = random.chance(0.3) ? pick(Object.keys(HABITS)) : null;
      if (foreign !== null) lies++;
      disturb(chain, foreign);
      for (let n = upTo(6); n > 0 && sent < DEPOSITS; n--, sent++) {
        const amount = formatUsd(picoUsd(BigInt(upTo(150_000_000)) * 1_000_000n)).slice(0, -6);
        const { address } = pick(orders);
        const token = pick(['USDC', 'USDT'] as const);
        const { txHash, blockNumber } = await chain.transfer({ token, to: address, amount });
        recent.get(chainId)!.push({ txHash, height: blockNumber! });
        // What has just come moves on to another of our addresses, or to the same.
        if (random.chance(0.15)) {
          await chain.transfer({ token, from: address, to: pick(orders).address, amount });
          ownMoves++;
        }
        await chain.mine(upTo(2));
      }
      disturb(chain);
      if (random.chance(0.5)) {
        // Long enough for small sums to be credited, not for them to be final.
        await chain.mine(random.integer(CONFIRMATIONS, CONFIRMATIONS + 2));
        await untilReadByTheHonest(chain);
        await reorganize(chain, recent, random.integer(CONFIRMATIONS + 4, DEPTH_MAX));
        reorgs++;
      } else if (random.chance(0.5)) {
        await reorganize(chain, recent, upTo(DEPTH_MAX));
        reorgs++;
      }
      if (sent > ((restarts + 1) * DEPOSITS) / 3 && restarts < 2) {
        restarts++;
        const dying = crypto.stack.worker;
        dying.signal('SIGKILL');
        await dying.exited;
        await crypto.stack.startWorker();
      }
    }
    for (const chainId of CHAINS) {
      const chain = crypto.chain(chainId);
      await reorganize(chain, recent, upTo(DEPTH_MAX));
      chain.fault('laggard', { refusals: [refusal()] });
      await chain.mine(2 * SLOTS + DEPTH_MAX);
    }
    await Promise.all(
      invented.map(({ chainId, height }) =>
        crypto.temporal.workflow
          .getHandle(chainWorkflowId(chainId))
          .executeUpdate(rescanChainUpdate, { args: [{ by: 'test', from: height, to: height }] }),
      ),
    );

    const arrived = (await Promise.all(CHAINS.map((chainId) => paidOn(crypto.chain(chainId), orders)))).flat();
    const isOurs = (address: string): boolean => orders.some((order) => order.address === address);
    const truth = arrived.filter(({ from }) => !isOurs(from));
    const expected = new Map(truth.map(({ paymentId, units }) => [paymentId, `${units}`]));
    let last: Map<string, string> = new Map();
    await until(
      'every deposit to be final and every top-up to know',
      async () => {
        const { rows } = await crypto.stack.admin.query<{ payment_id: string; units: string }>(
          `select payment_id, trunc((credited - reversed) * 1000000)::text as units from payment
           where provider = 'crypto' and credited > reversed and final_at is not null`,
        );
        last = new Map(rows.map(({ payment_id, units }) => [payment_id, units]));
        return last.size === expected.size;
      },
      180_000,
    ).catch(() => undefined);
    assert.deepEqual([...last].sort(), [...expected].sort());

    for (const { customer, address } of orders) {
      const paid = truth.filter(({ to }) => to === address).reduce((sum, { units }) => sum + units, 0n);
      assert.equal(await customer.balance(), picoUsd(paid * 1_000_000n), `balance of ${address}`);
    }
    const { rows: payments } = await crypto.stack.admin.query<{ payment_id: string }>(
      `select payment_id from payment where provider = 'crypto'`,
    );
    assert.equal(new Set(payments.map(({ payment_id }) => payment_id)).size, payments.length);
    const { rows: moved } = await crypto.stack.admin.query<{ direction: string; n: number }>(
      'select direction, count(*)::int as n from payment_reversal group by 1',
    );
    const own = await crypto.stack.admin.query<{ payment_id: string }>(
      `select chain_id || '/' || tx_hash || '/' || ordinal as payment_id from own_transfer`,
    );
    const ownOnChains = arrived.filter(({ from }) => isOurs(from)).map(({ paymentId }) => paymentId);
    const known = own.rows.map(({ payment_id }) => payment_id);
    assert.deepEqual(
      ownOnChains.filter((paymentId) => !known.includes(paymentId)),
      [],
      'every move of our own tokens is a case',
    );
    assert.ok(ownOnChains.length > 0, 'own tokens moved');
    const movedBack = (direction: string): number => moved.find((row) => row.direction === direction)?.n ?? 0;
    await until('what was made up to be known for what it is', async () => {
      const { rows: lies } = await crypto.stack.admin.query<{ state: string }>(
        `select state from deposit where amount = 777`,
      );
      return lies.length > 0 && lies.every(({ state }) => state === 'undone');
    });
    const { rows: alarms } = await crypto.stack.admin.query(`select from review_case where kind = 'finality_violated'`);
    assert.equal(alarms.length, 0, 'nothing final has gone');
    assert.deepEqual(await brokenRules(crypto.stack.admin), []);
    assert.ok(movedBack('out') > 0, 'credits were taken back');
    console.log(
      `      ${expected.size} of ${DEPOSITS} transfers stayed, ${reorgs + CHAINS.length} reorganizations, ` +
        `${movedBack('out')} credits taken back, ${movedBack('in')} of them restored, ${restarts} workers killed, ` +
        `${ownMoves} moves of our own tokens, ${lies} times a vendor answered for another chain`,
    );
  });

  /** Resolves once the two vendors that are neither behind nor lying have been read to the chain's present end. */
  async function untilReadByTheHonest(chain: ChainHandle): Promise<void> {
    await until(`chain ${chain.chainId} to be read to ${chain.head}`, async () => {
      const { rows } = await crypto.stack.admin.query(
        'select from chain_cursor where chain_id = $1 and height >= $2 limit 2',
        [chain.chainId, chain.head],
      );
      return rows.length === 2;
    });
    const { rows } = await crypto.stack.admin.query<{ at: Date }>('select clock_timestamp() as at');
    await until('what was read to be judged', async () => {
      const judged = await crypto.stack.admin.query(
        `select from deposit where chain_id = $1 and state = 'seen' and height <= $2 and seen_at < $3
           and amount < 100 and chain_id in (1, 8453)`,
        [chain.chainId, chain.head - CONFIRMATIONS, rows[0]!.at],
      );
      return judged.rows.length === 0;
    });
  }

  /** Drops some of the last blocks: of their transactions some come back elsewhere, some pay others, some are gone. */
  async function reorganize(
    chain: ChainHandle,
    recent: ReadonlyMap<number, { txHash: string; height: number }[]>,
    depth: number,
  ): Promise<void> {
    const kept: { txHash: string; height: number }[] = [];
    const reinclude: { txHash: string; offset: number }[] = [];
    const replace: { txHash: string; to: string; offset: number }[] = [];
    const first = chain.head - depth + 1;
    for (const { txHash, height } of recent.get(chain.chainId)!) {
      if (height < first) {
        if (height > chain.head - DEPTH_MAX - 2) kept.push({ txHash, height });
        continue;
      }
      const offset = random.integer(0, depth - 1);
      const fate = random.next();
      if (fate < 0.5) {
        reinclude.push({ txHash, offset });
        kept.push({ txHash, height: first + offset });
      } else if (fate < 0.7) {
        replace.push({ txHash, to: '0x00000000000000000000000000000000deadbeef', offset });
      }
    }
    recent.get(chain.chainId)!.splice(0, Infinity, ...kept);
    await chain.reorg({ depth, reinclude, replace });
  }
});

/** Payments to us by the chain itself, past every vendor. */
async function paidOn(
  chain: ChainHandle,
  orders: readonly { readonly address: string }[],
): Promise<{ paymentId: string; from: string; to: string; units: bigint }[]> {
  const topics = [TRANSFER_TOPIC, null, orders.map(({ address }) => `0x${address.slice(2).padStart(64, '0')}`)];
  const address = [chain.tokens.USDC, chain.tokens.USDT];
  const filter = { fromBlock: '0x0', toBlock: 'latest', address, topics };
  const response = await fetch(chain.anvilUrl, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_getLogs', params: [filter] }),
  });
  const { result } = (await response.json()) as {
    result: { transactionHash: string; topics: string[]; data: string }[];
  };
  return result.map(({ transactionHash, topics: [, from, to], data }) => ({
    paymentId: `${chain.chainId}/${transactionHash}/0`,
    from: `0x${from!.slice(26)}`,
    to: `0x${to!.slice(26)}`,
    units: BigInt(data),
  }));
}
