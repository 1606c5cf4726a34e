/** Admitting a request: every check that can be made before money is held, in the order of docs/api.md. */
import { Refusal } from '../../../domain/errors.ts';
import { uuidTime } from '../../../domain/ids.ts';
import { priceRowFor, tiersAt, type PriceRow, type PriceVersion } from '../../../domain/requests/prices.ts';
import { isFreeModel } from '../../../domain/requests/request.ts';
import { versionAt, type Model } from '../../../db/requests/catalogue.ts';
import type { Admission, Asked, Free, Priced, Rates } from './admission.ts';
import { modelNotAllowed, modelNotFound, unsupported } from './refusals.ts';
import type { DialectRequest } from './dialect.ts';
import type { Gateway } from './gateway.ts';
import { outputCapOf, platformPrices, requireWithinBounds } from './holds/free-models.ts';
import { checkBodySize } from './holds/reach.ts';

/** Admits a request, or throws the Refusal of the first check that it fails. */
export function admit(gateway: Gateway, asked: Asked): Admission {
  const { dialect, request } = asked;
  const model = findModel(gateway, asked);
  const isFree = isFreeModel(model.id);
  // Before the price is looked at: one that is too old must refuse nothing either.
  gateway.requireLedger(!isFree);
  const price = isFree ? freePrice(gateway, asked, model) : listPrice(asked, model);
  dialect.checkPriced(request, rowOf(price));
  return { ...asked, model, price };
}

/** The model that was asked for. Throws when there is none, the key may not use it, or it must not be asked this. */
function findModel({ catalogue }: Gateway, { caller, dialect, request }: Asked): Model {
  const model = catalogue.find(request.model);
  if (model !== undefined) checkBodySize(request, model);
  refuseUnsupported(request, model?.passthroughFields ?? []);
  if (model === undefined || model.dialect !== dialect.upstreamDialect) throw modelNotFound(request.model);
  if (caller.models !== null && !caller.models.includes(model.id)) throw modelNotAllowed(model.id);
  return model;
}

/**
 * Throws `unsupported_parameter` for the first thing in a request that could change its price and that the model's
 * operator does not vouch for. `passthroughFields` is empty where the model is not known.
 */
export function refuseUnsupported({ objections }: DialectRequest, passthroughFields: readonly string[]): void {
  const objection = objections.find(({ field }) => !passthroughFields.includes(field));
  if (objection !== undefined) throw unsupported(objection.param, objection.message);
}

/** Throws `model_not_priced` when no price is in force. */
function listPrice({ uuid }: Asked, model: Model): Priced {
  const at = uuidTime(uuid);
  const published = versionAt(model, at);
  if (published === null)
    throw new Refusal('model_not_priced', { param: 'model', message: `The model "${model.id}" has no price yet.` });
  return { kind: 'priced', version: published.version, rates: ratesAt(published.prices, at) };
}

/** Throws `invalid_body` when the request asks for more than a `:free` model gives at once. */
function freePrice({ catalogue, settings }: Gateway, { uuid, dialect, request }: Asked, model: Model): Free {
  const at = uuidTime(uuid);
  const prices = platformPrices(catalogue, model, at);
  requireWithinBounds(dialect.freeAsks(request), settings.freeBounds);
  return {
    kind: 'free',
    outputCap: outputCapOf(request, model, settings.freeBounds),
    rates: prices === null ? null : ratesAt(prices, at),
  };
}

function ratesAt(prices: PriceVersion, at: Date): Rates {
  return { tiers: tiersAt(prices, at), reasoningInOutput: prices.reasoningInOutput };
}

/** The row that tells what the model has a price for. */
function rowOf({ rates }: Priced | Free): PriceRow {
  return rates === null ? {} : priceRowFor(rates.tiers, 0);
}
