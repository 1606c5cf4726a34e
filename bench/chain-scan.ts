/**
 * `npm run bench:chain`: how long it takes from a new block to what it paid us being on record, with many addresses
 * watched. Two vendors of one chain (a real EVM node behind the sandbox's proxies), PostgreSQL, and the scanner and
 * quorum as the worker runs them. The measure is Base's block time of two seconds: a slower scan falls behind forever.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import { pino } from 'pino';
import { uuidv7 } from 'uuidv7';
import { decideDeposits } from '../activities/payments/chain/quorum.ts';
import { scanVendor } from '../activities/payments/chain/scan.ts';
import { TRANSFER_TOPIC } from '../providers/chain/transfer-logs.ts';
import { openChain, type OpenChain } from '../providers/chain/rpc-vendors.ts';
import { DepositAddresses } from '../activities/payments/chain/deposit-addresses.ts';
import { createPool } from '../db/shared/client.ts';
import { migrate } from '../db/migrate.ts';
import { depositWallet } from '../providers/chain/wallet.ts';
import { parseCryptoSettings } from '../providers/chain/settings.ts';
import { freePort } from '../twins/kit/ports.ts';
import { ensureDatabase, startPostgres } from '../sandbox/postgres.ts';
import { startChainTwin, type ChainHandle } from '../twins/chain/twin.ts';
import { runProgram, type Interruption } from './interrupt.ts';
import { numberOption } from './options.ts';
import { seededRandom } from './random.ts';
import { describeMachine, figure, table, writeResult } from './report.ts';
import { summarize, type Summary } from './statistics.ts';

const USAGE = `npm run bench:chain [-- options]

  --addresses N    addresses that are watched (default 10000)
  --blocks N       blocks that are measured (default 40)
  --payments N     transfers to us in each block (default 5)
  --seed N         of who is paid (default 1)
`;

const CHAIN_ID = 8453;
const BLOCK_MS = 2000;
const WARM_UP_BLOCKS = 5;
/** Public key of an unused wallet: the bench derives addresses and spends nothing. */
const XPUB =
  'xpub6EPuWo2Zez8qnWR1a44VViRzRwan7Ct5XaKCz2anC2xSQLCUUvhGEnGYBohKCsocJHEkYQ143QJH8fixW8ixUxrh6bU52qG2tPe1vqCJjiD';

interface ScanOptions {
  readonly addresses: number;
  readonly blocks: number;
  readonly payments: number;
  readonly seed: number;
}

interface Figures {
  /** From the block to both vendors' findings and cursors being stored. */
  readonly scanMs: Summary;
  /** From there until every open deposit is decided again. */
  readonly decideMs: Summary;
  /** One `eth_getLogs` of the same block and tokens, for everybody's transfers. */
  readonly bareMs: Summary;
  /** By both vendors together: twice what was paid. */
  readonly found: number;
  readonly paid: number;
}

