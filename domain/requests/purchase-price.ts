/**
 * A provider's charge to us is confidential: its answers carry it beside the token counts (OpenRouter's `cost` and
 * `cost_details`, xAI's cost ticks, Perplexity's and DeepInfra's costs, the metadata of other gateways), and a client
 * must see the counts without it.
 *
 * A field is a price when one of the words of its name says so, whatever the style of the name; a field whose last word
 * is a count ("cost_tokens") is not. So a provider that invents the next name is covered as well.
 */
import { isObject, type Report } from '../usage/fields.ts';

const PRICE_WORDS = new Set([
  'cost',
  'costs',
  'price',
  'prices',
  'pricing',
  'priced',
  'usd',
  'eur',
  'cny',
  'byok',
  'billing',
  'bill',
  'charge',
  'charges',
  'charged',
  'fee',
  'fees',
  'discount',
  'discounts',
  'credit',
  'credits',
  'balance',
  'margin',
  'markup',
  'spend',
  'neurons',
  'ticks',
]);
/** Fields that hold prices and nothing that a client needs, though their names do not say so. */
const PRICE_FIELDS = new Set(['pydantic_ai_gateway', '_hidden_params']);
const COUNT_WORDS = new Set(['token', 'tokens', 'count']);
/** A cheap look at a name before it is split into words: most names of a chunk end here. */
const MAY_BE_PRICE =
  /cost|pric|usd|eur|cny|byok|bill|charg|fee|discount|credit|balance|margin|markup|spend|neuron|tick|gateway|hidden/i;
const WORD = /[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+/g;
/** Deeper than any usage; what lies below is not shown. */
const LEVELS_MAX = 16;

/** Objects of an answer in which providers and gateways report prices. */
const METADATA_FIELDS = [
  'usage',
  'provider_metadata',
  'providerMetadata',
  'provider_specific_fields',
  'x_groq',
] as const;

/** True for the name of a field that says what something cost. */
function isPriceName(name: string): boolean {
  if (!MAY_BE_PRICE.test(name)) return false;
  if (PRICE_FIELDS.has(name)) return true;
  const words = (name.match(WORD) ?? []).map((word) => word.toLowerCase());
  return words.some((word) => PRICE_WORDS.has(word)) && !COUNT_WORDS.has(words.at(-1) ?? '');
}

/** The usage as a client may see it: without prices at every depth, all else as it was. */
export function withoutPurchasePrice(usage: unknown): unknown {
  return withoutPrices(usage, 1);
}

function withoutPrices(value: unknown, level: number): unknown {
  if (Array.isArray(value)) {
    return level > LEVELS_MAX ? [] : value.map((entry: unknown) => withoutPrices(entry, level + 1));
  }
  if (!isObject(value)) return value;
  if (level > LEVELS_MAX) return {};
  const shown: [string, unknown][] = [];
  for (const [name, entry] of Object.entries(value)) {
    if (!isPriceName(name)) shown.push([name, withoutPrices(entry, level + 1)]);
  }
  return Object.fromEntries(shown);
}

/**
 * An object of an answer as a client may see it: without prices among its own fields and in its metadata, where
 * providers and gateways report them; what else it holds is not looked into. `ordinary` are fields that nearly every
 * such object has and that are no price. Returns `value` itself where nothing is taken out, which is so for nearly
 * every chunk.
 */
export function fieldsWithoutPurchasePrice(value: Report, ordinary: ReadonlySet<string>): Report {
  let shown = metadataWithoutPurchasePrice(value);
  for (const name of Object.keys(value)) {
    if (ordinary.has(name) || !isPriceName(name)) continue;
    shown = Object.fromEntries(Object.entries(shown).filter(([field]) => field !== name));
  }
  return shown;
}

/** The same for an object whose own fields are not looked at, because a model may have named them. */
export function metadataWithoutPurchasePrice(value: Report): Report {
  let shown = value;
  for (const name of METADATA_FIELDS) {
    if (isObject(value[name])) shown = { ...shown, [name]: withoutPurchasePrice(value[name]) };
  }
  return shown;
}
