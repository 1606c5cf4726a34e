/**
 * Restricted keys (`rk_…`): which permission each call takes, by its resource, and what Stripe answers where a key
 * lacks it. Expanding an object takes the permission to read it as well. All restricted keys of a twin have the same
 * permissions.
 */
import { BadInput } from '../kit/input.ts';
import { StripeFailure } from './errors.ts';
import type { Store } from './store.ts';

/** The beginning of a path, and the resource that its permissions are named by. The first that fits counts. */
const RESOURCES: readonly (readonly [path: string, resource: string])[] = [
  ['/v1/checkout/sessions', 'checkout_session'],
  ['/v1/payment_intents', 'payment_intent'],
  ['/v1/charges', 'charge'],
  ['/v1/refunds', 'charge'],
  ['/v1/disputes', 'dispute'],
  ['/v1/radar/early_fraud_warnings', 'early_fraud_warning'],
  ['/v1/customers', 'customer'],
  ['/v1/payment_methods', 'payment_method'],
  ['/v1/events', 'event'],
  ['/v1/webhook_endpoints', 'webhook'],
];

/** Fields that can be expanded into an object of a resource. */
const EXPANDED: Readonly<Record<string, string>> = {
  payment_intent: 'payment_intent',
  latest_charge: 'charge',
  charge: 'charge',
  customer: 'customer',
  payment_method: 'payment_method',
};

const PERMISSIONS = new Set(RESOURCES.flatMap(([, resource]) => [`rak_${resource}_read`, `rak_${resource}_write`]));

/** Throws 403 where a restricted key may not make this call. */
export function checkPermission(
  store: Store,
  { secret, method, path, expand }: { secret: string; method: string; path: string; expand: readonly string[] },
): void {
  const { granted } = store.settings;
  if (!secret.startsWith('rk_') || granted === null || granted === undefined) return;
  const resource = RESOURCES.find(([prefix]) => path.startsWith(prefix))?.[1];
  const wanted = resource === undefined ? [] : [`rak_${resource}_${method === 'GET' ? 'read' : 'write'}`];
  for (const field of expand.flatMap((name) => name.split('.'))) {
    const inside = EXPANDED[field];
    if (inside !== undefined) wanted.push(`rak_${inside}_read`);
  }
  const missing = wanted.find((permission) => !isGranted(granted, permission));
  if (missing === undefined) return;
  throw new StripeFailure(403, {
    type: 'invalid_request_error',
    message:
      `The provided key '${secret.slice(0, 8)}***' does not have the required permissions for this endpoint on account 'acct_twin'. ` +
      `Having the '${missing}' permission would allow this request to continue.`,
  });
}

/** The right to write includes the right to read. */
function isGranted(granted: readonly string[], permission: string): boolean {
  return granted.includes(permission) || granted.includes(permission.replace(/_read$/, '_write'));
}

export function readPermissions(value: unknown, field: string): string[] {
  if (!Array.isArray(value) || !value.every((name) => typeof name === 'string' && PERMISSIONS.has(name))) {
    throw new BadInput(`'${field}' must be null or a list of: ${[...PERMISSIONS].join(', ')}.`, field);
  }
  return value as string[];
}