async function main(options: ScanOptions, interruption: Interruption): Promise<boolean> {
  const dataDir = mkdtempSync(join(tmpdir(), 'holdfast-bench-chain-'));
  const server = await startPostgres({
    dataDir,
    port: await freePort(),
    logFile: join(dataDir, 'postgres.log'),
    recordFile: join(dataDir, 'postgres.json'),
    sharedBuffers: '128MB',
    signal: interruption.signal,
  });
  const twin = await startChainTwin({ chains: [{ chainId: CHAIN_ID, blockSeconds: null }] });
  const pool = createPool({ url: server.url('holdfast'), role: 'worker', max: 8 });
  try {
    await ensureDatabase(server.url('postgres'), 'holdfast');
    await migrate(server.url('holdfast'));
    const watched = await giveOutAddresses(server.url('holdfast'), options.addresses);
    const env = { CRYPTO_XPUB: XPUB, CHAIN_8453_RPC_URLS: twin.rpcUrls[CHAIN_ID]!.join(',') };
    const crypto = parseCryptoSettings(env)!;
    const open = openChain(crypto.chains[0]!, crypto.watch);
    const measured = measure({ open, pool, chain: twin.chain(CHAIN_ID), watched }, options);
    const figures = await interruption.orInterrupted(measured);
    report(options, figures);
    return figures.found === 2 * figures.paid && figures.scanMs.p99 < BLOCK_MS;
  } finally {
    await pool.end();
    await twin.close();
    await server.stop();
    server.remove();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/** Orders with addresses, as many as a busy shop has gathered: made in bulk, since only the watching is measured. */
async function giveOutAddresses(url: string, count: number): Promise<string[]> {
  const wallet = depositWallet(XPUB);
  const addresses = Array.from({ length: count }, (_, index) => wallet.deriveChild(index).address.toLowerCase());
  const ids = addresses.map(() => uuidv7());
  const admin = new pg.Pool({ connectionString: url, max: 1, options: '-c search_path=holdfast' });
  try {
    const account = uuidv7();
    await admin.query(`insert into account (id, kind, name) values ($1, 'customer', 'Bench')`, [account]);
    await admin.query(
      `insert into top_up (id, account_id, state, method, provider, amount, fee, currency, live, provider_id, expires_at)
       select id, $1, 'waiting', 'crypto', 'crypto', 10, 0, 'usd', false, address, now() + interval '1 hour'
       from unnest($2::uuid[], $3::text[]) as t (id, address)`,
      [account, ids, addresses],
    );
    await admin.query(
      `insert into deposit_address (position, path, wallet, address, top_up_id)
       select n, '0/' || n, 'bench', address, id from unnest($1::uuid[], $2::text[]) with ordinality as t (id, address, n)`,
      [ids, addresses],
    );
  } finally {
    await admin.end();
  }
  return addresses;
}

async function measure(
  rig: {
    readonly open: OpenChain;
    readonly pool: pg.Pool;
    readonly chain: ChainHandle;
    readonly watched: readonly string[];
  },
  { blocks, payments, seed }: ScanOptions,
): Promise<Figures> {
  const { open, pool, chain, watched } = rig;
  const { vendors } = open;
  const addresses = new DepositAddresses(pool);
  const random = seededRandom(seed);
  const samples = { scanMs: [] as number[], decideMs: [] as number[], bareMs: [] as number[] };
  let found = 0;
  const scanAll = (): Promise<unknown> =>
    Promise.all(
      vendors.map(async (one) => {
        const scan = await scanVendor({ pool, chain: open.chain, addresses, vendors }, one, () => false);
        found += scan?.found ?? 0;
        one.reader.turnTo(one.head!);
      }),
    );
  const deps = {
    pool,
    chain: open.chain,
    addresses,
    logger: pino({ level: 'silent' }),
    tell: () => Promise.resolve(),
    graceSeconds: open.watch.graceSeconds,
  };
  const timed = async (into: number[], work: () => Promise<unknown>, counts: boolean): Promise<void> => {
    const begin = performance.now();
    await work();
    if (counts) into.push(performance.now() - begin);
  };

  await chain.mine(20);
  await scanAll();
  let paid = 0;
  for (let n = 0; n < WARM_UP_BLOCKS + blocks; n++) {
    for (let sent = 0; sent < payments; sent++, paid++) {
      const to = random.pick(watched);
      await chain.transfer({ token: sent % 2 === 0 ? 'USDC' : 'USDT', to, amount: '10', mine: false });
    }
    const height = await chain.mine(1);
    const counts = n >= WARM_UP_BLOCKS;
    await timed(samples.scanMs, scanAll, counts);
    const readers = vendors.map(({ reader }) => reader);
    await timed(samples.decideMs, () => decideDeposits(deps, readers), counts);
    const contracts = open.chain.tokens.map(({ contract }) => contract);
    const bare = { from: height, to: height, contracts, topics: [TRANSFER_TOPIC] };
    await timed(samples.bareMs, () => vendors[0]!.vendor.logs(bare), counts);
  }
  return {
    scanMs: summarize(samples.scanMs),
    decideMs: summarize(samples.decideMs),
    bareMs: summarize(samples.bareMs),
    found,
    paid,
  };
}

function report(options: ScanOptions, figures: Figures): void {
  const { scanMs, decideMs, bareMs, found, paid } = figures;
  const row = (what: string, { p50, p99, max }: Summary): string[] => [
    what,
    figure(p50),
    figure(p99),
    figure(max),
    `${figure((p50 / BLOCK_MS) * 100, 1)} %`,
    figure(p50 / bareMs.p50),
  ];
  console.log(
    table(
      `${options.addresses} addresses on two vendors, ${options.payments} transfers to us a block, ${options.blocks} blocks (ms)`,
      ['step', 'p50', 'p99', 'max', 'of a block of 2 s', 'times a bare eth_getLogs'],
      [
        row('scan by both vendors, stored', scanMs),
        row('decide all open deposits', decideMs),
        row('bare eth_getLogs, no addresses', bareMs),
      ],
    ),
  );
  console.log(`\nfound ${found / 2} of ${paid} transfers at each vendor`);
  const file = writeResult('chain-scan', {
    finished_at: new Date().toISOString(),
    machine: describeMachine(),
    options,
    ...figures,
  });
  console.log(`\n${file}`);
}

function parseScanOptions(args: readonly string[]): ScanOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: 'boolean', default: false },
      addresses: { type: 'string' },
      blocks: { type: 'string' },
      payments: { type: 'string' },
      seed: { type: 'string' },
    },
  });
  if (values.help) return 'help';
  return {
    addresses: numberOption('addresses', values.addresses, 10_000),
    blocks: numberOption('blocks', values.blocks, 40),
    payments: numberOption('payments', values.payments, 5),
    seed: numberOption('seed', values.seed, 1),
  };
}

await runProgram(async (interruption) => {
  const options = parseScanOptions(process.argv.slice(2));
  if (options !== 'help') return main(options, interruption);
  console.log(USAGE);
});
