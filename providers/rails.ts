/** Every configured payment rail, and the statement of its provider. */
import type pg from 'pg';
import { createCreem } from './creem/client.ts';
import { createStripe } from './stripe/settings.ts';
import type { PaymentSettings } from './payment-settings.ts';
import { createCreemRail } from './creem/rail.ts';
import { createCryptoRail } from './chain/rail.ts';
import type { PaymentRail } from './rail.ts';
import {
  createCreemStatement,
  createDepositStatement,
  createStripeStatement,
  type ProviderStatement,
} from './statements.ts';
import { createStripeRail } from './stripe/rail.ts';

export function createRails({ stripe, creem, crypto, publicUrl }: PaymentSettings, pool: pg.Pool): PaymentRail[] {
  const rails: PaymentRail[] = [];
  if (stripe !== null) rails.push(createStripeRail(createStripe(stripe), publicUrl));
  if (creem !== null) rails.push(createCreemRail({ settings: creem, publicUrl, pool }));
  if (crypto !== null) rails.push(createCryptoRail({ settings: crypto, pool }));
  return rails;
}

export function createStatements({ stripe, creem, crypto }: PaymentSettings, pool: pg.Pool): ProviderStatement[] {
  const statements: ProviderStatement[] = [];
  if (stripe !== null) statements.push(createStripeStatement(createStripe(stripe)));
  if (creem !== null) statements.push(createCreemStatement(createCreem(creem), creem.productId));
  if (crypto !== null) statements.push(createDepositStatement(pool));
  return statements;
}
