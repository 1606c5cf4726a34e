/**
 * Commissions: what an affiliate earns on a referred payment, what of it is taken back, and the result file of a run as
 * exact bytes. The database writes accruals by rules of its own (db/functions/commissions/accruals.sql), twice on
 * purpose: a replay recomputes them by these, so that a mistake in one of the two shows.
 *
 * The only place where money is rounded: down to whole pico-USD, once for a payment and once for its reversed share.
 */
import { assert } from '../assert.ts';
import { formatUsd, picoUsd, type PicoUsd } from '../money.ts';

/** Parts per million that make the whole. */
const PPM = 1_000_000n;

/** The commission on what was credited for a payment, rounded down to a pico-USD. */
export function commissionOn(base: PicoUsd, ratePpm: number): PicoUsd {
  assert(base >= 0n && Number.isInteger(ratePpm) && ratePpm >= 0, 'a commission is a share of something');
  return picoUsd((base * BigInt(ratePpm)) / PPM);
}

/**
 * How much of a commission is lost when `reversed` of `base` is gone, rounded down. It follows from the state alone, so
 * partial reversals never add up to more than the commission, the last one takes the rest, and what is restored is
 * exactly what was taken.
 */
export function commissionLost(base: PicoUsd, ratePpm: number, reversed: PicoUsd): PicoUsd {
  assert(reversed >= 0n && reversed <= base, 'no more is reversed than was credited');
  if (base === 0n) return picoUsd(0n);
  return picoUsd((commissionOn(base, ratePpm) * reversed) / base);
}

export type AccrualKind = 'earned' | 'reversed' | 'restored' | 'correction';

/** An accrual with all that its amount follows from. */
export interface AccrualFacts {
  readonly kind: AccrualKind;
  /** As it was written. */
  readonly amount: PicoUsd;
  /** Null for a correction, as all that follows: its amount is what a person approved. */
  readonly base: PicoUsd | null;
  readonly ratePpm: number | null;
  readonly reversedFrom: PicoUsd | null;
  readonly reversedTo: PicoUsd | null;
}

/** The amount of an accrual. */
export function recomputeAccrual(facts: AccrualFacts): PicoUsd {
  const { kind, amount, base, ratePpm, reversedFrom, reversedTo } = facts;
  if (kind === 'correction') return amount;
  assert(
    base !== null && ratePpm !== null && reversedFrom !== null && reversedTo !== null,
    'an accrual of a payment says what it follows from',
  );
  if (kind === 'earned') return commissionOn(base, ratePpm);
  return picoUsd(commissionLost(base, ratePpm, reversedFrom) - commissionLost(base, ratePpm, reversedTo));
}

const PERIOD = /^20\d\d-(0[1-9]|1[0-2])$/;

/** A month in UTC, `YYYY-MM`. */
export function isPeriod(text: string): boolean {
  return PERIOD.test(text);
}

/** The first moment after a period. */
export function periodEnd(period: string): Date {
  assert(isPeriod(period), `"${period}" is a period`);
  const [year, month] = period.split('-').map(Number) as [number, number];
  return new Date(Date.UTC(year, month));
}

/** The period that a moment lies in. */
export function periodOf(at: Date): string {
  return at.toISOString().slice(0, 7);
}

/** The last period that had ended at a moment. */
export function periodBefore(at: Date): string {
  return periodOf(new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() - 1)));
}

/** A line of the result file. Ids are in their wire form. */
export interface CommissionLine extends AccrualFacts {
  readonly n: number;
  readonly accrualId: string;
  readonly affiliateId: string;
  readonly accountId: string | null;
  readonly paymentId: string | null;
  readonly topUpId: string | null;
  readonly ruleVersion: number;
  readonly accruedAt: Date;
  readonly maturesAt: Date;
}

/** The form of the file. Another form is another number, so that a replay knows which bytes to make. */
export const COMMISSION_FILE_FORMAT = 1;

/** RFC 4180. Every cell is an id, a number, a time or a word of ours, so nothing needs quotes. */
export const COMMISSION_FILE_HEADER =
  'n,accrual_id,kind,affiliate_id,account_id,payment_id,top_up_id,base_usd,rate_ppm,rule_version,' +
  'reversed_from_usd,reversed_to_usd,amount_usd,accrued_at,matures_at\r\n';

