/** Which paths are served, which slips are, and what the others are told. */
import assert from 'node:assert/strict';
import { describe, it } from 'mocha';
import {
  findDestination,
  isGatewayPath,
  nothingAt,
  splitTarget,
} from '../../../../../../api/gateway/core/http/paths.ts';

const CHAT = '/v1/chat/completions';

/** Where a request target goes: its endpoint, a model's id behind it, or null. */
function destinationOf(target: string): string | null {
  assert.equal(isGatewayPath(target), true, `${target} is the gateway's`);
  const destination = findDestination(splitTarget(target).path);
  if (destination === null) return null;
  return 'modelId' in destination ? `${destination.endpoint} ${destination.modelId}` : destination.endpoint;
}

describe('paths of the gateway', () => {
  for (const [target, expected] of [
    ['/v1/chat/completions', CHAT],
    ['/api/v1/chat/completions', CHAT],
    ['/v1/chat/completions?api-version=2024-10-21', CHAT],
    ['//v1/chat/completions', CHAT],
    ['///v1//chat///completions', CHAT],
    ['/v1/chat/completions/', CHAT],
    ['/v1/chat/completions///?x=1', CHAT],
    ['/v1/v1/chat/completions', CHAT],
    ['/v1//v1/chat/completions', CHAT],
    ['/api/v1/v1/chat/completions', CHAT],
    ['/v1/api/v1/v1/chat/completions', CHAT],
    ['//api//v1/chat/completions', CHAT],
    ['http://gateway.example:8787/v1/chat/completions', CHAT],
    ['HTTPS://gateway.example//v1/chat/completions', CHAT],
    ['/v1/models', '/v1/models'],
    ['/v1/models/', '/v1/models'],
    ['/v1/v1/models?limit=5', '/v1/models'],
    ['/v1/models/a/b:free', '/v1/models/{id} a/b:free'],
    ['/v1/models/a%2Fb', '/v1/models/{id} a/b'],
    ['/v1/v1/models/a/b', '/v1/models/{id} a/b'],
    ['/v1/models/%E0%A4%A', '/v1/models/{id} %E0%A4%A'],
    ['/v1/models/v1', '/v1/models/{id} v1'],
    ['/api/v1/key', '/v1/key'],
    ['/api/v1/credits', '/v1/credits'],
    ['/api/v1/generation?id=req_1', '/v1/generation'],
  ] as const) {
    it(`${target} is ${expected}`, () => assert.equal(destinationOf(target), expected));
  }

  for (const [target, hint] of [
    ['/chat/completions', /Did you mean POST \/v1\/chat\/completions\? The base URL of this API ends in "\/v1"/],
    ['/api/chat/completions', /Did you mean POST \/v1\/chat\/completions/],
    ['/openai/v1/chat/completions', /Did you mean POST \/v1\/chat\/completions/],
    ['/openai/deployments/gpt/chat/completions?api-version=1', /Did you mean POST \/v1\/chat\/completions/],
    ['/v1/chat/completions/chat/completions', /Did you mean POST \/v1\/chat\/completions/],
    ['/V1/Chat/Completions', /Did you mean POST \/v1\/chat\/completions/],
    ['/v1/openai/models', /Did you mean GET \/v1\/models\?/],
    ['/v1beta/models', /Did you mean GET \/v1\/models\?/],
    ['/v1', /This API has: POST \/v1\/chat\/completions, GET \/v1\/models/],
    ['/v1/', /This API has: /],
    ['/api/v1', /This API has: /],
    ['/v1/completions', /This API has: /],
    ['/completions', /This API has: /],
    ['/v1/responses', /This API has: /],
    ['/v1/messages', /This API has: /],
    ['/v1/embeddings', /This API has: /],
    ['/v1/images/generations', /This API has: /],
    ['/v1beta/models/gemini:generateContent', /This API has: /],
    ['/v1/constructor', /This API has: /],
    ['/v1/chat', /This API has: /],
  ] as const) {
    it(`${target} is nothing, and its sender is told what is`, () => {
      assert.equal(destinationOf(target), null);
      const refusal = nothingAt('POST', splitTarget(target).path);
      assert.deepEqual([refusal.status, refusal.code], [404, 'not_found']);
      assert.match(refusal.message, hint);
    });
  }

  it('everything else is left to the management interface', () => {
    for (const target of [
      '/',
      '//',
      '*',
      '',
      '/api/logs',
      '/api/keys/v1',
      '/admin/models',
      '/admin/requests',
      '/models',
      '/v10/x',
      '/webhooks/stripe',
      '/healthz',
      'http://gateway.example/api/logs',
    ])
      assert.equal(isGatewayPath(target), false, target);
  });

  it('a path without end is shown in part', () => {
    assert.ok(nothingAt('GET', `/v1/${'x'.repeat(10_000)}`).message.length < 600);
  });
});
