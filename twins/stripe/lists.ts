/** Common parts of Stripe's reading calls: pages of a list, and objects in place of their ids. */
import { invalidRequest, noSuch } from './errors.ts';
import type { Params } from './form.ts';
import type { Store } from './store.ts';

interface Listed {
  readonly id: string;
  readonly created?: number;
}

const PAGE_DEFAULT = 10;
const PAGE_MAX = 100;
const EXPAND_DEPTH_MAX = 4;

/** A page of `rows`, which are newest first. Reads `limit`, `starting_after`, `ending_before` and `created`. */
export function pageOf<T extends Listed>(rows: readonly T[], params: Params, url: string): object {
  const limit = params.integer('limit') ?? PAGE_DEFAULT;
  if (limit < 1 || limit > PAGE_MAX) throw invalidRequest('This value must be between 1 and 100.', 'limit');
  const isInTime = readCreated(params);
  const after = params.string('starting_after');
  const before = params.string('ending_before');
  const matching = rows.filter((row) => isInTime(row.created ?? 0));
  if (before !== undefined) {
    const newer = matching.slice(0, indexOf(rows, matching, before, 'ending_before'));
    return { object: 'list', data: newer.slice(-limit), has_more: newer.length > limit, url };
  }
  const rest = after === undefined ? matching : matching.slice(indexOf(rows, matching, after, 'starting_after') + 1);
  return { object: 'list', data: rest.slice(0, limit), has_more: rest.length > limit, url };
}

function indexOf(rows: readonly Listed[], matching: readonly Listed[], id: string, param: string): number {
  const index = matching.findIndex((row) => row.id === id);
  if (index === -1) throw noSuch('object', rows.some((row) => row.id === id) ? `${id} (filtered out)` : id, param);
  return index;
}

function readCreated(params: Params): (created: number) => boolean {
  if (!params.has('created')) return () => true;
  let range: Params | undefined;
  try {
    range = params.object('created');
  } catch {
    const exact = params.integer('created');
    return (created) => created === exact;
  }
  const gt = range?.integer('gt') ?? -Infinity;
  const gte = range?.integer('gte') ?? -Infinity;
  const lt = range?.integer('lt') ?? Infinity;
  const lte = range?.integer('lte') ?? Infinity;
  range?.refuseOthers();
  return (created) => created > gt && created >= gte && created < lt && created <= lte;
}

/** A copy of the answer in which every path of `expand[]` leads to an object instead of its id. */
export function expanded(store: Store, answer: object, paths: readonly string[]): object {
  const copy = structuredClone(answer);
  for (const path of paths) {
    const fields = path.split('.');
    if (fields.length > EXPAND_DEPTH_MAX) {
      throw invalidRequest(`You cannot expand more than 4 levels of a property (${path}).`, 'expand');
    }
    expand(store, copy as Record<string, unknown>, fields, path);
  }
  return copy;
}

function expand(store: Store, holder: Record<string, unknown>, fields: readonly string[], path: string): void {
  const [field, ...deeper] = fields;
  if (field === undefined) return;
  const lines = field === 'line_items' ? store.sessions.get(String(holder['id']))?.lines : undefined;
  if (lines !== undefined) {
    const url = `/v1/checkout/sessions/${String(holder['id'])}/line_items`;
    holder[field] = { object: 'list', data: lines, has_more: false, url };
    return;
  }
  const value = holder[field];
  if (value === undefined) {
    throw invalidRequest(`This property cannot be expanded (${path}).`, 'expand', 'property_cannot_be_expanded');
  }
  if (typeof value === 'string') holder[field] = objectOf(store, value, path);
  const inside = holder[field];
  for (const next of Array.isArray(inside) ? inside : [inside]) {
    if (typeof next === 'object' && next !== null) expand(store, next as Record<string, unknown>, deeper, path);
  }
}

function objectOf(store: Store, id: string, path: string): object {
  const found =
    store.intents.get(id) ??
    store.charges.get(id) ??
    store.refunds.get(id) ??
    store.customers.get(id) ??
    store.methods.get(id)?.method;
  if (found === undefined) {
    throw invalidRequest(`This property cannot be expanded (${path}).`, 'expand', 'property_cannot_be_expanded');
  }
  return structuredClone(found);
}
