/**
 * The ledger as arithmetic: what every operation must do to accounts, keys and requests, in plain bigints. Written from
 * the rules (docs/decisions), not from the SQL, so that the two can be compared step by step.
 *
 * Pure: no database, no clock (the time of an operation is an argument). It owns no rule of its own: where it and the
 * SQL differ, one of them is wrong.
 */
import type { LedgerRefusalCode } from '../../db/shared/client.ts';
import type { LimitReset } from '../../db/accounts/api-keys.ts';
import type { DecisionState } from '../../db/accounts/adjustments.ts';
import type {
  FinishRecord,
  FinishVerdict,
  FreeHoldRequest,
  HoldRequest,
  RefusalRecord,
} from '../../db/requests/requests.ts';
import type { AccountUuid, KeyUuid, RequestUuid, Uuid } from '../../domain/ids.ts';
import { isBilled, type Outcome, type RequestState } from '../../domain/requests/request.ts';

/** System accounts by name; a posting names its two sides by account id or by one of these. */
export const REVENUE = 'revenue';
export const ADJUSTMENT = 'adjustment';
export const CASH = 'cash:stripe';

export interface ModelAccount {
  readonly id: AccountUuid;
  balance: bigint;
  held: bigint;
  frozen: boolean;
  /** Whether money was ever taken back: the one way below zero. */
  reversed: boolean;
}

export interface ModelKey {
  readonly id: KeyUuid;
  readonly accountId: AccountUuid;
  limit: bigint | null;
  limitReset: LimitReset;
  models: readonly string[] | null;
  held: bigint;
  spentTotal: bigint;
  /** Milliseconds since 1970, or −Infinity where the key never had a window. */
  windowStart: number;
  windowSpent: bigint;
  windowHeld: bigint;
  revoked: boolean;
  expired: boolean;
}

export interface ModelRequest {
  readonly id: RequestUuid;
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
  readonly modelId: string;
  readonly gatewayId: string;
  readonly free: boolean;
  windowStart: number;
  state: RequestState;
  hold: bigint;
  outcome: Outcome | null;
  listCost: bigint | null;
  cost: bigint | null;
  inputTokens: number | null;
  outputTokens: number | null;
  clientLeft: boolean;
  settleError: string | null;
  workflowId: string | null;
  refusalCode: string | null;
  /** Position in the order of finishing. */
  finishedAs: number;
}

export interface ModelPosting {
  readonly debit: string;
  readonly credit: string;
  readonly amount: bigint;
}

export interface ModelRefund {
  readonly requestId: RequestUuid;
  readonly n: number;
  readonly accountId: AccountUuid;
  readonly amount: bigint;
  state: DecisionState;
}

export interface ModelAdjustment {
  readonly id: Uuid<'adjustment'>;
  readonly accountId: AccountUuid;
  readonly amount: bigint;
  readonly requestedBy: string;
  state: DecisionState;
}

export interface UsageTotal {
  readonly requests: number;
  readonly failed: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cost: bigint;
}

/** How the model says no; the codes are the ledger's own. */
export class ModelRefusal extends Error {
  readonly code: LedgerRefusalCode;
  readonly remaining: bigint | null;
  readonly required: bigint | null;
  /** Whether a settlement could still make room. */
  readonly unsettled: boolean;

  constructor(
    code: LedgerRefusalCode,
    remaining: bigint | null = null,
    required: bigint | null = null,
    unsettled = false,
  ) {
    super(code);
    this.code = code;
    this.remaining = remaining;
    this.required = required;
    this.unsettled = unsettled;
  }
}

/** First moment (ms) of the limit window that contains `atMs`; −Infinity for a limit that never resets. All in UTC. */
export function limitWindow(reset: LimitReset, atMs: number): number {
  const at = new Date(atMs);
  const [year, month, day] = [at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()];
  switch (reset) {
    case 'none':
      return -Infinity;
    case 'daily':
      return Date.UTC(year, month, day);
    case 'weekly':
      return Date.UTC(year, month, day - ((at.getUTCDay() + 6) % 7));
    case 'monthly':
      return Date.UTC(year, month, 1);
  }
}

/**
 * What finished requests of one account are charged when they are settled together (pico-USD, exact), in id order: the
 * cost up to the hold, and what lies above it only from `room` = balance − held, to which each row gives back what it
 * did not use of its hold. `free` rows and unbilled outcomes have listCost 0 here.
 */
