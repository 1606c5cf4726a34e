/** The view of a crypto top-up: address and tokens, transfers that arrived, and the wait until the credit. */
import { z } from 'zod';
import {
  confirmationsAt,
  DEPOSIT_STATES,
  spendableRule,
  spendableRuleText,
} from '../../../../domain/payments/deposit.ts';
import { addUsd, formatUsd, ZERO_USD } from '../../../../domain/money.ts';
import { faultyTokens, listDeposits, type Deposit } from '../../../../db/payments/deposits.ts';
import type { Session } from '../../../../db/shared/client.ts';
import type { TopUp } from '../../../../db/payments/top-ups.ts';
import { chainOf, type CryptoSettings } from '../../../../providers/chain/settings.ts';
import { usdText } from '../../../http/fields.ts';

const tokenView = z.object({
  symbol: z.string(),
  contract: z.string().meta({ description: 'Only this contract counts; other contracts may use the same name.' }),
});

const chainView = z.object({ chain_id: z.number(), name: z.string(), tokens: z.array(tokenView) });

const arrivedView = z.object({
  chain_id: z.number(),
  tx_hash: z.string(),
  token: z.string(),
  amount_usd: usdText(),
  state: z.enum(DEPOSIT_STATES),
  credited: z.boolean(),
  confirmations: z.number(),
  needed: z
    .number()
    .nullable()
    .meta({ description: 'Confirmations required before the credit; null where another rule applies.' }),
  waits_for: z.string().meta({ description: '`12 blocks`, `20 seconds`, `safe` or `finalized`.' }),
});

export const LABELS = ['underpaid', 'overpaid', 'late'] as const;

/** Fields of a top-up that is shown alone. */
export const depositFields = {
  deposit: z
    .object({ address: z.string(), chains: z.array(chainView) })
    .nullable()
    .meta({
      description:
        'Where to send tokens; the address is the same on every chain and belongs to this top-up only. Null for other methods.',
    }),
  deposits: z.array(arrivedView).meta({ description: 'Transfers that arrived there, credited or not.' }),
  labels: z.array(z.enum(LABELS)).meta({
    description: 'The amount that arrived is credited, even if it differs from the order; these say how it differs.',
  }),
};

export interface DepositPart {
  readonly deposit: z.output<typeof depositFields.deposit>;
  readonly deposits: z.output<typeof depositFields.deposits>;
  readonly labels: z.output<typeof depositFields.labels>;
}

export const NO_DEPOSIT: DepositPart = { deposit: null, deposits: [], labels: [] };

export async function depositPartOf(
  session: Session,
  crypto: CryptoSettings | null,
  order: TopUp,
): Promise<DepositPart> {
  if (order.provider !== 'crypto' || crypto === null) return NO_DEPOSIT;
  const { providerId: address } = order;
  const arrived = await listDeposits(session, order.id);
  const chains = await offeredChains(session, crypto);
  return {
    deposit: address === null ? null : { address, chains },
    deposits: arrived.map((deposit) => renderArrived(crypto, deposit)),
    labels: labelsOf(order, arrived),
  };
}

/** Chains with the tokens that count as dollars now. Empty: nothing can be quoted. */
export async function offeredChains(
  session: Session,
  { chains }: CryptoSettings,
): Promise<z.output<typeof chainView>[]> {
  const faulty = await faultyTokens(session);
  return chains
    .map(({ chainId, name, tokens }) => ({
      chain_id: chainId,
      name,
      tokens: tokens
        .filter(({ contract }) => !faulty.has(`${chainId}/${contract}`))
        .map(({ symbol, contract }) => ({ symbol, contract })),
    }))
    .filter(({ tokens }) => tokens.length > 0);
}

function renderArrived(crypto: CryptoSettings, deposit: Deposit): z.output<typeof arrivedView> {
  const { chainId, amount, height, head, state } = deposit;
  const chain = chainOf(crypto, chainId);
  const rule = chain === null ? null : spendableRule(chain.policy, amount);
  return {
    chain_id: chainId,
    tx_hash: deposit.txHash,
    token: deposit.symbol,
    amount_usd: formatUsd(amount),
    state,
    credited: deposit.credited,
    confirmations: head === null || state === 'undone' ? 0 : confirmationsAt(height, head),
    needed: rule?.kind === 'blocks' ? rule.blocks : null,
    waits_for: rule === null ? 'a chain that is not configured' : spendableRuleText(rule),
  };
}

function labelsOf(order: TopUp, arrived: readonly Deposit[]): (typeof LABELS)[number][] {
  const counted = arrived.filter((deposit) => deposit.counted);
  if (counted.length === 0) return [];
  const sum = counted.reduce((total, { amount }) => addUsd(total, amount), ZERO_USD);
  const charge = addUsd(order.amount, order.fee);
  const labels: (typeof LABELS)[number][] = [];
  if (sum < charge) labels.push('underpaid');
  if (sum > charge) labels.push('overpaid');
  if (counted.some(({ blockTime }) => blockTime > order.expiresAt)) labels.push('late');
  return labels;
}
