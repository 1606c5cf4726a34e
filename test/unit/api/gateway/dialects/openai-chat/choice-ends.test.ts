/** Which words of a stream end an answer: documented ones, and unknown ones that nothing follows. */
import assert from 'node:assert/strict';
import { ChoiceEnds } from '../../../../../../api/gateway/dialects/openai-chat/choice-ends.ts';

/** The number of ended answers after each chunk of one answer, given as `content word`. */
function endsOf(...chunks: readonly (readonly [hasContent: boolean, reason: unknown])[]): number[] {
  const ends = new ChoiceEnds();
  return chunks.map(([hasContent, reason]) => {
    ends.note(0, hasContent, reason);
    return ends.count;
  });
}

describe('gateway: ends of answers', () => {
  for (const word of [null, undefined, '', ' ', 'null', 'NULL', 'None', 'undefined', 7, {}, false]) {
    it(`${JSON.stringify(word)} in every chunk ends nothing`, () => {
      assert.deepEqual(endsOf([true, word], [true, word], [false, word]), [0, 0, 0]);
      assert.deepEqual(endsOf([true, word], [false, 'stop'], [false, word]), [0, 1, 1]);
    });
  }

  for (const word of ['stop', 'length', 'tool_calls', 'content_filter', 'STOP', 'MAX_TOKENS', 'end_turn', 'eos']) {
    it(`${word} ends an answer`, () => assert.deepEqual(endsOf([true, null], [false, word]), [0, 1]));
  }

  it('an unknown word is an end if nothing follows it', () => {
    assert.deepEqual(endsOf([true, null], [true, null], [false, 'vendor_done']), [0, 0, 1]);
  });

  it('an unknown word in every chunk is an end once at most: content after it proves that it means nothing', () => {
    assert.deepEqual(endsOf([true, 'running'], [true, 'running'], [true, 'running'], [false, 'running']), [1, 0, 0, 0]);
    assert.deepEqual(endsOf([true, 'running'], [true, 'running'], [false, 'stop']), [1, 0, 1]);
  });

  it('a documented word ends the answer again after content that followed it', () => {
    assert.deepEqual(endsOf([true, 'stop'], [true, null], [false, 'stop']), [1, 0, 1]);
  });

  it('one of several answers says nothing about the others', () => {
    const ends = new ChoiceEnds();
    ends.note(0, true, null);
    ends.note(1, true, 'stop');
    ends.note(2, true, null);
    assert.deepEqual([ends.count, ends.open], [1, [0, 2]]);
  });

  it('a meaningless word is told apart, so that no client takes it for an end', () => {
    const ends = new ChoiceEnds();
    assert.deepEqual(
      [ends.isMeaningless(''), ends.isMeaningless('null'), ends.isMeaningless('running')],
      [true, true, false],
    );
    ends.note(0, true, 'running');
    ends.note(0, true, 'running');
    assert.deepEqual([ends.isMeaningless('running'), ends.isMeaningless('stop')], [true, false]);
  });
});
