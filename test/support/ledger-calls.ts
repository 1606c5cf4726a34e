/**
 * Ledger operations as plain data, and the two places they can be applied to: the model (ledger-model.ts) and a real
 * database through the production statements and roles. Both answer in the same comparable form.
 */
import { createHash } from 'node:crypto';
import type pg from 'pg';
import { freezeAccount, unfreezeAccount } from '../../db/accounts/accounts.ts';
import { ledgerRefusal, query } from '../../db/shared/client.ts';
import type { LimitReset } from '../../db/accounts/api-keys.ts';
import { decideAdjustment, requestAdjustment } from '../../db/accounts/adjustments.ts';
import { decideRefund, requestRefund } from '../../db/requests/refunds.ts';
import {
  extendHold,
  finishRequests,
  logRefusals,
  noteClientLeft,
  placeFreeHolds,
  placeHold,
  placeHolds,
  type FinishRecord,
  type FreeHoldRequest,
  type HoldRequest,
  type RefusalRecord,
} from '../../db/requests/requests.ts';
import { markSettleError, settleAccount, settleRequests } from '../../db/requests/settlement.ts';
import type { AccountUuid, KeyUuid, RequestUuid, Uuid } from '../../domain/ids.ts';
import { formatUsd, picoUsd, usd, type PicoUsd } from '../../domain/money.ts';
import { ModelRefusal, type LedgerModel } from './ledger-model.ts';
import { beginNextWindow, postReversal, type LedgerPools } from './ledger-database.ts';
import { ANN, BOB, upTo } from './staff.ts';

export type LedgerCall =
  | { readonly type: 'placeHold'; readonly hold: HoldRequest }
  | { readonly type: 'placeHolds'; readonly holds: readonly HoldRequest[] }
  | { readonly type: 'placeFreeHolds'; readonly holds: readonly FreeHoldRequest[] }
  | { readonly type: 'extendHold'; readonly requestId: RequestUuid; readonly total: PicoUsd }
  | {
      readonly type: 'noteClientLeft';
      readonly requestId: RequestUuid;
      readonly counted: { readonly inputTokens: number; readonly outputTokens: number };
    }
  | { readonly type: 'logRefusals'; readonly gatewayId: string; readonly records: readonly RefusalRecord[] }
  | { readonly type: 'finish'; readonly records: readonly FinishRecord[] }
  | { readonly type: 'settle'; readonly requestIds: readonly RequestUuid[]; readonly workflowId: string | null }
  | { readonly type: 'settleAccount'; readonly accountId: AccountUuid }
  | { readonly type: 'markSettleError'; readonly requestId: RequestUuid; readonly error: string }
  | { readonly type: 'clearSettleError'; readonly requestId: RequestUuid }
  | {
      readonly type: 'adjust';
      readonly id: Uuid<'adjustment'>;
      readonly accountId: AccountUuid;
      readonly amount: PicoUsd;
      readonly requestedBy: string;
      readonly threshold: PicoUsd;
    }
  | {
      readonly type: 'decideAdjustment';
      readonly id: Uuid<'adjustment'>;
      readonly approve: boolean;
      readonly decidedBy: string;
    }
  | {
      readonly type: 'requestRefund';
      readonly requestId: RequestUuid;
      readonly n: number;
      readonly amount: PicoUsd | null;
    }
  | { readonly type: 'decideRefund'; readonly requestId: RequestUuid; readonly n: number; readonly approve: boolean }
  | {
      readonly type: 'reverse';
      readonly businessId: string;
      readonly accountId: AccountUuid;
      readonly amount: PicoUsd;
    }
  | { readonly type: 'editLimit'; readonly keyId: KeyUuid; readonly limit: PicoUsd | null; readonly reset: LimitReset }
  | { readonly type: 'editModels'; readonly keyId: KeyUuid; readonly models: readonly string[] | null }
  | { readonly type: 'editExpiry'; readonly keyId: KeyUuid; readonly expired: boolean }
  | { readonly type: 'revoke'; readonly keyId: KeyUuid }
  | { readonly type: 'freeze'; readonly accountId: AccountUuid; readonly frozen: boolean }
  | { readonly type: 'nextWindow'; readonly keyId: KeyUuid };

/** A call's value in text; for calls on many items one entry per item. */
export type AnswerValue = string | number | null | readonly (string | null)[];

export type CallAnswer =
  | { readonly answer: AnswerValue }
  | {
      readonly refused: string;
      readonly remaining: string | null;
      readonly required: string | null;
      readonly unsettled: boolean;
    };

/** Longer than any month, so that daily, weekly and monthly windows all start again. */
export const NEXT_WINDOW_MS = 40 * 24 * 3600 * 1000;

/** The items of a batch of holds that it left to `placeHold`. */
export function openHolds(call: LedgerCall, answer: CallAnswer): readonly HoldRequest[] {
  if (call.type !== 'placeHolds' || !('answer' in answer)) return [];
  const granted = answer.answer as readonly (string | null)[];
  return call.holds.filter((_, index) => granted[index] === null);
}

/** Why adjustments and refunds are made here: one text, because another one under the same id is another wish. */
const REASON = 'random operations';

export function applyToModel(model: LedgerModel, call: LedgerCall, atMs: number): CallAnswer {
  try {
    return { answer: modelAnswer(model, call, atMs) };
  } catch (error) {
    if (!(error instanceof ModelRefusal)) throw error;
    const { code, remaining, required, unsettled } = error;
    return { refused: code, remaining: text(remaining), required: text(required), unsettled };
  }
}

