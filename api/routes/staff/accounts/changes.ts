/**
 * Changes of the rules of money that nobody makes alone: a commission that pays more or sooner, a price of nothing, a
 * `:free` model that a provider is paid for, another address for a model's prompts. Staff request it
 * here; it is made, in one transaction, when a second person approves.
 */
import type pg from 'pg';
import { z } from 'zod';
import { setAffiliateRate } from '../../../../db/commissions/affiliates.ts';
import { publishPrices, setModelRetired, updateModel, type ModelSettings } from '../../../../db/requests/catalogue.ts';
import { behindSavepoint, ledgerRefusal } from '../../../../db/shared/client.ts';
import {
  CHANGE_KINDS,
  CHANGE_STATES,
  decideChange,
  findChange,
  requestChange,
  type Change,
} from '../../../../db/accounts/changes.ts';
import { publishCommissionRule } from '../../../../db/commissions/commissions.ts';
import { Refusal } from '../../../../domain/errors.ts';
import { formatId, parseId } from '../../../../domain/ids.ts';
import type { PriceVersionText } from '../../../../domain/requests/prices.ts';
import { READERS } from '../../../http/access.ts';
import type { ManagementDeps } from '../../../http/deps.ts';
import { id, idText, renderTime, timeText } from '../../../http/fields.ts';
import { accepted, ok, staffRoute, type JsonReply, type Route, type StaffCall } from '../../../http/route.ts';
import type { Recorded } from '../../../http/writes.ts';
import { approvalPair } from '../approval-pair.ts';
import { requireCommissionBounds } from '../commissions/commission-bounds.ts';
import { requireUpstreams } from '../requests/upstream-rules.ts';

export const changeView = z.object({
  id: idText('change'),
  kind: z.enum(CHANGE_KINDS),
  subject: z.string().meta({ description: 'The model, the affiliate’s account, or the rule.' }),
  change: z.record(z.string(), z.unknown()).meta({ description: 'The change as requested.' }),
  cause: z.string().meta({ description: 'The parts that need a second person.' }),
  reason: z.string().nullable(),
  state: z.enum(CHANGE_STATES),
  requested_by: z.string(),
  requested_at: timeText(),
  decided_by: z.string().nullable(),
  decided_at: timeText().nullable(),
});
export type ChangeView = z.output<typeof changeView>;

export function renderChange(change: Change): ChangeView {
  return {
    id: formatId('change', change.id),
    kind: change.kind,
    subject: change.subject,
    change: { ...change.change },
    cause: change.cause,
    reason: change.reason,
    state: change.state,
    requested_by: change.requestedBy,
    requested_at: change.requestedAt.toISOString(),
    decided_by: change.decidedBy,
    decided_at: renderTime(change.decidedAt),
  };
}

/** The stored fields of a requested change, by kind. */
interface ChangeContents {
  readonly affiliate_rate: { readonly rate_ppm: number | null };
  readonly commission_rule: {
    readonly rate_ppm: number;
    readonly hold_days: number;
    readonly final_hold_days: number;
    readonly dispute_days: number;
  };
  readonly price_version: { readonly prices: PriceVersionText; readonly valid_from: string | null };
  readonly model: {
    readonly settings: { [Field in keyof Omit<ModelSettings, 'id'>]?: ModelSettings[Field] | undefined };
    /** True where the model, retired until then, is offered. */
    readonly offered?: true;
  };
}

export type WantedChange = {
  [Kind in keyof ChangeContents]: {
    readonly kind: Kind;
    readonly subject: string;
    readonly change: ChangeContents[Kind];
    readonly cause: string;
    readonly reason: string | null;
  };
}[keyof ChangeContents];

/** Keeps a change until a second person decides: what a route answers, with 202, instead of making it. */
export async function askForChange(
  client: pg.PoolClient,
  { actor }: Pick<StaffCall<unknown, unknown, unknown>, 'actor'>,
  wanted: WantedChange,
): Promise<Recorded<JsonReply<ChangeView>>> {
  const change = await requestChange(client, { ...wanted, change: { ...wanted.change }, requestedBy: actor });
  const view = renderChange(change);
  const { kind, subject: about, change: asked, cause, reason } = view;
  const action = { action: 'change.request', subject: view.id, details: { kind, about, change: asked, cause, reason } };
  return { result: accepted(view), action };
}

