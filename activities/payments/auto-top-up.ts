/**
 * Automatic top-ups: decides under the lock of the account's order whether a saved card is charged, and writes down
 * what became of it. The charge itself is a top-up like any other (activities/payments/top-ups.ts).
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { Client } from '@temporalio/client';
import { uuidv7 } from 'uuidv7';
import { assert } from '../../domain/assert.ts';
import { afterDecline, decideAutoTopUp, slotOf } from '../../domain/payments/auto-top-up.ts';
import { formatId, parseId, uuidOf, type AccountUuid } from '../../domain/ids.ts';
import { formatUsd } from '../../domain/money.ts';
import { feeOf } from '../../domain/payments/top-up.ts';
import {
  autoTopUpOf,
  beginAttempt,
  factsOf,
  findQuietAutoTopUps,
  finishAttempt,
  lockAutoTopUp,
  noteAutoTopUpWait,
  openAttemptAccount,
  type AutoTopUp,
} from '../../db/payments/auto-top-ups.ts';
import { inTransaction } from '../../db/shared/client.ts';
import { topUpById, type TopUp } from '../../db/payments/top-ups.ts';
import type { PaymentSettings } from '../../providers/payment-settings.ts';
import {
  autoTopUpStart,
  wakeBy,
  WORKFLOW_TYPES,
  type AutoTopUpInput,
  type AutoTopUpOutcome,
  type AutoTopUpStatus,
  type AutoTopUpStep,
  type WakeReason,
} from '../../contract/index.ts';
import type { PaymentRail } from '../../providers/rail.ts';
import { askingProvider } from './top-ups.ts';

export interface AutoTopUpActivities {
  /** Has the runs of these accounts decide again, now or after what they are doing. */
  startAutoTopUps(input: { accountIds: readonly string[] }): Promise<void>;
  /** Accounts whose run may be gone. */
  findQuietAutoTopUps(input: { ageSeconds: number; limit: number }): Promise<string[]>;
  /** The next step at `at`; an attempt that it names has begun. */
  beginAutoTopUp(input: { accountId: string; at: string }): Promise<AutoTopUpStep>;
  /** Ends the attempt whose order has ended, once; a repeat says what it came to. */
  finishAutoTopUp(input: { topUpId: string }): Promise<AutoTopUpOutcome>;
}

export interface AutoTopUpDependencies {
  readonly pool: pg.Pool;
  readonly logger: Logger;
  readonly rails: readonly PaymentRail[];
  readonly payments: PaymentSettings;
  /** Client and task queue of the namespace of processes. */
  readonly processes: { readonly client: Client; readonly taskQueue: string };
}

type AutoTopUpWorkflow = (input: AutoTopUpInput) => Promise<AutoTopUpStatus>;

