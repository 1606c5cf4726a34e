/** Access to a route: roles of staff, or the scope of a customer's token. */
import type { TokenRole, TokenScope } from '../../db/accounts/access-tokens.ts';

export type StaffRole = Exclude<TokenRole, 'account'>;

/** Roles that may read everything, and the further roles for support. */
export const READERS: readonly StaffRole[] = ['operator', 'finance', 'auditor'];
export const READERS_AND_SUPPORT: readonly StaffRole[] = [...READERS, 'support'];

/** The scope that a customer's own token needs, or the staff roles that may call. */
export type Access = { readonly scope: TokenScope } | readonly StaffRole[];

/** Whether a route is for customers. */
export function isForCustomers(access: Access): access is { readonly scope: TokenScope } {
  return 'scope' in access;
}