export function overrunCharges(rows: readonly { hold: bigint; billedCost: bigint }[], room: bigint): bigint[] {
  let left = room;
  return rows.map(({ hold, billedCost }) => {
    const above = billedCost > hold ? billedCost - hold : 0n;
    const paidAbove = above < left ? above : left > 0n ? left : 0n;
    const paid = billedCost - above + paidAbove;
    left += hold - paid;
    return paid;
  });
}

export class LedgerModel {
  readonly accounts = new Map<string, ModelAccount>();
  readonly keys = new Map<string, ModelKey>();
  readonly requests = new Map<string, ModelRequest>();
  /**
   * By `business id/kind`; a refund's business id is written as `request id#n`, since its own is made by the database.
   */
  readonly postings = new Map<string, ModelPosting>();
  /** List cost by `request id/reason`. */
  readonly platformCosts = new Map<string, bigint>();
  /** By `request id#n`. */
  readonly refunds = new Map<string, ModelRefund>();
  readonly adjustments = new Map<string, ModelAdjustment>();
  #finishes = 0;

  addAccount(id: AccountUuid): void {
    this.accounts.set(id, { id, balance: 0n, held: 0n, frozen: false, reversed: false });
  }

  addKey(key: Pick<ModelKey, 'id' | 'accountId' | 'limit' | 'limitReset' | 'models'>): void {
    this.keys.set(key.id, {
      ...key,
      held: 0n,
      spentTotal: 0n,
      windowStart: -Infinity,
      windowSpent: 0n,
      windowHeld: 0n,
      revoked: false,
      expired: false,
    });
  }

  // Holds

  placeHold(hold: HoldRequest, atMs: number): bigint {
    const key = this.#keyOf(hold);
    if (key === null) throw new ModelRefusal('not_found');
    const before = this.requests.get(hold.requestId);
    if (before !== undefined) {
      if (!sameRequest(before, hold)) throw new ModelRefusal('id_reused');
      return before.hold;
    }
    const account = this.accounts.get(hold.accountId)!;
    const refusal = stateRefusal(key, account, hold.modelId);
    if (refusal !== null) throw new ModelRefusal(refusal);
    const keyRoom = roomOfKey(key, atMs);
    const accountRoom = account.balance - account.held;
    this.#requireRoom(account, { keyRoom, accountRoom, required: hold.least });
    const granted = smallest(hold.wanted, accountRoom, keyRoom ?? hold.wanted);
    this.#grant(hold, granted, atMs);
    return granted;
  }

  /** Null where the batch leaves the verdict to `placeHold`: nothing of that item has happened. */
  placeHolds(holds: readonly HoldRequest[], atMs: number): (bigint | null)[] {
    const accountSums = new Map<string, bigint>();
    const keySums = new Map<string, bigint>();
    const fitting = holds.filter((hold) => {
      const accountSum = addTo(accountSums, hold.accountId, hold.wanted);
      const keySum = addTo(keySums, hold.keyId, hold.wanted);
      const key = this.#keyOf(hold);
      if (key === null) return false;
      const account = this.accounts.get(hold.accountId)!;
      const keyRoom = roomOfKey(key, atMs);
      return (
        stateRefusal(key, account, hold.modelId) === null &&
        accountSum <= account.balance - account.held &&
        (keyRoom === null || keySum <= keyRoom)
      );
    });
    const granted = new Map<string, bigint>();
    for (const hold of fitting) {
      if (this.requests.has(hold.requestId)) continue;
      this.#grant(hold, hold.wanted, atMs);
      granted.set(hold.requestId, hold.wanted);
    }
    return holds.map((hold) => granted.get(hold.requestId) ?? null);
  }

  /** Null where the request is in place, else why not. */
  placeFreeHolds(holds: readonly FreeHoldRequest[]): (LedgerRefusalCode | null)[] {
    return holds.map((hold) => {
      const key = this.#keyOf(hold);
      if (key === null) return 'not_found';
      const before = this.requests.get(hold.requestId);
      if (before !== undefined) return sameRequest(before, hold) ? null : 'id_reused';
      const refusal = stateRefusal(key, this.accounts.get(hold.accountId)!, hold.modelId);
      if (refusal === null) this.#addRequest(hold, { hold: 0n, free: true, windowStart: -Infinity });
      return refusal;
    });
  }

