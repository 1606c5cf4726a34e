/** Saved cards and automatic top-ups. One function per SQL function of db/functions/payments. */
import type pg from 'pg';
import type { AutoTopUpFacts, AutoTopUpState, CardFacts } from '../../domain/payments/auto-top-up.ts';
import { uuidOf, type AccountUuid, type Uuid } from '../../domain/ids.ts';
import { formatUsd, usd, ZERO_USD, type PicoUsd } from '../../domain/money.ts';
import { query, queryOne, type Session } from '../shared/client.ts';

/** The account's customer object at a provider; `nextN` numbers the next one to be created. */
export async function paymentCustomerOf(
  session: Session,
  accountId: AccountUuid,
  provider: string,
): Promise<{ readonly customerId: string | null; readonly nextN: number }> {
  const row = await queryOne<{ customer_id: string | null; next_n: number }>(session, {
    name: 'payment_customer_of',
    text: 'select * from payment_customer_of($1, $2)',
    values: [accountId, provider],
  });
  return { customerId: row.customer_id, nextN: row.next_n };
}

/** Keeps a customer object; the first one counts. Returns the one in use. */
export async function savePaymentCustomer(
  session: Session,
  customer: {
    readonly accountId: AccountUuid;
    readonly provider: string;
    readonly n: number;
    readonly customerId: string;
  },
): Promise<string> {
  const row = await queryOne<{ customer_id: string }>(session, {
    name: 'keep_payment_customer',
    text: 'select keep_payment_customer($1, $2, $3, $4) as customer_id',
    values: [customer.accountId, customer.provider, customer.n, customer.customerId],
  });
  return row.customer_id;
}

/**
 * Keeps a card of an account instead of its former one; false when this one was kept before, also if it was removed
 * since.
 */
export async function saveCard(
  session: Session,
  card: CardFacts & { readonly accountId: AccountUuid; readonly provider: string },
): Promise<boolean> {
  const row = await queryOne<{ saved: boolean }>(session, {
    name: 'save_card',
    text: 'select save_card($1, $2, $3, $4, $5, $6, $7, $8, $9) as saved',
    values: [
      card.accountId,
      card.provider,
      card.customerId,
      card.paymentMethod,
      card.brand,
      card.last4,
      card.expMonth,
      card.expYear,
      card.fingerprint,
    ],
  });
  return row.saved;
}

/**
 * A card, or all cards of a customer object, are gone at the provider: automatic top-ups by them pause. How many were
 * ours.
 */
export async function removeCards(
  session: Session,
  gone: {
    readonly provider: string;
    readonly paymentMethod: string | null;
    readonly customerId: string | null;
    readonly reason: string;
  },
): Promise<number> {
  const row = await queryOne<{ removed: number }>(session, {
    name: 'remove_cards',
    text: 'select remove_cards($1, $2, $3, $4) as removed',
    values: [gone.provider, gone.paymentMethod, gone.customerId, gone.reason],
  });
  return row.removed;
}

/** Why automatic top-ups are frozen: a dispute or fraud warning of a payment, or a refund of all of it. */
export const FREEZE_CAUSES = ['dispute', 'refund', 'fraud_warning'] as const;
export type FreezeCause = (typeof FREEZE_CAUSES)[number];

/** An account's automatic top-up as of one moment; `off` where it was never ordered. */
export interface AutoTopUp {
  readonly state: AutoTopUpState;
  readonly pauseReason: string | null;
  readonly threshold: PicoUsd | null;
  readonly amount: PicoUsd | null;
  readonly monthlyCap: PicoUsd | null;
  readonly consecutiveDeclines: number;
  readonly nextAttemptAt: Date | null;
  readonly frozenReason: string | null;
  /** The causes of the freeze, oldest first. */
  readonly freezes: readonly { readonly kind: FreezeCause; readonly at: Date }[];
  readonly isAccountFrozen: boolean;
  readonly balance: PicoUsd;
  readonly card: (CardFacts & { readonly provider: string }) | null;
  readonly consent: { readonly version: string; readonly at: Date } | null;
  /** Credited by automatic top-ups since the UTC month began, and what is under way. */
  readonly spentThisMonth: PicoUsd;
  readonly openTopUpId: Uuid<'topUp'> | null;
  readonly last: {
    readonly topUpId: Uuid<'topUp'>;
    readonly slot: Date;
    readonly state: string;
    readonly failure: string | null;
    readonly at: Date;
  } | null;
}

