/** The meter of an answer: how far its hold reaches, and how it grows while a stream comes. */
import { formatId } from '../../../../domain/ids.ts';
import { picoUsd } from '../../../../domain/money.ts';
import { isFault, ledgerRefusal } from '../../../../db/shared/client.ts';
import type { Gateway } from '../gateway.ts';
import { outputReach, type HeldRequest } from '../held-request.ts';
import { costOf, tokensCovered, type CostLine } from './cost-line.ts';
import { OutputMeter, type ExtendHold, type ExtendResult } from './output-meter.ts';
import { STREAM_SLICE_TOKENS } from './reach.ts';
import { refusalOfLedger } from './take-hold.ts';

/** A hold that can grow by less than a sentence is not grown: the stream ends here. */
const EXTENSION_LEAST_TOKENS = 16n;

/** `onExhausted` is called when the answer must end. */
export function createMeter(gateway: Gateway, held: HeldRequest, onExhausted: () => void): OutputMeter {
  const { request, growth } = held;
  return new OutputMeter({
    // A whole answer is held for in full from the start and a free one not at all: their output uses nothing up.
    covered: growth === null ? Infinity : tokensCovered(growth, held.hold),
    // A whole answer comes when it is over: nothing of it can be cut.
    most: request.stream ? outputReach(held) : Infinity,
    slice: STREAM_SLICE_TOKENS * request.answers,
    extend: growth === null ? UNASKED : (outputTokens) => extend(gateway, held, growth, outputTokens),
    countTokens: (text) => gateway.tokens.count(text),
    onExhausted,
  });
}

const UNASKED: ExtendHold = () => Promise.reject(new Error('invariant broken: a hold that covers all does not grow'));

async function extend(
  gateway: Gateway,
  held: HeldRequest,
  growth: CostLine,
  outputTokens: number,
): Promise<ExtendResult> {
  const { caller, uuid, model } = held;
  try {
    held.hold = await gateway.holds.extend(caller.accountId, uuid, {
      current: held.hold,
      total: costOf(growth, outputTokens),
      step: picoUsd(growth.perOutputToken * EXTENSION_LEAST_TOKENS),
    });
    return { kind: 'extended', outputTokens: tokensCovered(growth, held.hold) };
  } catch (error) {
    const refusal = ledgerRefusal(error);
    if (refusal === null) {
      // A bug must not end the process either: nobody may be waiting for this answer.
      if (!isFault(error)) {
        const details = { request_id: formatId('request', uuid), error: String(error) };
        gateway.logger.error(details, 'hold could not be extended by a bug');
      }
      return { kind: 'unavailable' };
    }
    // The hold was ended under us (the sweep took us for dead): the finish will find that out and book the cost.
    if (refusal.code === 'request_ended') return { kind: 'unavailable' };
    return { kind: 'refused', refusal: refusalOfLedger(refusal, model.id) };
  }
}
