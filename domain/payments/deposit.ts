/**
 * Deposits: from what RPC vendors show of a chain to what a token transfer is worth believing. Pure: when a transfer
 * may be spent, when it is final, when it is gone. Every vendor can lag, err or lie, so nothing moves on the word of
 * one: a credit and a withdrawal both need two vendors that say the same of the same block.
 */
import { assert } from '../assert.ts';
import { picoUsd, type PicoUsd } from '../money.ts';

/**
 * `seen`: some vendor shows it. `spendable`: it may be credited. `final`: its block cannot change any more. `undone`:
 * it is in no block (any more); should its transaction be included again, it is the same deposit.
 */
export const DEPOSIT_STATES = ['seen', 'spendable', 'final', 'undone'] as const;
export type DepositState = (typeof DEPOSIT_STATES)[number];

/** The condition for a deposit to become spendable. */
export type SpendableRule =
  | { readonly kind: 'blocks'; readonly blocks: number }
  | { readonly kind: 'seconds'; readonly seconds: number }
  | { readonly kind: 'safe' }
  | { readonly kind: 'finalized' };

/** The rule by amount: small sums are worth less to an attacker than a reorganization costs. */
export interface SpendablePolicy {
  readonly smallBelow: PicoUsd;
  readonly small: SpendableRule;
  readonly large: SpendableRule;
}

export function spendableRule(policy: SpendablePolicy, amount: PicoUsd): SpendableRule {
  return amount < policy.smallBelow ? policy.small : policy.large;
}

/** `12 blocks`, `20 seconds`, `safe` or `finalized`; null for anything else. */
export function parseSpendableRule(text: string): SpendableRule | null {
  if (text === 'safe' || text === 'finalized') return { kind: text };
  const match = /^(\d{1,6}) (blocks|seconds)$/.exec(text);
  if (match === null) return null;
  const count = Number(match[1]);
  if (count === 0) return null;
  return match[2] === 'blocks' ? { kind: 'blocks', blocks: count } : { kind: 'seconds', seconds: count };
}

export function spendableRuleText(rule: SpendableRule): string {
  switch (rule.kind) {
    case 'blocks':
      return `${rule.blocks} blocks`;
    case 'seconds':
      return `${rule.seconds} seconds`;
    default:
      return rule.kind;
  }
}

/** A block as one vendor shows it. */
export interface BlockRef {
  readonly height: number;
  readonly hash: string;
  /** Seconds since 1970, as the block says. */
  readonly time: number;
}

/** The end of the chain as one vendor shows it. */
export interface ChainHead {
  readonly latest: BlockRef;
  /** Height of the last block that the vendor calls safe or finalized; null where it does not say. */
  readonly safe: number | null;
  readonly finalized: number | null;
}

/** How many blocks below the head a block counts as safe or final at a vendor that does not say which are. */
export interface FinalityDepths {
  readonly safe: number;
  readonly final: number;
}

/**
 * The head of a vendor that does not know `safe` or `finalized`, or does not answer for them now: depth stands for what
 * it does not say. Depth is no finality, so it has to be far more than the chain needs for it; what is final takes two
 * vendors anyway.
 */
export function withFinality(head: ChainHead, depths: FinalityDepths): ChainHead {
  const below = (blocks: number): number | null => {
    const height = head.latest.height - blocks;
    return height < 0 ? null : height;
  };
  const finalized = head.finalized ?? below(depths.final);
  return { ...head, safe: head.safe ?? below(depths.safe) ?? finalized, finalized };
}

/** What a token transfer is, wherever its transaction is included. Addresses and hashes in lower case. */
export interface Transfer {
  readonly token: string;
  /** The former owner of the tokens. */
  readonly from: string;
  readonly to: string;
  /** In the token's smallest unit. */
  readonly units: bigint;
}

/** One vendor's view of a deposit at one moment. */
export type VendorView =
  /** It lags, errs or contradicts itself: its silence says nothing. */
  | { readonly kind: 'silent' }
  /** Its chain has reached the block's height, and there the transfer is not. */
  | { readonly kind: 'absent' }
  | { readonly kind: 'shown'; readonly block: BlockRef; readonly transfer: Transfer; readonly head: ChainHead };

export interface DepositRecord {
  readonly state: DepositState;
  readonly block: { readonly height: number; readonly hash: string };
  readonly transfer: Transfer;
  readonly amount: PicoUsd;
}

export interface DepositVerdict {
  readonly state: DepositState;
  /** Block and transfer of the deposit; the record's own when nothing else is agreed on. */
  readonly block: { readonly height: number; readonly hash: string; readonly time: number | null };
  readonly transfer: Transfer;
  /** True when two vendors agree, whatever on. */
  readonly isAgreed: boolean;
  /** True when one vendor shows what another denies, and no two agree. */
  readonly isDisputed: boolean;
  /** A block that was final has gone: no rule of ours has foreseen it, a person has to look. */
  readonly isFinalityViolated: boolean;
}

/** Two vendors that are run by different people. More would be safer against both lying, and slower to agree. */
export const VENDOR_QUORUM = 2;

