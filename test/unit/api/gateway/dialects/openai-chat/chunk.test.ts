/** What one event of a chat stream says, as real servers write it. */
import assert from 'node:assert/strict';
import { isErrorBody, readStreamEvent } from '../../../../../../api/gateway/dialects/openai-chat/chunk.ts';
import { SseSplitter } from '../../../../../../api/gateway/core/streams/sse.ts';

function kindOf(text: string): string {
  const splitter = new SseSplitter();
  const event = splitter.push(Buffer.from(text))[0] ?? splitter.end();
  assert.ok(event, text);
  return readStreamEvent(event).kind;
}

const CHUNK = '{"id":"x","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}';

describe('gateway: events of a chat stream', () => {
  for (const [kind, texts] of Object.entries({
    chunk: [
      `data: ${CHUNK}`,
      `data:${CHUNK}`,
      `event: message\nid: 7\nretry: 10\ndata: ${CHUNK}`,
      'data: {"choices":[],"usage":{"prompt_tokens":1}}',
      'data: {"choices":null,"usage":{}}',
      'data: {"id":"x","object":"chat.completion.chunk"}',
      'data: {"choices":[{"index":0,"delta":{},"error":null}],"error":null}',
      `data: {"base_resp":{"status_code":0,"status_msg":"success"},"choices":[{"delta":{}}]}`,
      'data: {"choices":[{"delta":{"content":"x"}}],"message":"ok","code":0}',
    ],
    done: ['data: [DONE]', 'data:[DONE]', 'data: [DONE] ', 'data:  [DONE]\t', 'data: [done]'],
    nothing: [
      ': OPENROUTER PROCESSING',
      'data:',
      'data: ',
      'data',
      'data: null',
      'event: ping',
      'event: ping\ndata:',
      'retry: 3000',
    ],
    error: [
      'data: {"error":{"message":"overloaded"}}',
      'data: {"error":"overloaded"}',
      'data: {"object":"error","message":"CUDA out of memory","code":500}',
      'data: {"type":"error","error":{"type":"overloaded_error"}}',
      'data: {"detail":"Internal Server Error"}',
      'data: {"detail":[{"loc":["body"],"msg":"field required"}]}',
      'data: {"errors":["x"]}',
      'data: {"message":"model is loading"}',
      'data: {"code":500,"msg":"failed"}',
      'data: {"status":503}',
      'data: {"error_code":336,"error_msg":"busy"}',
      'data: {"base_resp":{"status_code":1002,"status_msg":"rate limit"},"choices":null}',
      'data: [{"error":{"code":503,"status":"UNAVAILABLE"}}]',
      'data: {"choices":[{"delta":{},"finish_reason":"error"}]}',
      'data: {"choices":[{"delta":{"content":""},"error":{"code":502}}]}',
      'event: error\ndata: something broke',
      'event: error\ndata: {"choices":[]}',
      'event:error',
      '{"error":{"message":"a JSON body in place of an event"}}',
    ],
    unreadable: [
      'data: {"choices":[{"ind',
      'data: {"choices":{}}',
      'data: {"choices":[null]}',
      'data: 5',
      'data: "text"',
      'data: [1]',
      'data: NaN',
      '<html>',
      'upstream connect error',
      '{"hello":"world"}',
    ],
  })) {
    for (const text of texts) it(`${JSON.stringify(text)} is ${kind}`, () => assert.equal(kindOf(text), kind));
  }

  it('an answer is never taken for an error because of a field that success has as well', () => {
    for (const body of [
      { choices: [{ message: { content: 'x' } }], error: null, errors: [], detail: null, code: 200, message: '' },
      { choices: [{ message: { content: 'x' } }], status: 'completed', code: 20000, msg: 'success' },
      { choices: [{ message: { content: 'error' }, finish_reason: 'stop' }], object: 'chat.completion' },
    ]) {
      assert.equal(isErrorBody(body), false, JSON.stringify(body));
    }
  });
});
