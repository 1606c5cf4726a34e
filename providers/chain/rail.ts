/**
 * Crypto: an address of our own for each order, and whatever arrives there. The truth of a deposit is what `watchChain`
 * has established in PostgreSQL; this rail never asks a chain. An address cannot be closed: it is watched forever, and
 * money that comes late or twice is still credited.
 */
import type pg from 'pg';
import { assert } from '../../domain/assert.ts';
import {
  confirmationsAt,
  depositPaymentId,
  spendableRule,
  spendableRuleText,
  type SpendableRule,
} from '../../domain/payments/deposit.ts';
import { formatId } from '../../domain/ids.ts';
import { formatUsdShort } from '../../domain/money.ts';
import type { CheckoutFacts, PaymentFacts, ReversalFacts } from '../../domain/payments/top-up.ts';
import {
  assignDepositAddress,
  chainsReadUntil,
  depositAddressOf,
  depositsOf,
  type Deposit,
} from '../../db/payments/deposits.ts';
import { requestOrderRescans } from '../../db/payments/block-rescans.ts';
import type { TopUp } from '../../db/payments/top-ups.ts';
import { chainOf, type CryptoSettings } from './settings.ts';
import { addressAt, depositPath, depositWallet } from './wallet.ts';
import type { Checkout, PaymentRail } from '../rail.ts';

/** Two top-ups that meet once are one pair in four trillion million; ten times over is a bug. */
const PATHS_MAX = 10;

export function createCryptoRail({ settings, pool }: { settings: CryptoSettings; pool: pg.Pool }): PaymentRail {
  const wallet = depositWallet(settings.xpub);
  const chainIds = settings.chains.map(({ chainId }) => chainId);

  return {
    provider: 'crypto',
    accepts: 'any',
    leastReceived: settings.minimumCredit,
    async openCheckout(order): Promise<Checkout> {
      const given = await depositAddressOf(pool, order.id);
      if (given !== null) return { providerId: given.address, url: null, expiresAt: null };
      for (let attempt = 0; ; attempt++) {
        assert(attempt < PATHS_MAX, 'a path that nobody has is found');
        const path = depositPath(order.id, attempt);
        const address = addressAt(wallet, path);
        const assigned = { topUpId: order.id, path, wallet: wallet.fingerprint, address };
        const mine = await assignDepositAddress(pool, assigned);
        if (mine !== null) return { providerId: mine.address, url: null, expiresAt: null };
      }
    },
    async inspect(order): Promise<CheckoutFacts> {
      const deposits = await depositsOf(pool, order.id);
      const payments = deposits.flatMap((deposit) => paymentOf(deposit, order) ?? []);
      const checkout = (await isExpired(order)) ? 'expired' : 'open';
      const remark = remarkOn(deposits);
      return { checkout, payments, ...(remark === null ? {} : { remark }) };
    },
    // The order's own address, in its own time: what a vendor's logs have left out may be there by now.
    lookHarder: (order) => requestOrderRescans(pool, order.id, chainIds, formatId('topUp', order.id)),
    // An address cannot be closed: later payments are still credited.
    closeCheckout: () => Promise.resolve(),
    // No events: the watcher wakes the order's run itself.
    subjectOf: () => ({ reversalId: null, topUpId: null, paymentId: null }),
    topUpOf: () => Promise.resolve(null),
  };

  /** Nobody has paid in time only once every chain has been read past that time. */
  async function isExpired({ expiresAt }: TopUp): Promise<boolean> {
    if (expiresAt.getTime() > Date.now()) return false;
    const until = await chainsReadUntil(pool, chainIds);
    return until !== null && until >= expiresAt;
  }

  /** The reason why the oldest uncredited deposit waits. */
  function remarkOn(deposits: readonly Deposit[]): NonNullable<CheckoutFacts['remark']> | null {
    const graceMs = settings.watch.graceSeconds * 1000;
    for (const deposit of deposits) {
      const { disputedSince, state, tokenFault, symbol, chainId } = deposit;
      const chain = chainOf(settings, chainId);
      const what = `${formatUsdShort(deposit.amount)} ${symbol} in ${deposit.txHash} on ${chain?.name ?? `chain ${chainId}`}`;
      if (disputedSince !== null && Date.now() - disputedSince.getTime() >= graceMs) {
        return { stuck: 'vendors_disagree', words: `RPC vendors contradict each other about ${what}` };
      }
      if (tokenFault !== null && !deposit.credited && (state === 'spendable' || state === 'final')) {
        return { stuck: 'peg_lost', words: `${what} waits until ${symbol} is worth a dollar again (${tokenFault})` };
      }
      if (state === 'seen' && chain !== null) {
        const isReached = deposit.head !== null && deposit.head >= deposit.height;
        if (!isReached && Date.now() - deposit.seenAt.getTime() >= graceMs) {
          const where = `see the run chain/${chainId}`;
          return { stuck: 'vendors_behind', words: `only one RPC vendor has reached the block of ${what}; ${where}` };
        }
        const rule = spendableRule(chain.policy, deposit.amount);
        return { stuck: null, words: `waiting for ${waitingWords(rule, deposit)} of ${what}` };
      }
    }
    return null;
  }
}

function waitingWords(rule: SpendableRule, { head, height }: Deposit): string {
  if (rule.kind !== 'blocks') return rule.kind === 'seconds' ? spendableRuleText(rule) : `the ${rule.kind} block`;
  const reached = head === null ? 0 : Math.min(confirmationsAt(height, head), rule.blocks);
  return `${rule.blocks} confirmations (${reached} so far)`;
}

/** Null for what never counted and is gone: nobody has to know of it. */
function paymentOf(deposit: Deposit, { currency, live }: TopUp): PaymentFacts | null {
  const { state, losses, amount: received, tokenFault } = deposit;
  if (state === 'undone' && losses === 0) return null;
  const paymentId = depositPaymentId(deposit);
  const reversals = Array.from({ length: losses }, (_, n): ReversalFacts => {
    // Until it counts again the last loss stands; those before it were made good.
    const isTaken = n === losses - 1 && !deposit.counted;
    return { objectId: `${paymentId}#${n + 1}`, kind: 'reorg', amount: received, isTaken, isOpen: state !== 'final' };
  });
  assert(received > 0n, 'a deposit is worth something');
  const otherIds = [deposit.txHash];
  return { paymentId, status: statusOf(), received, currency, live, otherIds, isFinal: state === 'final', reversals };

  function statusOf(): PaymentFacts['status'] {
    if (state === 'undone') return 'failed';
    // A credit stays, for any later value of its token.
    return state === 'seen' || (tokenFault !== null && !deposit.credited) ? 'processing' : 'paid';
  }
}
