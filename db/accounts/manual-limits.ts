/**
 * How much one person may move by hand alone: by movement, and in sum for the person and for the account, over a
 * sliding day and 30 days. A movement above any of these waits for a second person. The sums are kept and compared in
 * SQL, under a lock.
 */
import type { AccountUuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { Reporter } from '../shared/reporter.ts';

/** The largest sums that are moved without a second person. */
export interface ManualLimitSums {
  readonly personDay: PicoUsd;
  readonly personMonth: PicoUsd;
  readonly accountDay: PicoUsd;
  readonly accountMonth: PicoUsd;
}

export interface ManualLimits extends ManualLimitSums {
  /** The largest single movement. */
  readonly movement: PicoUsd;
}

/** Limits in the form that the SQL functions take; null: nothing is moved alone. */
export function limitsText(limits: ManualLimits | null): string | null {
  return limits === null
    ? null
    : JSON.stringify({
        movement: formatUsd(limits.movement),
        person_day: formatUsd(limits.personDay),
        person_month: formatUsd(limits.personMonth),
        account_day: formatUsd(limits.accountDay),
        account_month: formatUsd(limits.accountMonth),
      });
}

/** The sums moved alone in the last day and the last 30 days. */
export interface MovedAlone {
  readonly day: PicoUsd;
  readonly month: PicoUsd;
}

/** The sums that actors have moved alone, and that went so to accounts, by actor and by account. */
export async function movedAlone(
  reporter: Reporter,
  of: { readonly actors: readonly string[]; readonly accounts: readonly AccountUuid[] },
): Promise<{
  readonly byActor: ReadonlyMap<string, MovedAlone>;
  readonly byAccount: ReadonlyMap<AccountUuid, MovedAlone>;
}> {
  const actors = await reporter<{ actor: string; day: string; month: string }[]>`
    select a.actor, s.person_day as day, s.person_month as month
    from json_array_elements_text(${asJson(of.actors)}::text::json) as a (actor), hand_money_sums(person_of(a.actor), null, now()) s`;
  const accounts = await reporter<{ account: AccountUuid; day: string; month: string }[]>`
    select a.account, s.account_day as day, s.account_month as month
    from json_array_elements_text(${asJson(of.accounts)}::text::json) as a (account), hand_money_sums(null, a.account::uuid, now()) s`;
  const sums = (row: { day: string; month: string }): MovedAlone => ({ day: usd(row.day), month: usd(row.month) });
  return {
    byActor: new Map(actors.map((row) => [row.actor, sums(row)])),
    byAccount: new Map(accounts.map((row) => [row.account, sums(row)])),
  };
}

/** The reporter knows no array types. */
function asJson(values: readonly string[]): string {
  return JSON.stringify([...new Set(values)]);
}
