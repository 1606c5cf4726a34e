/**
 * Money for demo, bench and test accounts: credited as a manual movement above the limits of one person, requested by
 * one and approved by another, so that it uses up nobody's own sums.
 */
import { uuidv7 } from 'uuidv7';
import type pg from 'pg';
import { actorOf, createAccessToken } from '../db/accounts/access-tokens.ts';
import { decideAdjustment, requestAdjustment } from '../db/accounts/adjustments.ts';
import { uuidOf, type AccountUuid } from '../domain/ids.ts';
import type { PicoUsd } from '../domain/money.ts';

/** Two persons, as records name them. */
export interface Funders {
  readonly asks: string;
  readonly approves: string;
}

/** Two persons of the machine's. */
export async function createFunders(management: pg.Pool): Promise<Funders> {
  const make = async (name: string): Promise<string> =>
    actorOf((await createAccessToken(management, { role: 'finance', accountId: null, name })).token);
  return { asks: await make('funding'), approves: await make('funding approval') };
}

/** Credits an account once per `id`; a repeat changes nothing. */
export async function fund(
  management: pg.Pool,
  { asks, approves }: Funders,
  credit: { readonly id?: string; readonly accountId: AccountUuid; readonly amount: PicoUsd; readonly reason: string },
): Promise<void> {
  const id = uuidOf('adjustment', credit.id ?? uuidv7());
  const { accountId, amount, reason } = credit;
  await requestAdjustment(management, { id, accountId, amount, reason, requestedBy: asks, limits: null });
  await decideAdjustment(management, { id, approve: true, decidedBy: approves });
}