/** Makes a change at once or, where the database says that it takes a second person, asks for it. */
export async function makeOrAsk<Body>(
  client: pg.PoolClient,
  call: Pick<StaffCall<unknown, unknown, unknown>, 'actor'>,
  wanted: WantedChange,
  make: () => Promise<Recorded<JsonReply<Body>>>,
): Promise<Recorded<JsonReply<Body | ChangeView>>> {
  try {
    return await behindSavepoint(client, make);
  } catch (error) {
    if (ledgerRefusal(error)?.code !== 'second_person_needed') throw error;
    return askForChange(client, call, wanted);
  }
}

const params = z.strictObject({ id: id('change') });

export function changeRoutes(deps: ManagementDeps): Route[] {
  const { management } = deps;

  return [
    staffRoute({
      method: 'get',
      path: '/admin/changes/{id}',
      summary: 'Get a change that needs a second person',
      roles: READERS,
      params,
      response: changeView,
      async handle(call) {
        const change = await findChange(management, call.params.id);
        if (change === null) throw new Refusal('not_found');
        return ok(renderChange(change));
      },
    }),
    ...approvalPair(management, {
      path: '/admin/changes/{id}',
      params,
      response: changeView,
      approve: {
        segment: 'approve',
        summary: 'Approve a waiting change as second person; it takes effect at once',
        action: 'change.approve',
        state: 'applied',
      },
      reject: { segment: 'reject', summary: 'Reject a waiting change', action: 'change.reject', state: 'rejected' },
      conflict: (state) => `The change is ${state} already.`,
      async decide(client, call, { approve }) {
        const decided = await decideChange(client, { id: call.params.id, approve, decidedBy: call.actor });
        if (approve && decided.decidedNow) await makeChange(deps, client, decided);
        return decided;
      },
      record(change) {
        const { id: subject, kind, subject: about, change: asked, requested_by } = renderChange(change);
        return { subject, details: { kind, about, change: asked, requested_by } };
      },
      render: (change) => renderChange(change),
    }),
  ];
}

/** Makes an approved change. A change that the configuration no longer allows is refused as if requested now. */
async function makeChange({ settings }: ManagementDeps, client: pg.PoolClient, decided: Change): Promise<void> {
  const { subject, requestedBy, decidedBy: approvedBy, reason } = decided;
  // Written by `askForChange` in this form, and never changed since.
  const { kind, change } = decided as unknown as WantedChange;
  switch (kind) {
    case 'affiliate_rate': {
      requireCommissionBounds(settings.commissions, change);
      const accountId = parseId('account', subject);
      if (accountId === null) throw new Refusal('not_found');
      await setAffiliateRate(client, accountId, change.rate_ppm, { by: requestedBy, approvedBy });
      return;
    }
    case 'commission_rule':
      requireCommissionBounds(settings.commissions, change);
      await publishCommissionRule(client, {
        ratePpm: change.rate_ppm,
        holdDays: change.hold_days,
        finalHoldDays: change.final_hold_days,
        disputeDays: change.dispute_days,
        reason: reason ?? decided.cause,
        createdBy: requestedBy,
        approvedBy,
      });
      return;
    case 'price_version': {
      const wanted = change.valid_from === null ? null : new Date(change.valid_from);
      const soonest = Date.now() + settings.priceLeadSeconds * 1000;
      await publishPrices(client, {
        modelId: subject,
        // A moment that has passed while it waited is as soon as possible.
        validFrom: wanted !== null && wanted.getTime() > soonest ? wanted : null,
        prices: change.prices,
        leadSeconds: settings.priceLeadSeconds,
        by: requestedBy,
      });
      return;
    }
    case 'model':
      requireUpstreams(settings.upstreams, change.settings.upstreams ?? []);
      if (!(await updateModel(client, subject, change.settings))) throw new Refusal('not_found');
      if (change.offered === true) await setModelRetired(client, subject, false);
  }
}
