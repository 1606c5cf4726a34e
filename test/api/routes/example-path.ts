/** Paths that tests of the whole table of routes call: each with well-formed ids of things that do not exist. */
import type { Route } from '../../../api/http/route.ts';

const UNKNOWN_IDS: Readonly<Record<string, string>> = {
  '/api/notices/{id}/read': 'ntc',
  '/api/keys/{id}': 'key',
  '/api/tokens/{id}': 'tok',
  '/api/logs/{request_id}': 'req',
  '/admin/accounts/{id}': 'acct',
  '/admin/adjustments/{id}': 'adj',
  '/admin/requests/{id}': 'req',
  '/admin/cases/{id}': 'case',
  '/admin/changes/{id}': 'chg',
  '/admin/postings/{id}': 'pst',
  '/admin/tokens/{id}': 'tok',
  '/admin/rewards/{id}': 'rwd',
  '/admin/bounties/{id}': 'bty',
  '/admin/top-ups/{id}': 'top',
  '/admin/affiliates/{id}': 'acct',
  '/admin/commission-corrections/{id}': 'cor',
  '/admin/commission-reviews/{id}': 'rvw',
  '/admin/hand-credits/{id}': 'hcr',
  '/admin/voucher-batches/{id}': 'vbt',
  '/api/top-ups/{id}': 'top',
};

export function examplePath(route: Route): string {
  const prefix = Object.entries(UNKNOWN_IDS).find(([path]) => route.path.startsWith(path))?.[1] ?? '';
  return route.path
    .replace('{+model_id}', 'no/such-model')
    .replace('{n}', '1')
    .replace('/admin/chains/{id}', '/admin/chains/1')
    .replace('{period}', '2020-01')
    .replace(/\{(id|request_id)\}/, `${prefix}_01980000000070008000000000000000`);
}
