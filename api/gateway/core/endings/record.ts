/**
 * Recording how a held request ended: evidence first, then the price, then the ledger. What follows in the answer may
 * leave only once the record is stored.
 */
import type { ServerResponse } from 'node:http';
import { minUsd, picoUsd } from '../../../../domain/money.ts';
import { isBilled } from '../../../../domain/requests/request.ts';
import { NO_USAGE } from '../../../../domain/usage/usage.ts';
import { isFault, ledgerRefusal } from '../../../../db/shared/client.ts';
import type { Gateway } from '../gateway.ts';
import type { HeldRequest } from '../held-request.ts';
import { rateEnding, type Ending, type RatedEnding } from './ending.ts';

/** How long a look-up may take while a client waits for its end, and while nobody does. */
const LOOKUP_WAITED_FOR_SECONDS = 1;
const LOOKUP_ALONE_SECONDS = 10;

/** Stores how the request ended; what follows in the answer may leave once this returns. */
export async function recordEnding(
  gateway: Gateway,
  held: HeldRequest,
  ending: Ending,
  response: ServerResponse,
): Promise<RatedEnding> {
  const known = await withEvidence(gateway, held, ending, response);
  const rated = await coverOverrun(gateway, held, await rateEnding(held, known, gateway.tokens));
  await gateway.finishes.finish(rated.record, held.price.kind === 'priced');
  if (held.price.rates === null && rated.record.usage !== NO_USAGE) {
    gateway.metrics.freeNotPriced.inc({ model: held.model.id });
  }
  gateway.countOutcome(rated.record.outcome, held);
  gateway.upstreamReport.ended(held, rated.record.upstream);
  noteFindings(gateway, held, rated);
  return rated;
}

function noteFindings({ findings }: Gateway, held: HeldRequest, { record, found }: RatedEnding): void {
  const { model, upstream, uuid } = held;
  if (!isBilled(record.outcome) || upstream === null) return;
  findings.note({
    modelId: model.id,
    upstream: upstream.name,
    requestId: uuid,
    estimated: record.estimated,
    findings: found,
  });
}

/** Asks the upstream's look-up about an answer that was cut or failed and whose usage nobody has told. */
async function withEvidence(
  gateway: Gateway,
  held: HeldRequest,
  ending: Ending,
  response: ServerResponse,
): Promise<Ending> {
  const { outcome, work, reportedUsage } = ending;
  // A shutdown has no time for it, and an answer that was given whole has said all there is.
  const isSettled = outcome === 'completed' || outcome === 'empty_completion' || outcome === 'orphaned';
  const { upstream } = held;
  if (isSettled || work === 'none' || reportedUsage !== null || held.price.rates === null || upstream === null)
    return ending;
  const seconds = response.destroyed ? LOOKUP_ALONE_SECONDS : LOOKUP_WAITED_FOR_SECONDS;
  const evidence = await gateway.upstreams.lookUp(upstream, held.uuid, seconds * 1000);
  if (evidence.kind === 'usage') return { ...ending, evidence: evidence.usage };
  return evidence.kind === 'nothing' && !held.firstTokenAt ? { ...ending, work: 'none' } : ending;
}

/**
 * Holds what an answer cost above its hold (reasoning that no stream shows, an upstream that ignores its limit), so
 * that the cost that the client is told is the cost that is charged. What cannot be held now is decided by the
 * settlement.
 */
async function coverOverrun(gateway: Gateway, held: HeldRequest, rated: RatedEnding): Promise<RatedEnding> {
  const { listCost, outcome, estimated } = rated.record;
  // An estimate takes nothing above what was set aside for it.
  const isOverrun = held.price.kind === 'priced' && isBilled(outcome) && !estimated && listCost > held.hold;
  if (!isOverrun || gateway.notReady !== null) return rated;
  try {
    held.hold = await gateway.holds.extend(held.caller.accountId, held.uuid, {
      current: held.hold,
      total: listCost,
      step: picoUsd(1n),
    });
  } catch (error) {
    if (ledgerRefusal(error) === null && !isFault(error)) throw error;
    return rated;
  }
  return { ...rated, cost: minUsd(listCost, held.hold) };
}
