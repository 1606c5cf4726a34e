/**
 * Staff in ledger tests: who asks and who decides has to be a person, so a test database knows these by fixed tokens.
 * Their names as records have them are constants, as plain names were not enough.
 */
import type pg from 'pg';
import type { ManualLimits } from '../../db/accounts/manual-limits.ts';
import { usd } from '../../domain/money.ts';

const NAMES = ['ann', 'bob', 'ada', 'eve'] as const;
type Name = (typeof NAMES)[number];

const tokenId = (name: Name): string => `01980000-0000-7000-8000-000000005a0${NAMES.indexOf(name)}`;
const actorOf = (name: Name): string => `${name} (tok_${tokenId(name).replaceAll('-', '')})`;

export const ANN = actorOf('ann');
export const BOB = actorOf('bob');
export const ADA = actorOf('ada');
export const EVE = actorOf('eve');

/** Makes them known to a database; repeatable. */
export async function addStaff(admin: pg.Pool): Promise<void> {
  for (const name of NAMES) {
    await admin.query(
      `insert into access_token (id, hash, role, name) values ($1, sha256($2::text::bytea), 'operator', $3) on conflict do nothing`,
      [tokenId(name), tokenId(name), name],
    );
  }
}

const PLENTY = usd('99999999999999999999');

/** Single movements up to `amount` (decimal USD) by one person alone, in whatever sum. */
export const upTo = (amount: string): ManualLimits => ({
  movement: usd(amount),
  personDay: PLENTY,
  personMonth: PLENTY,
  accountDay: PLENTY,
  accountMonth: PLENTY,
});