/** The state of a deposit by the views of all vendors. */
export function decideDeposit(
  record: DepositRecord,
  views: readonly VendorView[],
  policy: SpendablePolicy,
): DepositVerdict {
  const shown = views.filter((view) => view.kind === 'shown');
  const absent = views.filter((view) => view.kind === 'absent').length;
  const agreed = largestAgreement(shown);
  const stays = { state: record.state, block: { ...record.block, time: null }, transfer: record.transfer };

  if (agreed !== null && agreed.length > absent) {
    const [{ block, transfer }] = agreed as [Shown];
    const isSameBlock = block.hash === record.block.hash;
    const level = agreedLevel(agreed, policy, record.amount);
    // In the same block it never falls back: a head that lags takes nothing away that two vendors had agreed on.
    const state = isSameBlock && levelOf(record.state) > level ? record.state : STATE_OF_LEVEL[level]!;
    const isFinalityViolated = record.state === 'final' && !isSameBlock;
    return { state, block, transfer, isAgreed: true, isDisputed: false, isFinalityViolated };
  }
  if (absent >= VENDOR_QUORUM && absent > (agreed?.length ?? 0)) {
    const isFinalityViolated = record.state === 'final';
    return { ...stays, state: 'undone', isAgreed: true, isDisputed: false, isFinalityViolated };
  }
  const isDisputed = shown.length > 0 && (absent > 0 || keysOf(shown).size > 1);
  return { ...stays, isAgreed: false, isDisputed, isFinalityViolated: false };
}

type Shown = Extract<VendorView, { kind: 'shown' }>;

/** Levels of belief, as numbers that can be compared. */
const STATE_OF_LEVEL = ['undone', 'seen', 'spendable', 'final'] as const;

function levelOf(state: DepositState): number {
  return STATE_OF_LEVEL.indexOf(state);
}

const keyOf = ({ block, transfer }: Shown): string =>
  [block.hash, block.height, transfer.token, transfer.from, transfer.to, transfer.units].join(' ');

const keysOf = (shown: readonly Shown[]): Set<string> => new Set(shown.map(keyOf));

/** The vendors that show the same transfer in the same block; null where no two do, or two such camps are as large. */
function largestAgreement(shown: readonly Shown[]): Shown[] | null {
  const camps = [...keysOf(shown)].map((key) => shown.filter((view) => keyOf(view) === key));
  camps.sort((a, b) => b.length - a.length);
  const [first, second] = camps;
  if (first === undefined || first.length < VENDOR_QUORUM) return null;
  return second?.length === first.length ? null : first;
}

/** The level that two vendors at least have reached. */
function agreedLevel(shown: readonly Shown[], policy: SpendablePolicy, amount: PicoUsd): number {
  const rule = spendableRule(policy, amount);
  const levels = shown.map(({ block, head }) => (isFinal(block, head) ? 3 : isSpendable(rule, block, head) ? 2 : 1));
  levels.sort((a, b) => b - a);
  const level = levels[VENDOR_QUORUM - 1];
  assert(level !== undefined, 'an agreement has a quorum');
  return level;
}

function isFinal(block: BlockRef, head: ChainHead): boolean {
  return head.finalized !== null && block.height <= head.finalized;
}

function isSpendable(rule: SpendableRule, block: BlockRef, { latest, safe }: ChainHead): boolean {
  switch (rule.kind) {
    case 'blocks':
      return confirmationsAt(block.height, latest.height) >= rule.blocks;
    case 'seconds':
      // By the chain's own clock: where blocks come four a second, a count of them says little.
      return latest.time - block.time >= rule.seconds;
    case 'safe':
      return safe !== null && block.height <= safe;
    case 'finalized':
      return false;
  }
}

/** A transfer in the last block has one confirmation. */
export function confirmationsAt(height: number, head: number): number {
  return Math.max(0, head - height + 1);
}

/**
 * The key of the money: neither the block nor the log's index in it, which change when a transaction is included again.
 */
export function depositPaymentId(deposit: {
  readonly chainId: number;
  readonly txHash: string;
  readonly ordinal: number;
}): string {
  return `${deposit.chainId}/${deposit.txHash}/${deposit.ordinal}`;
}

/** The exact value of `units` of a dollar token with so many decimals: the ledger is finer than any of them. */
export function usdOfUnits(units: bigint, decimals: number): PicoUsd {
  assert(decimals >= 0 && decimals <= PICO_DECIMALS, 'a token is not finer than the ledger');
  return picoUsd(units * 10n ** BigInt(PICO_DECIMALS - decimals));
}

const PICO_DECIMALS = 12;

/** A price feed's or sequencer feed's last round. */
export interface FeedRound {
  readonly answer: bigint;
  readonly decimals: number;
  /** Seconds since 1970. */
  readonly startedAt: number;
  readonly updatedAt: number;
}

/** Why a token is not taken at a dollar now. */
export const PEG_FAULTS = [
  'price_unreadable',
  'price_not_positive',
  'price_stale',
  'peg_lost',
  'sequencer_down',
] as const;
export type PegFault = (typeof PEG_FAULTS)[number];

/** Below 0.98 dollars a token is not taken at par: nobody is to top up with what costs less than it credits. */
const PEG_PPM_MIN = 980_000n;
/** After a sequencer returns, prices may be old news; everybody waits this long. */
const SEQUENCER_GRACE_SECONDS = 3600;

/**
 * Whether a token counts as a dollar. Each feed has its own heartbeat, and on a rollup a price is only as good as its
 * sequencer. Null when all is well.
 */
export function pegFaultOf(
  now: number,
  price: { readonly round: FeedRound; readonly heartbeatSeconds: number } | null,
  sequencer: FeedRound | null,
): PegFault | null {
  if (sequencer !== null) {
    const isUp = sequencer.answer === 0n && sequencer.startedAt > 0;
    if (!isUp || now - sequencer.startedAt < SEQUENCER_GRACE_SECONDS) return 'sequencer_down';
  }
  if (price === null) return null;
  const { round, heartbeatSeconds } = price;
  if (round.answer <= 0n) return 'price_not_positive';
  if (now - round.updatedAt > heartbeatSeconds) return 'price_stale';
  if (round.answer * 1_000_000n < PEG_PPM_MIN * 10n ** BigInt(round.decimals)) return 'peg_lost';
  return null;
}
