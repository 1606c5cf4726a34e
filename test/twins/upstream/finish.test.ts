/** How the upstream twin says that an answer has ended: which word, where, how often, and what stands before. */
import assert from 'node:assert/strict';

import { startUpstreamTwin, type SteeringInput, type UpstreamTwin } from '../../../twins/upstream/twin.ts';
import { ask, events, newId, record, steered } from './fixture.ts';

type Finish = NonNullable<SteeringInput['finish']>;

/** What a choice without the field shows. */
const ABSENT = 'absent';

describe('upstream twin ends answers in every way', () => {
  let twin: UpstreamTwin;

  before(async () => {
    twin = await startUpstreamTwin();
  });
  after(() => twin.close());

  /** The finish reasons of a stream of two tokens, chunk by chunk, with `+` where the chunk has content. */
  async function reasonsOf(finish: Finish): Promise<unknown[]> {
    const id = newId();
    const payloads = await events(twin, steered({ output_tokens: 2, finish }), id);
    assert.equal(payloads.pop(), '[DONE]');
    assert.equal(record(twin, id).completion_tokens, 2);
    assert.equal(record(twin, id).status, 'completed');
    return payloads.map((payload) => {
      const { choices } = JSON.parse(payload) as {
        choices: { delta: { content?: string }; finish_reason?: unknown }[];
      };
      const [choice] = choices;
      const reason = choice !== undefined && 'finish_reason' in choice ? choice.finish_reason : ABSENT;
      return choice?.delta.content ? [reason] : reason;
    });
  }

  const WAYS: readonly (readonly [string, Finish, unknown[]])[] = [
    ['as OpenAI', {}, [null, [null], [null], 'stop']],
    ['with empty words before', { before: '' }, ['', [''], [''], 'stop']],
    ['with the word null before', { before: 'null' }, ['null', ['null'], ['null'], 'stop']],
    ['with the word of the end in every chunk', { before: 'stop' }, ['stop', ['stop'], ['stop'], 'stop']],
    ['with the field only at the end', { omit_before: true }, [ABSENT, [ABSENT], [ABSENT], 'stop']],
    ['without the field', { omit_before: true, omit: true }, [ABSENT, [ABSENT], [ABSENT], ABSENT]],
    ['with an empty word', { word: '' }, [null, [null], [null], '']],
    ['with null', { word: null }, [null, [null], [null], null]],
    ['with a word in capitals', { word: 'STOP' }, [null, [null], [null], 'STOP']],
    ['with an unknown word', { word: 'eos' }, [null, [null], [null], 'eos']],
    ['with a word that is no word', { word: 0 }, [null, [null], [null], 0]],
    ['in the chunk of the last token', { place: 'with_content' }, [null, [null], ['stop']]],
    ['twice', { place: 'twice' }, [null, [null], [null], 'stop', 'stop']],
    ['before the content', { place: 'first' }, ['stop', [null], [null]]],
    ['never', { place: 'none' }, [null, [null], [null]]],
  ];
  for (const [name, finish, expected] of WAYS) {
    it(name, async () => {
      assert.deepEqual(await reasonsOf(finish), expected);
    });
  }

  it('with a second word beside the first, streamed and whole', async () => {
    for (const stream of [true, false]) {
      const { text } = await ask(twin, steered({ finish: { word: 'length', native: 'MAX_TOKENS' } }, { stream }));
      assert.ok(text.includes('"finish_reason":"length","native_finish_reason":"MAX_TOKENS"'));
    }
  });

  it('and in whole answers with any word or none', async () => {
    assert.ok((await ask(twin, steered({ finish: { word: 'eos' } }))).text.includes('"finish_reason":"eos"'));
    assert.ok(!(await ask(twin, steered({ finish: { omit: true } }))).text.includes('finish_reason'));
  });
});
