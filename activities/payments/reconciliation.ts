/**
 * Reconciliation: compares the providers' statements with the ledger, and the ledger with its own rules. A gap is
 * a case with its evidence. Nothing is booked here: a gap that looking once more would close is named to the workflow,
 * which asks the order's own process to look; all others wait for a person. A case whose gap has gone is closed.
 *
 * A provider is asked about single orders only where its statement and the ledger differ, or where they cannot tell:
 * the statements are compared in bulk, page by page. A page that is repeated finds what it found before.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { assert } from '../../domain/assert.ts';
import { formatId, parseId, type Uuid } from '../../domain/ids.ts';
import { amountText, USD } from '../../domain/currency.ts';
import { addUsd, formatPico, formatUsd, usd, type PicoAmount, type PicoUsd } from '../../domain/money.ts';
import type { CheckoutFacts } from '../../domain/payments/top-up.ts';
import { GAP_KINDS, gapsOf, type Gap } from '../../domain/payments/reconciliation.ts';
import { openCase } from '../../db/accounts/cases.ts';
import { noteListedPayment } from '../../db/payments/known-payments.ts';
import {
  bookedPayments,
  closeGoneCases,
  compareEntries,
  forgetCompared,
  noteCompared,
  reviewViolations,
  topUpsNotCompared,
  waitingTopUps,
  type FoundCase,
  type RunPage,
} from '../../db/payments/reconciliation.ts';
import { topUpById, type TopUp } from '../../db/payments/top-ups.ts';
import type { ComparePageInput, PageComparison } from '../../contract/index.ts';
import { eachOf, retryRateLimited } from '../shared/retry.ts';
import { RailRefusal, type PaymentRail } from '../../providers/rail.ts';
import type { StatementEntry, ProviderStatement } from '../../providers/statements.ts';
import { beating } from '../shared/heartbeat.ts';

export interface ReconciliationActivities {
  /** The providers that can be compared. */
  listComparedProviders(): Promise<string[]>;
  /** Compares one page of a provider's statement of the period, or of the ledger, with the other side. */
  comparePage(input: ComparePageInput): Promise<PageComparison>;
  /** Compares these orders again, after their own processes have checked. Returns how many gaps are left. */
  compareTopUps(topUpIds: readonly string[]): Promise<number>;
  /** Makes cases of breaches of the ledger's own rules; returns how many there are. */
  reviewLedger(): Promise<number>;
}

/** More breaches than a person could look at say the same as this many. */
const VIOLATIONS_MAX = 500;
/** Orders of the ledger that one activity looks at, however many calls each of them takes. */
const LEDGER_PAGE = 200;
/** Orders that a provider is asked about at a time. Stripe allows 100 calls a second, of which customers need some. */
const ASKED_AT_A_TIME = 8;

export interface ReconciliationDeps {
  readonly pool: pg.Pool;
  /** For reading the whole ledger: its statements may take minutes. */
  readonly slowPool: pg.Pool;
  readonly logger: Logger;
  readonly rails: readonly PaymentRail[];
  readonly statements: readonly ProviderStatement[];
}

