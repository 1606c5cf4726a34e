/** The meter of a chat answer: how far its hold reaches, and how it grows while a stream comes. */
import { picoUsd, type PicoUsd } from '../../../../domain/money.ts';
import { worstCase } from '../../../../domain/requests/rating.ts';
import { isFault, ledgerRefusal } from '../../../../db/shared/client.ts';
import { refusalOfLedger } from './take-hold.ts';
import { reachOf, STREAM_SLICE_TOKENS } from './reach.ts';
import { outputReach, type Exchange } from '../held-request.ts';
import type { Gateway } from '../gateway.ts';
import { OutputMeter, type ExtendHold } from './output-meter.ts';

/** A hold that can grow by less than a sentence is not grown: the stream ends here. */
const EXTENSION_LEAST_TOKENS = 16n;

/** `onExhausted` is called when the answer must end. */
export function createMeter(gateway: Gateway, exchange: Exchange, onExhausted: () => void): OutputMeter {
  const { model, request, tiers } = exchange;
  // A whole answer comes when it is over: nothing of it can be cut.
  const most = request.stream ? outputReach(exchange) : Infinity;
  // A whole answer is held for in full from the start, so its output uses nothing up.
  const isUnmetered = exchange.free || !request.stream;
  const base = isUnmetered ? 0n : worstCase(tiers, { ...reachOf(request, model, 0), outputTokens: 0 });
  const perToken = isUnmetered ? 0n : worstCase(tiers, { ...reachOf(request, model, 0), outputTokens: 1 }) - base;
  const tokensCovered = (amount: PicoUsd): number => (perToken === 0n ? Infinity : Number((amount - base) / perToken));

  const extend: ExtendHold = async (outputTokens) => {
    try {
      const total = picoUsd(base + BigInt(Math.ceil(outputTokens)) * perToken);
      const step = picoUsd(perToken * EXTENSION_LEAST_TOKENS);
      exchange.hold = await gateway.holds.extend(exchange.caller.accountId, exchange.uuid, {
        current: exchange.hold,
        total,
        step,
      });
      return { kind: 'extended', outputTokens: tokensCovered(exchange.hold) };
    } catch (error) {
      const refusal = ledgerRefusal(error);
      if (refusal === null) {
        // A bug must not end the process either: nobody may be waiting for this answer.
        if (!isFault(error)) {
          gateway.logger.error(
            { request_id: exchange.id, error: String(error) },
            'hold could not be extended by a bug',
          );
        }
        return { kind: 'unavailable' };
      }
      // The hold was ended under us (the sweep took us for dead): the finish will find that out and book the cost.
      if (refusal.code === 'request_ended') return { kind: 'unavailable' };
      return { kind: 'refused', refusal: refusalOfLedger(refusal, model.id) };
    }
  };
  return new OutputMeter({
    covered: tokensCovered(exchange.hold),
    most,
    slice: STREAM_SLICE_TOKENS * request.choices,
    extend,
    onExhausted,
  });
}
