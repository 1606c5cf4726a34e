/**
 * Where in a chat completion a provider's prices stand, of which the client must see nothing
 * (domain/requests/purchase-price.ts).
 */
import {
  fieldsWithoutPurchasePrice,
  metadataWithoutPurchasePrice,
} from '../../../../domain/requests/purchase-price.ts';
import { isObject } from './chunk.ts';

type Fields = Readonly<Record<string, unknown>>;

/** What nearly every chunk has: not even looked at. */
const ORDINARY_FIELDS: ReadonlySet<string> = new Set([
  'id',
  'object',
  'created',
  'model',
  'choices',
  'usage',
  'system_fingerprint',
  'service_tier',
]);

/**
 * A whole answer or a chunk as a client may see it: without prices on its top level, in its usage wherever that stands
 * and in the metadata of providers. What the model wrote is never looked into. Returns `message` itself where nothing
 * is taken out, which is so for nearly every chunk.
 */
export function answerWithoutPurchasePrice(message: Fields): Fields {
  const shown = fieldsWithoutPurchasePrice(message, ORDINARY_FIELDS);
  const { choices } = message;
  if (!Array.isArray(choices)) return shown;
  let shownChoices: unknown[] | null = null;
  for (let index = 0; index < choices.length; index += 1) {
    const choice: unknown = choices[index];
    const shownChoice = choiceWithoutPrices(choice);
    if (shownChoice === choice) continue;
    shownChoices ??= [...(choices as unknown[])];
    shownChoices[index] = shownChoice;
  }
  return shownChoices === null ? shown : { ...shown, choices: shownChoices };
}

/** The model's own words stay as they are; only what a gateway added beside them is looked at. */
function choiceWithoutPrices(choice: unknown): unknown {
  if (!isObject(choice)) return choice;
  let shown = metadataWithoutPurchasePrice(choice);
  for (const part of ['message', 'delta'] as const) {
    const words = choice[part];
    if (!isObject(words)) continue;
    const shownWords = metadataWithoutPurchasePrice(words);
    if (shownWords !== words) shown = { ...shown, [part]: shownWords };
  }
  return shown;
}
