/**
 * Reconciliation: compares what providers have on their books with the ledger, and the ledger with its own rules. A gap is
 * a case with its evidence. Nothing is booked here: a gap that looking once more would close is named to the workflow,
 * which asks the order's own process to look; all others wait for a person. A case whose gap has gone is closed.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { Context } from '@temporalio/activity';
import { formatId, parseId, type Uuid } from '../domain/ids.ts';
import { addUsd, formatUsd, usd, type PicoUsd } from '../domain/money.ts';
import { GAP_KINDS, gapsOf, type Gap } from '../domain/reconciliation.ts';
import { openCase } from '../db/cases.ts';
import {
  bookedPayments,
  closeGoneCases,
  reviewViolations,
  topUpsToCompare,
  type FoundCase,
} from '../db/reconciliation.ts';
import { topUpById, topUpOfPayment, type TopUp } from '../db/top-ups.ts';
import type { ProviderComparison, ReconcileInput } from '../workflows/contract.ts';
import type { PaymentRail } from './rails/rail.ts';
import type { BookEntry, ProviderBooks } from './rails/provider-books.ts';

export interface ReconciliationActivities {
  /** The providers that can be compared. */
  listProviderBooks(): Promise<string[]>;
  /** Compares one provider's books of the period with the ledger. */
  compareProvider(input: ReconcileInput & { provider: string }): Promise<ProviderComparison>;
  /** Compares these orders again, after their own processes have looked. Returns how many gaps are left. */
  compareTopUps(topUpIds: readonly string[]): Promise<number>;
  /** Makes cases of breaches of the ledger's own rules; returns how many there are. */
  reviewLedger(): Promise<number>;
}

/** More breaches than a person could look at say the same as this many. */
const VIOLATIONS_MAX = 500;
/** How often an activity says that it is alive, so that a worker that died is noticed before its time-out. */
const HEARTBEAT_MS = 2000;

export interface ReconciliationDeps {
  readonly pool: pg.Pool;
  /** For reading the whole ledger: its statements may take minutes. */
  readonly slowPool: pg.Pool;
  readonly logger: Logger;
  readonly rails: readonly PaymentRail[];
  readonly books: readonly ProviderBooks[];
}

export function createReconciliationActivities(deps: ReconciliationDeps): ReconciliationActivities {
  const { pool, slowPool, logger, rails, books } = deps;

  return {
    listProviderBooks: () => Promise.resolve(books.map(({ provider }) => provider)),

    compareProvider: ({ provider, periodSeconds, graceSeconds, fixLimitUsd }) =>
      beating(async () => {
        const now = Date.now();
        const period = { since: new Date(now - periodSeconds * 1000), until: new Date(now - graceSeconds * 1000) };
        const entries = books.find((known) => known.provider === provider)!.entries(period);
        const wanted = new Set<Uuid<'topUp'>>(await topUpsToCompare(pool, provider, period));
        const paid: PaidEntry[] = [];
        let listed = 0;
        for await (const entry of entries) {
          listed++;
          const { paymentId, topUpId, received } = entry;
          const order = await orderOf(provider, paymentId, topUpId);
          if (order !== null) wanted.add(order.id);
          if (received !== null) paid.push({ ...entry, received, order });
        }
        const found = await compare([...wanted]);
        const placed = new Set(found.flatMap(({ paymentIds }) => paymentIds));
        const strays = paid.filter(({ paymentId }) => !placed.has(paymentId));
        for (const stray of strays) await writeStray(provider, stray);
        const limit = usd(fixLimitUsd);
        const fixable = [
          ...found
            .filter(({ gaps }) => gaps.every(({ isSafe, amount }) => isSafe && abs(amount) <= limit))
            .map(({ order, gaps }) => ({ order, gaps: gaps.length })),
          // An order that has not found what its provider made for it looks for that first.
          ...strays.flatMap(({ order, received }) =>
            order?.providerId === null && received <= limit ? [{ order, gaps: 1 }] : [],
          ),
        ].filter((order) => order.gaps > 0);
        const gaps = found.reduce((sum, order) => sum + order.gaps.length, strays.length);
        if (gaps > 0) logger.warn({ provider, gaps, fixable: fixable.length }, 'ledger and provider differ');
        return {
          provider,
          listed,
          compared: wanted.size,
          gaps,
          fixable: [...new Set(fixable.map(({ order }) => formatId('topUp', order.id)))],
          fixableGaps: fixable.reduce((sum, order) => sum + order.gaps, 0),
        };
      }),

    compareTopUps: (topUpIds) =>
      beating(async () => {
        const ids = topUpIds.map((id) => parseId('topUp', id)).filter((id) => id !== null);
        const found = await compare(ids);
        // One that cannot be compared yet still has the gap for which it was named.
        return found.reduce((sum, { gaps }) => sum + gaps.length, ids.length - found.length);
      }),

    reviewLedger: () => beating(() => reviewViolations(slowPool, VIOLATIONS_MAX)),
  };

  async function orderOf(provider: string, paymentId: string, named: string | null): Promise<TopUp | null> {
    const id = named === null ? await topUpOfPayment(pool, provider, paymentId) : parseId('topUp', named);
    return id === null ? null : topUpById(pool, id);
  }

  /** Compares each order with its provider, opens cases of the gaps and closes those that have gone. */
  async function compare(ids: readonly Uuid<'topUp'>[]): Promise<Compared[]> {
    const found: Compared[] = [];
    for (const id of ids) {
      const order = await topUpById(pool, id);
      const rail = rails.find(({ provider }) => provider === order?.provider);
      if (order === null || rail === undefined || order.providerId === null) continue;
      const { accepts, leastReceived } = rail;
      const charge = addUsd(order.amount, order.fee);
      const booked = await bookedPayments(pool, id);
      const facts = await rail.inspect(order);
      const gaps = gapsOf({ ...order, charge, accepts, leastReceived }, facts, booked);
      const paymentIds = [...new Set([...facts.payments, ...booked].map(({ paymentId }) => paymentId))];
      await writeCases(order, gaps, paymentIds);
      found.push({ order, gaps, paymentIds });
    }
    return found;
  }

  /** A payment of no order, or of one that does not know it; comparing the order once it does closes the case. */
  async function writeStray(provider: string, { paymentId, topUpId, received, order }: PaidEntry): Promise<void> {
    const evidence = { provider, payment_id: paymentId, received_usd: formatUsd(received) };
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
    await closeGoneCases(pool, { kinds: GAP_KINDS.map(caseKind), lookedAt, found, resolution });
  }
}

type PaidEntry = BookEntry & { readonly received: PicoUsd; readonly order: TopUp | null };

interface Compared {
  readonly order: TopUp;
  readonly gaps: readonly Gap[];
  /** Every payment of the order that the provider or the ledger knows. */
  readonly paymentIds: readonly string[];
}

const caseKind = (kind: string): string => `reconcile/${kind}`;

const abs = (amount: PicoUsd): bigint => (amount < 0n ? 0n - amount : amount);

async function beating<T>(work: () => Promise<T>): Promise<T> {
  const context = Context.current();
  const beat = setInterval(() => context.heartbeat(), HEARTBEAT_MS);
  try {
    return await work();
  } finally {
    clearInterval(beat);
  }
}
