/**
 * The seam between the gateway's core and the APIs that clients speak: the core names no field of any of them and
 * imports none of them, so that the next one is a folder of its own and not a copy.
 */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DIALECTS } from '../../../../api/gateway/dialects/dialects.ts';

const ROOT = resolve(import.meta.dirname, '../../../..');
const CORE = 'api/gateway/core';
const CHAT = 'api/gateway/dialects/openai-chat';
const PRODUCT = ['activities', 'api', 'contract', 'db', 'domain', 'providers', 'runtime', 'worker', 'workflows'];

/** Fields of OpenAI's chat completions. */
const FIELDS = [
  'choices',
  'delta',
  'finish_reason',
  'messages',
  'prompt_tokens',
  'completion_tokens',
  'max_tokens',
  'max_completion_tokens',
  'tool_calls',
  'stream_options',
  'include_usage',
];
/** Those of an answer that are no words of anything else: payments have choices, and Discord has messages. */
const UNMISTAKABLE = ['finish_reason', 'prompt_tokens', 'completion_tokens', 'tool_calls'];

const filesIn = (folder: string): string[] => globSync(`${folder}/**/*.ts`, { cwd: ROOT }).sort();
const textOf = (file: string): string => readFileSync(join(ROOT, file), 'utf8');

/** The fields that a file has as words, wherever they stand. */
function fieldsIn(file: string, fields: readonly string[]): string[] {
  const text = textOf(file);
  return fields.filter((field) => new RegExp(`\\b${field}\\b`).test(text)).map((field) => `${file}: ${field}`);
}

describe('the dialect seam', () => {
  it('no file of the core has a field of a chat completion, not even in a comment', () => {
    const files = filesIn(CORE);
    assert.ok(files.length > 50, `${files.length} files`);
    const named = files.flatMap((file) => fieldsIn(file, FIELDS));
    assert.deepEqual(named, []);
  });

  it('no file of the core imports a dialect', () => {
    const importing = filesIn(CORE).filter((file) => /(?:from|import\(|URL\()\s*'[^']*dialects\//.test(textOf(file)));
    assert.deepEqual(importing, []);
  });

  it('in the product only that dialect and the reading of usage name the fields of its answers', () => {
    const product = PRODUCT.flatMap(filesIn);
    const naming = product.filter((file) => fieldsIn(file, UNMISTAKABLE).length > 0);
    const others = naming.filter((file) => !file.startsWith(`${CHAT}/`) && !/^domain\/(?:reported-)?usage/.test(file));
    assert.deepEqual(others, []);
    assert.ok(naming.length > 5, 'the search finds what is there');
  });

  it('every dialect has a path of its own', () => {
    const endpoints = DIALECTS.all.map(({ endpoint }) => endpoint);
    assert.equal(new Set(endpoints).size, endpoints.length);
  });
});
