/** Who may use a route: the roles of staff, or the scope of a customer's token. */
import type { TokenRole, TokenScope } from '../../db/accounts/access-tokens.ts';

export type StaffRole = Exclude<TokenRole, 'account'>;

/** Who may look at everything, and who also at what support needs. */
export const READERS: readonly StaffRole[] = ['operator', 'finance', 'auditor'];
export const READERS_AND_SUPPORT: readonly StaffRole[] = [...READERS, 'support'];

/** The scope that a customer's own token needs, or the staff roles that may call. */
export type Access = { readonly scope: TokenScope } | readonly StaffRole[];

/** Whether a route is for customers. */
export function isForCustomers(access: Access): access is { readonly scope: TokenScope } {
  return 'scope' in access;
}
