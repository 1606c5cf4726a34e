/**
 * Recording how a chat request ended: evidence first, then the price, then the ledger. What follows in the answer may leave only
 * once the record is stored.
 */
import type { ServerResponse } from 'node:http';
import { minUsd, picoUsd } from '../../../../domain/money.ts';
import { isBilled } from '../../../../domain/requests/request.ts';
import { NO_USAGE } from '../../../../domain/usage/usage.ts';
import { isFault, ledgerRefusal } from '../../../../db/shared/client.ts';
import { rateEnding, type Ending, type RatedEnding } from './ending.ts';
import type { Exchange } from '../held-request.ts';
import type { Gateway } from '../gateway.ts';

/** How long a look-up may take while a client waits for its end, and while nobody does. */
const LOOKUP_WAITED_FOR_SECONDS = 1;
const LOOKUP_ALONE_SECONDS = 10;

/** Stores how the request ended; what follows in the answer may leave once this returns. */
export async function recordChat(
  gateway: Gateway,
  exchange: Exchange,
  ending: Ending,
  response: ServerResponse,
): Promise<RatedEnding> {
  const known = await withEvidence(gateway, exchange, ending, response);
  const rated = await coverOverrun(gateway, exchange, await rateEnding(exchange, known));
  await gateway.finishes.finish(rated.record, !exchange.free);
  if (exchange.free && exchange.tiers.length === 0 && rated.record.usage !== NO_USAGE) {
    gateway.metrics.freeNotPriced.inc({ model: exchange.model.id });
  }
  gateway.countOutcome(rated.record.outcome, exchange);
  gateway.upstreamReport.ended(exchange, rated.record.upstream);
  noteFindings(gateway, exchange, rated);
  return rated;
}

function noteFindings({ findings }: Gateway, exchange: Exchange, { record, found }: RatedEnding): void {
  const { model, upstream, uuid } = exchange;
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
  exchange: Exchange,
  ending: Ending,
  response: ServerResponse,
): Promise<Ending> {
  const { outcome, work, reportedUsage } = ending;
  // A shutdown has no time for it, and an answer that was given whole has said all there is.
  const isSettled = outcome === 'completed' || outcome === 'empty_completion' || outcome === 'orphaned';
  const { upstream } = exchange;
  if (isSettled || work === 'none' || reportedUsage !== null || exchange.tiers.length === 0 || upstream === null)
    return ending;
  const seconds = response.destroyed ? LOOKUP_ALONE_SECONDS : LOOKUP_WAITED_FOR_SECONDS;
  const evidence = await gateway.upstreams.lookUp(upstream, exchange.id, seconds * 1000);
  if (evidence.kind === 'usage') return { ...ending, evidence: evidence.usage };
  return evidence.kind === 'nothing' && !exchange.firstTokenAt ? { ...ending, work: 'none' } : ending;
}

/**
 * Holds what an answer cost above its hold (reasoning that no stream shows, an upstream that ignores its limit), so that
 * the cost that the client is told is the cost that is charged. What cannot be held now is decided by the settlement.
 */
async function coverOverrun(gateway: Gateway, exchange: Exchange, rated: RatedEnding): Promise<RatedEnding> {
  const { listCost, outcome, estimated } = rated.record;
  // An estimate takes nothing above what was set aside for it.
  const isOverrun = !exchange.free && isBilled(outcome) && !estimated && listCost > exchange.hold;
  if (!isOverrun || gateway.notReady !== null) return rated;
  try {
    exchange.hold = await gateway.holds.extend(exchange.caller.accountId, exchange.uuid, {
      current: exchange.hold,
      total: listCost,
      step: picoUsd(1n),
    });
  } catch (error) {
    if (ledgerRefusal(error) === null && !isFault(error)) throw error;
    return rated;
  }
  return { ...rated, cost: minUsd(listCost, exchange.hold) };
}
