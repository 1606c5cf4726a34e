/** Every payment rail that is configured. */
import { createStripe } from '../runtime/stripe.ts';
import type { PaymentSettings } from '../runtime/payments.ts';
import type { PaymentRail } from './payment-rail.ts';
import { createStripeRail } from './stripe-rail.ts';

export function createRails({ stripe, publicUrl }: PaymentSettings): PaymentRail[] {
  const rails: PaymentRail[] = [];
  if (stripe !== null) rails.push(createStripeRail(createStripe(stripe), publicUrl));
  return rails;
}
