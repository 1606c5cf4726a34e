/**
 * Random ledger operations for fast-check: an operation names its subjects by position ("the 7th request, wrapping
 * round") and is turned into a concrete call only when it is its turn, against what exists by then. So a sequence
 * stays meaningful while it is shrunk.
 */
import fc from 'fast-check';
import type { LimitReset } from '../../db/accounts/api-keys.ts';
import type { FinishRecord, HoldRequest } from '../../db/requests/requests.ts';
import { uuidOf } from '../../domain/ids.ts';
import { picoUsd, PICO_PER_USD } from '../../domain/money.ts';
import { FREE_SUFFIX, type FinishOutcome, type RequestState } from '../../domain/requests/request.ts';
import { NO_USAGE } from '../../domain/usage/usage.ts';
import type { LedgerCall } from './ledger-calls.ts';
import { GATEWAY_ID, uuidAt } from './ledger-database.ts';
import type { LedgerModel, ModelAccount, ModelKey, ModelRequest } from './ledger-model.ts';
import { ANN, BOB } from './staff.ts';

export interface WorldPlan {
  /** Starting balances. */
  readonly balances: readonly bigint[];
  readonly keys: readonly {
    readonly account: number;
    readonly limit: bigint | null;
    readonly limitReset: LimitReset;
    readonly models: readonly string[] | null;
  }[];
}

const MODELS = ['demo/small', 'demo/large'] as const;

/**
 * Multiples of 0.05 USD up to `steps` of them, one pico-USD more or less than one, and 0: what tight comparisons need.
 */
function amountUpTo(steps: number): fc.Arbitrary<bigint> {
  return fc.tuple(fc.integer({ min: 0, max: steps }), fc.constantFrom(0n, 0n, 0n, 1n, -1n)).map(([count, off]) => {
    const value = (BigInt(count) * PICO_PER_USD) / 20n + off;
    return value < 0n ? 0n : value;
  });
}

/** True once in `times`. A mapped integer would not do: fast-check prefers the ends of a range. */
function onceIn(times: number): fc.Arbitrary<boolean> {
  return fc.oneof({ weight: times - 1, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) });
}

function mostlyNull<T>(arbitrary: fc.Arbitrary<T>, nulls: number): fc.Arbitrary<T | null> {
  return fc.oneof({ weight: nulls, arbitrary: fc.constant(null) }, { weight: 1, arbitrary });
}

const amount = amountUpTo(20);
const position = fc.nat(1000);
const limit = mostlyNull(amountUpTo(30), 1);
const limitReset = fc.constantFrom<LimitReset>('none', 'daily', 'weekly', 'monthly');
const models = mostlyNull(fc.constantFrom<string[]>(['demo/small'], ['demo/large', 'demo/small'], []), 6);

export const worldPlan: fc.Arbitrary<WorldPlan> = fc.record({
  balances: fc.array(fc.oneof(amount, amountUpTo(100)), { minLength: 1, maxLength: 3 }),
  keys: fc.array(fc.record({ account: position, limit, limitReset, models }), { minLength: 1, maxLength: 4 }),
});

const holdPlan = fc.record({
  key: position,
  model: fc.constantFrom(...MODELS),
  wanted: amountUpTo(10),
  /** How much of `wanted` is enough to begin, in quarters. */
  leastQuarters: fc.integer({ min: 0, max: 4 }),
  rank: fc.nat(0xfff),
  /** Mostly a new id; else one that is there, with the same or another content. */
  id: fc.oneof(
    { weight: 14, arbitrary: fc.constant('new' as const) },
    { weight: 1, arbitrary: fc.constant('used by another request' as const) },
    { weight: 1, arbitrary: fc.constant('key of another account' as const) },
  ),
});

const endPlan = fc.record({
  request: position,
  outcome: fc.oneof(
    {
      weight: 4,
      arbitrary: fc.constantFrom<FinishOutcome>('completed', 'client_disconnected', 'cut_by_limit'),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom<FinishOutcome>('upstream_error', 'upstream_timeout', 'empty_completion', 'orphaned'),
    },
  ),
  cost: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom('nothing', 'half', 'all but one', 'all') },
    { weight: 2, arbitrary: fc.constantFrom('one above', 'half above', 'far above') },
  ),
  inputTokens: fc.constantFrom(0, 7, 1_000_000),
  outputTokens: fc.constantFrom(0, 3, 500),
  /** Prefer requests that are still held: else most ends would be late. */
  anyState: onceIn(8),
});