  extendHold(requestId: string, total: bigint): bigint {
    const request = this.requests.get(requestId);
    if (request?.state !== 'held') throw new ModelRefusal('request_ended');
    const more = total - request.hold;
    if (more <= 0n || request.free) return request.hold;
    const key = this.keys.get(request.keyId)!;
    const account = this.accounts.get(request.accountId)!;
    if (key.revoked) throw new ModelRefusal('key_revoked');
    if (account.frozen) throw new ModelRefusal('account_frozen');
    const accountRoom = account.balance - account.held;
    this.#requireRoom(account, { keyRoom: roomForExtension(key, request), accountRoom, required: more });
    request.hold = total;
    key.held += more;
    if (request.windowStart === key.windowStart) key.windowHeld += more;
    account.held += more;
    return total;
  }

  /** Only the first call counts; what was counted until then is the fallback of an orphan's bill. */
  noteClientLeft(requestId: string, counted: { inputTokens: number; outputTokens: number }): void {
    const request = this.requests.get(requestId);
    if (request?.state === 'held' && !request.clientLeft) Object.assign(request, { clientLeft: true, ...counted });
  }

  logRefusals(gatewayId: string, records: readonly RefusalRecord[]): void {
    for (const record of records) {
      if (this.requests.has(record.requestId)) continue;
      const request = this.#addRequest({ ...record, gatewayId }, { hold: 0n, free: false, windowStart: -Infinity });
      Object.assign(request, {
        state: 'released',
        outcome: 'refused',
        listCost: 0n,
        cost: 0n,
        refusalCode: record.code,
      } satisfies Partial<ModelRequest>);
    }
  }

  // Ends

  finish(records: readonly FinishRecord[]): FinishVerdict[] {
    return records.map((record) => {
      const request = this.requests.get(record.requestId);
      if (request === undefined) return 'unknown';
      if (request.state === 'held') {
        this.#end(request, record);
        return 'finished';
      }
      if (sameEnd(request, record)) return 'replayed';
      // What the customer pays already is not the platform's cost as well.
      if (!isBilled(request.outcome!) && record.listCost > 0n) {
        this.#bookOnce(`${record.requestId}/late_finish`, record.listCost);
      }
      return 'late';
    });
  }

