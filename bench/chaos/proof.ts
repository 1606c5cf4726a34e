/**
 * The proof of a chaos run, pure: what the twin served, what the log says, what the ledger moved and what the clients
 * saw must tell one story. Everything that does not is a difference; everything that agrees only after an explanation
 * is listed with it. Nothing is left out: each request that the twin served falls into exactly one class of
 * {@link UsageClass}.
 *
 * Comparable is the usage of every request whose upstream could tell it, whether the customer paid for it (the log row)
 * or the platform did (`platform_cost`): all four token counts must be the twin's own. Two classes are not comparable
 * in full:
 *  - `estimated`: the upstream's usage never came, so it was counted here or taken as it was held, and the row or the
 *    booking says so. Input is a count by another tokenizer than the twin's. Billed output must not exceed what the
 *    twin produced, unless the model may produce output unseen; booked output must not be nothing.
 *  - `unseen`: the upstream broke without telling usage before it had produced any output.
 */
import { parseId, uuidTime, type RequestId } from '../../domain/ids.ts';
import { addUsd, formatUsd, parseUsd, picoUsd, ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import { tiersAt } from '../../domain/requests/prices.ts';
import { rate } from '../../domain/requests/rating.ts';
import { isBilled } from '../../domain/requests/request.ts';
import { NO_USAGE, type Usage } from '../../domain/usage/usage.ts';
import type { CallResult } from './clients.ts';
import { priceKey, type Evidence, type LogRow, type PlatformCost, type RequestRecord } from './evidence.ts';

export type UsageClass =
  'billed' | 'free' | 'platform cost' | 'estimated' | 'unseen' | 'refused upstream' | 'different';

export interface Difference {
  /** The rule that is broken, as a sentence. */
  readonly rule: string;
  readonly subject: string;
  readonly found: string;
  readonly expected: string;
}

/** An agreement that needs a word. */
export interface Explained {
  readonly why: Reason;
  readonly subject: string;
  readonly details: string;
}

export const REASONS = {
  unseen: 'the upstream broke without telling its usage, and before any output',
  estimated: 'the upstream told no usage: counted by the gateway or taken as held, and marked as an estimate',
  lostEnd: 'charged, and the very end of the answer was lost: the gateway died after the outcome was stored',
  ourLoss: 'answered in full and not billed: the gateway died while the database did not take the outcome',
} as const;
export type Reason = keyof typeof REASONS;

export interface Proof {
  readonly differences: readonly Difference[];
  readonly explained: readonly Explained[];
  /** Requests that the twin served, by how their usage is accounted for. */
  readonly classes: Readonly<Record<UsageClass, number>>;
  readonly servedRequests: number;
  readonly rowsByOutcome: Readonly<Record<string, number>>;
  readonly charged: PicoUsd;
  readonly credited: PicoUsd;
  readonly platformCost: PicoUsd;
}

/** Reasons of platform cost that come beside what the row itself accounts for. */
const BESIDE_THE_ROW: ReadonlySet<string> = new Set(['overrun', 'free', 'undelivered']);

/** Checks the evidence of a run in which nothing moves any more. */
export function prove(evidence: Evidence, results: readonly CallResult[]): Proof {
  const checks = new ProofChecks(evidence);
  checks.checkServed();
  checks.checkLog();
  checks.checkPostings();
  checks.checkCounters();
  checks.checkClients(results);
  checks.checkViolations();
  return checks.proof();
}

class ProofChecks {
  readonly #evidence: Evidence;
  readonly #rows: ReadonlyMap<RequestId, LogRow>;
  readonly #served: ReadonlyMap<string, RequestRecord>;
  readonly #platformCosts: ReadonlyMap<RequestId, readonly PlatformCost[]>;
  readonly #differences: Difference[] = [];
  readonly #explained: Explained[] = [];
  readonly #classes: Record<UsageClass, number> = {
    billed: 0,
    free: 0,
    'platform cost': 0,
    estimated: 0,
    unseen: 0,
    'refused upstream': 0,
    different: 0,
  };

  constructor(evidence: Evidence) {
    this.#evidence = evidence;
    this.#rows = new Map(evidence.log.map((row) => [row.id, row]));
    this.#served = new Map(evidence.served.map((record) => [record.request_id, record]));
    this.#platformCosts = Map.groupBy(evidence.platformCosts, ({ requestId }) => requestId);
  }

  #differ(rule: string, subject: string, found: unknown, expected: unknown): void {
    this.#differences.push({ rule, subject, found: String(found), expected: String(expected) });
  }

  #explain(why: Reason, subject: string, details: string): void {
    this.#explained.push({ why, subject, details });
  }

  /** Both amounts in pico-USD; a missing one differs from every amount. */
  #equalUsd(rule: string, subject: string, found: PicoUsd | null, expected: PicoUsd | null): void {
    if (found === expected) return;
    const text = (amount: PicoUsd | null): string => (amount === null ? 'none' : formatUsd(amount));
    this.#differ(rule, subject, text(found), text(expected));
  }

  /** Each request that reached the twin: asked once, logged once, its usage accounted for. */
  checkServed(): void {
    for (const record of this.#evidence.served) {
      const subject = record.request_id;
      if (record.attempts !== 1) this.#differ('a request is sent upstream once', subject, record.attempts, 1);
      if (record.status === 'running') this.#differ('an upstream answer has ended', subject, 'running', 'ended');
      const row = this.#rows.get(subject as RequestId);
      if (row === undefined) {
        this.#differ('what the upstream served is in the log', subject, 'no row', 'one row');
        this.#classes.different += 1;
        continue;
      }
      this.#classes[this.#classify(record, row)] += 1;
    }
  }

  #classify(record: RequestRecord, row: LogRow): UsageClass {
    const produced = usageOfRecord(record);
    const booking = this.#bookingOf(row);
    const booked = booking?.usage ?? null;
    if (produced === null) {
      // Whether an upstream that died had begun to work nobody can tell: what was held is booked, and nobody is billed.
      if ((booked !== null && !booking!.estimated) || (row.cost ?? ZERO_USD) > 0n) {
        this.#differ(
          'nothing is accounted for where no model worked',
          row.id,
          describe(booked ?? row.usage),
          'nothing',
        );
        return 'different';
      }
      return 'refused upstream';
    }
    const isOnRow =
      row.outcome !== null && (isBilled(row.outcome) || (row.free && booked === null && row.usage.inputTokens > 0));
    if (isOnRow && row.estimated) return this.#checkEstimate(row, produced);
    if (!isOnRow && booking?.estimated === true) return this.#checkEstimatedBooking(row, booking.usage, produced);
    const accounted = isOnRow ? row.usage : booked;
    if (accounted === null) {
      if (record.status === 'failed' && produced.outputTokens === 0) {
        this.#explain('unseen', row.id, `${row.outcome}, the twin ${describe(produced)}`);
        return 'unseen';
      }
      this.#differ(
        "the usage is the upstream's own",
        row.id,
        `${row.outcome}, nothing accounted for`,
        describe(produced),
      );
      return 'different';
    }
    if (!sameUsage(accounted, produced)) {
      this.#differ(
        "the usage is the upstream's own",
        row.id,
        `${row.outcome}, ${describe(accounted)}`,
        describe(produced),
      );
      return 'different';
    }
    if (!isOnRow) return 'platform cost';
    return row.free ? 'free' : 'billed';
  }

  #checkEstimate(row: LogRow, produced: Usage): UsageClass {
    const isTooMuch =
      row.usage.outputTokens > produced.outputTokens && !this.#evidence.hiddenOutputModels.has(row.model);
    if (isTooMuch || row.usage.inputTokens === 0) {
      this.#differ(
        'an estimate counts only what was produced',
        row.id,
        describe(row.usage),
        `at most ${describe(produced)}`,
      );
      return 'different';
    }
    this.#explain('estimated', row.id, `${row.outcome}, ${describe(row.usage)}, the twin ${describe(produced)}`);
    return 'estimated';
  }

  #checkEstimatedBooking(row: LogRow, booked: Usage, produced: Usage): UsageClass {
    if (booked.inputTokens === 0 || (booked.outputTokens === 0 && produced.outputTokens > 0)) {
      this.#differ('what was produced is not booked as nothing', row.id, describe(booked), describe(produced));
      return 'different';
    }
    this.#explain('estimated', row.id, `${row.outcome}, booked ${describe(booked)}, the twin ${describe(produced)}`);
    return 'estimated';
  }

  /**
   * The platform cost of a request, over all reasons but three: two are about money alone and the row has the usage,
   * and what was not delivered stands beside a bill.
   */
  #bookingOf(row: LogRow): PlatformCost | null {
    const booked = (this.#platformCosts.get(row.id) ?? []).filter(({ reason }) => !BESIDE_THE_ROW.has(reason));
    if (booked.length > 1) {
      const reasons = booked.map(({ reason }) => reason).join(', ');
      this.#differ('usage is booked as platform cost once', row.id, reasons, 'one reason');
    }
    return booked[0] ?? null;
  }

  /** Each log row: ended, priced exactly, charged only for what was served, with its workflow. */
  checkLog(): void {
    for (const row of this.#evidence.log) {
      if (row.state === 'held' || row.state === 'finished')
        this.#differ('every hold has ended', row.id, row.state, 'ended');
      if (row.settleError !== null) this.#differ('every request can be settled', row.id, row.settleError, 'no error');
      const paid = (row.cost ?? ZERO_USD) > 0n;
      if (paid && usageOfRecord(this.#served.get(row.id)) === null) {
        this.#differ('only what the upstream served is charged', row.id, formatUsd(row.cost!), 'not served');
      }
      if (!row.free && row.outcome !== 'refused' && row.workflowId === null) {
        this.#differ('every settled request names its workflow', row.id, 'none', 'a workflow id');
      }
      this.#checkCost(row);
    }
  }

  #checkCost(row: LogRow): void {
    if (row.free || row.outcome === null || !isBilled(row.outcome)) {
      this.#equalUsd('what is not billed costs nothing', row.id, row.cost, ZERO_USD);
      return;
    }
    // A client that left while its hold was being taken: the upstream was never called, so there is not even a call to
    // pay.
    const isUnserved = row.outcome === 'client_disconnected' && !this.#served.has(row.id);
    const rated = isUnserved ? ZERO_USD : this.#rated(row);
    this.#equalUsd('the list cost is usage times price', row.id, row.listCost, rated);
    if (row.cost === null || row.cost >= rated) {
      this.#equalUsd('the cost is the list cost', row.id, row.cost, rated);
      return;
    }
    // Above its hold a request is charged only as far as the account's free money goes; the rest must be platform cost.
    const overrun = this.#platformCosts.get(row.id)?.find(({ reason }) => reason === 'overrun')?.listCost ?? null;
    this.#equalUsd('what an overrun is not charged is platform loss', row.id, overrun, picoUsd(rated - row.cost));
  }

  #rated(row: LogRow): PicoUsd {
    const prices = this.#evidence.prices.get(priceKey(row.model, row.priceVersion ?? 0));
    if (prices === undefined)
      throw new Error(`the log names a price that does not exist: ${row.model}@${row.priceVersion}`);
    return rate(tiersAt(prices, uuidTime(parseId('request', row.id)!)), row.usage).cost;
  }

  /** Each charge is posted once, to the account of its request, at its cost; nothing else is. */
  checkPostings(): void {
    const charges = Map.groupBy(
      this.#evidence.postings.filter(({ kind }) => kind === 'charge'),
      ({ businessId }) => businessId,
    );
    for (const row of this.#evidence.log) {
      const uuid: string = parseId('request', row.id)!;
      const posted = charges.get(uuid) ?? [];
      charges.delete(uuid);
      const wanted = (row.cost ?? ZERO_USD) > 0n ? 1 : 0;
      if (posted.length !== wanted) this.#differ('a charge is posted once', row.id, posted.length, wanted);
      for (const posting of posted) {
        this.#equalUsd('a charge is posted at its cost', row.id, posting.amount, row.cost);
        if (posting.debit !== row.accountId) {
          this.#differ('a charge is posted to its own account', row.id, posting.debit, row.accountId);
        }
      }
    }
    for (const uuid of charges.keys()) this.#differ('every charge belongs to a request', uuid, 'no row', 'one row');
  }

  /** Balances, key counters and the usage trends say what the log adds up to. */
  checkCounters(): void {
    const { accounts, keys, log, postings, usageHours } = this.#evidence;
    const rowsByAccount = Map.groupBy(log, ({ accountId }) => accountId);
    const rowsByKey = Map.groupBy(log, ({ keyId }) => keyId);
    for (const { id, balance, held } of accounts) {
      const rows = rowsByAccount.get(id) ?? [];
      const credits = sumOf(postings.filter(({ credit }) => credit === id).map(({ amount }) => amount));
      this.#equalUsd('the balance is credits minus costs', id, balance, picoUsd(credits - costOf(rows)));
      this.#equalUsd('nothing is held', id, held, ZERO_USD);
      const hours = usageHours.find(({ accountId }) => accountId === id);
      const settled = rows.filter(({ outcome }) => outcome !== 'refused');
      this.#equalUsd('usage trends add up to the log', id, hours?.cost ?? ZERO_USD, costOf(settled));
      if ((hours?.requests ?? 0) !== settled.length) {
        this.#differ('usage trends count every request', id, hours?.requests ?? 0, settled.length);
      }
    }
    for (const key of keys) {
      const rows = rowsByKey.get(key.id) ?? [];
      this.#equalUsd("a key's spending is its costs", key.id, key.spentTotal, costOf(rows));
      const inWindow = rows.filter(({ window }) => window === key.window);
      this.#equalUsd("a key's window is its costs there", key.id, key.windowSpent, costOf(inWindow));
      this.#equalUsd('nothing is held', key.id, addUsd(key.held, key.windowHeld), ZERO_USD);
    }
  }

  /** Each client's answer agrees with its row; a client that we refused was not served. */
  checkClients(results: readonly CallResult[]): void {
    for (const result of results) {
      const { requestId, end } = result;
      if (requestId === null) {
        if (end === 'completed')
          this.#differ('every answer has a request id', `call ${result.plan.n}`, 'none', 'an id');
        continue;
      }
      const row = this.#rows.get(requestId as RequestId);
      const record = this.#served.get(requestId);
      // Every call names a model and a key that exist, and money that suffices.
      if (result.status !== null && result.status >= 400 && result.status < 500) {
        this.#differ('a fault of ours is not told as a refusal', requestId, result.error, 'an answer or a 5xx');
      }
      if (end === 'completed') this.#checkAnswer(result, requestId, row);
      else if (end === 'refused' && result.error === 'ledger_unavailable' && record !== undefined) {
        this.#differ('who is turned away for want of a ledger is not served', requestId, 'served', 'not served');
      } else if (end === 'broken' && (row?.cost ?? ZERO_USD) > 0n) {
        this.#explain('lostEnd', requestId, `charged ${formatUsd(row!.cost!)}`);
      } else if (end === 'refused' && (row?.cost ?? ZERO_USD) > 0n) {
        this.#differ('a client that gets a failure is not charged', requestId, formatUsd(row!.cost!), 'nothing');
      }
    }
  }

  #checkAnswer({ shown, plan }: CallResult, requestId: string, row: LogRow | undefined): void {
    if (row === undefined) {
      this.#differ('every answer is in the log', requestId, 'no row', 'one row');
      return;
    }
    if (row.outcome === 'orphaned') {
      this.#explain('ourLoss', requestId, describe(row.usage));
      return;
    }
    if (row.outcome !== 'completed') {
      this.#differ('a whole answer is completed', requestId, row.outcome, 'completed');
      return;
    }
    if (shown === null) {
      if (!plan.stream) this.#differ('a whole answer shows its usage', requestId, 'none', 'usage');
      return;
    }
    if (shown.costUsd !== null)
      this.#equalUsd('the cost shown is the cost charged', requestId, parseUsd(shown.costUsd), row.cost);
    if (shown.promptTokens !== row.usage.inputTokens || shown.completionTokens !== row.usage.outputTokens) {
      const told = `input ${shown.promptTokens}, output ${shown.completionTokens}`;
      this.#differ('the usage shown is the usage logged', requestId, told, describe(row.usage));
    }
  }

  checkViolations(): void {
    for (const { rule, subject, stored, expected } of this.#evidence.violations) {
      this.#differ(`violations: ${String(rule)}`, String(subject), stored, expected);
    }
  }

  proof(): Proof {
    const { served, log, postings, platformCosts, accounts } = this.#evidence;
    const customers = new Set<string>(accounts.map(({ id }) => id));
    return {
      differences: this.#differences,
      explained: this.#explained,
      classes: this.#classes,
      servedRequests: served.length,
      rowsByOutcome: Object.fromEntries(
        Map.groupBy(log, ({ outcome, state }) => outcome ?? state)
          .entries()
          .map(([outcome, rows]) => [outcome, rows.length]),
      ),
      charged: sumOf(postings.filter(({ kind }) => kind === 'charge').map(({ amount }) => amount)),
      credited: sumOf(postings.filter(({ credit }) => customers.has(credit)).map(({ amount }) => amount)),
      platformCost: sumOf(platformCosts.map(({ listCost }) => listCost)),
    };
  }
}

