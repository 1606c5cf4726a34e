/**
 * What a provider charged us is between it and us: its answers carry it beside the token counts (OpenRouter's `cost` and
 * `cost_details`, xAI's cost ticks, Perplexity's and DeepInfra's costs, the metadata of other gateways), and a client must
 * see the counts without it.
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
/** What nearly every chunk has: not even looked at. */
const ORDINARY_FIELDS = new Set([
  'id',
  'object',
  'created',
  'model',
  'choices',
  'usage',
  'system_fingerprint',
  'service_tier',
]);
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
 * A whole answer or a chunk as a client may see it: without prices on its top level, in its usage wherever that stands and
 * in the metadata of providers. What the model wrote is never looked into. Returns `message` itself where nothing is
 * taken out, which is so for nearly every chunk.
 */
export function answerWithoutPurchasePrice(message: Report): Report {
  let shown = withoutPricesInMetadata(message);
  for (const name of Object.keys(message)) {
    if (ORDINARY_FIELDS.has(name) || !isPriceName(name)) continue;
    shown = Object.fromEntries(Object.entries(shown).filter(([field]) => field !== name));
  }
  const { choices } = message;
  if (!Array.isArray(choices)) return shown;
  const shownChoices = choices.map(choiceWithoutPrices);
  return shownChoices.every((choice, index) => choice === choices[index]) ? shown : { ...shown, choices: shownChoices };
}

/** The model's own words stay as they are; only what a gateway added beside them is looked at. */
function choiceWithoutPrices(choice: unknown): unknown {
  if (!isObject(choice)) return choice;
  let shown = withoutPricesInMetadata(choice);
  for (const part of ['message', 'delta'] as const) {
    const words = choice[part];
    if (!isObject(words)) continue;
    const shownWords = withoutPricesInMetadata(words);
    if (shownWords !== words) shown = { ...shown, [part]: shownWords };
  }
  return shown;
}

function withoutPricesInMetadata(value: Report): Report {
  let shown = value;
  for (const name of METADATA_FIELDS) {
    if (isObject(value[name])) shown = { ...shown, [name]: withoutPurchasePrice(value[name]) };
  }
  return shown;
}