const settlePlan = fc.record({
  requests: fc.array(position, { minLength: 1, maxLength: 10 }),
  all: fc.boolean(),
  unknown: onceIn(5),
  workflow: fc.constantFrom('meter/a', 'meter/b', 'meter/sweep/c/1', null),
});

/** The operations, and how often each is drawn. */
const PLANS = {
  hold: { weight: 10, arbitrary: holdPlan },
  holds: {
    weight: 8,
    arbitrary: fc.array(fc.tuple(holdPlan, onceIn(10)), { minLength: 1, maxLength: 6 }),
  },
  freeHolds: { weight: 2, arbitrary: fc.array(holdPlan, { minLength: 1, maxLength: 4 }) },
  extend: { weight: 5, arbitrary: fc.record({ request: position, by: amount, less: onceIn(6) }) },
  clientLeft: { weight: 1, arbitrary: fc.record({ request: position, outputTokens: fc.nat(9) }) },
  refusals: { weight: 1, arbitrary: fc.array(holdPlan, { minLength: 1, maxLength: 3 }) },
  finish: {
    weight: 12,
    arbitrary: fc.array(fc.tuple(endPlan, onceIn(6)), { minLength: 1, maxLength: 6 }),
  },
  settle: { weight: 8, arbitrary: settlePlan },
  settleAccount: { weight: 2, arbitrary: fc.record({ account: position }) },
  settleError: { weight: 1, arbitrary: fc.record({ request: position, clear: fc.boolean() }) },
  adjust: {
    weight: 3,
    arbitrary: fc.record({ account: position, amount, credit: fc.boolean(), needsApproval: fc.boolean() }),
  },
  decideAdjustment: {
    weight: 2,
    arbitrary: fc.record({ adjustment: position, approve: fc.boolean(), by: fc.constantFrom(ANN, BOB) }),
  },
  refund: {
    weight: 5,
    arbitrary: fc.record({
      request: position,
      n: fc.integer({ min: 1, max: 3 }),
      amount: fc.option(amount, { freq: 2 }),
    }),
  },
  decideRefund: { weight: 5, arbitrary: fc.record({ refund: position, approve: fc.boolean() }) },
  reverse: { weight: 1, arbitrary: fc.record({ account: position, amount }) },
  editLimit: { weight: 3, arbitrary: fc.record({ key: position, limit, reset: limitReset }) },
  editModels: { weight: 1, arbitrary: fc.record({ key: position, models }) },
  editExpiry: { weight: 1, arbitrary: fc.record({ key: position, expired: fc.boolean() }) },
  revoke: {
    weight: 1,
    arbitrary: fc.record({ key: position, really: onceIn(3) }),
  },
  freeze: { weight: 1, arbitrary: fc.record({ account: position, frozen: fc.boolean() }) },
  nextWindow: { weight: 3, arbitrary: fc.record({ key: position }) },
  repeat: { weight: 6, arbitrary: fc.record({ call: position }) },
} as const;

type HoldPlan = PlanOfArbitrary<typeof holdPlan>;
type EndPlan = PlanOfArbitrary<typeof endPlan>;
type SettlePlan = PlanOfArbitrary<typeof settlePlan>;
type PlanOfArbitrary<A> = A extends fc.Arbitrary<infer Plan> ? Plan : never;
type PlanArbitraries = typeof PLANS;
/** One operation, e.g. `{ op: 'settle', plan: { … } }`. */
export type Operation = {
  [Name in keyof PlanArbitraries]: {
    readonly op: Name;
    readonly plan: PlanOfArbitrary<PlanArbitraries[Name]['arbitrary']>;
  };
}[keyof PlanArbitraries];

export const operation: fc.Arbitrary<Operation> = fc.oneof(
  ...Object.entries(PLANS).map(([op, { weight, arbitrary }]) => ({
    weight,
    arbitrary: (arbitrary as fc.Arbitrary<unknown>).map((plan) => ({ op, plan }) as Operation),
  })),
);

