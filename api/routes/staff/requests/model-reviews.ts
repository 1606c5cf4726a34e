/** Which prices and upstreams of a model take a second person, and why. */
import type { z } from 'zod';
import type { ModelRecord } from '../../../../db/requests/catalogue.ts';
import { causeOfPriceReview, STANDING_DAYS } from '../../../../domain/requests/price-cut.ts';
import {
  compilePrices,
  isPriceProblem,
  type PriceText,
  type PriceVersion,
  type PriceVersionText,
} from '../../../../domain/requests/prices.ts';
import { isFreeModel } from '../../../../domain/requests/request.ts';
import { invalidField } from '../../../http/errors.ts';
import { given, type priceFields, type prices, type tiers } from './model-fields.ts';
import { givesAway, movesPrompts } from './upstream-rules.ts';

const GIVEN_AWAY = 'We would pay a provider for requests that cost customers nothing.';

type PriceInput = z.output<z.ZodObject<typeof priceFields>>;

/** The catalogue's own text form of prices. Refuses what does not compile, naming the field. */
export function priceTextOf(input: PriceInput): PriceVersionText {
  const rowOf = (row: z.output<typeof prices>): PriceText => given(row);
  const tiersOf = (list: z.output<typeof tiers>) => list.map((tier) => ({ ...tier, prices: rowOf(tier.prices) }));
  const text: PriceVersionText = {
    prices: rowOf(input.prices),
    ...(input.tiers === undefined ? {} : { tiers: tiersOf(input.tiers) }),
    ...(input.windows === undefined
      ? {}
      : {
          windows: input.windows.map(({ days, from, to, prices: row, tiers: list }) => ({
            ...(days === undefined ? {} : { days }),
            from,
            to,
            prices: rowOf(row),
            ...(list === undefined ? {} : { tiers: tiersOf(list) }),
          })),
        }),
    ...(input.reasoning_in_output === undefined ? {} : { reasoning_in_output: input.reasoning_in_output }),
  };
  const compiled = compilePrices(text);
  if (isPriceProblem(compiled)) throw invalidField(compiled.field, compiled.message);
  return text;
}

/** Why prices take a second person; null when one may publish them. Of a free model nothing was ever paid. */
export function causeOfReview(model: ModelRecord, text: PriceVersionText, cutPpm: number): string | null {
  if (isFreeModel(model.id)) return null;
  const since = Date.now() - STANDING_DAYS * 86_400_000;
  // Newest first: a version was in force until the one after it.
  const standing = model.versions.filter(
    (_, index) => index === 0 || model.versions[index - 1]!.validFrom.getTime() > since,
  );
  return causeOfPriceReview(
    compiled(text),
    standing.map(({ prices: stored }) => compiled(stored)),
    cutPpm,
  );
}

function compiled(text: PriceVersionText): PriceVersion {
  const result = compilePrices(text);
  if (isPriceProblem(result)) throw invalidField(result.field, result.message);
  return result;
}

/** Why other upstreams of a model take a second person; null when they do not. */
export function causeOfUpstreams(
  { id, upstreams: before }: ModelRecord,
  after: ModelRecord['upstreams'],
): string | null {
  if (movesPrompts(before, after)) return 'Prompts would go to another address.';
  return givesAway(id, after) && !givesAway(id, before) ? GIVEN_AWAY : null;
}

/** To offer a `:free` model that is retired until a second person approves. */
export const offerOf = (model: string) =>
  ({
    kind: 'model',
    subject: model,
    change: { settings: {}, offered: true },
    cause: GIVEN_AWAY,
    reason: null,
  }) as const;
