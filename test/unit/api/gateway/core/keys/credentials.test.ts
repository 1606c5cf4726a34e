/** Which keys of a request are looked up, and in which order. */
import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import { secretsOf } from '../../../../../../api/gateway/core/keys/credentials.ts';

const [A, B, C] = ['sk-hf-aaaa', 'sk-hf-bbbb', 'sk-hf-cccc'];

describe('keys of a request', () => {
  for (const [what, headers, expected] of [
    ['a Bearer', { authorization: `Bearer ${A}` }, [A]],
    ['a bearer in any case, with many blanks', { authorization: `bearer   ${A}  ` }, [A]],
    ['a Bearer twice', { authorization: `Bearer Bearer ${A}` }, [A]],
    ['a key in quotation marks', { authorization: `Bearer "${A}"` }, [A]],
    ['x-api-key', { 'x-api-key': A }, [A]],
    ['api-key', { 'api-key': A }, [A]],
    ['a dummy Bearer beside x-api-key', { authorization: 'Bearer dummy', 'x-api-key': A }, [A]],
    ['a dummy Bearer beside api-key', { authorization: 'Bearer none', 'api-key': A }, [A]],
    ['an empty Bearer beside x-api-key', { authorization: 'Bearer ', 'x-api-key': A }, [A]],
    ["another provider's key beside ours", { authorization: 'Bearer sk-proj-1', 'x-api-key': A }, [A]],
    ['a Bearer of ours beside a dummy x-api-key', { authorization: `Bearer ${A}`, 'x-api-key': 'dummy' }, [A]],
    ['the same key everywhere', { authorization: `Bearer ${A}`, 'x-api-key': A, 'api-key': A }, [A]],
    ['three keys of ours', { authorization: `Bearer ${A}`, 'x-api-key': B, 'api-key': C }, [A, B]],
    ['a header that came twice', { 'x-api-key': `dummy, ${A}` }, [A]],
    ['keys in a list without end', { 'x-api-key': Array<string>(1000).fill('no').concat(A).join(',') }, ['no']],
    ['a dummy and nothing else', { authorization: 'Bearer dummy', 'x-api-key': 'dummy2' }, ['dummy']],
    ['Basic', { authorization: 'Basic c2staGYtYWFhYQ==' }, []],
    ['a key without its scheme', { authorization: A }, []],
    ['nothing but the scheme', { authorization: 'Bearer' }, []],
    ['empty headers', { authorization: '', 'x-api-key': '', 'api-key': ' ' }, []],
    ['nothing', {}, []],
  ] as const) {
    it(`${what}: ${expected.length === 0 ? 'none' : expected.join(', ')}`, () => {
      assert.deepEqual(secretsOf(headers), expected);
    });
  }
});