/** Calls that carry ids of the caller's choice, so that the same call again must change nothing. */
const REPEATABLE: ReadonlySet<LedgerCall['type']> = new Set([
  'placeHold',
  'placeHolds',
  'placeFreeHolds',
  'extendHold',
  'noteClientLeft',
  'logRefusals',
  'finish',
  'settle',
  'settleAccount',
  'markSettleError',
  'adjust',
  'decideAdjustment',
  'requestRefund',
  'decideRefund',
  'reverse',
]);

export function isRepeatable(call: LedgerCall): boolean {
  return REPEATABLE.has(call.type);
}

/** What a sequence has made so far, and how a planned operation becomes a call on it. */
export class Story {
  readonly model: LedgerModel;
  readonly calls: LedgerCall[] = [];
  /** All ids of a story are of one millisecond, so that their ranks, not their age, decide their order. */
  readonly #idTimeMs = Date.now();

  constructor(model: LedgerModel) {
    this.model = model;
  }

  /** Null when the operation has no subject yet. */
  callOf(operation: Operation): LedgerCall | null {
    switch (operation.op) {
      case 'hold':
        return { type: 'placeHold', hold: this.#hold(operation.plan) };
      case 'holds':
        return { type: 'placeHolds', holds: withDuplicates(operation.plan, (plan) => this.#hold(plan)) };
      case 'freeHolds':
        return {
          type: 'placeFreeHolds',
          holds: operation.plan.map((plan) => ({ ...this.#hold(plan), modelId: plan.model + FREE_SUFFIX })),
        };
      case 'extend': {
        const { request, by, less } = operation.plan;
        const found = this.#request(request, 'held');
        if (found === null) return null;
        const total = less ? found.hold - by : found.hold + by;
        return { type: 'extendHold', requestId: found.id, total: picoUsd(total < 0n ? 0n : total) };
      }
      case 'clientLeft': {
        const found = this.#request(operation.plan.request, 'held');
        const counted = { inputTokens: 50, outputTokens: operation.plan.outputTokens };
        return found && { type: 'noteClientLeft', requestId: found.id, counted };
      }
      case 'refusals':
        return {
          type: 'logRefusals',
          gatewayId: GATEWAY_ID,
          records: operation.plan.map((plan) => ({
            ...this.#hold(plan),
            code: 'insufficient_user_quota',
            latencyMs: 2,
          })),
        };
      case 'finish': {
        const records = withDuplicates(operation.plan, (plan) => this.#end(plan));
        return records.includes(null) ? null : { type: 'finish', records: records as FinishRecord[] };
      }
      case 'settle':
        return this.#settle(operation.plan);
      case 'settleAccount':
        return { type: 'settleAccount', accountId: this.#account(operation.plan.account) };
      case 'settleError': {
        const found = this.#request(operation.plan.request, 'finished');
        if (found === null) return null;
        if (operation.plan.clear) return { type: 'clearSettleError', requestId: found.id };
        return { type: 'markSettleError', requestId: found.id, error: 'cannot be settled' };
      }
      case 'adjust': {
        const { account, amount, credit, needsApproval } = operation.plan;
        const size = amount === 0n ? 1n : amount;
        return {
          type: 'adjust',
          id: uuidOf('adjustment', uuidAt(this.#idTimeMs)),
          accountId: this.#account(account),
          amount: picoUsd(credit ? size : -size),
          requestedBy: ANN,
          threshold: needsApproval ? picoUsd(0n) : picoUsd(1000n * PICO_PER_USD),
        };
      }
      case 'decideAdjustment': {
        const { adjustment, approve, by } = operation.plan;
        const found = at([...this.model.adjustments.values()], adjustment);
        return found && { type: 'decideAdjustment', id: found.id, approve, decidedBy: by };
      }
      case 'refund': {
        const { request, n, amount } = operation.plan;
        const found = this.#request(request, 'charged') ?? this.#request(request);
        const size = amount === null || amount === 0n ? null : picoUsd(amount);
        return found && { type: 'requestRefund', requestId: found.id, n, amount: size };
      }
      case 'decideRefund': {
        const found = at([...this.model.refunds.values()], operation.plan.refund);
        const { approve } = operation.plan;
        return found && { type: 'decideRefund', requestId: found.requestId, n: found.n, approve };
      }
      case 'reverse': {
        const { account, amount } = operation.plan;
        return {
          type: 'reverse',
          businessId: uuidAt(this.#idTimeMs),
          accountId: this.#account(account),
          amount: picoUsd(amount === 0n ? 1n : amount),
        };
      }
      case 'editLimit': {
        const { key, limit, reset } = operation.plan;
        return { type: 'editLimit', keyId: this.#key(key).id, limit: limit === null ? null : picoUsd(limit), reset };
      }
      case 'editModels':
        return { type: 'editModels', keyId: this.#key(operation.plan.key).id, models: operation.plan.models };
      case 'editExpiry':
        return { type: 'editExpiry', keyId: this.#key(operation.plan.key).id, expired: operation.plan.expired };
      case 'revoke':
        return operation.plan.really ? { type: 'revoke', keyId: this.#key(operation.plan.key).id } : null;
      case 'freeze':
        return { type: 'freeze', accountId: this.#account(operation.plan.account), frozen: operation.plan.frozen };
      case 'nextWindow':
        return { type: 'nextWindow', keyId: this.#key(operation.plan.key).id };
      case 'repeat':
        return at(this.calls.filter(isRepeatable), operation.plan.call);
    }
  }

  #hold(plan: HoldPlan): HoldRequest {
    const key = this.#key(plan.key);
    const used = plan.id === 'used by another request' ? this.#request(plan.rank) : null;
    const foreign = plan.id === 'key of another account';
    return {
      requestId: used?.id ?? uuidOf('request', uuidAt(this.#idTimeMs, plan.rank)),
      accountId: foreign ? this.#account(plan.key + 1) : key.accountId,
      keyId: key.id,
      modelId: plan.model,
      wanted: picoUsd(plan.wanted),
      least: picoUsd((plan.wanted * BigInt(plan.leastQuarters)) / 4n),
      priceVersion: 1,
      stream: plan.rank % 2 === 0,
      gatewayId: GATEWAY_ID,
      ttlSeconds: 600,
    };
  }

  #end(plan: EndPlan): FinishRecord | null {
    const request = (plan.anyState ? null : this.#request(plan.request, 'held')) ?? this.#request(plan.request);
    if (request === null) return null;
    return {
      requestId: request.id,
      outcome: plan.outcome,
      listCost: picoUsd(costOf(plan.cost, request.hold)),
      usage: { ...NO_USAGE, inputTokens: plan.inputTokens, outputTokens: plan.outputTokens },
      estimated: false,
      rawUsage: null,
      latencyMs: 12.4,
      firstTokenMs: null,
      upstream: null,
    };
  }

  #settle(plan: SettlePlan): LedgerCall | null {
    const everything = [...this.model.requests.values()].reverse();
    const picked = plan.requests.flatMap((position) => at(everything, position) ?? []);
    const requestIds = [...picked, ...(plan.all ? everything : [])].map((request) => request.id);
    if (plan.unknown) requestIds.push(uuidOf('request', uuidAt(this.#idTimeMs)));
    return requestIds.length === 0 ? null : { type: 'settle', requestIds, workflowId: plan.workflow };
  }

  #key(position: number): ModelKey {
    return at([...this.model.keys.values()], position)!;
  }

  #account(position: number): ModelAccount['id'] {
    return at([...this.model.accounts.values()], position)!.id;
  }

  #request(position: number, state?: RequestState): ModelRequest | null {
    const candidates = [...this.model.requests.values()];
    return at(state === undefined ? candidates : candidates.filter((request) => request.state === state), position);
  }
}

function costOf(size: EndPlan['cost'], hold: bigint): bigint {
  switch (size) {
    case 'nothing':
      return 0n;
    case 'half':
      return hold / 2n;
    case 'all but one':
      return hold > 0n ? hold - 1n : 0n;
    case 'all':
      return hold;
    case 'one above':
      return hold + 1n;
    case 'half above':
      return hold + PICO_PER_USD / 2n;
    case 'far above':
      return hold + 5n * PICO_PER_USD;
  }
}

/** Turns plans into items; one marked as duplicate repeats the item before it instead. */
function withDuplicates<Plan, Item>(plans: readonly (readonly [Plan, boolean])[], make: (plan: Plan) => Item): Item[] {
  const items: Item[] = [];
  for (const [plan, duplicate] of plans) items.push(duplicate && items.length > 0 ? items.at(-1)! : make(plan));
  return items;
}

function at<T>(items: readonly T[], position: number): T | null {
  return items.length === 0 ? null : items[position % items.length]!;
}