  /** How many were settled now. */
  settle(requestIds: readonly string[], workflowId: string | null): number {
    const named = [...new Set(requestIds)].sort().flatMap((id) => this.requests.get(id) ?? []);
    const mine = named.filter((request) => request.state === 'finished' && request.settleError === null);
    for (const account of this.accounts.values()) {
      const rows = mine.filter((request) => request.accountId === account.id);
      const charges = overrunCharges(
        rows.map(({ hold, listCost, outcome }) => ({ hold, billedCost: isBilled(outcome!) ? listCost! : 0n })),
        account.balance - account.held,
      );
      rows.forEach((request, index) => this.#settleOne(request, charges[index]!, workflowId));
    }
    for (const request of named) {
      const settled = request.state === 'charged' || request.state === 'released';
      if (settled && !request.free && request.outcome !== 'refused') request.workflowId ??= workflowId;
    }
    return mine.length;
  }

  settleAccount(accountId: string): number {
    const finished = [...this.requests.values()].filter(
      (request) => request.accountId === accountId && request.state === 'finished' && request.settleError === null,
    );
    const oldestFirst = finished.sort((a, b) => a.finishedAs - b.finishedAs).slice(0, 1000);
    return this.settle(
      oldestFirst.map((request) => request.id),
      null,
    );
  }

  markSettleError(requestId: string, error: string): void {
    const request = this.requests.get(requestId);
    if (request?.state === 'finished') request.settleError ??= error;
  }

  clearSettleError(requestId: string): void {
    const request = this.requests.get(requestId);
    if (request?.state === 'finished') request.settleError = null;
  }

  // People

  adjust(wish: {
    id: Uuid<'adjustment'>;
    accountId: AccountUuid;
    amount: bigint;
    requestedBy: string;
    threshold: bigint;
  }): DecisionState {
    const account = this.accounts.get(wish.accountId);
    if (account === undefined) throw new ModelRefusal('not_found');
    const before = this.adjustments.get(wish.id);
    if (before !== undefined && (before.accountId !== wish.accountId || before.amount !== wish.amount)) {
      throw new ModelRefusal('id_reused');
    }
    const { id, accountId, amount, requestedBy } = wish;
    const adjustment = before ?? { id, accountId, amount, requestedBy, state: 'waiting' };
    if (adjustment.state === 'waiting' && absolute(amount) <= wish.threshold) this.#postAdjustment(adjustment);
    this.adjustments.set(id, adjustment);
    return adjustment.state;
  }

  decideAdjustment(id: string, approve: boolean, by: string): DecisionState {
    const adjustment = this.adjustments.get(id);
    if (adjustment === undefined) throw new ModelRefusal('request_ended');
    if (adjustment.state !== 'waiting') return adjustment.state;
    if (approve && adjustment.requestedBy === by) throw new ModelRefusal('second_person_needed');
    if (approve) this.#postAdjustment(adjustment);
    else adjustment.state = 'rejected';
    return adjustment.state;
  }

  requestRefund(requestId: RequestUuid, n: number, wanted: bigint | null): ModelRefund {
    const request = this.requests.get(requestId);
    if (request === undefined) throw new ModelRefusal('request_ended');
    const before = this.refunds.get(`${requestId}#${n}`);
    if (before !== undefined) return before;
    if (request.state !== 'charged') throw new ModelRefusal('request_not_charged');
    const asked = [...this.refunds.values()].filter((refund) => refund.requestId === requestId);
    const left = request.cost! - sum(asked.filter(({ state }) => state !== 'rejected').map(({ amount }) => amount));
    if (left === 0n || (wanted ?? left) > left) throw new ModelRefusal('refund_too_large', left, wanted);
    const refund: ModelRefund = {
      requestId,
      n,
      accountId: request.accountId,
      amount: wanted ?? left,
      state: 'waiting',
    };
    this.refunds.set(`${requestId}#${n}`, refund);
    return refund;
  }

  decideRefund(requestId: string, n: number, approve: boolean): DecisionState {
    const refund = this.refunds.get(`${requestId}#${n}`);
    if (refund === undefined) throw new ModelRefusal('request_ended');
    if (refund.state !== 'waiting') return refund.state;
    refund.state = approve ? 'posted' : 'rejected';
    if (approve) {
      this.#post(`${requestId}#${n}/request_refund`, {
        debit: REVENUE,
        credit: refund.accountId,
        amount: refund.amount,
      });
    }
    return refund.state;
  }

  /** Takes money back whatever the balance; once per business id. */
  reverse(businessId: string, accountId: AccountUuid, amount: bigint): void {
    const at = `${businessId}/top_up_reversal`;
    const before = this.postings.get(at);
    if (before !== undefined) {
      if (before.debit !== accountId || before.amount !== amount) throw new ModelRefusal('id_reused');
      return;
    }
    this.accounts.get(accountId)!.reversed = true;
    this.#post(at, { debit: accountId, credit: CASH, amount });
  }

  /** A new limit window begins for the key: everything that is recorded of windows moves `ms` into the past. */
  passTime(keyId: string, ms: number): void {
    this.keys.get(keyId)!.windowStart -= ms;
    for (const request of this.requests.values()) if (request.keyId === keyId) request.windowStart -= ms;
  }

  // What people see

  balanceOf(accountId: string): { balance: bigint; held: bigint; available: bigint } {
    const account = this.accounts.get(accountId)!;
    const finished = [...this.requests.values()].filter(
      (request) => request.accountId === accountId && request.state === 'finished',
    );
    const balance = account.balance - sum(finished.map(({ cost }) => cost!));
    const held = account.held - sum(finished.map(({ hold }) => hold));
    return { balance, held, available: balance - held };
  }

  spendingOf(
    keyId: string,
    atMs: number,
  ): { spentTotal: bigint; windowSpent: bigint; held: bigint; remaining: bigint | null } {
    const key = this.keys.get(keyId)!;
    const finished = [...this.requests.values()].filter(
      (request) => request.keyId === keyId && request.state === 'finished',
    );
    const inWindow = finished.filter((request) => request.windowStart === key.windowStart);
    const spentTotal = key.spentTotal + sum(finished.map(({ cost }) => cost!));
    const held = key.held - sum(finished.map(({ hold }) => hold));
    const windowIsOver = limitWindow(key.limitReset, atMs) > key.windowStart;
    const windowSpent = windowIsOver ? 0n : key.windowSpent + sum(inWindow.map(({ cost }) => cost!));
    const windowHeld = windowIsOver ? 0n : key.windowHeld - sum(inWindow.map(({ hold }) => hold));
    const used = key.limitReset === 'none' ? spentTotal + held : windowSpent + windowHeld;
    return { spentTotal, windowSpent, held, remaining: key.limit === null ? null : key.limit - used };
  }

  /** Of settled requests that were not refused, by `account/model/key`. */
  usageTotals(): Map<string, UsageTotal> {
    const totals = new Map<string, UsageTotal>();
    for (const request of this.requests.values()) {
      const settled = request.state === 'charged' || request.state === 'released';
      if (!settled || request.outcome === 'refused') continue;
      const at = `${request.accountId}/${request.modelId}/${request.keyId}`;
      const total = totals.get(at) ?? { requests: 0, failed: 0, inputTokens: 0, outputTokens: 0, cost: 0n };
      const billed = isBilled(request.outcome!);
      totals.set(at, {
        requests: total.requests + 1,
        failed: total.failed + (billed ? 0 : 1),
        inputTokens: total.inputTokens + (billed ? request.inputTokens! : 0),
        outputTokens: total.outputTokens + (billed ? request.outputTokens! : 0),
        cost: total.cost + request.cost!,
      });
    }
    return totals;
  }

  /** Refuses what does not fit; the key's limit before the account's money. */
  #requireRoom(
    account: ModelAccount,
    { keyRoom, accountRoom, required }: { keyRoom: bigint | null; accountRoom: bigint; required: bigint },
  ): void {
    const unsettled = [...this.requests.values()].some(
      (request) => request.accountId === account.id && request.state === 'finished' && request.settleError === null,
    );
    if (keyRoom !== null && keyRoom < required) {
      throw new ModelRefusal('key_limit', atLeastZero(keyRoom), required, unsettled);
    }
    if (accountRoom < required) {
      throw new ModelRefusal('insufficient_quota', atLeastZero(accountRoom), required, unsettled);
    }
  }

  #keyOf(hold: { keyId: string; accountId: string }): ModelKey | null {
    const key = this.keys.get(hold.keyId);
    return key?.accountId === hold.accountId ? key : null;
  }

  #addRequest(
    hold: FreeHoldRequest | (RefusalRecord & { gatewayId: string }),
    given: Pick<ModelRequest, 'hold' | 'free' | 'windowStart'>,
  ): ModelRequest {
    const request: ModelRequest = {
      id: hold.requestId,
      accountId: hold.accountId,
      keyId: hold.keyId,
      modelId: hold.modelId,
      gatewayId: hold.gatewayId,
      ...given,
      state: 'held',
      outcome: null,
      listCost: null,
      cost: null,
      inputTokens: null,
      outputTokens: null,
      clientLeft: false,
      settleError: null,
      workflowId: null,
      refusalCode: null,
      finishedAs: -1,
    };
    this.requests.set(request.id, request);
    return request;
  }

  #grant(hold: HoldRequest, amount: bigint, atMs: number): void {
    const key = this.keys.get(hold.keyId)!;
    const window = Math.max(limitWindow(key.limitReset, atMs), key.windowStart);
    if (window > key.windowStart) Object.assign(key, { windowStart: window, windowSpent: 0n, windowHeld: 0n });
    key.held += amount;
    key.windowHeld += amount;
    this.accounts.get(hold.accountId)!.held += amount;
    this.#addRequest(hold, { hold: amount, free: false, windowStart: window });
  }

  #end(request: ModelRequest, record: FinishRecord): void {
    const billed = isBilled(record.outcome);
    request.state = request.free ? 'released' : 'finished';
    request.outcome = record.outcome;
    request.listCost = request.free ? 0n : record.listCost;
    request.cost = billed ? smallest(record.listCost, request.hold) : 0n;
    request.inputTokens = record.usage.inputTokens;
    request.outputTokens = record.usage.outputTokens;
    request.finishedAs = this.#finishes++;
    if (request.free && record.listCost > 0n) this.#bookOnce(`${request.id}/free`, record.listCost);
    if (!billed && request.listCost > 0n) this.#bookOnce(`${request.id}/${record.outcome}`, request.listCost);
  }

  #settleOne(request: ModelRequest, charge: bigint, workflowId: string | null): void {
    const account = this.accounts.get(request.accountId)!;
    const key = this.keys.get(request.keyId)!;
    const billed = isBilled(request.outcome!);
    request.state = billed ? 'charged' : 'released';
    request.cost = charge;
    request.workflowId = workflowId;
    account.held -= request.hold;
    key.held -= request.hold;
    key.spentTotal += charge;
    if (request.windowStart === key.windowStart) {
      key.windowHeld -= request.hold;
      key.windowSpent += charge;
    }
    if (charge > 0n) this.#post(`${request.id}/charge`, { debit: account.id, credit: REVENUE, amount: charge });
    if (billed && request.listCost! > charge) this.#bookOnce(`${request.id}/overrun`, request.listCost! - charge);
  }

  #postAdjustment(adjustment: ModelAdjustment): void {
    const { accountId, amount } = adjustment;
    const account = this.accounts.get(accountId)!;
    const room = account.balance - account.held;
    if (amount < 0n && room < -amount) throw new ModelRefusal('insufficient_quota', atLeastZero(room), -amount);
    adjustment.state = 'posted';
    this.#post(
      `${adjustment.id}/adjustment`,
      amount > 0n
        ? { debit: ADJUSTMENT, credit: accountId, amount }
        : { debit: accountId, credit: ADJUSTMENT, amount: -amount },
    );
  }

  /** Records money that moves, and moves it. */
  #post(at: string, posting: ModelPosting): void {
    this.postings.set(at, posting);
    const debited = this.accounts.get(posting.debit);
    if (debited !== undefined) debited.balance -= posting.amount;
    const credited = this.accounts.get(posting.credit);
    if (credited !== undefined) credited.balance += posting.amount;
  }

  #bookOnce(at: string, listCost: bigint): void {
    if (!this.platformCosts.has(at)) this.platformCosts.set(at, listCost);
  }
}

