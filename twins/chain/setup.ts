/** A new chain's contracts, and what its price feeds are told. */
import { toQuantity } from 'ethers';
import { FAKE_TOKEN, FEEDS, RELAY, type TokenName } from './addresses.ts';
import { ARTIFACTS, type ContractName, FEED_CALLS, PRICE_DECIMALS, USDC_CALLS, USDT_CALLS } from './tokens.ts';
import type { ChainNode } from './node.ts';
import { BadInput } from '../kit/input.ts';

/** Every call of these contracts stays far below. */
export const GAS_LIMIT = 200_000n;
/** As the time of a price: every reader finds it just updated. */
export const ALWAYS_FRESH = 0;
/** In units of 1e-6: enough for any test, and far from the end of an unsigned 256-bit number. */
const SENDER_TOKENS = 10n ** 24n;
const LONG_AGO = 1;

/** Puts the contracts in their places and gives all senders their tokens, as of the next block. */
export async function deploy(
  node: ChainNode,
  { tokens, senders }: { readonly tokens: Readonly<Record<TokenName, string>>; readonly senders: readonly string[] },
): Promise<void> {
  const places: readonly (readonly [string, ContractName])[] = [
    [tokens.USDC, 'Usd6'],
    [tokens.USDT, 'UsdtLike'],
    [FAKE_TOKEN, 'FakeUsd'],
    [RELAY, 'Relay'],
    [FEEDS.USDC, 'PriceFeed'],
    [FEEDS.USDT, 'PriceFeed'],
    [FEEDS.sequencer, 'PriceFeed'],
  ];
  for (const [address, name] of places) {
    await node.call('anvil_setCode', [address, ARTIFACTS.contracts[name].deployedBytecode]);
  }
  const send = (to: string, data: string): Promise<unknown> =>
    node.call('eth_sendTransaction', [{ from: senders[0], to, data, gas: toQuantity(GAS_LIMIT) }]);
  for (const sender of senders) {
    await send(tokens.USDC, USDC_CALLS.encodeFunctionData('mint', [sender, SENDER_TOKENS]));
    await send(tokens.USDT, USDT_CALLS.encodeFunctionData('mint', [sender, SENDER_TOKENS]));
  }
  await send(FEEDS.USDC, priceCall('1', ALWAYS_FRESH));
  await send(FEEDS.USDT, priceCall('1', ALWAYS_FRESH));
  // Nobody has to wait out the grace time after a start of the sequencer.
  await send(FEEDS.sequencer, statusCall('0', LONG_AGO));
}

/** The call that sets a price in USD. Throws `BadInput` for what is no decimal string. */
export function priceCall(answer: string, updatedAt: number): string {
  const match = /^(-?)(\d{1,10})(?:\.(\d{1,8}))?$/.exec(answer);
  if (match === null) throw new BadInput("'answer' must be a decimal string with at most 8 decimals.", 'answer');
  const [, sign, whole = '', fraction = ''] = match;
  const price = BigInt(`${sign}${whole}${fraction.padEnd(PRICE_DECIMALS, '0')}`);
  return FEED_CALLS.encodeFunctionData('set', [PRICE_DECIMALS, price, updatedAt, updatedAt]);
}

/** The call that sets the sequencer's status: '0' up, '1' down, since when. */
export function statusCall(answer: string, since: number): string {
  if (answer !== '0' && answer !== '1') throw new BadInput("'answer' must be '0' (up) or '1' (down).", 'answer');
  return FEED_CALLS.encodeFunctionData('set', [0, BigInt(answer), since, since]);
}
