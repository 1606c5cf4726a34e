/** Orders as activities report them to their runs, for workflows whose activities are scripted. */
import { randomUUID } from 'node:crypto';
import type { TopUpSnapshot } from '../../contract/index.ts';

/** A top-up id in wire form that no other test has. */
export function someTopUpId(): string {
  return `top_${randomUUID().replaceAll('-', '')}`;
}

/** An order over 10 USD at Stripe. */
export function topUpSnapshot(
  topUpId: string,
  state: TopUpSnapshot['state'],
  change: Partial<TopUpSnapshot> = {},
): TopUpSnapshot {
  const isCredited = state === 'credited';
  return {
    topUpId,
    accountId: 'acct_0199000000007000800000000000a001',
    provider: 'stripe',
    state,
    amountUsd: '10.000000000000',
    chargeUsd: '10.500000000000',
    receivedUsd: isCredited ? '10.500000000000' : '0.000000000000',
    creditedUsd: isCredited ? '10.000000000000' : '0.000000000000',
    stuck: null,
    checkoutUrl: 'https://checkout.test/1',
    expiresAt: '2026-11-24T12:00:00.000Z',
    reversals: [],
    ...change,
  };
}