function stateRefusal(key: ModelKey, account: ModelAccount, modelId: string): LedgerRefusalCode | null {
  if (key.revoked) return 'key_revoked';
  if (key.expired) return 'key_expired';
  if (account.frozen) return 'account_frozen';
  if (key.models !== null && !key.models.includes(modelId)) return 'model_not_allowed';
  return null;
}

/** The rest that the key may hold; null when unlimited. */
function roomOfKey(key: ModelKey, atMs: number): bigint | null {
  if (key.limit === null) return null;
  if (key.limitReset === 'none') return key.limit - key.spentTotal - key.held;
  if (limitWindow(key.limitReset, atMs) > key.windowStart) return key.limit;
  return key.limit - key.windowSpent - key.windowHeld;
}

/**
 * The same for a request that grows. One of an earlier window does not weigh on the present one; the counters of its
 * own are gone, so it may grow to what a whole window allows.
 */
function roomForExtension(key: ModelKey, request: ModelRequest): bigint | null {
  if (key.limit === null) return null;
  if (key.limitReset === 'none') return key.limit - key.spentTotal - key.held;
  if (request.windowStart !== key.windowStart) return key.limit - request.hold;
  return key.limit - key.windowSpent - key.windowHeld;
}

function sameRequest(before: ModelRequest, hold: FreeHoldRequest): boolean {
  return (
    before.accountId === hold.accountId &&
    before.keyId === hold.keyId &&
    before.modelId === hold.modelId &&
    before.gatewayId === hold.gatewayId
  );
}

function sameEnd(request: ModelRequest, record: FinishRecord): boolean {
  return (
    request.outcome === record.outcome &&
    (request.free || request.listCost === record.listCost) &&
    request.inputTokens === record.usage.inputTokens &&
    request.outputTokens === record.usage.outputTokens
  );
}

function addTo(sums: Map<string, bigint>, at: string, amount: bigint): bigint {
  const total = (sums.get(at) ?? 0n) + amount;
  sums.set(at, total);
  return total;
}

function sum(amounts: readonly bigint[]): bigint {
  return amounts.reduce((total, amount) => total + amount, 0n);
}

function smallest(...amounts: bigint[]): bigint {
  return amounts.reduce((least, amount) => (amount < least ? amount : least));
}

function atLeastZero(amount: bigint): bigint {
  return amount > 0n ? amount : 0n;
}

function absolute(amount: bigint): bigint {
  return amount < 0n ? -amount : amount;
}