export function createReconciliationActivities(deps: ReconciliationDeps): ReconciliationActivities {
  const { pool, slowPool, logger, rails, statements } = deps;

  return {
    listComparedProviders: () => Promise.resolve(statements.map(({ provider }) => provider)),

    comparePage: (input) =>
      beating(async () => {
        const { provider, cursor, page } = input;
        const result = await comparePart(input);
        if (result.gaps > 0) {
          const { gaps, fixable } = result;
          logger.warn(
            { provider, part: cursor.part, page, gaps, fixable: fixable.length },
            'ledger and provider differ',
          );
        }
        return result;
      }),

    compareTopUps: (topUpIds) =>
      beating(async () => {
        const ids = topUpIds.map((id) => parseId('topUp', id)).filter((id) => id !== null);
        const found = await compare(ids);
        // An order that cannot be compared yet still has the gap that named it.
        return found.reduce((sum, { gaps }) => sum + gaps.length, ids.length - found.length);
      }),

    reviewLedger: () => beating(() => reviewViolations(slowPool, VIOLATIONS_MAX)),
  };

  /**
   * First the orders that wait for a person, since the statement need not say whose its payments are; then the
   * provider's statement; then credits of the ledger that the statement has not listed.
   */
  async function comparePart(input: ComparePageInput): Promise<PageComparison> {
    const { provider, cursor } = input;
    const run = { provider, run: new Date(input.run), page: input.page };
    const period = { since: new Date(input.since), until: new Date(input.until) };
    const limit = usd(input.fixLimitUsd);
    const ids = { after: cursor.after, limit: LEDGER_PAGE };
    switch (cursor.part) {
      case 'waiting': {
        const waiting = await waitingTopUps(pool, provider, ids);
        const result = await settle(run, waiting, [], limit);
        const next = waiting.length < LEDGER_PAGE ? ({ part: 'statement', after: null } as const) : pageAfter(waiting);
        return { ...result, listed: 0, next };
      }
      case 'statement': {
        const known = statements.find((candidate) => candidate.provider === provider);
        assert(known !== undefined, 'only listed providers are compared');
        const { entries, next } = await retryRateLimited(() => known.page(period, cursor.after));
        const differing = await compareEntries(pool, run, entries.map(withOrder), CASE_KINDS);
        const found = await eachOf(differing, ASKED_AT_A_TIME, async ({ entry, booked }): Promise<FoundEntry> => {
          return { ...entry, order: await orderOf(entry, booked) };
        });
        const wanted = [...new Set(found.flatMap(({ order }) => (order === null ? [] : [order.id])))];
        const result = await settle(run, wanted, found.filter(isPaid), limit);
        const listedPayments = entries.filter(({ received }) => received !== null).length;
        const agreed = listedPayments - found.filter(({ received }) => received !== null).length;
        return {
          ...result,
          listed: entries.length,
          compared: result.compared + agreed,
          next: next === null ? { part: 'ledger', after: null } : { part: 'statement', after: next },
        };
      }
      case 'ledger': {
        const missing = await topUpsNotCompared(pool, run, period, ids);
        const result = await settle(run, missing, [], limit);
        const isLast = missing.length < LEDGER_PAGE;
        if (isLast) await forgetCompared(pool, run);
        return { ...result, listed: 0, next: isLast ? null : pageAfter(missing) };
      }
    }

    function pageAfter(page: readonly string[]): PageComparison['next'] {
      return { part: cursor.part, after: page.at(-1)! };
    }
  }

  /** The order that an entry names, else the one that the ledger has for its payment. */
  async function orderOf({ topUpId }: StatementEntry, booked: Uuid<'topUp'> | null): Promise<TopUp | null> {
    const id = topUpId === null ? booked : parseId('topUp', topUpId);
    return id === null ? null : topUpById(pool, id);
  }

  /** Asks about orders; payments that none of them knows are strays. Marks what was dealt with as the last thing. */
  async function settle(
    run: RunPage,
    ids: readonly Uuid<'topUp'>[],
    paid: readonly PaidEntry[],
    limit: PicoUsd,
  ): Promise<Omit<PageComparison, 'listed' | 'next'>> {
    const found = await compare(ids);
    const placed = found.flatMap(({ paymentIds }) => paymentIds);
    const known = new Set(placed);
    const strays = paid.filter(({ paymentId }) => !known.has(paymentId));
    for (const stray of strays) await writeStray(run.provider, stray);
    const fixable = [
      ...found
        .filter(({ gaps }) => gaps.length > 0 && gaps.every(({ isSafe, amount }) => isSafe && abs(amount) <= limit))
        .map(({ order, gaps }) => ({ topUpId: formatId('topUp', order.id), gaps: gaps.length })),
      // An order that has not found what its provider made for it looks for that first.
      ...strays.flatMap(({ order, received, currency }) =>
        order?.providerId === null && currency === USD && received <= limit
          ? [{ topUpId: formatId('topUp', order.id), gaps: 1 }]
          : [],
      ),
    ];
    await noteCompared(pool, run, [...placed, ...strays.map(({ paymentId }) => paymentId)]);
    return {
      compared: ids.length,
      asked: found.length,
      gaps: found.reduce((sum, { gaps }) => sum + gaps.length, strays.length),
      fixable,
    };
  }

  /** Compares each order with its provider, opens cases of the gaps and closes those that have gone. */
  async function compare(ids: readonly Uuid<'topUp'>[]): Promise<Compared[]> {
    const found = await eachOf(ids, ASKED_AT_A_TIME, compareOne);
    return found.filter((compared) => compared !== null);
  }

  /** Null for an order that its provider cannot be asked about yet. */
  async function compareOne(id: Uuid<'topUp'>): Promise<Compared | null> {
    const order = await topUpById(pool, id);
    const rail = rails.find(({ provider }) => provider === order?.provider);
    if (order === null || rail === undefined || order.providerId === null) return null;
    const { accepts, leastReceived } = rail;
    const charge = addUsd(order.amount, order.fee);
    const booked = await bookedPayments(pool, id);
    const subject = formatId('topUp', id);
    let facts: CheckoutFacts;
    try {
      facts = await retryRateLimited(async () => requireWhole(await rail.inspect(order)));
    } catch (error) {
      if (!(error instanceof RailRefusal)) throw error;
      // The others are still compared: one order that its provider refuses to show must not hide their gaps.
      logger.warn({ top_up_id: subject, error: error.message }, 'the provider refuses to show an order');
      await openCase(pool, { kind: REFUSED, subject, evidence: { provider: order.provider, refusal: error.message } });
      return { order, gaps: [], paymentIds: booked.map(({ paymentId }) => paymentId) };
    }
    const gaps = gapsOf({ ...order, charge, accepts, leastReceived }, facts, booked);
    const paymentIds = [...new Set([...facts.payments, ...booked].map(({ paymentId }) => paymentId))];
    await writeCases(order, gaps, [...paymentIds, subject]);
    return { order, gaps, paymentIds };
  }

  /** A payment of no order, or of one that does not know it; comparing the order once it does closes the case. */
  async function writeStray(provider: string, entry: PaidEntry): Promise<void> {
    const { paymentId, topUpId, received, order } = entry;
    const currency = entry.currency ?? UNKNOWN_CURRENCY;
    const sum =
      currency === USD ? { received_usd: formatPico(received) } : { received: amountText(received, currency) };
    const evidence = { provider, payment_id: paymentId, ...sum };
    // From now on a person can credit it by hand, by this key.
    await noteListedPayment(pool, { provider, paymentId, topUp: order?.id ?? null, received, currency });
    if (order === null) {
      const kind = caseKind('payment_without_order');
      await openCase(pool, { kind, subject: paymentId, evidence: { ...evidence, names_order: topUpId } });
      return;
    }
    const of = {
      top_up: formatId('topUp', order.id),
      account: formatId('account', order.accountId),
      state: order.state,
    };
    await openCase(pool, {
      kind: caseKind('payment_not_credited'),
      subject: paymentId,
      evidence: { ...evidence, ...of },
    });
  }

  async function writeCases(order: TopUp, gaps: readonly Gap[], lookedAt: readonly string[]): Promise<void> {
    const found: FoundCase[] = [];
    for (const { kind, paymentId, amount, isSafe, ledger, provider } of gaps) {
      const evidence = {
        top_up: formatId('topUp', order.id),
        account: formatId('account', order.accountId),
        provider: order.provider,
        off_by_usd: formatUsd(amount),
        closes_by_looking_again: isSafe,
        ledger_says: ledger,
        provider_says: provider,
      };
      await openCase(pool, { kind: caseKind(kind), subject: paymentId, evidence });
      found.push({ kind: caseKind(kind), subject: paymentId });
    }
    const resolution = 'ledger and provider agree again';
    await closeGoneCases(pool, { kinds: CASE_KINDS, lookedAt, found, resolution });
  }
}

