/** Why a chain needs a person, in words. */
import { CHAIN_PROBLEMS, type ChainProblem } from '../../../contract/index.ts';
import type { TokenStanding } from '../../../providers/chain/price-feeds.ts';
import type { OpenChain } from '../../../providers/chain/rpc-vendors.ts';

export function problemsOf(
  { chain, vendors, watch }: OpenChain,
  disputed: readonly string[],
  tokens: readonly TokenStanding[],
): { readonly code: ChainProblem; readonly words: string }[] {
  const problems: { code: ChainProblem; words: string }[] = [];
  for (const { code, fault } of vendors) {
    if (code !== null && fault !== null) problems.push({ code, words: `${fault}. Nothing that it says is used.` });
  }
  if (disputed.length > 0) {
    const some = disputed.slice(0, 5).join(', ');
    const more = disputed.length > 5 ? ` and ${disputed.length - 5} more` : '';
    const words = `vendors contradict each other about ${some}${more}. Nothing is credited or taken back on the word of one; look at an explorer.`;
    problems.push({ code: 'vendors_disagree', words });
  }
  const now = performance.now();
  for (const { vendor, fault, code, failingSince, isRefusing, readTo } of vendors) {
    if (code !== null || failingSince === null || now - failingSince < watch.graceSeconds * 1000) continue;
    if (isRefusing) {
      const words = `${fault}. It is read to ${readTo ?? 'nothing yet'}, and asked again and again; its headers and receipts are used.`;
      problems.push({ code: 'logs_refused', words });
    } else {
      problems.push({ code: 'vendor_away', words: `${vendor.name} does not answer as it should: ${fault}.` });
    }
  }
  for (const { vendor, fault, behindSince, readTo, head } of vendors) {
    if (fault !== null || behindSince === null || now - behindSince < watch.graceSeconds * 1000) continue;
    const words = `${vendor.name} is read to ${readTo} of ${head?.latest.height} only: too much at once, its blocks change while they are read, or it does not show blocks below its own head.`;
    problems.push({ code: 'vendor_behind', words });
  }
  for (const { symbol, fault } of tokens) {
    if (fault === null) continue;
    const words = `${symbol} on ${chain.name} is not taken at a dollar now (${fault}). Its deposits wait and are credited when it is.`;
    problems.push({ code: 'peg_lost', words });
  }
  const wallClock = Date.now() / 1000;
  for (const { vendor, head, fault } of vendors) {
    if (fault !== null || head === null) continue;
    const age = Math.floor(wallClock - head.latest.time);
    if (age <= watch.headAgeSeconds) continue;
    problems.push({ code: 'head_old', words: `${vendor.name} shows no block younger than ${age} s.` });
  }
  return problems.sort((a, b) => CHAIN_PROBLEMS.indexOf(a.code) - CHAIN_PROBLEMS.indexOf(b.code));
}