/** One line of the file, with `amount` in the place of what was written. */
export function commissionFileLine(line: CommissionLine, amount: PicoUsd): string {
  const money = (value: PicoUsd | null): string => (value === null ? '' : formatUsd(value));
  const cells = [
    line.n,
    line.accrualId,
    line.kind,
    line.affiliateId,
    line.accountId ?? '',
    line.paymentId ?? '',
    line.topUpId ?? '',
    money(line.base),
    line.ratePpm ?? '',
    line.ruleVersion,
    money(line.reversedFrom),
    money(line.reversedTo),
    formatUsd(amount),
    line.accruedAt.toISOString(),
    line.maturesAt.toISOString(),
  ];
  return `${cells.join(',')}\r\n`;
}

/** Sums over the list of a run. */
export interface CommissionTotals {
  readonly accruals: number;
  readonly affiliates: number;
  /** Sum of what is credited to affiliates. */
  readonly credited: PicoUsd;
  /** Sum of what is taken back from them, as a positive amount. */
  readonly debited: PicoUsd;
  /** By kind, rate and rule version; the key is `<kind>/<rate or nothing>/<rule version>`. */
  readonly byRate: ReadonlyMap<string, { readonly accruals: number; readonly amount: PicoUsd }>;
}

/** Adds up the lines of a list, one after the other, so that the list itself need not be kept. */
export class CommissionSum {
  #accruals = 0;
  #credited = 0n;
  #debited = 0n;
  readonly #affiliates = new Set<string>();
  readonly #byRate = new Map<string, { accruals: number; amount: PicoUsd }>();

  add(line: CommissionLine, amount: PicoUsd): void {
    this.#accruals++;
    this.#affiliates.add(line.affiliateId);
    if (amount > 0n) this.#credited += amount;
    else this.#debited -= amount;
    const key = `${line.kind}/${line.ratePpm ?? ''}/${line.ruleVersion}`;
    const sum = this.#byRate.get(key) ?? { accruals: 0, amount: picoUsd(0n) };
    this.#byRate.set(key, { accruals: sum.accruals + 1, amount: picoUsd(sum.amount + amount) });
  }

  get totals(): CommissionTotals {
    return {
      accruals: this.#accruals,
      affiliates: this.#affiliates.size,
      credited: picoUsd(this.#credited),
      debited: picoUsd(this.#debited),
      byRate: this.#byRate,
    };
  }
}

/**
 * The manifest beside the file: its list, the rates and rules behind it, and the hash of the file's bytes.
 * It says nothing of when or by whom the run was made, so that a replay makes the same bytes.
 */
export function commissionManifest(manifest: {
  readonly period: string;
  readonly isDryRun: boolean;
  readonly totals: CommissionTotals;
  readonly rules: readonly CommissionRule[];
  readonly list: { readonly sha256: string; readonly first: string | null; readonly last: string | null };
  readonly csv: { readonly sha256: string; readonly bytes: number };
}): string {
  const { period, isDryRun, totals, rules, list, csv } = manifest;
  const rates = [...totals.byRate].toSorted(([a], [b]) => (a < b ? -1 : 1));
  const document = {
    format: COMMISSION_FILE_FORMAT,
    period,
    ends_at: periodEnd(period).toISOString(),
    dry_run: isDryRun,
    csv,
    list: { accruals: totals.accruals, affiliates: totals.affiliates, ...list },
    totals: {
      credited_usd: formatUsd(totals.credited),
      debited_usd: formatUsd(totals.debited),
      net_usd: formatUsd(picoUsd(totals.credited - totals.debited)),
    },
    rates: rates.map(([key, { accruals, amount }]) => {
      const [kind, rate = '', rule] = key.split('/');
      return {
        kind,
        rate_ppm: rate === '' ? null : Number(rate),
        rule_version: Number(rule),
        accruals,
        amount_usd: formatUsd(amount),
      };
    }),
    rules: rules
      .toSorted((a, b) => a.version - b.version)
      .map((rule) => ({
        version: rule.version,
        rate_ppm: rule.ratePpm,
        hold_days: rule.holdDays,
        final_hold_days: rule.finalHoldDays,
        dispute_days: rule.disputeDays,
        rounding: 'down to 0.000000000001 USD, once per payment',
      })),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

/** The commission rules, by version. */
export interface CommissionRule {
  readonly version: number;
  /** For affiliates without a rate of their own. */
  readonly ratePpm: number;
  /** From credit to maturity, for payments that can be charged back. */
  readonly holdDays: number;
  /** From finality to maturity, for those that cannot. */
  readonly finalHoldDays: number;
  /** How long a warning of fraud or a dispute that was not won holds a payment's commission back. */
  readonly disputeDays: number;
}