/** Facts by which refunds and disputes can be compared; throws why they could not be read where one is missing. */
function requireWhole(facts: CheckoutFacts): CheckoutFacts {
  const unread = facts.payments.flatMap((payment) => payment.unread ?? []).find(({ isEssential }) => isEssential);
  if (unread !== undefined) throw unread.error;
  return facts;
}

type FoundEntry = StatementEntry & { readonly order: TopUp | null };
type PaidEntry = FoundEntry & { readonly received: PicoAmount };

const isPaid = (entry: FoundEntry): entry is PaidEntry => entry.received !== null;

function withOrder(entry: StatementEntry): StatementEntry & { readonly topUp: Uuid<'topUp'> | null } {
  return { ...entry, topUp: entry.topUpId === null ? null : parseId('topUp', entry.topUpId) };
}

interface Compared {
  readonly order: TopUp;
  readonly gaps: readonly Gap[];
  /** Every payment of the order that the provider or the ledger knows. */
  readonly paymentIds: readonly string[];
}

/** For a payment whose statement does not say. */
const UNKNOWN_CURRENCY = 'unknown';

const caseKind = (kind: string): string => `reconcile/${kind}`;
const REFUSED = caseKind('refused_by_provider');
const CASE_KINDS = [...GAP_KINDS.map(caseKind), REFUSED];

const abs = (amount: PicoUsd): bigint => (amount < 0n ? 0n - amount : amount);
