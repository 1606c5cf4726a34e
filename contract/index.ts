/**
 * What the rest of the system may know of the workflows: namespaces, task queues, ids, inputs, signals, updates and
 * queries. Clients import this file, never a workflow body and never a string of their own.
 *
 * A workflow id is an address, not a lock: what must happen once is keyed in PostgreSQL. Amounts travel as decimal
 * USD strings, durations as inputs, so a history records what applied.
 */
export * from './namespaces.ts';
export * from './search-attributes.ts';
export * from './workflow-types.ts';
export * from './requests.ts';
export * from './refund.ts';
export * from './wake.ts';
export * from './top-up.ts';
export * from './auto-top-up.ts';
export * from './watch-chain.ts';
export * from './reconcile.ts';
export * from './commissions.ts';
export * from './rewards.ts';
