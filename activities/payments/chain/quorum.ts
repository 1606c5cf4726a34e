/** Asks every vendor for every open deposit, writes down what two of them agree on, and tells the top-ups. */
import type pg from 'pg';
import type { Logger } from 'pino';
import { decideDeposit, usdOfUnits, type DepositVerdict, type VendorView } from '../../../domain/payments/deposit.ts';
import { formatId } from '../../../domain/ids.ts';
import { formatUsd } from '../../../domain/money.ts';
import { openCase } from '../../../db/accounts/cases.ts';
import {
  moveDeposit,
  noteDepositDispute,
  noteDepositReported,
  openDeposits,
  type OpenDeposit,
} from '../../../db/payments/deposits.ts';
import type { Chain } from '../../../providers/chain/settings.ts';
import type { DepositAddresses } from './deposit-addresses.ts';
import type { Ours } from '../../../providers/chain/own-transfers.ts';
import type { VendorViewReader } from '../../../providers/chain/vendor-view.ts';

export interface QuorumDeps {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly chain: Chain;
  readonly addresses: DepositAddresses;
  /** Says to a top-up's workflow that there is news. */
  readonly tell: (topUpId: OpenDeposit['topUpId']) => Promise<void>;
  readonly graceSeconds: number;
}

export interface QuorumResult {
  readonly open: number;
  /** Payment keys about which vendors have contradicted each other for too long. */
  readonly disputed: readonly string[];
}

/** How many deposits are asked for at once: enough to hide the wire, too few to be taken for an attack. */
const AT_ONCE = 8;

/** `vendors` are those that answer now. */
export async function decideDeposits(deps: QuorumDeps, readers: readonly VendorViewReader[]): Promise<QuorumResult> {
  const { pool, chain } = deps;
  const deposits = await openDeposits(pool, chain.chainId);
  const asked = deposits.filter(({ state, isRecheck }) => isRecheck || state !== 'final');
  for (let n = 0; n < asked.length; n += AT_ONCE) {
    await Promise.all(asked.slice(n, n + AT_ONCE).map((deposit) => decide(deps, deposit, readers)));
  }
  const after = asked.length === 0 ? deposits : await openDeposits(pool, chain.chainId);
  // One word a top-up, however many of its deposits have news.
  const wakes = new Map<string, Promise<void>>();
  for (const deposit of after) {
    if (deposit.reported === deposit.state) continue;
    if (!wakes.has(deposit.topUpId)) wakes.set(deposit.topUpId, deps.tell(deposit.topUpId));
    await wakes.get(deposit.topUpId);
    await noteDepositReported(pool, deposit);
  }
  return {
    open: after.filter(({ state }) => state === 'seen' || state === 'spendable').length,
    disputed: after
      .filter(({ disputedSeconds }) => disputedSeconds !== null && disputedSeconds >= deps.graceSeconds)
      .map(({ txHash, ordinal }) => `${txHash}/${ordinal}`),
  };
}

async function decide(deps: QuorumDeps, deposit: OpenDeposit, readers: readonly VendorViewReader[]): Promise<void> {
  const { pool, logger, chain, addresses } = deps;
  const ours: Ours = { tokens: chain.tokens, has: (address) => addresses.has(address) };
  const views = await Promise.all(readers.map((reader) => viewOf(reader, deposit, ours)));
  const verdict = decideDeposit(deposit, views, chain.policy);
  if (!verdict.isAgreed) {
    // Vendors disagree: drop their cached answers, so that a vendor that recovers is read again.
    for (const reader of readers) reader.forget(deposit.txHash);
    await noteDepositDispute(pool, deposit.id, verdict.isDisputed);
    return;
  }
  if (isSettled(deposit, verdict)) return;
  const token = chain.tokens.find(({ contract }) => contract === verdict.transfer.token)!;
  const amount = usdOfUnits(verdict.transfer.units, token.decimals);
  const isMoved = await moveDeposit(pool, deposit, { ...verdict, symbol: token.symbol, amount });
  if (!isMoved || (verdict.state === deposit.state && verdict.block.hash === deposit.block.hash)) return;
  const key = `${chain.chainId}/${deposit.txHash}/${deposit.ordinal}`;
  logger[verdict.state === 'undone' ? 'warn' : 'info'](
    { deposit: key, from: deposit.state, to: verdict.state, height: verdict.block.height, amount: formatUsd(amount) },
    'deposit moved',
  );
  if (verdict.isFinalityViolated) {
    logger.error({ deposit: key, block: deposit.block, now: verdict.state }, 'a final block has gone');
    const evidence = {
      top_up: formatId('topUp', deposit.topUpId),
      amount: formatUsd(deposit.amount),
      was: deposit.block,
      now: verdict.state === 'undone' ? null : verdict.block,
    };
    await openCase(pool, { kind: 'finality_violated', subject: key, evidence });
  }
}

async function viewOf(reader: VendorViewReader, deposit: OpenDeposit, ours: Ours): Promise<VendorView> {
  try {
    return await reader.viewOf(deposit, ours);
  } catch {
    // No answer is no vote. That the vendor does not answer is shown by its scan.
    return { kind: 'silent' };
  }
}

/** True when the verdict tells the row nothing new. */
function isSettled(deposit: OpenDeposit, { state, block, transfer }: DepositVerdict): boolean {
  return (
    state === deposit.state &&
    block.hash === deposit.block.hash &&
    transfer.units === deposit.transfer.units &&
    transfer.to === deposit.transfer.to &&
    transfer.token === deposit.transfer.token &&
    !deposit.isRecheck &&
    deposit.disputedSeconds === null
  );
}