interface AutoTopUpRow {
  state: AutoTopUpState;
  pause_reason: string | null;
  threshold: string | null;
  amount: string | null;
  monthly_cap: string | null;
  strikes: number;
  next_attempt_at: Date | null;
  frozen_reason: string | null;
  freezes: { kind: FreezeCause; at: string }[];
  account_frozen: boolean;
  balance: string;
  provider: string | null;
  customer_id: string | null;
  payment_method: string | null;
  brand: string | null;
  last4: string | null;
  exp_month: number | null;
  exp_year: number | null;
  consent_version: string | null;
  consented_at: Date | null;
  spent_this_month: string;
  open_top_up: string | null;
  last_top_up: string | null;
  last_slot: Date | null;
  last_state: string | null;
  last_failure: string | null;
  last_started_at: Date | null;
}

const usdOrNull = (text: string | null): PicoUsd | null => (text === null ? null : usd(text));

function toAutoTopUp(row: AutoTopUpRow): AutoTopUp {
  return {
    state: row.state,
    pauseReason: row.pause_reason,
    threshold: usdOrNull(row.threshold),
    amount: usdOrNull(row.amount),
    monthlyCap: usdOrNull(row.monthly_cap),
    consecutiveDeclines: row.strikes,
    nextAttemptAt: row.next_attempt_at,
    frozenReason: row.frozen_reason,
    freezes: row.freezes.map(({ kind, at }) => ({ kind, at: new Date(at) })),
    isAccountFrozen: row.account_frozen,
    balance: usd(row.balance),
    card:
      row.payment_method === null
        ? null
        : {
            provider: row.provider!,
            customerId: row.customer_id!,
            paymentMethod: row.payment_method,
            brand: row.brand!,
            last4: row.last4!,
            expMonth: row.exp_month!,
            expYear: row.exp_year!,
            fingerprint: null,
          },
    consent: row.consent_version === null ? null : { version: row.consent_version, at: row.consented_at! },
    spentThisMonth: usd(row.spent_this_month),
    openTopUpId: row.open_top_up === null ? null : uuidOf('topUp', row.open_top_up),
    last:
      row.last_top_up === null
        ? null
        : {
            topUpId: uuidOf('topUp', row.last_top_up),
            slot: row.last_slot!,
            state: row.last_state!,
            failure: row.last_failure,
            at: row.last_started_at!,
          },
  };
}

/** The input of `decideAutoTopUp`. An order that was never complete is `off`, so its amounts decide nothing. */
export function factsOf(rule: AutoTopUp): AutoTopUpFacts {
  return {
    state: rule.state,
    isFrozen: rule.frozenReason !== null,
    isAccountFrozen: rule.isAccountFrozen,
    hasCard: rule.card !== null,
    balance: rule.balance,
    threshold: rule.threshold ?? ZERO_USD,
    amount: rule.amount ?? ZERO_USD,
    monthlyCap: rule.monthlyCap ?? ZERO_USD,
    spentThisMonth: rule.spentThisMonth,
    openTopUpId: rule.openTopUpId,
    lastSlot: rule.last?.slot ?? null,
  };
}

/** As of `at`; null when there is no such customer. */
export async function autoTopUpOf(session: Session, accountId: AccountUuid, at: Date): Promise<AutoTopUp | null> {
  const [row] = await query<AutoTopUpRow>(session, {
    name: 'auto_top_up_of',
    text: 'select * from auto_top_up_of($1, $2)',
    values: [accountId, at],
  });
  return row === undefined ? null : toAutoTopUp(row);
}

/** Holds an account's order until the end of the transaction, so that one decides at a time. */
export async function lockAutoTopUp(client: pg.PoolClient, accountId: AccountUuid): Promise<void> {
  await query(client, { name: 'lock_auto_top_up', text: 'select lock_auto_top_up($1)', values: [accountId] });
}

/** Orders automatic top-ups, with the consent on record. Refuses `no_saved_card` and `auto_top_up_frozen`. */
export async function setAutoTopUp(
  session: Session,
  order: {
    readonly accountId: AccountUuid;
    readonly threshold: PicoUsd;
    readonly amount: PicoUsd;
    readonly monthlyCap: PicoUsd;
    readonly consentVersion: string;
    readonly givenBy: string;
  },
): Promise<void> {
  await query(session, {
    name: 'set_auto_top_up',
    text: 'select set_auto_top_up($1, $2, $3, $4, $5, $6)',
    values: [
      order.accountId,
      formatUsd(order.threshold),
      formatUsd(order.amount),
      formatUsd(order.monthlyCap),
      order.consentVersion,
      order.givenBy,
    ],
  });
}

/** Ends automatic top-ups. A charge that is not sent yet is not sent any more. */
export async function endAutoTopUp(session: Session, accountId: AccountUuid): Promise<void> {
  await query(session, { name: 'end_auto_top_up', text: 'select end_auto_top_up($1)', values: [accountId] });
}

