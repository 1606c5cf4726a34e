/** Customers whose requests have ended and wait to be settled, and what the settlement made of them. */
import assert from 'node:assert/strict';
import { findBalance } from '../../db/accounts/accounts.ts';
import { finishRequests, placeHolds } from '../../db/requests/requests.ts';
import { uuidOf, type AccountUuid, type KeyUuid, type RequestUuid } from '../../domain/ids.ts';
import { formatUsd, usd, type PicoUsd } from '../../domain/money.ts';
import type { FinishOutcome } from '../../domain/requests/request.ts';
import { createCustomer, createKey, endOf, holdOf, uuidAt, type LedgerDatabase } from './ledger-database.ts';

export interface CustomerKey {
  readonly accountId: AccountUuid;
  readonly keyId: KeyUuid;
}

/** One request of a batch: what it held, what it cost, how it ended. Amounts in decimal USD. */
export interface EndedRequest {
  readonly hold: string;
  readonly cost: string;
  readonly outcome?: FinishOutcome;
  readonly estimated?: boolean;
}

export async function customerWithKey(ledger: LedgerDatabase, balance: string): Promise<CustomerKey> {
  const accountId = await createCustomer(ledger, balance);
  return { accountId, keyId: await createKey(ledger, accountId) };
}

/** Finished requests of a customer, with ids in the order of `rows` although they come to be in the opposite one. */
export async function finished(
  ledger: LedgerDatabase,
  key: CustomerKey,
  rows: readonly EndedRequest[],
): Promise<RequestUuid[]> {
  const now = Date.now();
  const ids = rows.map((_, n) => uuidOf('request', uuidAt(now - rows.length + n)));
  const holds = rows.map((row, n) => holdOf(key, row.hold, { requestId: ids[n]! })).reverse();
  const wanted = holds.map((hold) => hold.wanted);
  assert.deepEqual(await placeHolds(ledger.gateway, holds), wanted, 'the customer must have the money for all holds');
  const ends = rows
    .map(({ cost, outcome = 'completed', estimated = false }, n) => endOf(ids[n]!, cost, { outcome, estimated }))
    .reverse();
  await finishRequests(ledger.gateway, ends);
  return ids;
}

/** State and cost of each request, with what of an overrun was lost: `charged 1.2 lost 1.3`. */
export async function chargesOf(ledger: LedgerDatabase, ids: readonly RequestUuid[]): Promise<string[]> {
  const { rows } = await ledger.admin.query<{ state: string; cost: string; lost: string | null }>(
    `select r.state, r.cost::text, (select list_cost::text from platform_cost p where p.request_id = r.id and p.reason = 'overrun') as lost
    from unnest($1::uuid[]) with ordinality i (id, n) join request r on r.id = i.id order by i.n`,
    [ids],
  );
  return rows.map(({ state, cost, lost }) => {
    const charge = `${state} ${withoutZeros(usd(cost))}`;
    return lost === null ? charge : `${charge} lost ${withoutZeros(usd(lost))}`;
  });
}

/** The workflow that each request names. */
export async function workflowsOf(ledger: LedgerDatabase, ids: readonly RequestUuid[]): Promise<(string | null)[]> {
  const { rows } = await ledger.admin.query<{ workflow_id: string | null }>(
    'select workflow_id from unnest($1::uuid[]) with ordinality i (id, n) join request using (id) order by n',
    [ids],
  );
  return rows.map((row) => row.workflow_id);
}

/** The balance of a customer for whom nothing is held any more. */
export async function restingBalance(ledger: LedgerDatabase, { accountId }: CustomerKey): Promise<string> {
  const { balance, held } = (await findBalance(ledger.management, accountId))!;
  assert.equal(held, 0n);
  return withoutZeros(balance);
}

function withoutZeros(amount: PicoUsd): string {
  return formatUsd(amount).replace(/\.?0+$/, '');
}
