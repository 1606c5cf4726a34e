/** What of a provider's error staff may read: why it failed, and nothing that the customer wrote. */
import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import {
  STAFF_MAX_CHARACTERS,
  wordsForClient,
  wordsForStaff,
} from '../../../../../../api/gateway/core/upstreams/provider-words.ts';
import { saidIn } from '../../../../../../api/gateway/dialects/request-words.ts';

const SAID = `You are a lawyer. My client Zebrafina Quixotesca, phone +5511987650001, don't tell anybody: she will sue on Monday.
  Her password is hunter2. 我的病历号码是七七八八，请保密。 Пароль у соседа. Short: kill my boss`;

/** An error in a provider's words → what staff read. */
const ROWS: readonly [string, string][] = [
  // Why it failed stays.
  [
    "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens.",
    "This model's maximum context length is 4097 tokens. However, you requested 5000 tokens.",
  ],
  ["Unrecognized request argument supplied: 'max_foo'", "Unrecognized request argument supplied: 'max_foo'"],
  ['messages[1].content: value is too long', 'messages[1].content: value is too long'],
  ['The model `gpt-9` does not exist', 'The model `gpt-9` does not exist'],
  ["Invalid 'temperature': 3 is above 2", "Invalid 'temperature': 3 is above 2"],
  // Quotations go, also those of a stranger.
  ['Invalid value: "something that was never said"', 'Invalid value: …'],
  ["Invalid value: 'it's odd and so on'. Try again.", 'Invalid value: …. Try again.'],
  ['Invalid value: “words of somebody”', 'Invalid value: …'],
  ['Invalid value: "cut off by the provi', 'Invalid value: …'],
  [
    'Input should be a string [type=string_type, input_value=[{"a": 1}], input_type=list]',
    'Input should be a string …, input_type=list]',
  ],
  ['Could not read {"role": "user", "content": {"text": "x y"}} here', 'Could not read … here'],
  [`Bad image data:image/png;base64,${'A'.repeat(200)} end`, 'Bad image … end'],
  // So does what the request says itself, without quotation marks as well.
  ['Refused: she will sue on monday', 'Refused: …'],
  ['Refused: kill my boss', 'Refused: …'],
  ['Unknown name Zebrafina QUIXOTESCA, phone 5511987650001', 'Unknown name …, …'],
  ['Unknown name: Zebrafina', 'Unknown name: …'],
  ["Invalid value: 'hunter2'", 'Invalid value: …'],
  ['Invalid value hunter2 here', 'Invalid value … here'],
  ['内容不合规：我的病历号码是七七八八', '内容不合规：…'],
  ['Отказ: пароль', 'Отказ: …'],
  // Secrets by their looks.
  ['Incorrect API key provided: sk-abc12***********xyz9.', 'Incorrect API key provided: ….'],
  ['Bearer abcdefghijkl was refused for org-12345678abcd', '… was refused for …'],
  ['code account_suspended', 'code account_suspended'],
];

/** JSON with every character beyond ASCII escaped, as many clients write it. */
function escaped(json: string): string {
  return json.replace(/[^\x00-\x7f]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

describe('words of a provider', () => {
  for (const [message, shown] of ROWS) {
    it(`staff read of ${JSON.stringify(message.slice(0, 60))}: ${JSON.stringify(shown)}`, () => {
      assert.equal(wordsForStaff(message, [], SAID), shown);
    });
  }

  it('staff never read more than 200 characters, nor the client more than 500', () => {
    const long = 'the limit is too low and '.repeat(100);
    assert.equal(wordsForStaff(long, [], '').length, STAFF_MAX_CHARACTERS);
    assert.equal(wordsForClient(long, []).length, 500);
  });

  it('the client reads all of it but keys', () => {
    const message = 'Invalid value: "kill my boss" with key sk-live-abc1234567 and provider-key-1';
    assert.equal(wordsForClient(message, ['provider-key-1']), 'Invalid value: "kill my boss" with key … and …');
  });

  it('a request is compared by what was written in it, whatever its escapes, and not by the names of its fields', () => {
    const body = {
      model: 'gpt-4o',
      messages: [{ role: 'user', content: 'line one\nCase "4711-xyz" für Zoë' }],
      max_tokens: 5,
      tools: [{ type: 'function', function: { name: 'find_patient' } }],
    };
    for (const json of [JSON.stringify(body), JSON.stringify(body, null, 2), escaped(JSON.stringify(body))]) {
      const staffRead = (message: string) => wordsForStaff(message, [], saidIn(Buffer.from(json)));
      assert.equal(staffRead('Refused: line one case "4711-xyz" für Zoë'), 'Refused: …');
      assert.equal(staffRead('Refused: für Zoë'), 'Refused: …');
      assert.equal(staffRead("Invalid 'max_tokens': 5 is low"), "Invalid 'max_tokens': 5 is low");
      assert.equal(staffRead('The model `gpt-4o` does not exist'), 'The model `gpt-4o` does not exist');
      assert.equal(staffRead('The tool find_patient is bad'), 'The tool … is bad');
    }
  });

  it('a request of ten megabytes is compared by its beginning and its end', () => {
    const said = saidIn(Buffer.from(JSON.stringify(`first-marker-1 ${'x y z '.repeat(1_700_000)} last-marker-2`)));
    assert.equal(wordsForStaff('Refused: first-marker-1 and last-marker-2', [], said), 'Refused: … and …');
  });
});