export function createAutoTopUpActivities(dependencies: AutoTopUpDependencies): AutoTopUpActivities {
  const { pool, logger, rails, payments, processes } = dependencies;

  return {
    async startAutoTopUps({ accountIds }) {
      for (const accountId of accountIds) {
        await processes.client.workflow.signalWithStart<AutoTopUpWorkflow, [WakeReason]>(WORKFLOW_TYPES.autoTopUp, {
          ...autoTopUpStart(accountId, processes.taskQueue, payments.topUpRun),
          ...wakeBy(null),
        });
      }
    },

    async findQuietAutoTopUps(input) {
      if (payments.stripe === null) return [];
      const accounts = await findQuietAutoTopUps(pool, input);
      return accounts.map((id) => formatId('account', id));
    },

    async beginAutoTopUp({ accountId: wireId, at: atText }) {
      const accountId = accountOf(wireId);
      const at = new Date(atText);
      const slotSeconds = payments.stripe?.autoTopUp.slotSeconds;
      // Without its provider nothing can be charged; the next start of a worker that has it goes on.
      if (slotSeconds === undefined) return { kind: 'rest', why: 'no_card' };
      return inTransaction(pool, async (client): Promise<AutoTopUpStep> => {
        await lockAutoTopUp(client, accountId);
        const rule = await autoTopUpOf(client, accountId, at);
        assert(rule !== null, `there is an account ${wireId}`);
        const decision = decideAutoTopUp(factsOf(rule), at, slotSeconds);
        switch (decision.kind) {
          case 'rest':
            // Nobody waits any more for what was possible then: the next charge below the threshold must start a run.
            if (rule.nextAttemptAt !== null) {
              await noteAutoTopUpWait(client, { accountId, until: null, isCapped: false, at });
            }
            return decision;
          case 'wait': {
            const { why, until } = decision;
            await noteAutoTopUpWait(client, { accountId, until, isCapped: why === 'cap_reached', at });
            return { kind: 'wait', why, until: until.toISOString() };
          }
          case 'resume':
            return stepOf(rule, formatId('topUp', uuidOf('topUp', decision.topUpId)), true);
          case 'charge': {
            const topUpId = uuidOf('topUp', uuidv7());
            const method = payments.methods.find(({ provider }) => provider === rule.card?.provider);
            assert(method !== undefined && rule.amount !== null, 'a saved card has a method and an order its amount');
            await beginAttempt(client, {
              ...{ accountId, topUpId, slot: slotOf(at, slotSeconds), fee: feeOf(rule.amount, method.fee) },
              currency: method.currencies[0]!,
              live: method.live,
            });
            logger.info({ account_id: wireId, top_up_id: formatId('topUp', topUpId) }, 'automatic top-up begun');
            return stepOf(rule, formatId('topUp', topUpId), false);
          }
        }
      });
    },

    finishAutoTopUp: ({ topUpId: wireId }) =>
      askingProvider(async () => {
        const topUpId = parseId('topUp', wireId);
        const order = topUpId === null ? null : await topUpById(pool, topUpId);
        assert(order !== null, `there is a top-up ${wireId}`);
        const state = END_STATES[order.state];
        assert(state !== undefined, `${wireId} has ended; it is ${order.state}`);
        const failure = state === 'failed' ? await failureOf(order) : null;
        const accountId = order.accountId;
        const outcome = await inTransaction(pool, async (client): Promise<AutoTopUpOutcome> => {
          await lockAutoTopUp(client, accountId);
          const rule = await autoTopUpOf(client, accountId, new Date());
          assert(rule !== null, 'an order has its account');
          if ((await openAttemptAccount(client, order.id)) === null) {
            return { state, failure, declinesInARow: rule.consecutiveDeclines, pause: rule.pauseReason };
          }
          const next =
            failure === null
              ? { consecutiveDeclines: state === 'succeeded' ? 0 : rule.consecutiveDeclines, pause: null }
              : afterDecline(failure, rule.consecutiveDeclines);
          await finishAttempt(client, { topUpId: order.id, state, failure, ...next });
          return { state, failure, declinesInARow: next.consecutiveDeclines, pause: next.pause };
        });
        logger.info({ top_up_id: wireId, ...outcome }, 'automatic top-up ended');
        return outcome;
      }),
  };

  /** Why it was declined; closes the charge, so that nobody can pay it later. */
  async function failureOf(order: TopUp): Promise<string> {
    if (order.providerId === null) return 'card_removed';
    const rail = rails.find(({ provider }) => provider === order.provider);
    assert(rail !== undefined, `${order.provider} is configured`);
    const facts = await rail.inspect(order);
    await rail.closeCheckout(order);
    return facts.payments.find(({ failure }) => failure !== undefined)?.failure ?? 'unknown';
  }
}

/** The end of an attempt by the end of its order. `credited` by a late payment is a success too. */
const END_STATES: Partial<Record<TopUp['state'], AutoTopUpOutcome['state']>> = {
  credited: 'succeeded',
  failed: 'failed',
  expired: 'failed',
  abandoned: 'abandoned',
};

function stepOf(rule: AutoTopUp, topUpId: string, isResumed: boolean): AutoTopUpStep {
  const { card, amount } = rule;
  return {
    kind: 'charge',
    topUpId,
    amountUsd: amount === null ? '0' : formatUsd(amount),
    card: card === null ? 'a card that is gone' : `${card.brand} ····${card.last4}`,
    isResumed,
  };
}

function accountOf(accountId: string): AccountUuid {
  const id = parseId('account', accountId);
  assert(id !== null, `"${accountId}" is an account id`);
  return id;
}
