/** Reading what only Stripe's control routes know: its test cards. */
import { findCard, TEST_CARDS, type TestCard } from './cards.ts';
import { BadInput, readString } from '../kit/input.ts';

export function readCard(value: unknown, field: string): TestCard {
  const card = findCard(readString(value, field));
  if (card === undefined) {
    throw new BadInput(`'${field}' must be a test card: ${TEST_CARDS.map(({ name }) => name).join(', ')}.`, field);
  }
  return card;
}
