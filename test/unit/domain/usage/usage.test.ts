/** The usage of one request, as stored. Reports become usage in `reported-usage.test.ts`. */
import assert from 'node:assert/strict';
import { DETAIL_FIELDS, NO_USAGE } from '../../../../domain/usage/usage.ts';

describe('usage: the log row', () => {
  it('every dimension has a column of its own or is kept as detail, none is both', () => {
    const columns = ['inputTokens', 'cachedInputTokens', 'outputTokens', 'reasoningTokens'];
    assert.deepEqual([...columns, ...DETAIL_FIELDS].toSorted(), Object.keys(NO_USAGE).toSorted());
  });

  it('no usage is 0 of everything', () => {
    assert.ok(Object.values(NO_USAGE).every((tokens) => tokens === 0));
  });
});