/** A person frees what was frozen, whatever for; false when it was not frozen. */
export async function unfreezeAutoTopUp(session: Session, accountId: AccountUuid, by: string): Promise<boolean> {
  const row = await queryOne<{ done: boolean }>(session, {
    name: 'unfreeze_auto_top_up',
    text: 'select unfreeze_auto_top_up($1, $2) as done',
    values: [accountId, by],
  });
  return row.done;
}

/** Uses a slot up and writes the order whose charge the attempt is. The caller holds the account's auto_top_up lock. */
export async function beginAttempt(
  client: pg.PoolClient,
  attempt: {
    readonly accountId: AccountUuid;
    readonly slot: Date;
    readonly topUpId: Uuid<'topUp'>;
    readonly fee: PicoUsd;
    readonly currency: string;
    readonly live: boolean;
  },
): Promise<void> {
  await query(client, {
    name: 'begin_auto_top_up_attempt',
    text: 'select begin_auto_top_up_attempt($1, $2, $3, $4, $5, $6)',
    values: [attempt.accountId, attempt.slot, attempt.topUpId, formatUsd(attempt.fee), attempt.currency, attempt.live],
  });
}

/** Whether the order of an open attempt may still be charged. */
export async function autoTopUpIsWanted(pool: pg.Pool, topUpId: Uuid<'topUp'>): Promise<boolean> {
  const row = await queryOne<{ wanted: boolean }>(pool, {
    name: 'auto_top_up_is_wanted',
    text: 'select auto_top_up_is_wanted($1) as wanted',
    values: [topUpId],
  });
  return row.wanted;
}

/** The account of an attempt that is not over; null when it is, or there is none. */
export async function openAttemptAccount(session: Session, topUpId: Uuid<'topUp'>): Promise<AccountUuid | null> {
  const row = await queryOne<{ account_id: string | null }>(session, {
    name: 'open_attempt_account',
    text: 'select open_attempt_account($1) as account_id',
    values: [topUpId],
  });
  return row.account_id === null ? null : uuidOf('account', row.account_id);
}

/** Ends an attempt, once; false when it was over. The caller holds the account's auto_top_up lock. */
export async function finishAttempt(
  client: pg.PoolClient,
  end: {
    readonly topUpId: Uuid<'topUp'>;
    readonly state: 'succeeded' | 'failed' | 'abandoned';
    readonly failure: string | null;
    readonly consecutiveDeclines: number;
    readonly pause: string | null;
  },
): Promise<boolean> {
  const row = await queryOne<{ done: boolean }>(client, {
    name: 'finish_auto_top_up_attempt',
    text: 'select finish_auto_top_up_attempt($1, $2, $3, $4, $5) as done',
    values: [end.topUpId, end.state, end.failure, end.consecutiveDeclines, end.pause],
  });
  return row.done;
}

/**
 * Writes down that nothing will be tried before `until` (null: nothing stands in the way); a cap that is reached is
 * told to the customer once a month.
 */
export async function noteAutoTopUpWait(
  client: pg.PoolClient,
  wait: { readonly accountId: AccountUuid; readonly until: Date | null; readonly isCapped: boolean; readonly at: Date },
): Promise<void> {
  await query(client, {
    name: 'note_auto_top_up_wait',
    text: 'select note_auto_top_up_wait($1, $2, $3, $4)',
    values: [wait.accountId, wait.until, wait.isCapped, wait.at],
  });
}

/** A credited payment is taken for fraud by the card's bank; false when that was on record. */
export async function warnPayment(
  pool: pg.Pool,
  warning: { readonly paymentId: string; readonly evidence: Record<string, unknown>; readonly freeze: boolean },
): Promise<boolean> {
  const row = await queryOne<{ warned: boolean }>(pool, {
    name: 'warn_payment',
    text: 'select warn_payment($1, $2, $3) as warned',
    values: [warning.paymentId, JSON.stringify(warning.evidence), warning.freeze],
  });
  return row.warned;
}

/** Accounts that must have a run and may have none, see the SQL function. */
export async function findQuietAutoTopUps(
  pool: pg.Pool,
  { ageSeconds, limit }: { readonly ageSeconds: number; readonly limit: number },
): Promise<AccountUuid[]> {
  const row = await queryOne<{ ids: string[] }>(pool, {
    name: 'find_quiet_auto_top_ups',
    text: 'select find_quiet_auto_top_ups($1, $2) as ids',
    values: [ageSeconds, limit],
  });
  return row.ids.map((id) => uuidOf('account', id));
}