function modelAnswer(model: LedgerModel, call: LedgerCall, atMs: number): AnswerValue {
  switch (call.type) {
    case 'placeHold':
      return text(model.placeHold(call.hold, atMs));
    case 'placeHolds':
      return model.placeHolds(call.holds, atMs).map(text);
    case 'placeFreeHolds':
      return model.placeFreeHolds(call.holds);
    case 'extendHold':
      return text(model.extendHold(call.requestId, call.total));
    case 'noteClientLeft':
      model.noteClientLeft(call.requestId, call.counted);
      return null;
    case 'logRefusals':
      model.logRefusals(call.gatewayId, call.records);
      return null;
    case 'finish':
      return model.finish(call.records);
    case 'settle':
      return model.settle(call.requestIds, call.workflowId);
    case 'settleAccount':
      return model.settleAccount(call.accountId);
    case 'markSettleError':
      model.markSettleError(call.requestId, call.error);
      return null;
    case 'clearSettleError':
      model.clearSettleError(call.requestId);
      return null;
    case 'adjust':
      return model.adjust(call);
    case 'decideAdjustment':
      return model.decideAdjustment(call.id, call.approve, call.decidedBy);
    case 'requestRefund':
      return text(model.requestRefund(call.requestId, call.n, call.amount).amount);
    case 'decideRefund':
      return model.decideRefund(call.requestId, call.n, call.approve);
    case 'reverse':
      model.reverse(call.businessId, call.accountId, call.amount);
      return null;
    case 'editLimit':
      Object.assign(model.keys.get(call.keyId)!, { limit: call.limit, limitReset: call.reset });
      return null;
    case 'editModels':
      model.keys.get(call.keyId)!.models = call.models;
      return null;
    case 'editExpiry':
      model.keys.get(call.keyId)!.expired = call.expired;
      return null;
    case 'revoke':
      model.keys.get(call.keyId)!.revoked = true;
      return null;
    case 'freeze':
      model.accounts.get(call.accountId)!.frozen = call.frozen;
      return null;
    case 'nextWindow':
      model.passTime(call.keyId, NEXT_WINDOW_MS);
      return null;
  }
}

export async function applyToDatabase(pools: LedgerPools, call: LedgerCall): Promise<CallAnswer> {
  try {
    return { answer: await databaseAnswer(pools, call) };
  } catch (error) {
    const refusal = ledgerRefusal(error);
    if (refusal === null) throw error;
    return {
      refused: refusal.code,
      remaining: canonical(refusal.remaining),
      required: canonical(refusal.required),
      unsettled: refusal.unsettled,
    };
  }
}

async function databaseAnswer(
  { gateway, worker, management, admin }: LedgerPools,
  call: LedgerCall,
): Promise<AnswerValue> {
  switch (call.type) {
    case 'placeHold':
      return text(await placeHold(gateway, call.hold));
    case 'placeHolds':
      return (await placeHolds(gateway, call.holds)).map(text);
    case 'placeFreeHolds':
      return (await placeFreeHolds(gateway, call.holds)).map((refusal) => refusal?.code ?? null);
    case 'extendHold':
      return text(await extendHold(gateway, call.requestId, call.total));
    case 'noteClientLeft':
      await noteClientLeft(gateway, call.requestId, call.counted);
      return null;
    case 'logRefusals':
      await logRefusals(gateway, call.gatewayId, call.records);
      return null;
    case 'finish':
      return finishRequests(gateway, call.records);
    case 'settle':
      return settleRequests(worker, call.requestIds, call.workflowId);
    case 'settleAccount':
      return settleAccount(gateway, call.accountId);
    case 'markSettleError':
      await markSettleError(worker, call.requestId, call.error);
      return null;
    case 'clearSettleError':
      return execute(
        management,
        "update request set settle_error = null where id = $1 and state = 'finished'",
        call.requestId,
      );
    case 'adjust':
      return (await requestAdjustment(management, { ...call, reason: REASON, limits: upTo(formatUsd(call.threshold)) }))
        .state;
    case 'decideAdjustment':
      return (await decideAdjustment(management, call)).state;
    case 'requestRefund':
      return text((await requestRefund(management, { ...call, reason: REASON, requestedBy: ANN })).amount);
    case 'decideRefund':
      return (await decideRefund(management, { ...call, decidedBy: BOB })).state;
    case 'reverse':
      await postReversal(admin, call);
      return null;
    case 'editLimit':
      return execute(
        management,
        'update api_key set limit_usd = $2, limit_reset = $3 where id = $1',
        call.keyId,
        text(call.limit),
        call.reset,
      );
    case 'editModels':
      return execute(management, 'update api_key set models = $2 where id = $1', call.keyId, call.models);
    case 'editExpiry': {
      const hours = call.expired ? -1 : 1;
      return execute(
        management,
        'update api_key set expires_at = now() + make_interval(hours => $2) where id = $1',
        call.keyId,
        hours,
      );
    }
    case 'revoke':
      return execute(management, 'update api_key set revoked_at = now() where id = $1', call.keyId);
    case 'freeze':
      if (call.frozen) await freezeAccount(management, call.accountId, { kind: 'operator', reason: 'test' });
      else await unfreezeAccount(management, call.accountId, ['operator']);
      return null;
    case 'nextWindow':
      await beginNextWindow(admin, call.keyId, NEXT_WINDOW_MS);
      return null;
  }
}

async function execute(pool: pg.Pool, text: string, ...values: unknown[]): Promise<null> {
  // A statement's name has room for 63 characters.
  await query(pool, { name: createHash('sha1').update(text).digest('hex'), text, values });
  return null;
}

function text(amount: bigint | null): string | null {
  return amount === null ? null : formatUsd(picoUsd(amount));
}

/** A refusal's amounts come with the scale of the arithmetic behind them; compared is what they say. */
function canonical(amount: string | null): string | null {
  return amount === null ? null : formatUsd(usd(amount));
}