/** Output of the twin; null when no model worked on the request or it never arrived. */
function usageOfRecord(record: RequestRecord | undefined): Usage | null {
  if (record === undefined || record.usage === null) return null;
  return {
    ...NO_USAGE,
    inputTokens: record.prompt_tokens,
    cachedInputTokens: record.cached_tokens,
    outputTokens: record.completion_tokens,
    reasoningTokens: record.reasoning_tokens,
  };
}

function sameUsage(left: Usage, right: Usage): boolean {
  return (
    left.inputTokens === right.inputTokens &&
    left.cachedInputTokens === right.cachedInputTokens &&
    left.outputTokens === right.outputTokens &&
    left.reasoningTokens === right.reasoningTokens
  );
}

function describe(usage: Usage): string {
  const { inputTokens, cachedInputTokens, outputTokens, reasoningTokens } = usage;
  return `input ${inputTokens} (cached ${cachedInputTokens}), output ${outputTokens} (reasoning ${reasoningTokens})`;
}

function costOf(rows: readonly LogRow[]): PicoUsd {
  return sumOf(rows.map(({ cost }) => cost ?? ZERO_USD));
}

function sumOf(amounts: readonly PicoUsd[]): PicoUsd {
  return picoUsd(amounts.reduce<bigint>((sum, amount) => sum + amount, 0n));
}
